"""The policy from AWS's and Azure's own services: real SDKs and requests against the stand-ins.

Through the CONNECT proxy and over TLS, as a function would go.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.cloud import Cloud
from localcloud.wire.faults import Fault, Kind
from localcloud.wire.web import Headers, Request, Response
from localcloud.world import World
from tests.conformance.aws_lab import own_template
from tokenvend.deadline import Deadline
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.identity.azure import azure_identity
from tokenvend.policy import compile_policy
from tokenvend.policy_source import open_source
from tokenvend.policy_source.setting import AzureSource, parse_source
from tokenvend.policy_source.store import PolicyStore
from tokenvend.policy_source.text import MAX_BYTES
from tokenvend.transport.egress import Egress, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tokenvend.model import Secret
    from tokenvend.policy_source.setting import Source
    from tokenvend.policy_source.store import PolicyInForce

STORE = "acme-conf.azconfig.io"
ACCOUNT = "acme0.blob.core.windows.net"
SSM = "ssm:/tokenvend/policy"
APPCONFIG = "appconfig:tokenvend/prod/policy"
SSM_ARN = "arn:aws:ssm:us-east-1:111122223333:parameter/tokenvend/"
APP_ARN = (
    "arn:aws:appconfig:us-east-1:111122223333:application/tokenvend/environment/prod/configuration/"
)
KEY_VALUE = f"azure-appconfig:https://{STORE}/tokenvend%3Apolicy?label=prod"
BLOB = f"azure-blob:https://{ACCOUNT}/conf/policy.toml"
ALL = [SSM, APPCONFIG, KEY_VALUE, BLOB]
HOSTS = {
    SSM: "ssm.us-east-1.amazonaws.com",
    APPCONFIG: "appconfigdata.us-east-1.amazonaws.com",
    KEY_VALUE: STORE,
    BLOB: ACCOUNT,
}


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


@pytest.fixture(scope="module")
def lab(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("policy-sources")
    with Cloud(World.load(), directory, functions=()) as running:
        # The function's role as the template makes it, for each source in turn.
        sources = [f"{arn}{end}" for arn in (SSM_ARN, APP_ARN) for end in ("policy", "other")]
        roles = [own_template(PolicyArn=arn).roles[0] for arn in sources]
        roles[0].policies += [policy for role in roles[1:] for policy in role.policies]
        running.accounts.deploy([roles[0]])
        yield running


@pytest.fixture(autouse=True)
def tidy(lab: Cloud) -> Iterator[None]:
    for setting in ALL:
        put(lab, setting, GOOD)
    yield
    lab.faults.clear()
    lab.clock.skew = 0


def put(lab: Cloud, setting: str, text: str) -> None:
    match setting:
        case "ssm:/tokenvend/policy":
            lab.parameters.put("/tokenvend/policy", text, secure=True)
        case "appconfig:tokenvend/prod/policy":
            lab.profiles.put("tokenvend/prod/policy", text)
        case _ if setting == KEY_VALUE:
            lab.key_values.put(STORE, "tokenvend:policy", text, label="prod")
        case _:
            lab.blobs.put(ACCOUNT, "conf/policy.toml", text)


def transport(lab: Cloud, *hosts: str) -> Transport:
    network = lab.network_environment
    route = Egress(hosts, network["HTTPS_PROXY"], network["REQUESTS_CA_BUNDLE"])
    return Transport(
        route, now=time.time, sleep=lambda _: None, random=lambda: 0.0, byte_cap=MAX_BYTES
    )


def opened(
    lab: Cloud, setting: str, root: Path, *, role: str = "tokenvend", identity: str = "tokenvend"
) -> Callable[[Deadline], str | None]:
    """The source, as this role on AWS or this identity on Azure reads it."""
    source = parse_source(setting)
    network = lab.network_environment
    environ = {
        **lab.accounts.session(role, "function").environment(),
        **lab.identity.environment_for(identity),
        "AWS_REGION": "us-east-1",
    }
    sender = transport(lab, HOSTS.get(setting, STORE))
    return open_source(
        source,
        root=root,
        environ=environ,
        sender=sender,
        bearer=bearer(source, environ, sender),
        egress=Egress((), network["HTTPS_PROXY"], network["REQUESTS_CA_BUNDLE"]),
        now=time.time,
    )


def reader(lab: Cloud, setting: str, root: Path, **who: str) -> Callable[[], str | None]:
    """One reading after the other."""
    read = opened(lab, setting, root, **who)
    return lambda: read(soon())


def soon() -> Deadline:
    return Deadline.after(30, time.monotonic)


def bearer(
    source: Source, environ: dict[str, str], sender: Transport
) -> Callable[[Deadline], Secret] | None:
    if not isinstance(source, AzureSource):
        return None
    subject = azure_identity(
        environ, sender, resource=source.resource, now=time.time, sleep=lambda _: None
    )
    return lambda deadline: subject(deadline).value


# --- every source --------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", ALL)
def test_the_policy_is_read_and_followed(lab: Cloud, setting: str, tmp_path: Path) -> None:
    read = reader(lab, setting, tmp_path)
    assert read() == GOOD
    assert read() in {GOOD, None}
    put(lab, setting, NEWER)
    assert read() == NEWER


@pytest.mark.parametrize("setting", [KEY_VALUE, BLOB])
def test_an_unchanged_policy_is_not_sent_again(lab: Cloud, setting: str, tmp_path: Path) -> None:
    read = reader(lab, setting, tmp_path)
    assert [read(), read(), read()] == [GOOD, None, None]


@pytest.mark.parametrize("setting", ALL)
def test_whoever_has_no_right_to_it_cannot_read_the_policy(
    lab: Cloud, setting: str, tmp_path: Path
) -> None:
    with pytest.raises(UpstreamRefused) as refused:
        reader(lab, setting, tmp_path, role="etl", identity="reporting")()
    named = "AccessDeniedException; does" if "azure" not in setting else "status 403"
    assert named in refused.value.cause


@pytest.mark.parametrize(
    "setting",
    [
        "ssm:/tokenvend/other",
        "appconfig:tokenvend/prod/other",
        f"azure-appconfig:https://{STORE}/tokenvend%3Apolicy",
        f"azure-blob:https://{ACCOUNT}/conf/other.toml",
        f"azure-blob:https://{ACCOUNT}/other/policy.toml",
    ],
)
def test_a_name_that_does_not_exist_is_told_apart(
    lab: Cloud, setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = STORE if "azconfig" in setting else ACCOUNT
    monkeypatch.setitem(HOSTS, setting, host)
    with pytest.raises(UpstreamRefused) as refused:
        reader(lab, setting, tmp_path)()
    assert "NotFound" in refused.value.cause or "status 404" in refused.value.cause


@pytest.mark.parametrize("setting", [SSM, APPCONFIG])
def test_the_function_reads_what_its_template_names_and_nothing_else(
    lab: Cloud, setting: str, tmp_path: Path
) -> None:
    elsewhere = {SSM: f"{SSM_ARN}policy2", APPCONFIG: f"{APP_ARN}other"}[setting]
    named = lab.accounts.role("tokenvend")
    assert named is not None
    lab.accounts.deploy(own_template(PolicyArn=elsewhere).roles)
    try:
        with pytest.raises(UpstreamRefused) as refused:
            reader(lab, setting, tmp_path)()
    finally:
        lab.accounts.deploy([named])
    assert "AccessDeniedException" in refused.value.cause


@dataclass
class Kept:
    """A policy store over one of the sources, with a clock to move."""

    lab: Cloud
    setting: str
    root: Path
    now: float = field(default_factory=time.time)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = PolicyStore(
            lambda: opened(self.lab, self.setting, self.root),
            compile_policy,
            now=lambda: self.now,
            monotonic=lambda: self.now,
            report=self.told.append,
        )

    def current(self) -> PolicyInForce:
        return self.store.current(soon())

    @property
    def alias(self) -> str:
        return self.current().policy.grants[0].name


@pytest.mark.parametrize("setting", ALL)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("", Kind.STATUS, status=503), id="503"),
        pytest.param(Fault("", Kind.STATUS, status=403), id="403"),
        pytest.param(Fault("", Kind.STATUS, status=404), id="404"),
        pytest.param(Fault("", Kind.STATUS, status=410), id="410"),
        pytest.param(Fault("", Kind.RESET), id="reset"),
        pytest.param(Fault("", Kind.GARBAGE), id="garbage"),
        pytest.param(Fault("", Kind.TRUNCATED), id="truncated"),
    ],
)
def test_a_bad_day_takes_no_policy_away_and_ends_without_a_restart(
    lab: Cloud, setting: str, fault: Fault, tmp_path: Path
) -> None:
    kept = Kept(lab, setting, tmp_path)
    first = kept.current()
    put(lab, setting, NEWER)
    lab.faults.add(replace(fault, host=HOSTS[setting]))
    reports = []
    for _ in range(4):
        kept.now += 61
        assert kept.current() == first
        reports.append(len(kept.told))
    assert reports[0] > 0
    # AppConfig fails in two ways, at the poll and then at the new session; after that it is quiet.
    # A check has two seconds: on a machine that is busy, lateness is a third way.
    if not any("in time" in line for line in kept.told):
        assert reports[1:] == [reports[1]] * 3
    lab.faults.clear()
    kept.now += 61
    assert kept.alias == "reporting"


@pytest.mark.parametrize("setting", ALL)
@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_source_that_holds_nothing_from_the_start_grants_nothing(
    lab: Cloud, setting: str, status: int, tmp_path: Path
) -> None:
    lab.faults.add(Fault(HOSTS[setting], Kind.STATUS, status=status))
    with pytest.raises(Misconfigured):
        Kept(lab, setting, tmp_path).current()


# SSM and App Configuration take no empty value, but a blank one.
@pytest.mark.parametrize(
    ("setting", "text"), [(SSM, " "), (APPCONFIG, " "), (KEY_VALUE, "\n"), (BLOB, "")]
)
def test_an_empty_policy_is_none_and_takes_none_away(
    lab: Cloud, setting: str, text: str, tmp_path: Path
) -> None:
    kept = Kept(lab, setting, tmp_path)
    first = kept.current()
    put(lab, setting, text)
    kept.now += 61
    assert kept.current() == first
    assert "it is empty" in kept.told[0]
    with pytest.raises(Misconfigured) as refused:
        Kept(lab, setting, tmp_path).current()
    assert "it is empty" in refused.value.cause


def test_a_packaged_file_that_is_gone_or_empty_takes_no_policy_away(
    lab: Cloud, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(GOOD)
    kept = Kept(lab, "policy.toml", tmp_path)
    first = kept.current()
    for spoil in (lambda: file.write_text(""), file.unlink):
        spoil()
        kept.now += 61
        assert kept.current() == first
        with pytest.raises(Misconfigured):
            Kept(lab, "policy.toml", tmp_path).current()


@pytest.mark.parametrize("setting", ALL)
def test_a_restored_process_decides_with_the_policy_of_today(
    lab: Cloud, setting: str, tmp_path: Path
) -> None:
    """AppConfig's poll token is in the snapshot, and was spent by the first who was restored."""
    kept = Kept(lab, setting, tmp_path)
    assert kept.alias == "etl"
    put(lab, setting, NEWER)
    lab.profiles._sessions.clear()
    kept.store.restored()
    assert kept.alias == "reporting"
    assert kept.told == []


