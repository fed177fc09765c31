"""Where the policy comes from: what a setting may name, what never replaces a good policy."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.sending import Script, script
from tokenvend.deadline import Deadline
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.model import Secret
from tokenvend.policy import PolicyError, compile_policy
from tokenvend.policy_source import open_source
from tokenvend.policy_source.aws import AwsReader
from tokenvend.policy_source.setting import AwsSource, AzureSource, PackagedFile, parse_source
from tokenvend.policy_source.store import PolicyInForce, PolicyStore
from tokenvend.policy_source.text import MAX_BYTES
from tokenvend.transport import Answer
from tokenvend.transport.egress import Egress

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.policy import CompiledPolicy


def policy_for(alias: str) -> str:
    return f"""
version = 1
[[grant]]
name = "{alias}"
callers = [ {{ lambda_alias = "{alias}" }} ]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
"""


GOOD = policy_for("etl")
NEWER = policy_for("reporting")
BAD = GOOD.replace("callers", "caller")


# --- the setting ---------------------------------------------------------------------------------


KEY_VALUES, BLOBS = "acme-conf.azconfig.io", "acme0.blob.core.windows.net"


def test_a_setting_names_one_source(subtests: pytest.Subtests) -> None:
    for text, source in [
        ("policy.toml", PackagedFile("policy.toml")),
        ("file:infra/policy.toml", PackagedFile("infra/policy.toml")),
        ("/etc/tokenvend/policy.json", PackagedFile("/etc/tokenvend/policy.json")),
    ]:
        with subtests.test(text=text):
            assert parse_source(text) == source
    for text, names in [
        ("appconfig:tokenvend/prod/policy", ("tokenvend", "prod", "policy")),
        ("appconfig:My App/p-1/a.b_c", ("My App", "p-1", "a.b_c")),
        ("ssm:/tokenvend/policy", ("/tokenvend/policy",)),
        ("ssm:policy", ("policy",)),
    ]:
        with subtests.test(text=text):
            assert parse_source(text) == AwsSource(text, names)
    for text, host, path, label in [
        (
            f"azure-appconfig:https://{KEY_VALUES}/tokenvend/policy",
            KEY_VALUES,
            "/kv/tokenvend%2Fpolicy",
            "",
        ),
        (
            f"azure-appconfig:https://{KEY_VALUES}/a%3Ab%20c?label=pr%26od",
            KEY_VALUES,
            "/kv/a%3Ab%20c",
            "pr%26od",
        ),
        (
            f"azure-blob:https://{BLOBS}/conf-1/dir/policy%20v1.toml",
            BLOBS,
            "/conf-1/dir/policy%20v1.toml",
            "",
        ),
    ]:
        with subtests.test(text=text):
            assert parse_source(text) == AzureSource(text, host, path, label, is_blob=host == BLOBS)


def test_what_names_no_source_is_refused_with_what_it_must_be(subtests: pytest.Subtests) -> None:
    for text in [
        "",
        "file:",
        "policy\n.toml",
        "http://policy.example/policy.toml",
        "https://acme0.blob.core.windows.net/conf/policy.toml",
        "s3:bucket/key",
        "APPCONFIG:a/b/c",
        "appconfig:",
        "appconfig:a/b",
        "appconfig:a/b/c/d",
        "appconfig:a//c",
        "appconfig:a/b/c\n",
        f"appconfig:a/b/{'c' * 129}",
        "ssm:",
        "ssm:/",
        "ssm:/a/",
        "ssm:/a b",
        "ssm:/policy:3",
        "ssm:" + "/a" * 16,
        "ssm:arn:aws:ssm:us-east-1:111122223333:parameter/policy",
        "azure-appconfig:acme-conf.azconfig.io/key",
        "azure-appconfig:http://acme-conf.azconfig.io/key",
        "azure-appconfig:https://acme-conf.azconfig.io",
        "azure-appconfig:https://acme-conf.azconfig.io/",
        "azure-appconfig:https://acme-conf.azconfig.io/k?label=",
        "azure-appconfig:https://acme-conf.azconfig.io/k?",
        "azure-appconfig:https://acme-conf.azconfig.io/k?label=a&label=b",
        "azure-appconfig:https://acme-conf.azconfig.io/k?sig=a",
        "azure-appconfig:https://acme-conf.azconfig.io/k#label",
        "azure-appconfig:https://acme-conf.azconfig.io/..",
        "azure-appconfig:https://acme-conf.azconfig.io/a*",
        "azure-appconfig:https://acme-conf.azconfig.io/a%2",
        "azure-appconfig:https://acme-conf.azconfig.io/a%ff",
        "azure-appconfig:https://acme-conf.azconfig.io/a%0a",
        "azure-appconfig:https://acme-conf.azconfig.io:8443/key",
        "azure-appconfig:https://acme-conf.azconfig.io.evil.example/key",
        "azure-appconfig:https://acme-conf.azconfig.io@evil.example/key",
        "azure-appconfig:https://evil.example\\.azconfig.io/key",
        "azure-appconfig:https://evil.example/.azconfig.io/key",
        "azure-appconfig:https://azconfig.io/key",
        "azure-appconfig:https://a.b.azconfig.io/key",
        "azure-blob:https://acme0.blob.core.windows.net/",
        "azure-blob:https://acme0.blob.core.windows.net/conf",
        "azure-blob:https://acme0.blob.core.windows.net/conf/",
        "azure-blob:https://acme0.blob.core.windows.net/co--nf/policy.toml",
        "azure-blob:https://acme0.blob.core.windows.net/Conf/policy.toml",
        "azure-blob:https://acme0.blob.core.windows.net/conf/../other/policy.toml",
        "azure-blob:https://acme0.blob.core.windows.net/conf/%2e%2e/other/policy.toml",
        "azure-blob:https://acme0.blob.core.windows.net/conf/a//b",
        "azure-blob:https://acme0.blob.core.windows.net.evil.example/conf/policy.toml",
        "azure-blob:https://acme0.blob.core.windows.net:444/conf/policy.toml",
        "azure-blob:https://user@acme0.blob.core.windows.net/conf/policy.toml",
        "azure-blob:https://acme-0.blob.core.windows.net/conf/policy.toml",
    ]:
        with subtests.test(text=text), pytest.raises(ValueError, match=r"^must be "):
            parse_source(text)


def test_a_shared_access_signature_in_the_setting_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="SAS") as refused:
        parse_source("azure-blob:https://acme0.blob.core.windows.net/conf/p.toml?sv=1&sig=hunter2")
    assert "hunter2" not in str(refused.value)


@given(st.text() | st.builds("azure-blob:https://{}/c00/{}".format, st.text(), st.text()))
def test_any_text_is_a_source_or_a_value_error(text: str) -> None:
    try:
        source = parse_source(text)
    except ValueError:
        return
    assert source.text.isprintable()
    if isinstance(source, AzureSource):
        assert source.host.endswith((".azconfig.io", ".blob.core.windows.net"))
        assert (source.path + source.label).isascii()


# --- the store -----------------------------------------------------------------------------------


@dataclass
class Setup:
    """A source that a test writes, clocks that it moves, and what the operator was told."""

    held: str | Exception | Callable[[Deadline], str | None] | None = GOOD
    wall: float = 1_800_000_000.0
    steady: float = 50.0
    reads: int = 0
    compiled: int = 0
    opened: int = 0
    budgets: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = PolicyStore(
            self.open,
            self.compile,
            now=lambda: self.wall,
            monotonic=lambda: self.steady,
            report=self.told.append,
        )

    def open(self) -> Callable[[Deadline], str | None]:
        self.opened += 1
        return self.read

    def read(self, deadline: Deadline) -> str | None:
        self.reads += 1
        self.budgets.append(deadline.remaining())
        held = self.held
        if isinstance(held, Exception):
            raise held
        return held(deadline) if callable(held) else held

    def compile(self, text: str) -> CompiledPolicy:
        self.compiled += 1
        return compile_policy(text)

    def later(self, seconds: float = 61) -> None:
        self.wall += seconds
        self.steady += seconds

    def current(self, seconds: float = 10) -> PolicyInForce:
        """As a request has it that has so many seconds left."""
        return self.store.current(Deadline.after(seconds, lambda: self.steady))

    @property
    def alias(self) -> str:
        return self.current().policy.grants[0].name


def test_nothing_is_read_before_it_is_asked_for_and_then_once_a_minute() -> None:
    setup = Setup()
    assert setup.reads == 0
    for _ in range(5):
        assert setup.alias == "etl"
        setup.later(11)
    assert setup.reads == 1
    setup.later(6)
    assert setup.alias == "etl"
    assert setup.reads == 2


def test_a_new_policy_is_in_force_after_a_minute() -> None:
    setup = Setup()
    first = setup.current()
    setup.held = NEWER
    assert setup.alias == "etl"
    setup.later()
    second = setup.current()
    assert second.policy.grants[0].name == "reporting"
    assert (second.loaded_at - first.loaded_at, second.checked_at) == (61, second.loaded_at)
    assert setup.told == [], "a policy in force asks nothing of the operator; the records name it"


@pytest.mark.parametrize(
    "unchanged", [pytest.param(GOOD, id="same text"), pytest.param(None, id="304")]
)
def test_an_unchanged_policy_is_not_compiled_again(unchanged: str | None) -> None:
    setup = Setup()
    first = setup.current()
    setup.held = unchanged
    setup.later()
    again = setup.current()
    assert setup.compiled == 1
    assert again.policy is first.policy
    assert (again.loaded_at, again.checked_at) == (first.loaded_at, first.checked_at + 61)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (UpstreamUnavailable("later", cause="store: ConnectTimeout"), "store: ConnectTimeout"),
        (UpstreamRefused("no", cause="store: status 403"), "store: status 403"),
        (DeadlineExceeded("late"), "late"),
        (RuntimeError("AKIA-secret in an SDK's text"), "reading failed: RuntimeError"),
    ],
)
def test_an_outage_takes_no_policy_away_and_is_reported_once(failure: Exception, said: str) -> None:
    setup = Setup()
    first = setup.current()
    setup.held = failure
    for _ in range(3):
        setup.later()
        kept = setup.current()
    assert setup.reads == 4
    assert kept.policy is first.policy
    assert kept.checked_at == first.checked_at
    outage = [f"policy: {said}", "policy: the last good policy stays in force"]
    assert setup.told == outage
    setup.held = GOOD
    setup.later()
    setup.current()
    setup.held = failure
    setup.later()
    setup.current()
    assert setup.told == outage * 2, "a second outage was taken for the first"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BAD, id="unknown key"),
        pytest.param("", id="empty"),
        pytest.param(" \n\t", id="blank"),
        pytest.param("{", id="cut off"),
        pytest.param("<html>503</html>", id="another page"),
        pytest.param("\x00\xff<{not json", id="garbage"),
    ],
)
def test_a_bad_policy_never_replaces_a_good_one(text: str) -> None:
    setup = Setup()
    first = setup.current()
    setup.held = text
    setup.later()
    kept = setup.current()
    assert kept.policy is first.policy
    assert kept.checked_at == first.checked_at
    assert setup.told[0].startswith("policy: policy.toml:")


def test_a_bad_policy_stays_one_while_the_source_says_unchanged() -> None:
    setup = Setup()
    first = setup.current()
    for held in (BAD, None, None):
        setup.held = held
        setup.later()
        assert setup.current().checked_at == first.checked_at
    assert setup.compiled == 2
    assert setup.told[-1] == "policy: the last good policy stays in force"
    setup.held = GOOD
    setup.later()
    assert setup.current().checked_at == first.checked_at + 4 * 61


def test_a_crash_of_the_compiler_takes_no_policy_away() -> None:
    def crash() -> CompiledPolicy:
        raise ZeroDivisionError("policy text")

    setup = Setup()
    store = PolicyStore(
        setup.open,
        lambda text: compile_policy(text) if text == GOOD else crash(),
        now=lambda: setup.wall,
        monotonic=lambda: setup.steady,
        report=setup.told.append,
    )
    first = store.current(SOON)
    setup.held = NEWER
    setup.later()
    assert store.current(SOON).policy is first.policy
    assert setup.told[0] == "policy: compiling failed: ZeroDivisionError"


def test_without_a_first_policy_everything_is_refused_until_there_is_one() -> None:
    setup = Setup(held=UpstreamUnavailable("later", cause="store: ConnectTimeout"))
    for _ in range(3):
        with pytest.raises(Misconfigured) as refused:
            setup.current()
        assert refused.value.cause == "store: ConnectTimeout"
    # A crowd of requests does not queue up behind an outage.
    assert setup.reads == 1
    assert setup.told == ["policy: store: ConnectTimeout", "policy: every request is refused"]
    setup.held = GOOD
    setup.later(6)
    assert setup.alias == "etl"


def test_a_first_policy_that_is_bad_is_told_line_by_line() -> None:
    setup = Setup(held=BAD)
    with pytest.raises(PolicyError) as refused:
        setup.current()
    assert refused.value.problems
    assert setup.told == [
        *(f"policy: {line}" for line in refused.value.cause.splitlines()),
        "policy: every request is refused",
    ]


def test_a_source_that_says_unchanged_before_it_said_anything_is_refused() -> None:
    with pytest.raises(Misconfigured):
        Setup(held=None).current()


@pytest.mark.parametrize(
    ("left", "first", "later"), [(10, 5, 2), (6, 5, 2), (3, 3, 1), (0.3, 0.3, 0.1), (0, 0, 0)]
)
def test_a_check_spends_a_third_of_a_requests_time_at_most(
    left: float, first: float, later: float
) -> None:
    setup = Setup()
    setup.current(left)
    setup.later()
    setup.current(left)
    assert setup.budgets == pytest.approx([first, later])


def test_nobody_waits_for_anothers_first_load_past_its_own_deadline() -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(_: Deadline) -> str:
        asked.set()
        assert answer.wait(10)
        return GOOD

    setup = Setup(held=slow)
    leader = threading.Thread(target=setup.current)
    leader.start()
    assert asked.wait(10)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        setup.current(0.02)
    assert time.monotonic() - began < 1
    answer.set()
    leader.join(10)
    assert setup.alias == "etl"


def test_a_restored_process_decides_with_a_policy_that_was_checked() -> None:
    """AppConfig's poll token lay in the snapshot: a policy 13 days old decided for 55 s more."""
    setup = Setup()
    setup.current()
    setup.held = NEWER
    setup.store.restored()
    assert setup.opened == 2
    assert setup.alias == "reporting"


