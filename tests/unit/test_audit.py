"""The audit chain: what was written can be checked, and what was touched shows."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from tokenvend.audit.chain import AuditLog, verify
from tokenvend.audit.record import AuditRecord
from tokenvend.model import AccessTokenSpec, EntraCaller

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class ListSink:
    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, record: Mapping[str, Any]) -> None:
        self.records.append(dict(record))


def written(count: int) -> list[dict[str, Any]]:
    sink = ListSink()
    log = AuditLog(sink, instance="one")
    for number in range(count):
        record = AuditRecord(f"request-{number}", "2026-01-01T00:00:00Z")
        record.caller = EntraCaller("t", "o", "a", frozenset({"b", "a"}))
        record.spec = AccessTokenSpec("g", None, ("s",), None)
        log.close(record)
    return sink.records


def test_an_untouched_log_verifies_after_a_trip_through_json() -> None:
    records = [json.loads(json.dumps(r, sort_keys=True, indent=1)) for r in written(5)]
    assert list(verify(records)) == []
    assert [record["sequence"] for record in records] == [1, 2, 3, 4, 5]


def test_two_instances_may_be_interleaved() -> None:
    other = ListSink()
    log = AuditLog(other, instance="two")
    for _ in range(2):
        log.close(AuditRecord("r", "t"))
    mine = written(2)
    assert not list(verify([mine[0], other.records[0], other.records[1], mine[1]]))


def test_processes_restored_from_one_snapshot_have_chains_of_their_own() -> None:
    sinks = [ListSink(), ListSink()]
    for name, sink in zip("ab", sinks, strict=True):
        log = AuditLog(sink, instance="snapshot")
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


@pytest.mark.parametrize("touch", [altered, missing, doubled, swapped, beheaded])
def test_a_touched_log_shows(
    touch: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
) -> None:
    assert list(verify(touch(copy.deepcopy(written(5)))))


def test_a_record_rehashed_after_a_change_breaks_the_next_one() -> None:
    records = written(3)
    forged = written(3)[1] | {"reason": "forged"}
    sink = ListSink()
    log = AuditLog(sink, instance="one")
    log.close(AuditRecord("request-0", "2026-01-01T00:00:00Z"))
    forged["hash"] = sink.records[0]["hash"]
    assert list(verify([records[0], forged, records[2]]))


def test_a_record_the_sink_lost_leaves_a_gap() -> None:
    sink = ListSink()

    class Failing(ListSink):
        def write(self, record: Mapping[str, Any]) -> None:
            if record["request_id"] == "lost":
                raise OSError
            sink.write(record)

    log = AuditLog(Failing(), instance="one")
    log.close(AuditRecord("kept", "t"))
    with pytest.raises(OSError):  # noqa: PT011 -- the sink's own error comes through
        log.close(AuditRecord("lost", "t"))
    log.close(AuditRecord("kept too", "t"))
    assert any("missing" in problem.what for problem in verify(sink.records))