def many(grants: int) -> str:
    """The shortest policy with so many grants."""
    each = (
        '{"name":"g%d","callers":[{"lambda_alias":"a"}],"direct":true,'
        '"access_token":{"scopes":["email"]}}'
    )
    return '{"version":1,"grant":[' + ",".join(each % number for number in range(grants)) + "]}"


@pytest.mark.parametrize("setting", ["policy.json", APPCONFIG, BLOB])
def test_as_many_grants_load_as_the_policy_language_allows(
    lab: Cloud, setting: str, tmp_path: Path
) -> None:
    """The documentation promised 20,000 where the sources stopped at a megabyte."""
    text = many(20_000)
    if setting == "policy.json":
        (tmp_path / setting).write_text(text)
    else:
        put(lab, setting, text)
    read = reader(lab, setting, tmp_path)()
    assert read is not None
    assert len(compile_policy(read).grants) == 20_000


@pytest.mark.parametrize("setting", [SSM, APPCONFIG])
def test_an_sdk_that_is_slow_holds_nobody_past_the_deadline(
    lab: Cloud, setting: str, tmp_path: Path
) -> None:
    read = opened(lab, setting, tmp_path)
    lab.faults.add(Fault(HOSTS[setting], Kind.LATENCY, seconds=0.5, times=1))
    with pytest.raises(DeadlineExceeded):
        read(Deadline.after(0.1, time.monotonic))
    # Who comes next joins the reading under way, and gets what it brings.
    assert read(soon()) == GOOD