def test_a_restored_process_whose_source_is_silent_says_so_and_asks_again_soon() -> None:
    setup = Setup()
    first = setup.current()
    setup.held = DeadlineExceeded("late")
    setup.wall += 13 * 86_400
    setup.store.restored()
    assert setup.current() == first
    assert setup.current() == first
    assert setup.reads == 2
    setup.held = NEWER
    setup.later(6)
    assert setup.alias == "reporting"


def test_only_one_request_waits_for_a_slow_source_and_the_others_go_on() -> None:
    setup = Setup()
    setup.current()
    asked, answer = threading.Event(), threading.Event()

    def slow(_: Deadline) -> str:
        asked.set()
        assert answer.wait(10)
        return NEWER

    setup.held = slow
    setup.later()
    seen: list[str] = []
    leader = threading.Thread(target=lambda: seen.append(setup.alias))
    leader.start()
    assert asked.wait(10)
    for _ in range(20):
        assert setup.alias == "etl"
    answer.set()
    leader.join(10)
    assert (seen, setup.alias, setup.reads) == (["reporting"], "reporting", 2)


def test_a_crowd_at_start_causes_one_reading() -> None:
    gate = threading.Barrier(8)
    setup = Setup()
    seen: list[str] = []

    def ask() -> None:
        gate.wait(10)
        seen.append(setup.alias)

    crowd = [threading.Thread(target=ask) for _ in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(10)
    assert (seen, setup.reads) == (["etl"] * 8, 1)


@pytest.mark.parametrize(
    ("wall", "steady", "due"),
    [
        pytest.param(30, 30, False, id="half a minute"),
        pytest.param(3600, 0, True, id="frozen for an hour, monotonic clock stopped"),
        pytest.param(0, 3600, True, id="wall clock stopped"),
        pytest.param(-7200, 1, True, id="wall clock set back"),
        pytest.param(3600, -49, True, id="restored from a snapshot on another machine"),
    ],
)
def test_a_clock_that_jumps_cannot_keep_an_old_policy_in_force(
    wall: float, steady: float, *, due: bool
) -> None:
    setup = Setup()
    setup.current()
    setup.wall += wall
    setup.steady += steady
    setup.current()
    assert setup.reads == 1 + due
    # And the jump is over with one check: the next request does not wait again.
    setup.current()
    assert setup.reads == 1 + due


# --- readers -------------------------------------------------------------------------------------

SOON = Deadline(60.0, lambda: 0.0)
# What only the reader on AWS looks at, whose SDK opens its own connections.
SDK = {"egress": Egress(()), "now": lambda: 0.0}
KEY_VALUE, BLOB = map(
    parse_source,
    (
        f"azure-appconfig:https://{KEY_VALUES}/tokenvend/policy?label=pr%26od",
        f"azure-blob:https://{BLOBS}/conf/dir/policy%20v1.toml",
    ),
)


def azure(source: AzureSource, *answers: Answer) -> tuple[Script, Callable[[], str | None]]:
    fake = script(*answers)
    read = open_source(
        source,
        root=Path(),
        environ={},
        sender=fake,
        bearer=lambda _: Secret("our-token"),
        egress=Egress(()),
        now=lambda: 0.0,
    )
    return fake, lambda: read(SOON)


def key_value(value: object, etag: str = '"e1"') -> Answer:
    return Answer(200, {"etag": etag}, json.dumps({"key": "k", "value": value}).encode())


def test_a_packaged_file_is_read_below_the_functions_root(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(GOOD)
    read = open_source(
        PackagedFile("policy.toml"),
        root=tmp_path,
        environ={},
        sender=script(Answer(500)),
        bearer=None,
        egress=Egress(()),
        now=lambda: 0.0,
    )
    assert read(SOON) == GOOD
    (tmp_path / "policy.toml").write_text(NEWER)
    assert read(SOON) == NEWER


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "cannot be read"),
        (b"a" * (MAX_BYTES + 1), "longer than"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "empty"),
        (b" \r\n\t", "empty"),
    ],
)
def test_a_file_that_is_missing_huge_or_binary_is_refused(
    tmp_path: Path, content: bytes | None, cause: str
) -> None:
    if content is not None:
        (tmp_path / "policy.toml").write_bytes(content)
    read = open_source(
        PackagedFile("policy.toml"),
        root=tmp_path,
        environ={},
        sender=script(),
        bearer=None,
        egress=Egress(()),
        now=lambda: 0.0,
    )
    with pytest.raises(Misconfigured) as refused:
        read(SOON)
    assert cause in refused.value.cause


