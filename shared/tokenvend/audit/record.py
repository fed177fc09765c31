"""What is known of one request: who asked for what, what came of it, and why.

Most of it was written by strangers: an event, a header, a token's claims. So each field has a bound
and some a form, all in the tables below, and any record fits one log line: Application Insights
cuts at 32,768 characters, CloudWatch at 256 KiB. What is cut says so. Nothing here reads a clock:
times come in.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tokenvend.model import Caller, TokenSpec

# All bounds are bytes of ASCII JSON. They keep every record under the first, its place in the chain
# included.
MAX_RECORD = 16 * 1024
MAX_TEXT = 512
MAX_CLAIMS = 4096
"""All that a token says of a caller: claims or roles."""
# Where a field needs more or less than MAX_TEXT.
_BOUNDS: Mapping[str, int] = {
    "claims": MAX_CLAIMS,
    "roles": MAX_CLAIMS,
    "scopes": 1280,
    "delegates": 1024,
    "reason": 1024,
    "would_deny": 768,
    "bridged": 256,
    "user_agent": 256,
}
_MAX_ITEM = 128
# Ids and addresses, by what they are made of: of anything else only its length is told. Characters
# rather than patterns, which would each cost a function's start a compilation.
_HEX = "0123456789abcdefABCDEF"
_ID = _HEX + "ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ=_+/.:-"
_MADE_OF: Mapping[str, str] = {
    "platform_request_id": _ID,
    "upstream_request_id": _ID,
    "trace_id": _HEX + "-",
    "source": _HEX + ".:",
}
_MAX_ID = 128
_encoded = json.JSONEncoder(separators=(",", ":")).encode


class Steps:
    """How long each step of a request took: `durations`, in microseconds by the step's name.

    `monotonic`: seconds. A step that is taken twice counts in full.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.durations: dict[str, int] = {}
        self._monotonic = monotonic
        self._started = monotonic()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Time what is done inside, however it ends."""
        before = self._monotonic()
        try:
            yield
        finally:
            self._add(step, self._monotonic() - before)

    def stop(self) -> None:
        """The whole request is over: its `total`."""
        self._add("total", self.elapsed())

    def elapsed(self) -> float:
        """Seconds since the request came."""
        return self._monotonic() - self._started

    def _add(self, step: str, seconds: float) -> None:
        self.durations[step] = self.durations.get(step, 0) + int(seconds * 1_000_000)


@dataclass(slots=True)
class AuditRecord:
    """What is known of one request so far; `AuditLog.close` makes it final.

    `time`: RFC 3339 UTC. `source`: the address that the platform saw. `trace_id`: W3C's 32 hex
    digits, or X-Ray's. `route`: its template. `outcome`: `vended`, `answered` (a route that vends
    nothing) or an error's code. `reason`: the operator's cause of a denial. `cache`: `hit`, `miss`
    or `bridged`. `bridged`: why something at hand served in place of what could not be had anew.
    `policy`: digest of the policy that decided; `policy_checked_at`: when its source last held it,
    epoch seconds, 0 where no policy was asked.
    """

    request_id: str
    time: str
    platform_request_id: str = ""
    trace_id: str = ""
    source: str = ""
    user_agent: str = ""
    route: str = ""
    caller: Caller | None = None
    asked: Mapping[str, Any] | None = None
    matched: tuple[str, ...] = ()
    spec: TokenSpec | None = None
    would_deny: str = ""
    outcome: str = "internal"
    status: int = 500
    reason: str = ""
    token_fingerprint: str = ""
    expires_at: str = ""
    cache: str = ""
    bridged: str = ""
    upstream_request_id: str = ""
    policy: str = ""
    policy_checked_at: int = 0
    steps: Steps = field(default_factory=lambda: Steps(lambda: 0.0))


def render(record: AuditRecord) -> dict[str, Any]:
    """The record as JSON has it, bounded, without its place in a chain."""
    caller = record.caller
    strangers = {
        "platform_request_id": record.platform_request_id,
        "trace_id": record.trace_id,
        "source": record.source,
        "user_agent": record.user_agent,
        "caller": caller and {"kind": caller.kind, "id": caller.id, **_members(caller)},
        "asked": record.asked,
        "matched": record.matched,
        "grant": _spec(record.spec),
        "would_deny": record.would_deny,
        "reason": record.reason,
        "bridged": record.bridged,
        "upstream_request_id": record.upstream_request_id,
    }
    return {
        "request_id": record.request_id,
        "time": record.time,
        "route": record.route,
        "outcome": record.outcome,
        "status": record.status,
        "token_fingerprint": record.token_fingerprint,
        "expires_at": record.expires_at,
        "cache": record.cache,
        "policy": record.policy,
        "policy_checked_at": record.policy_checked_at,
        "durations_us": record.steps.durations,
        **{name: _bounded(name, value) for name, value in strangers.items()},
    }


def _spec(spec: TokenSpec | None) -> dict[str, Any] | None:
    if spec is None:
        return None
    members = _members(spec)
    return {"kind": spec.kind, "name": members.pop("grant_name"), **members}


def _members(value: Caller | TokenSpec) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _bounded(name: str, value: Any) -> Any:
    """What JSON can hold, in bounds. A set is sorted, so that the hash is stable."""
    if isinstance(value, str):
        made_of = _MADE_OF.get(name)
        if made_of is not None and (len(value) > _MAX_ID or value.strip(made_of)):
            return f"[malformed, length {len(value)}]"
        return _cut(value, _BOUNDS.get(name, MAX_TEXT))
    if isinstance(value, dict):
        return {key: _bounded(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset):
        items = sorted(value) if isinstance(value, frozenset) else list(value)
        return _cut_list(items, _BOUNDS.get(name, MAX_TEXT))
    return value


def _cut(text: str, most: int) -> str:
    # No character takes more than 12 bytes of ASCII JSON, and none less than one.
    if len(text) * 12 <= most or (len(text) <= most and len(_encoded(text)) <= most):
        return text
    note = f" [cut, length {len(text)}]"
    kept, room = text[:most], most - len(note)
    while (size := len(_encoded(kept))) > room:
        kept = kept[: len(kept) * room // size]
    return kept + note


def _cut_list(items: list[Any], most: int) -> list[Any]:
    if not items or (len(items) <= most and len(_encoded(items)) <= most):
        return items
    note = f"[cut, length {len(items)}]"
    kept: list[Any] = []
    room = most - len(f'[,"{note}"]')
    for item in items:
        # A claim is a pair of texts.
        text = isinstance(item, str)
        short = _cut(item, _MAX_ITEM) if text else [_cut(each, _MAX_ITEM) for each in item]
        room -= len(_encoded(short)) + 1
        if room < 0:
            return [*kept, note]
        kept.append(short)
    return kept