# --- AWS -----------------------------------------------------------------------------------------


def client(lab: Cloud, service: str, role: str = "tokenvend") -> Any:
    key = lab.accounts.session(role, "test")
    network = lab.network_environment
    session = boto3.session.Session(key.id, key.secret, key.token, "us-east-1")
    make: Any = session.client
    config = Config(proxies={"https": network["HTTPS_PROXY"]}, retries={"total_max_attempts": 1})
    return make(service, config=config, verify=network["REQUESTS_CA_BUNDLE"])


def code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return str(refused.value.response["Error"]["Code"])


def test_a_lost_answer_does_not_end_an_appconfig_session_for_ever(
    lab: Cloud, tmp_path: Path
) -> None:
    read = reader(lab, APPCONFIG, tmp_path)
    assert read() == GOOD
    # The token is spent, the answer with the next one is lost.
    lab.faults.add(Fault(HOSTS[APPCONFIG], Kind.TRUNCATED, times=2))
    with pytest.raises(TokenvendError):
        read()
    lab.faults.clear()
    assert read() == GOOD


def test_an_appconfig_session_that_outlived_its_day_is_begun_anew(
    lab: Cloud, tmp_path: Path
) -> None:
    read = reader(lab, APPCONFIG, tmp_path)
    assert read() == GOOD
    for token, session in list(lab.profiles._sessions.items()):
        lab.profiles._sessions[token] = replace(session, issued=session.issued - 25 * 3600)
    with pytest.raises(UpstreamRefused) as refused:
        read()
    assert "BadRequestException" in refused.value.cause
    assert read() == GOOD


