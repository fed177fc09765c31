"""`tokenvend audit`: every shape our records are stored in, and every way a log can be wrong."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tokenvend.audit.chain import AuditLog, fingerprint_key
from tokenvend.audit.record import AuditRecord
from tokenvend.cli import main
from tokenvend.cli.records import MAX_LINE, records_in
from tokenvend.errors import Denied
from tokenvend.model import AccessTokenRequest, AccessTokenSpec, AwsCaller, Secret
from tokenvend.policy import compile_policy, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from click.testing import Result

TOKEN = "ya29.c.the-token-that-leaked-0123456789"
KEY = "an operator's key of thirty-two characters or more"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


class ListSink:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, line: str, record: AuditRecord) -> None:
        self.records.append(json.loads(line))


def written(*tokens: str, instance: str = "one", key: bytes = b"") -> list[dict[str, Any]]:
    """One record for each token; an empty one is a denial."""
    sink = ListSink()
    log = AuditLog(sink.write, instance=instance, fingerprint_key=key)
    for number, token in enumerate(tokens):
        record = AuditRecord(f"request-{instance}-{number}", f"2026-01-01T00:00:0{number}Z")
        record.outcome, record.status = "denied", 403
        if token:
            record.outcome, record.status = "vended", 200
            record.caller = AwsCaller(
                "arn:aws:iam::111122223333:role/etl", "111122223333", "etl", "nightly"
            )
            record.spec = AccessTokenSpec(
                "landing", "l@acme.iam.gserviceaccount.com", (SCOPE,), 900
            )
            record.token_fingerprint = Secret(token).fingerprint(key)
            record.expires_at = "2026-01-01T00:15:00Z"
            record.cache = "hit" if number else "miss"
        log.close(record)
    return sink.records


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], input=stdin)


def bare(record: Mapping[str, Any]) -> str:
    return json.dumps(record)


def powertools(record: Mapping[str, Any]) -> str:
    out = io.StringIO()
    logger = Logger(service=f"audit-shapes-{id(out)}", stream=out)
    logger.info("audit", audit=record)
    return out.getvalue().rstrip("\n")


def azure(record: Mapping[str, Any]) -> str:
    return json.dumps({"message": "audit", "audit": record})


def azure_host(record: Mapping[str, Any]) -> str:
    return f"2026-01-01T00:00:00.123 [Information] {{odd}} tokenvend: {azure(record)}"


def cloudwatch_export(record: Mapping[str, Any]) -> str:
    return f"2026-01-01T00:00:00.123Z {powertools(record)}"


def cloudwatch_event(record: Mapping[str, Any]) -> str:
    return json.dumps({"timestamp": 1, "message": powertools(record), "eventId": "3"})


def cloudwatch_indented(record: Mapping[str, Any]) -> str:
    return json.dumps({"events": [{"message": powertools(record) + "\n"}]}, indent=4)


def insights(record: Mapping[str, Any]) -> str:
    return json.dumps({"@timestamp": "2026", "@message": powertools(record)})


def insights_results(record: Mapping[str, Any]) -> str:
    fields = [
        {"field": "@timestamp", "value": "2026"},
        {"field": "@message", "value": azure(record)},
    ]
    return json.dumps({"results": [fields], "status": "Complete"})


def application_insights_query(record: Mapping[str, Any]) -> str:
    return json.dumps({"tables": [{"name": "PrimaryResult", "rows": [["2026", azure(record), 1]]}]})


def insights_csv(record: Mapping[str, Any]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(["2026-01-01 00:00:00.000", powertools(record), "a, b"])
    return out.getvalue().rstrip("\r\n")


def bare_csv(record: Mapping[str, Any]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([bare(record)])
    return out.getvalue().rstrip("\r\n")


def application_insights(record: Mapping[str, Any]) -> str:
    return json.dumps({"Message": azure(record), "SeverityLevel": 1})


SHAPES = [
    bare,
    powertools,
    azure,
    azure_host,
    cloudwatch_export,
    cloudwatch_event,
    cloudwatch_indented,
    insights,
    insights_results,
    insights_csv,
    bare_csv,
    application_insights,
    application_insights_query,
]
NOISE = [
    "START RequestId: 7d0c9f3e Version: 12",
    "",
    "{",
    '{"level": "INFO", "message": "sequence of previous steps"}',
    '{"previous": {"sequence": [1, {"x": null}]}} and text',
    '"{\\"sequence\\": 1, \\"previous',
    "\x1b[31mREPORT\x1b[0m Duration: 12 ms { sequence previous",
    "[" * 100_000 + "sequence previous",
    '{"sequence":' * 20_000 + "previous",
]


def test_a_whole_log_is_whole_in_every_shape(subtests: pytest.Subtests) -> None:
    for shape in SHAPES:
        with subtests.test(shape=shape):
            records = [*written(TOKEN, "", TOKEN), *written("", instance="two")]
            lines = [*NOISE, *(line for record in records for line in (shape(record), "other {"))]
            result = run("verify", stdin="\r\n".join(lines))
            assert result.exit_code == 0, result.output
            assert "4 records of 2 instances" in result.output
            assert "whole" in result.output


def test_files_are_read_in_their_order_and_unpacked(tmp_path: Path) -> None:
    first, second, third = written(TOKEN, "", TOKEN)
    (tmp_path / "1.gz").write_bytes(gzip.compress(bare(first).encode()))
    (tmp_path / "2").write_text(bare(second))
    names = [str(tmp_path / "1.gz"), str(tmp_path / "2"), "-"]
    assert run("verify", *names, stdin=bare(third)).exit_code == 0
    assert run("verify", *reversed(names), stdin=bare(third)).exit_code == 1


def altered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    records[1]["outcome"] = "vended"
    return records


def missing(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[0], records[2]]


def doubled(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*records[:2], records[1], records[2]]


def moved(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[1], records[0], records[2]]


def replaced(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[0], written("", TOKEN)[1], records[2]]


def without_type(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[0], records[1] | {"sequence": True, "hash": [], "request_id": 7}, records[2]]


@pytest.mark.parametrize(
    ("touch", "record", "what"),
    [
        (altered, 2, "was altered"),
        (missing, 2, "is missing, doubled or moved"),
        (doubled, 3, "is missing, doubled or moved"),
        (moved, 1, "is missing, doubled or moved"),
        (replaced, 3, "does not follow"),
        (without_type, 2, "has number ? where 2 was due"),
    ],
)
def test_a_touched_log_names_the_record_and_what_is_wrong(
    touch: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], record: int, what: str
) -> None:
    log = "\n".join(map(bare, touch(written("", "", TOKEN))))
    result = run("verify", stdin=log)
    assert result.exit_code == 1
    assert any(f"record {record} " in line and what in line for line in result.output.splitlines())
    told = json.loads(run("verify", "--json", stdin=log).output)
    assert told["whole"] is False
    assert any(each["position"] == record and what in each["what"] for each in told["problems"])


def test_a_member_named_twice_makes_no_record() -> None:
    first, second, third = map(bare, written("", "", ""))
    second = second.replace('"outcome": "denied"', '"outcome": "vended", "outcome": "denied"')
    result = run("verify", stdin=f"{first}\n{second}\n{third}")
    assert result.exit_code == 1
    assert "request-one-2" in result.output


def test_a_log_from_the_middle_is_whole_only_if_asked_so() -> None:
    log = "\n".join(map(bare, written("", "", "", "")[1:]))
    assert run("verify", stdin=log).exit_code == 1
    assert run("verify", "--partial", stdin=log).exit_code == 0
    gap = "\n".join(
        map(bare, [each for each in written("", "", "", "")[1:] if each["sequence"] != 3])
    )
    assert run("verify", "--partial", stdin=gap).exit_code == 1


def test_a_log_without_records_is_not_called_whole() -> None:
    for command in (["verify"], ["find", "--fingerprint", "0" * 64]):
        result = run(*command, stdin="\n".join(NOISE))
        assert result.exit_code == 2
        assert "no audit record" in result.output


def test_a_log_cannot_write_to_the_terminal() -> None:
    record = written("")[0] | {"request_id": "\x1b]0;owned\x07[red]", "instance": "\x1b[2J\r"}
    result = run("verify", stdin=bare(record))
    assert result.exit_code == 1
    assert not {"\x1b", "\x07", "\r"} & set(result.output)
    assert "[red]" in result.output


def test_an_endless_line_is_passed_over() -> None:
    first, second = map(bare, written("", ""))
    log = f"{first}\n{'x' * (MAX_LINE + 5)}{first}\n{second}"
    assert json.loads(run("verify", "--json", stdin=log).output)["records"] == 2


def test_a_line_wrapped_without_end_is_passed_over() -> None:
    wrapped: object = written("")[0]
    for _ in range(20):
        wrapped = {"message": wrapped}
    assert list(records_in([json.dumps(wrapped), "{" * 1000 + "sequence previous"])) == []


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.gz"
    path.write_bytes(gzip.compress(b"line\n" * 1000)[:-20])
    result = run("verify", str(path))
    assert result.exit_code == 2
    assert "log.gz cannot be read" in result.output


def log_of(tmp_path: Path, *, key: bytes = b"") -> str:
    path = tmp_path / "audit.log"
    path.write_text(
        "\n".join(powertools(each) for each in written(TOKEN, "", "other", TOKEN, key=key))
    )
    return str(path)


def test_find_names_every_request_that_handed_the_token_out(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    arguments = ["find", "--token-file", str(tmp_path / "token"), log_of(tmp_path)]
    found = json.loads(run(*arguments, "--json").output)
    assert [each["request_id"] for each in found] == ["request-one-0", "request-one-3"]
    assert [each["cache"] for each in found] == ["miss", "hit"]
    result = run(*arguments)
    assert result.exit_code == 0
    for said in ("etl", "nightly", "landing", "2026-01-01T00:15:00Z", "2026-01-01T00:00:03Z"):
        assert said in result.output
    assert TOKEN not in result.output


@pytest.mark.parametrize("form", ["{}", "sha256:{:.10}", "{:.8}"])
def test_find_takes_a_fingerprint_and_what_it_begins_with(tmp_path: Path, form: str) -> None:
    wanted = form.format(Secret(TOKEN).fingerprint().upper())
    result = run("find", "--fingerprint", wanted, "--json", log_of(tmp_path))
    assert [each["request_id"] for each in json.loads(result.output)] == [
        "request-one-0",
        "request-one-3",
    ]


def test_find_says_how_many_tokens_begin_alike() -> None:
    records = written(TOKEN, TOKEN, "other")
    for number, record in enumerate(records):
        record["token_fingerprint"] = f"{'ab' * 4}{min(number, 1):056}"
    result = run("find", "--fingerprint", "abababab", stdin="\n".join(map(bare, records)))
    assert result.exit_code == 0
    assert "2 different ones begin like this" in result.stderr


@pytest.mark.parametrize("wanted", ["request-one-1", "gateway-0123456", "google-0123456789"])
def test_find_tells_what_became_of_a_request_by_any_of_its_ids(wanted: str) -> None:
    records = written(TOKEN, "", TOKEN)
    ids = {"platform_request_id": "gateway-0123456=", "upstream_request_id": "google-0123456789"}
    log = "\n".join(map(bare, [records[0], records[1] | ids, records[2]]))
    found = json.loads(run("find", "--request-id", wanted, "--json", stdin=log).output)
    assert [each["request_id"] for each in found] == ["request-one-1"]


def test_find_shows_the_reason_whole_where_two_names_differ_at_their_ends() -> None:
    arns = [f"arn:aws:iam::111122223333:role/{'a-long-name-' * 4}{end}" for end in ("one", "two")]
    policy = compile_policy(
        f"""version = 1
        [[grant]]
        name = "etl"
        callers = [{{ aws_role = "{arns[0]}" }}]
        service_account = "l@acme.iam.gserviceaccount.com"
        [grant.access_token]
        scopes = ["{SCOPE}"]"""
    )
    caller = AwsCaller(arns[1], "111122223333", arns[1].rpartition("/")[2])
    with pytest.raises(Denied) as denied:
        decide(policy, caller, AccessTokenRequest(grant_name="etl"), 1)
    record = written("")[0] | {"reason": denied.value.cause}
    result = run("find", "--request-id", record["request_id"], stdin=bare(record))
    assert arns[1] in denied.value.cause
    assert f"reason     {denied.value.cause}\n" in result.output


def test_a_request_that_is_not_there_is_told_apart_from_a_token_that_is_not() -> None:
    log = "\n".join(map(bare, written(TOKEN)))
    result = run("find", "--request-id", "request-two-0", stdin=log)
    assert result.exit_code == 1
    assert "None of 1 request has this id." in result.output


def test_a_page_has_who_asked_what_came_of_it_and_where_the_time_went() -> None:
    record = written(TOKEN)[0] | {
        "route": "/v1/access-token",
        "asked": {"kind": "access_token", "grant": None, "scopes": [SCOPE], "lifetime": 900},
        "matched": ["aws_role"],
        "cache": "bridged",
        "bridged": "token exchange: status 503",
        "source": "198.51.100.7",
        "user_agent": "curl/8.5.0\x1b[2J",
        "policy": "f" * 64,
        "durations_us": {"decision": 1500, "total": 1_234_567},
    }
    shown = run("find", "--request-id", "request-one-0", stdin=bare(record)).output
    for line in (
        "request    request-one-0",
        "outcome    vended, status 200",
        "caller     arn:aws:iam::111122223333:role/etl, session nightly",
        "from       198.51.100.7, curl/8.5.0\N{REPLACEMENT CHARACTER}[2J",
        f"asked      /v1/access-token: scopes {SCOPE}, lifetime 900",
        "named by   aws_role",
        f"grant      landing: access token of l@acme.iam.gserviceaccount.com, {SCOPE}, 15m",
        f"token      {Secret(TOKEN).fingerprint()}",
        "           expires 2026-01-01T00:15:00Z",
        "cache      bridged",
        "bridged    token exchange: status 503",
        f"policy     {'f' * 64}",
        "took       1,234.6 ms: decision 1.5",
        "record     1 of instance one",
    ):
        assert line in shown.splitlines()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(sorted(written(TOKEN)[0].keys() - {"request_id"})), JSON),
    st.sampled_from([10**40, -(10**40), True]),
)
def test_a_forged_record_makes_a_page_and_never_a_crash(changes: dict[str, Any], odd: int) -> None:
    record = written(TOKEN)[0] | {"durations_us": {"total": odd, "vend": odd}} | changes
    result = run("find", "--request-id", "request-one-0", stdin=bare(record))
    assert (result.exit_code, result.exception) == (0, None)
    assert all(character.isprintable() or character == "\n" for character in result.stdout)


def test_verify_tells_the_time_of_the_latest_record_not_of_the_last_read() -> None:
    late, early = written("", "", instance="late"), written("", instance="early")
    late[1]["time"] = "2026-01-02T00:00:00Z"
    result = run("verify", stdin="\n".join(map(bare, [*late, *early])))
    assert "2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z" in result.output


def test_find_takes_the_token_from_standard_input(tmp_path: Path) -> None:
    assert run("find", "--token-file", "-", log_of(tmp_path), stdin=TOKEN).exit_code == 0


def test_keyed_fingerprints_are_found_with_the_key_alone(tmp_path: Path) -> None:
    log = log_of(tmp_path, key=fingerprint_key(KEY))
    for name, text in {"old": "x" * 40, "key": f"{KEY}\n", "token": TOKEN}.items():
        (tmp_path / name).write_text(text)
    arguments = ["find", log, "--token-file", str(tmp_path / "token")]
    keyed = [*arguments, "--key-file", str(tmp_path / "old"), "--key-file", str(tmp_path / "key")]
    assert run(*keyed).exit_code == 0
    assert run(*keyed[:-2]).exit_code == 1
    result = run(*arguments)
    assert result.exit_code == 1
    assert "--key-file" in result.output


def test_find_says_when_the_record_was_altered() -> None:
    record = written(TOKEN)[0] | {"caller": None, "grant": [], "request_id": "forged"}
    result = run("find", "--fingerprint", Secret(TOKEN).fingerprint(), stdin=bare(record))
    assert result.exit_code == 0
    assert "was altered" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fingerprint", "0123456"], "8 to 64 hex digits"),
        (["--request-id", "0123456"], "8 characters or more"),
        (["--request-id", "01234567", "--fingerprint", "0" * 64], "Give one of"),
        (["--fingerprint", "0" * 64, "--token-file", "token"], "Give one of"),
        (["--token-file", "-", "-"], "only one"),
        (["--token-file", "-", "--key-file", "-", "log"], "only one"),
        (["--token-file", "-"], "only one"),
        (["log"], "--token-file or --fingerprint"),
        (["--token-file", "empty", "log"], "empty"),
        (["--token-file", "binary", "log"], "cannot be read (UnicodeDecodeError)"),
        (["--token-file", "large", "log"], "larger than"),
        (["--token-file", "token", "--key-file", "token", "log"], "at least 32 characters"),
        (["--token-file", "nowhere", "log"], "does not exist"),
        (["--token", "secret-on-the-command-line", "log"], "No such option"),
    ],
)
def test_a_wrong_question_is_refused_and_shows_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("short-secret")
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xffsecret")
    (tmp_path / "large").write_text("secret" * 20_000)
    (tmp_path / "log").write_text("")
    result = run("find", *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "short-secret" not in result.output


def test_the_token_is_asked_for_without_an_echo(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from tokenvend.cli import main; main()", "audit", "find"]
    child = subprocess.Popen(  # noqa: S603 -- our own command
        [*command, "--json", log_of(tmp_path)],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        seen = b""
        while b"Token" not in seen:
            seen += terminal.read(100)
        terminal.write(f"{TOKEN}\n".encode())
        output, _ = child.communicate(timeout=30)
        with contextlib.suppress(OSError):  # how a terminal says that nobody is there any more
            while more := terminal.read(10_000):
                seen += more
    assert child.returncode == 0
    assert len(json.loads(output)) == 2
    assert TOKEN.encode() not in seen


def test_a_key_is_its_text_and_never_short() -> None:
    assert fingerprint_key(f"  {KEY}\n") == KEY.encode()
    assert fingerprint_key("0" * 64) == b"0" * 64
    with pytest.raises(ValueError, match="at least 32") as refused:
        fingerprint_key("short-secret")
    assert "short-secret" not in str(refused.value)


@given(st.text(max_size=200), st.text(st.characters(exclude_characters='{"'), max_size=20))
def test_a_record_is_found_whatever_stands_around_it(text: str, before: str) -> None:
    record = written("")[0]
    line = f"{before}{json.dumps({'message': text, 'audit': record})}{text}"
    assert list(records_in([text, line, f"sequence previous {text}"])) == [record]
