"""The audit chain: what was written can be checked, and what was touched shows."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenvend.audit.chain import AuditLog, verify
from tokenvend.audit.record import MAX_RECORD, AuditRecord
from tokenvend.model import (
    AccessTokenSpec,
    AwsCaller,
    EntraCaller,
    IdTokenSpec,
    LambdaCaller,
    OidcCaller,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class ListSink:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str, record: AuditRecord) -> None:
        self.lines.append(line)

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def written(count: int) -> list[dict[str, Any]]:
    sink = ListSink()
    log = AuditLog(sink.write, instance="one")
    for number in range(count):
        record = AuditRecord(f"request-{number}", "2026-01-01T00:00:00Z")
        record.caller = EntraCaller("t", "o", "a", frozenset({"b", "a"}))
        record.spec = AccessTokenSpec("g", None, ("s",), None)
        log.close(record)
    return sink.records


def line_of(record: AuditRecord) -> str:
    sink = ListSink()
    AuditLog(sink.write, instance="i" * 36).close(record)
    assert list(verify(sink.records)) == []
    return sink.lines[0]


def test_an_untouched_log_verifies_after_a_trip_through_json() -> None:
    records = [json.loads(json.dumps(r, sort_keys=True, indent=1)) for r in written(5)]
    assert list(verify(records)) == []
    assert [record["sequence"] for record in records] == [1, 2, 3, 4, 5]


# As they were written before records had a source, a user agent and a trace.
_OLD: dict[str, Any] = {
    "platform_request_id": "", "time": "2026-01-01T00:00:00Z", "route": "", "asked": None,
    "caller": {
        "kind": "entra", "id": "entra:t:o", "tenant": "t", "object_id": "o", "app_id": "a",
        "roles": ["a", "b"],
    },
    "matched": [], "grant": None, "would_deny": "", "outcome": "denied", "status": 403,
    "reason": "\u00e9", "token_fingerprint": "", "expires_at": "", "cache": "",
    "upstream_request_id": "", "policy": "", "policy_checked_at": 0, "durations_us": {},
    "schema": 1, "instance": "old",
}  # fmt: skip
_FIRST = "92f1040439d709fdf62695900e18946cc9ebd6b8c36b33363b86e433957a002b"
_SECOND = "dfa5d6e38997948375d8cc11b7403e516162288aeb52eee88dd2670e00f07dca"
SCHEMA_1: list[dict[str, Any]] = [
    {**_OLD, "request_id": "request-0", "sequence": 1, "previous": "0" * 64, "hash": _FIRST},
    {**_OLD, "request_id": "request-1", "sequence": 2, "previous": _FIRST, "hash": _SECOND},
]


def test_records_of_the_schema_before_still_verify() -> None:
    assert list(verify(SCHEMA_1)) == []
    assert list(verify([SCHEMA_1[0], SCHEMA_1[1] | {"status": 200}]))


def test_two_instances_may_be_interleaved() -> None:
    other = ListSink()
    log = AuditLog(other.write, instance="two")
    for _ in range(2):
        log.close(AuditRecord("r", "t"))
    mine = written(2)
    assert not list(verify([mine[0], other.records[0], other.records[1], mine[1]]))


def test_processes_restored_from_one_snapshot_have_chains_of_their_own() -> None:
    sinks = [ListSink(), ListSink()]
    for name, sink in zip("ab", sinks, strict=True):
        log = AuditLog(sink.write, instance="snapshot")
        log.begin(name)
        log.close(AuditRecord("r", "t"))
    assert list(verify([sinks[0].records[0], sinks[1].records[0]])) == []


def altered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    records[2]["outcome"] = "denied"
    return records


def missing(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return records[:2] + records[3:]


def doubled(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*records[:3], records[2], *records[3:]]


def swapped(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [records[0], records[2], records[1], *records[3:]]


def beheaded(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return records[1:]


@pytest.mark.parametrize(
    ("touch", "position", "what"),
    [
        (altered, 3, "was altered"),
        (missing, 3, "has number 4 where 3 was due"),
        (doubled, 4, "has number 3 where 4 was due"),
        (swapped, 2, "has number 3 where 2 was due"),
        (beheaded, 1, "has number 2 where 1 was due"),
    ],
)
def test_a_touched_log_shows(
    touch: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], position: int, what: str
) -> None:
    problem = next(verify(touch(copy.deepcopy(written(5)))))
    assert problem.position == position
    assert problem.what.startswith(what)


def test_a_record_rehashed_after_a_change_breaks_the_next_one() -> None:
    first, second, third = written(3)
    forged = second | {"reason": "forged"}
    del forged["hash"]
    canonical = json.dumps(forged, sort_keys=True, separators=(",", ":"))
    forged["hash"] = hashlib.sha256(canonical.encode()).hexdigest()
    (problem,) = verify([first, forged, third])
    assert (problem.position, problem.what) == (3, "does not follow from the record before it")


def test_a_record_the_sink_lost_leaves_a_gap() -> None:
    class Failing(ListSink):
        def write(self, line: str, record: AuditRecord) -> None:
            if record.request_id == "lost":
                raise OSError
            super().write(line, record)

    sink = Failing()
    log = AuditLog(sink.write, instance="one")
    log.close(AuditRecord("kept", "t"))
    with pytest.raises(OSError):  # noqa: PT011 -- the sink's own error comes through
        log.close(AuditRecord("lost", "t"))
    log.close(AuditRecord("kept too", "t"))
    assert any("missing" in problem.what for problem in verify(sink.records))


# One character that takes 12 bytes of JSON.
HUGE = "\U0001f600" * 250
MANY = (HUGE,) * 200
CALLERS = [
    OidcCaller(HUGE, HUGE, tuple((HUGE, HUGE) for _ in range(200))),
    EntraCaller(HUGE, HUGE, HUGE, frozenset(f"{each}{HUGE}" for each in range(50))),
    AwsCaller(HUGE, HUGE, HUGE, HUGE, HUGE),
    LambdaCaller(HUGE, HUGE),
]
SPECS = [
    AccessTokenSpec(HUGE, HUGE, MANY, 3_600, MANY, attributed=True),
    IdTokenSpec(HUGE, HUGE, HUGE, delegates=MANY),
]
ASKED = {"kind": "access_token", "service_account": HUGE, "grant": HUGE, "scopes": MANY}


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.kind)
@pytest.mark.parametrize("spec", SPECS, ids=["access token", "ID token"])
def test_row_29_whatever_comes_in_a_record_fits_one_log_line(
    caller: Any, spec: AccessTokenSpec | IdTokenSpec
) -> None:
    strangers = {each.name: HUGE for each in fields(AuditRecord) if each.type == "str"}
    ours = {
        "request_id": "r" * 36,
        "time": "2026-01-01T00:00:00Z",
        "expires_at": "2026-01-01T00:00:00Z",
        "route": "/v1/projects/-/serviceAccounts/{email}:generateAccessToken",
        "outcome": "unsupported_media_type",
        "cache": "bridged",
        "policy": f"sha256:{'f' * 64}",
        "token_fingerprint": "f" * 64,
    }
    record = AuditRecord(**strangers | ours)  # type: ignore[arg-type]
    record.caller, record.spec, record.asked, record.matched = caller, spec, ASKED, MANY
    record.steps.durations.update(dict.fromkeys("abcdefgh", 10**9))
    line = line_of(record)
    assert len(line) <= MAX_RECORD
    assert "[cut, length 250]" in line
    assert json.loads(line)["grant"]["delegates"][-1] == "[cut, length 200]"


def test_row_29_what_is_cut_says_so_and_what_fits_is_whole() -> None:
    claims = tuple((f"claim_{each:02}", "v" * 60) for each in range(30))
    caller = OidcCaller("https://issuer.example", "repo:acme/etl", claims)
    record = json.loads(line_of(AuditRecord("r", "t", caller=caller)))
    assert record["caller"]["claims"] == [list(claim) for claim in claims]
    longer = OidcCaller(caller.issuer, caller.subject, (*claims, ("claim_30", "v" * 33_017)))
    cut = json.loads(line_of(AuditRecord("r", "t", caller=longer)))["caller"]["claims"]
    assert cut[:30] == [list(claim) for claim in claims]
    assert cut[30][1].endswith("v [cut, length 33017]")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("platform_request_id", "7d0c9f3e-5a55-4b8e-9e43-0a51d7b6a7c1", "x\ny"),
        ("platform_request_id", "JKJaXmPLvHcESHA=", "\ud800"),
        ("source", "2001:db8::1", "unknown, 1.2.3.4"),
        ("trace_id", "1-67891233-abcdef012345678912345678", "x"),
    ],
)
def test_row_29_an_id_of_another_form_is_left_out(name: str, good: str, bad: str) -> None:
    assert json.loads(line_of(AuditRecord("r", "t", **{name: good})))[name] == good
    told = json.loads(line_of(AuditRecord("r", "t", **{name: bad})))[name]
    assert told == f"[malformed, length {len(bad)}]"


@given(st.text(), st.lists(st.tuples(st.text(), st.text())))
def test_any_text_is_one_line_of_ascii_that_verifies(text: str, pairs: list[Any]) -> None:
    record = AuditRecord("r", "t", user_agent=text, caller=OidcCaller(text, text, tuple(pairs)))
    line = line_of(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["user_agent"] == text or "[cut, " in line or "***" in line
