"""One record for every request, on every path: who asked for what, what came of it, and why.

The record is opened before anybody is authenticated and closed exactly once, denials and crashes
included. Records of one instance form a chain: each carries the hash of the one before and a
running number, so that an altered or missing record shows (`verify`). Tokens appear only as
fingerprints; a credential that a caller put into another field is masked before the hash is made.
Nothing here reads a clock or writes by itself: times come in, a sink takes records.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenvend.audit.record import render
from tokenvend.masking import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tokenvend.audit.record import AuditRecord

GENESIS = "0" * 64
SCHEMA = 2
# Where closed records go; raises when one was not taken. The text is all of the record, one object
# in one line of ASCII JSON.
Sink = Callable[[str, "AuditRecord"], None]
# As text: 32 hex digits are 128 bits, the least that nobody guesses.
MIN_KEY_TEXT = 32


class AuditLog:
    """Closes records into a hash chain and hands them to the sink, one at a time.

    `instance`: names this process's chain. `fingerprint_key`: HMAC key for token fingerprints,
    empty for plain SHA-256.
    """

    def __init__(self, sink: Sink, *, instance: str, fingerprint_key: bytes = b"") -> None:
        self.fingerprint_key = fingerprint_key
        self._sink = sink
        self._lock = threading.Lock()
        self.begin(instance)

    def begin(self, instance: str) -> None:
        """Start a chain of this name: at first, and in each process restored from one snapshot."""
        with self._lock:
            self._instance = instance
            self._sequence = 0
            self._previous = GENESIS

    def close(self, record: AuditRecord) -> None:
        """Write the record; raises whatever the sink raises."""
        members = render(record)
        with self._lock:
            # The number is spent even if the sink fails: the gap is the evidence.
            self._sequence += 1
            members |= {
                "schema": SCHEMA,
                "instance": self._instance,
                "sequence": self._sequence,
                "previous": self._previous,
            }
            text = _masked(_canonical(members))
            self._previous = hashlib.sha256(text.encode()).hexdigest()
            self._sink(f'{text[:-1]},"hash":"{self._previous}"}}', record)


def fingerprint_key(text: str) -> bytes:
    """The HMAC key that an operator's text stands for: its UTF-8 without white space at the ends.

    Hex digits are text like any other, so that one rule, and `openssl dgst -hmac`, covers every
    key. Raises ValueError, saying what the text must be; it never holds the text.
    """
    key = text.strip()
    if len(key) < MIN_KEY_TEXT:
        raise ValueError(f"must have at least {MIN_KEY_TEXT} characters")
    return key.encode()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one record. `position`: its place among the records read, from 1."""

    position: int
    request_id: str
    instance: str
    sequence: int | None
    what: str

    def __str__(self) -> str:
        return f"record {self.position} (request {self.request_id or '?'}) {self.what}"


def verify(records: Iterable[Mapping[str, Any]], *, from_start: bool = True) -> Iterator[Problem]:
    """What is wrong with a log of records in the order they were written; nothing when it is whole.

    Detects altered, missing, doubled and reordered records of each instance. Records cut off
    the end of a log cannot be missed from the log alone. `from_start`: the log begins where each
    instance did; otherwise the first record of an instance is taken as it stands.
    """
    last: dict[str, tuple[int, Any]] = {}
    for position, record in enumerate(records, 1):
        instance, found, previous = _text(record, "instance"), _number(record), record.get("hash")
        if instance not in last:
            last[instance] = (
                (0, GENESIS) if from_start else ((found or 1) - 1, record.get("previous"))
            )
        due, hashed = last[instance][0] + 1, last[instance][1]
        for what in _faults(record, found, due, hashed):
            yield Problem(position, _text(record, "request_id"), instance, found, what)
        last[instance] = (due if found is None else found, previous)


def is_intact(record: Mapping[str, Any]) -> bool:
    """Whether a record's hash fits its content."""
    return record.get("hash") == _hash({k: v for k, v in record.items() if k != "hash"})


def _faults(
    record: Mapping[str, Any], found: int | None, due: int, hashed: object
) -> Iterator[str]:
    if not is_intact(record):
        yield "was altered: its hash does not fit its content"
    if found != due:
        yield (
            f"has number {'?' if found is None else found} where {due} was due: "
            "a record before it is missing, doubled or moved"
        )
    elif record.get("previous") != hashed:
        yield "does not follow from the record before it"


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    return value if isinstance(value, str) else ""


def _number(record: Mapping[str, Any]) -> int | None:
    value = record.get("sequence")
    return value if type(value) is int else None


def _hash(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(record).encode()).hexdigest()


# Sorted keys and no white space: a log pipeline may reorder and re-indent what it stores.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _masked(text: str) -> str:
    # Before the hash, not after: a log filter that masked a credential in a written record would
    # make it look altered, and any caller could raise that alarm.
    masked = mask(text)
    return text if masked is text else _canonical(json.loads(masked))