def test_an_appconfig_token_is_good_for_one_poll_and_no_sooner_than_agreed(lab: Cloud) -> None:
    data = client(lab, "appconfigdata")
    names = ("ApplicationIdentifier", "EnvironmentIdentifier", "ConfigurationProfileIdentifier")
    where = dict(zip(names, ("tokenvend", "prod", "policy"), strict=True))
    started = data.start_configuration_session(**where, RequiredMinimumPollIntervalInSeconds=15)
    token = started["InitialConfigurationToken"]
    first = data.get_latest_configuration(ConfigurationToken=token)
    assert first["Configuration"].read().decode() == GOOD
    assert first["NextPollIntervalInSeconds"] == 15
    following = first["NextPollConfigurationToken"]
    for used, problem in ((token, "Corrupted"), (following, "PollIntervalNotSatisfied")):
        with pytest.raises(ClientError) as refused:
            data.get_latest_configuration(ConfigurationToken=used)
        assert code(refused) == "BadRequestException"
        details = refused.value.response["Details"]  # type: ignore[typeddict-item]
        assert details["InvalidParameters"]["ConfigurationToken"]["Problem"] == problem


def test_an_empty_appconfig_profile_is_no_policy(lab: Cloud, tmp_path: Path) -> None:
    lab.profiles.put("tokenvend/prod/policy", "")
    with pytest.raises(UpstreamUnavailable) as refused:
        reader(lab, APPCONFIG, tmp_path)()
    assert "without a policy" in refused.value.cause


def test_a_secure_string_is_ciphertext_to_who_does_not_ask_for_decryption(lab: Cloud) -> None:
    ssm = client(lab, "ssm")
    plain = ssm.get_parameter(Name="/tokenvend/policy", WithDecryption=True)["Parameter"]
    hidden = ssm.get_parameter(Name="/tokenvend/policy")["Parameter"]
    assert (plain["Value"], plain["Type"]) == (GOOD, "SecureString")
    assert base64.b64decode(hidden["Value"]) != GOOD.encode()
    assert hidden["ARN"] == "arn:aws:ssm:us-east-1:111122223333:parameter/tokenvend/policy"


def test_a_wrong_clock_shows_as_a_refused_signature_and_shows_no_key(
    lab: Cloud, tmp_path: Path
) -> None:
    lab.clock.skew = 3600
    read = reader(lab, SSM, tmp_path)
    with pytest.raises(UpstreamRefused) as refused:
        read()
    assert refused.value.cause == "AWS refused it: InvalidSignatureException"


