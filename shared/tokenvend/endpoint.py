"""The life of one request, whatever brought it: record opened, crash caught, record closed.

The record is opened before anybody is authenticated and closed exactly once on every path. Where
the operator asks for it, no token leaves whose record was not taken. Of a crash only its type and
place are kept: its text may quote a request or an upstream.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from traceback import walk_tb
from typing import TYPE_CHECKING, NamedTuple

from tokenvend.audit.record import AuditRecord, Steps
from tokenvend.deadline import Deadline
from tokenvend.errors import TokenvendError
from tokenvend.wire.objects import rfc3339

if TYPE_CHECKING:
    from tokenvend.audit.chain import AuditLog

# Seconds to wait where nobody knows better; RFC 9110 section 10.2.3.
DEFAULT_RETRY_AFTER = 2


class Invocation(NamedTuple):
    """One request under way. `now`: epoch seconds, the only time the clock is read for it.

    `opened`: the same moment, unrounded.
    """

    record: AuditRecord
    now: int
    deadline: Deadline
    opened: float

    def answered_at(self) -> int:
        """Epoch seconds of this moment: what an answer says of a token's life counts from here."""
        return int(self.opened + self.record.steps.elapsed())


@dataclass(frozen=True)
class Endpoint:
    """What every request goes through. `budget`: seconds one may take, upstreams included.

    `fail_closed`: no token leaves unless its audit record was taken. `on_restore`: what has state
    that must not outlive a snapshot.
    """

    audit: AuditLog
    budget: float
    fail_closed: bool
    now: Callable[[], float]
    monotonic: Callable[[], float]
    report: Callable[[str], None]
    on_restore: tuple[Callable[[], None], ...] = ()

    def run[T](
        self,
        serve: Callable[[Invocation], T],
        refuse: Callable[[Invocation, TokenvendError], T],
    ) -> T:
        """What `serve` answers, or what `refuse` makes of the error that it raised.

        `serve` sets the record's outcome, both its status.
        """
        opened = self.now()
        now, steps = int(opened), Steps(self.monotonic)
        record = AuditRecord(str(uuid.uuid4()), rfc3339(now), steps=steps)
        invocation = Invocation(record, now, Deadline.after(self.budget, self.monotonic), opened)
        try:
            try:
                answer = serve(invocation)
            except TokenvendError as error:
                record.outcome, record.reason = error.code, error.cause or error.detail
                answer = refuse(invocation, error)
            except Exception as crash:  # noqa: BLE001 -- a crash is answered and recorded too
                record.outcome, record.reason = TokenvendError.code, _told(crash)
                answer = refuse(invocation, TokenvendError())
        finally:
            unrecorded = self._close(record)
        return answer if unrecorded is None else refuse(invocation, unrecorded)

    def restored(self) -> None:
        """Begin anew in a process that was restored from a snapshot, as many others may be."""
        self.audit.begin(str(uuid.uuid4()))
        for forget in self.on_restore:
            forget()

    def _close(self, record: AuditRecord) -> TokenvendError | None:
        """Close the record; the error that has to be answered where that failed."""
        record.steps.stop()
        try:
            self.audit.close(record)
        except Exception as failure:  # noqa: BLE001 -- whatever the sink raises, the rule holds
            self.report(
                f"audit record of request {record.request_id} was not taken: "
                f"{type(failure).__name__}"
            )
            if self.fail_closed and record.outcome == "vended":
                return TokenvendError(
                    "The audit record could not be written, so no token is given. Try again later.",
                    retry_after=DEFAULT_RETRY_AFTER,
                )
        return None


def _told(crash: Exception) -> str:
    *_, (frame, line) = walk_tb(crash.__traceback__)
    return f"crashed with {type(crash).__name__} at {frame.f_globals.get('__name__')}:{line}"