@pytest.mark.parametrize(
    ("source", "answer", "url"),
    [
        (
            KEY_VALUE,
            key_value(GOOD),
            "https://acme-conf.azconfig.io/kv/tokenvend%2Fpolicy?api-version=2023-11-01&label=pr%26od",
        ),
        (
            BLOB,
            Answer(200, {"etag": '"e1"'}, GOOD.encode()),
            "https://acme0.blob.core.windows.net/conf/dir/policy%20v1.toml",
        ),
    ],
)
def test_azure_is_asked_for_what_changed_since(
    source: AzureSource, answer: Answer, url: str
) -> None:
    fake, read = azure(source, answer, Answer(304))
    assert read() == GOOD
    assert read() is None
    assert [call.url for call in fake.calls] == [url, url]
    assert fake.repeatable == [True, True]
    assert fake.calls[0].headers["Authorization"] == "Bearer our-token"
    assert [call.headers.get("If-None-Match") for call in fake.calls] == [None, '"e1"']
    assert "our-token" not in repr(fake.calls)


def test_an_etag_that_is_no_etag_is_not_sent_back() -> None:
    fake, read = azure(KEY_VALUE, key_value(GOOD, etag="e1\r\nX-Evil: 1"), key_value(GOOD))
    assert (read(), read()) == (GOOD, GOOD)
    assert "If-None-Match" not in fake.calls[1].headers


