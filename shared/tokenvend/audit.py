"""One record for every request, on every path: who asked for what, what came of it, and why.

The record is opened before anybody is authenticated and closed exactly once, denials and crashes
included. Records of one instance form a chain: each carries the hash of the one before and a
running number, so that an altered or missing record shows (`verify`). Tokens appear only as
fingerprints. Nothing here reads a clock or writes by itself: times come in, a sink takes records.
"""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tokenvend.model import AccessTokenGrant, IdTokenGrant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tokenvend.model import Caller, Grant

GENESIS = "0" * 64
SCHEMA = 1


class Sink(Protocol):
    """Where records go: a logger, a queue, a table. Raises when the record was not taken."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take one closed record."""
        ...


@dataclass(slots=True)
class AuditRecord:
    """What is known of one request so far; `AuditLog.close` makes it final.

    `time`: RFC 3339 UTC. `durations`: microseconds by step. `outcome`: `vended`, `answered` (a
    route that vends nothing) or an error's code. `reason`: the operator's cause of a denial.
    """

    request_id: str
    time: str
    platform_request_id: str = ""
    route: str = ""
    caller: Caller | None = None
    asked: Mapping[str, Any] | None = None
    matched: tuple[str, ...] = ()
    grant: Grant | None = None
    would_deny: str = ""
    outcome: str = "internal"
    status: int = 500
    reason: str = ""
    token_fingerprint: str = ""
    expires_at: str = ""
    cache: str = ""
    upstream_request_id: str = ""
    policy: str = ""
    durations: dict[str, int] = field(default_factory=dict)


class AuditLog:
    """Closes records into a hash chain and hands them to the sink, one at a time.

    `instance`: names this process's chain. `fingerprint_key`: HMAC key for token fingerprints,
    empty for plain SHA-256.
    """

    def __init__(self, sink: Sink, *, instance: str, fingerprint_key: bytes = b"") -> None:
        self.fingerprint_key = fingerprint_key
        self._sink = sink
        self._instance = instance
        self._lock = threading.Lock()
        self._sequence = 0
        self._previous = GENESIS

    def close(self, record: AuditRecord) -> None:
        """Write the record; raises whatever the sink raises."""
        with self._lock:
            # The number is spent even if the sink fails: the gap is the evidence.
            self._sequence += 1
            final = _render(record) | {
                "schema": SCHEMA,
                "instance": self._instance,
                "sequence": self._sequence,
                "previous": self._previous,
            }
            final["hash"] = _hash(final)
            self._previous = final["hash"]
            self._sink.write(final)


def verify(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with a log of records in the order they were written; empty when nothing is.

    Detects altered, missing, doubled and reordered records of each instance. Records cut off
    the end of a log cannot be missed from the log alone; its beginning must be the instance's.
    """
    problems: list[str] = []
    last: dict[str, tuple[int, str]] = {}
    for position, record in enumerate(records, 1):
        instance = str(record.get("instance", ""))
        sequence, previous = last.get(instance, (0, GENESIS))
        where = f"record {position} (request {record.get('request_id', '?')})"
        if record.get("hash") != _hash({k: v for k, v in record.items() if k != "hash"}):
            problems.append(f"{where} was altered: its hash does not fit its content")
        if record.get("sequence") != sequence + 1:
            problems.append(
                f"{where} has number {record.get('sequence')} where {sequence + 1} was due: "
                "a record before it is missing, doubled or moved"
            )
        elif record.get("previous") != previous:
            problems.append(f"{where} does not follow from the record before it")
        number = record.get("sequence")
        last[instance] = (
            number if isinstance(number, int) else sequence + 1,
            str(record.get("hash", "")),
        )
    return problems


def _hash(record: Mapping[str, Any]) -> str:
    # Sorted keys and no white space: a log pipeline may reorder and re-indent what it stores.
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _render(record: AuditRecord) -> dict[str, Any]:
    caller = record.caller
    described = None
    if caller is not None:
        described = {"kind": caller.kind, "id": caller.id, **_plain(asdict(caller))}
    return {
        "request_id": record.request_id,
        "platform_request_id": record.platform_request_id,
        "time": record.time,
        "route": record.route,
        "caller": described,
        "asked": dict(record.asked) if record.asked is not None else None,
        "matched": list(record.matched),
        "grant": _grant(record.grant),
        "would_deny": record.would_deny,
        "outcome": record.outcome,
        "status": record.status,
        "reason": record.reason,
        "token_fingerprint": record.token_fingerprint,
        "expires_at": record.expires_at,
        "cache": record.cache,
        "upstream_request_id": record.upstream_request_id,
        "policy": record.policy,
        "durations_us": dict(record.durations),
    }


def _grant(grant: Grant | None) -> dict[str, Any] | None:
    match grant:
        case None:
            return None
        case AccessTokenGrant():
            kind = "access_token"
        case IdTokenGrant():
            kind = "id_token"
    return {"kind": kind, **_plain(asdict(grant))}


def _plain(value: Any) -> Any:
    """JSON has lists where the model has tuples and sets; sorted, so that the hash is stable."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
