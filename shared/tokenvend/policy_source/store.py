"""The policy in force: loaded strictly once, then checked every 60 s and never lost.

Before anything could be loaded, everything is refused. After that nothing takes the policy away:
an outage, garbage or a mistake at the source leaves the last good one in force, and the operator
is told. The price is that a revocation shows only once the source can be read again, which is
why `checked_at` is shown and worth an alarm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenvend.errors import DeadlineExceeded, Misconfigured, TokenvendError
from tokenvend.policy import PolicyError

if TYPE_CHECKING:
    from tokenvend.deadline import Deadline
    from tokenvend.policy import CompiledPolicy

# One reading of a source: its text, or None when it is the same as at the last reading.
Read = Callable[["Deadline"], str | None]

# Seconds between checks.
INTERVAL = 60.0
# Seconds for the first load: within it boto3 is imported, and Lambda's start-up ends after 10.
FIRST_BUDGET = 5.0
# Seconds for a later check, where a third of what the request has left is more.
CHECK_BUDGET = 2.0
# Seconds within which a source in health has answered.
ENOUGH = 1.0
# Seconds between tries while no policy was read here: requests must not queue up behind an outage.
FIRST_RETRY = 5.0
_UNREAD = "The endpoint's policy cannot be read. Ask its operator to look at the log."


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A policy and how sure we are of it; times in epoch seconds.

    `loaded_at`: since when it is in force here. `checked_at`: when the source last held it.
    """

    policy: CompiledPolicy
    loaded_at: int
    checked_at: int


class PolicyStore:
    """Keeps the policy in force. Thread-safe; reads nothing before it is asked.

    `open_source`: gives the function that reads the source. `compile_text`: text to policy, or
    PolicyError. `now`: epoch seconds. `report`: takes one line for the operator, when the source
    cannot be followed; a policy that comes into force is told by every record.
    """

    def __init__(
        self,
        open_source: Callable[[], Read],
        compile_text: Callable[[str], CompiledPolicy],
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        report: Callable[[str], None],
    ) -> None:
        self._open = open_source
        self._read = open_source()
        self._compile = compile_text
        self._now = now
        self._monotonic = monotonic
        self._report = report
        self._checking = threading.Lock()
        self._in_force: PolicyInForce | None = None
        self._failure = Misconfigured(_UNREAD, cause="nothing was read")
        self._tried: tuple[float, float] | None = None
        self._was_read = False
        self._last: tuple[str, CompiledPolicy | Misconfigured] | None = None
        self._reported = ""

    def loaded(self, deadline: Deadline) -> PolicyInForce:
        """The policy in force without a check, after a first load where that is due.

        For probes, which anybody may send: one whose time is too short for a check would fail it,
        and the next would have to wait. Raises as `current`.
        """
        return self._in_force or self._first(deadline)

    def current(self, deadline: Deadline) -> PolicyInForce:
        """The policy in force, checked at its source first when that is due.

        One caller checks, for a third of its time and 2 s at most; the others go on with what is
        there. A first load may take all of the caller's time, 5 s at most. Raises Misconfigured as
        long as no policy could be loaded, and never again afterwards; DeadlineExceeded for whoever
        waited for another's first load in vain.
        """
        held = self._in_force
        if held is None:
            return self._first(deadline)
        if self._is_due() and self._checking.acquire(blocking=False):
            try:
                if self._is_due():
                    self._check(deadline.share(at_most=CHECK_BUDGET))
            finally:
                self._checking.release()
        return self._in_force or held

    def restored(self) -> None:
        """Open the source anew and check before the next decision.

        A snapshot of this process holds a poll token and connections that others have used since.
        """
        self._read = self._open()
        self._tried = None
        self._was_read = False

    def _first(self, deadline: Deadline) -> PolicyInForce:
        if not self._checking.acquire(timeout=deadline.remaining()):
            raise DeadlineExceeded(cause="waited for the first load of the policy")
        try:
            if self._in_force is None and self._is_due():
                self._check(deadline.share(1, at_most=FIRST_BUDGET))
        finally:
            self._checking.release()
        if self._in_force is None:
            # Without the traceback of the thread that met it first, which would grow for ever.
            raise self._failure.with_traceback(None)
        return self._in_force

    def _is_due(self) -> bool:
        """By either clock: a frozen function may find the monotonic one stopped, and one that
        was restored from a snapshot has both set anew; a wall clock alone can be set back.
        """
        if self._tried is None:
            return True
        wall, steady = self._tried
        interval = INTERVAL if self._was_read else FIRST_RETRY
        return not 0 <= self._now() - wall < interval or self._monotonic() - steady >= interval

    def _check(self, deadline: Deadline) -> None:
        is_short = deadline.remaining() < ENOUGH
        try:
            outcome = self._latest(deadline)
        finally:
            self._tried = (self._now(), self._monotonic())
        at, held = int(self._now()), self._in_force
        if isinstance(outcome, Misconfigured):
            self._failure = outcome
            # What had no chance is tried again soon.
            self._was_read = self._was_read and not is_short
            kept = "the last good policy stays in force" if held else "every request is refused"
            self._tell(f"{outcome.cause}\n{kept}")
            return
        self._was_read = True
        self._reported = ""
        since = held.loaded_at if held is not None and held.policy is outcome else at
        self._in_force = PolicyInForce(outcome, since, at)

    def _latest(self, deadline: Deadline) -> CompiledPolicy | Misconfigured:
        """What the source holds now, or why that is no policy."""
        try:
            text = self._read(deadline)
        except TokenvendError as error:
            return Misconfigured(_UNREAD, cause=error.cause or error.detail)
        except Exception as error:  # noqa: BLE001 -- an SDK may raise anything; the policy stays
            # Its text may quote a signed request: only the kind is kept.
            return Misconfigured(_UNREAD, cause=f"reading failed: {type(error).__name__}")
        if text is not None and (self._last is None or text != self._last[0]):
            self._last = text, self._compiled(text)
        if self._last is None:
            return Misconfigured(_UNREAD, cause="the source says unchanged, but to what?")
        # The same bad text is still bad, though nobody looks at it again.
        return self._last[1]

    def _compiled(self, text: str) -> CompiledPolicy | Misconfigured:
        try:
            return self._compile(text)
        except PolicyError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- a bug met by a new policy must not end service
            return Misconfigured(_UNREAD, cause=f"compiling failed: {type(error).__name__}")

    def _tell(self, text: str) -> None:
        """Report what differs from the last report: an outage is two lines, not one a minute."""
        if text != self._reported:
            self._reported = text
            for line in text.splitlines():
                self._report(f"policy: {line}")