def test_any_answer_but_the_policy_is_a_failure_that_quotes_none_of_it(
    subtests: pytest.Subtests,
) -> None:
    for source in [KEY_VALUE, BLOB]:
        for status, kind in [
            (304, UpstreamUnavailable),  # nobody asked whether it had changed
            (204, UpstreamUnavailable),
            (302, UpstreamUnavailable),
            (401, UpstreamRefused),
            (403, UpstreamRefused),
            (404, UpstreamRefused),
            (410, UpstreamRefused),
            (429, UpstreamUnavailable),
            (503, UpstreamUnavailable),
        ]:
            with subtests.test(source=source, status=status, kind=kind):
                headers = {"x-ms-error-code": "BlobNotFound"}
                _, read = azure(source, Answer(status, headers, b"<Message>canary</Message>"))
                with pytest.raises(kind) as failed:
                    read()
                assert f"{source.host}: status {status} BlobNotFound" in failed.value.cause
                assert "canary" not in failed.value.cause + failed.value.detail


def test_garbage_from_azure_is_a_failure_and_forgets_no_etag(subtests: pytest.Subtests) -> None:
    for source, answer in [
        (KEY_VALUE, key_value(None)),
        (KEY_VALUE, key_value({"uri": "https://vault"})),
        (KEY_VALUE, key_value("\ud800")),
        (KEY_VALUE, Answer(200, {}, b"[]")),
        (KEY_VALUE, Answer(200, {}, b"\x00\xff<{not json")),
        (KEY_VALUE, key_value("")),
        (BLOB, Answer(200, {}, b"")),
        (BLOB, Answer(200, {}, b"\xff")),
        (BLOB, Answer(200, {}, b"a" * (MAX_BYTES + 1))),
    ]:
        with subtests.test(source=source, answer=answer):
            good = (
                key_value(GOOD)
                if source is KEY_VALUE
                else Answer(200, {"etag": '"e1"'}, GOOD.encode())
            )
            fake, read = azure(source, good, answer, Answer(304))
            read()
            with pytest.raises(TokenvendError):
                read()
            assert read() is None
            assert fake.calls[2].headers["If-None-Match"] == '"e1"'