def test_an_endpoint_url_in_the_environment_cannot_write_our_policy(
    lab: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SSM"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert reader(lab, SSM, tmp_path)() == GOOD


def test_other_operations_are_not_served(lab: Cloud) -> None:
    with pytest.raises(ClientError) as refused:
        client(lab, "ssm").get_parameters_by_path(Path="/tokenvend")
    assert code(refused) == "UnknownOperationException"


@pytest.mark.parametrize("value", ["", "a" * 8193])
def test_parameter_store_holds_at_most_8_kilobytes(lab: Cloud, value: str) -> None:
    with pytest.raises(ValueError, match="8192"):
        lab.parameters.put("/tokenvend/policy", value)


# --- Azure ---------------------------------------------------------------------------------------


def ask(lab: Cloud, setting: str, *headers: tuple[str, str], query: str = "") -> Response:
    host = HOSTS[setting]
    target = "/kv/tokenvend%3Apolicy" if setting == KEY_VALUE else "/conf/policy.toml"
    return lab.router(Request("GET", host, target + query, Headers(headers)))


def token(lab: Cloud, resource: str, **claims: object) -> tuple[str, str]:
    minted = lab.entra.mint(lab.entra.identity("tokenvend"), resource, **claims)  # type: ignore[arg-type]
    return "Authorization", f"Bearer {minted}"


QUERY = "?api-version=2023-11-01&label=prod"
STORAGE = ("x-ms-version", "2023-11-03")


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"nbf": 4_000_000_000},
        {"iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/"},
        {"oid": None},
        {"aud": "api://tokenvend"},
    ],
)
def test_azure_takes_no_token_that_is_old_foreign_or_for_another(
    lab: Cloud, claims: dict[str, object]
) -> None:
    for_store = token(lab, "https://azconfig.io", **claims)
    for_blobs = token(lab, "https://storage.azure.com/", **claims)
    assert ask(lab, KEY_VALUE, for_store, query=QUERY).status == 401
    assert ask(lab, BLOB, for_blobs, STORAGE).status == 401


def test_a_token_for_one_service_opens_no_other(lab: Cloud) -> None:
    for_store = token(lab, "https://azconfig.io")
    for_blobs = token(lab, "https://storage.azure.com/")
    assert ask(lab, KEY_VALUE, for_store, query=QUERY).status == 200
    assert ask(lab, BLOB, for_blobs, STORAGE).status == 200
    assert ask(lab, KEY_VALUE, for_blobs, query=QUERY).status == 401
    assert ask(lab, BLOB, for_store, STORAGE).status == 401


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("?api-version=2020-01-01", 400), (QUERY, 401)]
)
def test_app_configuration_wants_a_version_and_a_token(lab: Cloud, query: str, status: int) -> None:
    assert ask(lab, KEY_VALUE, query=query).status == status


@pytest.mark.parametrize(
    ("headers", "status", "named"),
    [
        ((STORAGE,), 401, "NoAuthenticationInformation"),
        ((("x-ms-version", "latest"),), 400, "InvalidHeaderValue"),
        ((STORAGE, ("Authorization", "SharedKey a:b")), 401, "InvalidAuthenticationInfo"),
        ((("Authorization", "Bearer a.b.c"),), 403, "AuthenticationFailed"),
    ],
)
def test_blob_storage_names_what_it_refuses(
    lab: Cloud, headers: tuple[tuple[str, str], ...], status: int, named: str
) -> None:
    answer = ask(lab, BLOB, *headers)
    assert (answer.status, Headers(answer.headers).get("x-ms-error-code")) == (status, named)
    assert f"<Code>{named}</Code>".encode() in answer.body


def test_a_huge_blob_is_not_read_into_memory(lab: Cloud, tmp_path: Path) -> None:
    lab.blobs.put(ACCOUNT, "conf/policy.toml", b"a" * (MAX_BYTES + 1))
    with pytest.raises(UpstreamUnavailable) as refused:
        reader(lab, BLOB, tmp_path)()
    assert "larger than" in refused.value.cause


def test_a_blob_that_is_no_text_is_refused(lab: Cloud, tmp_path: Path) -> None:
    lab.blobs.put(ACCOUNT, "conf/policy.toml", b"\xff\xfe")
    with pytest.raises(Misconfigured):
        reader(lab, BLOB, tmp_path)()


def test_a_store_of_another_name_holds_nothing_of_ours(lab: Cloud) -> None:
    allowed = token(lab, "https://azconfig.io")
    other = Request("GET", "other-store.azconfig.io", "/kv/tokenvend%3Apolicy" + QUERY)
    assert lab.router(replace(other, headers=Headers([allowed]))).status == 404
