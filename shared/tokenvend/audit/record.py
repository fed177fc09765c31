"""What is known of one request: who asked for what, what came of it, and why.

Nothing here reads a clock: times come in.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from tokenvend.model import AccessTokenSpec, IdTokenSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tokenvend.model import Caller, TokenSpec


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
        self._add("total", self._monotonic() - self._started)

    def _add(self, step: str, seconds: float) -> None:
        self.durations[step] = self.durations.get(step, 0) + int(seconds * 1_000_000)


@dataclass(slots=True)
class AuditRecord:
    """What is known of one request so far; `AuditLog.close` makes it final.

    `time`: RFC 3339 UTC. `outcome`: `vended`, `answered` (a
    route that vends nothing) or an error's code. `reason`: the operator's cause of a denial.
    `bridged`: why something at hand served in place of what could not be had anew.
    `policy`: digest of the policy that decided; `policy_checked_at`: when its source last held it,
    epoch seconds, 0 where no policy was asked.
    """

    request_id: str
    time: str
    platform_request_id: str = ""
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
    """The record as JSON has it, without its place in a chain."""
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
        "grant": _spec(record.spec),
        "would_deny": record.would_deny,
        "outcome": record.outcome,
        "status": record.status,
        "reason": record.reason,
        "token_fingerprint": record.token_fingerprint,
        "expires_at": record.expires_at,
        "cache": record.cache,
        "upstream_request_id": record.upstream_request_id,
        "policy": record.policy,
        "policy_checked_at": record.policy_checked_at,
        "durations_us": dict(record.steps.durations),
    }


def _spec(spec: TokenSpec | None) -> dict[str, Any] | None:
    match spec:
        case None:
            return None
        case AccessTokenSpec():
            kind = "access_token"
        case IdTokenSpec():
            kind = "id_token"
    fields = _plain(asdict(spec))
    return {"kind": kind, "name": fields.pop("grant_name"), **fields}


def _plain(value: Any) -> Any:
    """JSON has lists where the model has tuples and sets; sorted, so that the hash is stable."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