def test_an_azure_source_without_a_managed_identity_is_a_wrong_setting() -> None:
    with pytest.raises(Misconfigured):
        open_source(
            BLOB,
            root=Path(),
            environ={},
            sender=script(),
            bearer=None,
            egress=Egress(()),
            now=lambda: 0.0,
        )


def test_an_aws_source_without_a_region_is_a_wrong_setting() -> None:
    read = open_source(
        AwsSource("ssm:/p", ("/p",)),
        root=Path(),
        environ={},
        sender=script(),
        bearer=None,
        egress=Egress(()),
        now=lambda: 0.0,
    )
    with pytest.raises(Misconfigured) as refused:
        read(Deadline(60.0, lambda: 0.0))
    assert refused.value.cause == "AWS_REGION is not set"


def test_the_sdk_goes_round_the_proxy_where_everything_does() -> None:
    source = AwsSource("ssm:/p", ("/p",))
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "x")
    environ = {**keys, "AWS_REGION": "eu-west-1"}

    def proxies(*no_proxy: str) -> dict[str, str]:
        egress = Egress((), "http://proxy.example:3128", "", no_proxy)
        client = AwsReader(source, environ, egress, lambda: 0.0)._client("ssm")
        return dict(client.meta.config.proxies)

    assert proxies("elsewhere.example") == {"https": "http://proxy.example:3128"}
    assert proxies("ssm.eu-west-1.amazonaws.com") == {}
