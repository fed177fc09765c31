"""The policy in force: loaded strictly once, then checked every 60 s and never lost.

Before anything could be loaded, everything is refused. After that nothing takes the policy away:
an outage, garbage or a mistake at the source leaves the last good one in force, with the problem
on record. The price is that a revocation shows only once the source can be read again, which is
why `checked_at` is shown and worth an alarm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenvend.deadline import Deadline
from tokenvend.errors import Misconfigured, TokenvendError
from tokenvend.policy import PolicyError
from tokenvend.policy_source.text import POLICY_UNREAD

if TYPE_CHECKING:
    from tokenvend.policy import CompiledPolicy

# One reading of a source: its text, or None when it is the same as at the last reading.
Read = Callable[[Deadline], str | None]

INTERVAL = 60.0
# Seconds for the first load: within it boto3 is imported, and Lambda's start-up ends after 10.
FIRST_BUDGET = 5.0
# Seconds for a later check: it is one request's time that is spent.
CHECK_BUDGET = 2.0
# Seconds between tries while nothing is loaded: requests must not queue up behind an outage.
FIRST_RETRY = 5.0


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A policy and how sure we are of it; times in epoch seconds.

    `loaded_at`: since when it is in force here. `checked_at`: when the source last held it.
    `problem`: why the source could not be followed since then, empty when all is well; it may
    quote the policy, so it is for the operator alone.
    """

    policy: CompiledPolicy
    loaded_at: int
    checked_at: int
    problem: str = ""


class PolicyStore:
    """Keeps the policy in force. Thread-safe; reads nothing before it is asked.

    `read`: one reading of the source, by its deadline. `compile_text`: text to policy, or
    PolicyError. `now`: epoch seconds. `interval`: seconds between checks. `report`: takes one
    line for the operator, when something has changed.
    """

    def __init__(
        self,
        read: Read,
        compile_text: Callable[[str], CompiledPolicy],
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        report: Callable[[str], None],
        interval: float = INTERVAL,
    ) -> None:
        self._read = read
        self._compile = compile_text
        self._now = now
        self._monotonic = monotonic
        self._report = report
        self._interval = interval
        self._checking = threading.Lock()
        self._in_force: PolicyInForce | None = None
        self._failure: Misconfigured | None = None
        self._tried: tuple[float, float] | None = None
        self._last_text: str | None = None
        self._last_refusal: Misconfigured | None = None
        self._reported = ""

    def current(self) -> PolicyInForce:
        """The policy in force, checked at its source first when that is due.

        One caller checks, at most 2 s long; the others go on with what is there. Raises
        Misconfigured as long as no policy could be loaded, and never again afterwards.
        """
        held = self._in_force
        if held is None:
            return self._first()
        if self._is_due(self._interval) and self._checking.acquire(blocking=False):
            try:
                if self._is_due(self._interval):
                    self._check(CHECK_BUDGET)
            finally:
                self._checking.release()
        return self._in_force or held

    def restored(self) -> None:
        """Check the source at the next request."""
        self._tried = None

    def _first(self) -> PolicyInForce:
        with self._checking:
            if self._in_force is None and self._is_due(FIRST_RETRY):
                self._check(FIRST_BUDGET)
            if self._in_force is not None:
                return self._in_force
            failure = self._failure or Misconfigured(POLICY_UNREAD, cause="nothing was read")
            # Without the traceback of the thread that met it first, which would grow for ever.
            raise failure.with_traceback(None)

    def _is_due(self, interval: float) -> bool:
        """By either clock: a frozen function may find the monotonic one stopped, and one that
        was restored from a snapshot has both set anew; a wall clock alone can be set back.
        """
        if self._tried is None:
            return True
        wall, steady = self._tried
        return not 0 <= self._now() - wall < interval or self._monotonic() - steady >= interval

    def _check(self, budget: float) -> None:
        try:
            outcome = self._latest(Deadline.after(budget, self._monotonic))
        finally:
            self._tried = (self._now(), self._monotonic())
        at, held = int(self._now()), self._in_force
        if isinstance(outcome, Misconfigured):
            self._failure = outcome
            if held is not None:
                self._in_force = replace(held, problem=outcome.cause)
            kept = "the last good policy stays in force" if held else "every request is refused"
            self._tell(f"{outcome.cause}\n{kept}")
            return
        if outcome is not None:
            self._in_force = PolicyInForce(outcome, at, at)
        elif held is not None:
            self._in_force = replace(held, checked_at=at, problem="")
        if self._in_force is not None:
            self._tell(f"in force: {self._in_force.policy.digest}")

    def _latest(self, deadline: Deadline) -> CompiledPolicy | Misconfigured | None:
        """A new policy, why there is none, or None when nothing has changed."""
        try:
            text = self._read(deadline)
        except TokenvendError as error:
            return Misconfigured(POLICY_UNREAD, cause=error.cause or error.detail)
        except Exception as error:  # noqa: BLE001 -- an SDK may raise anything; the policy stays
            # Its text may quote a signed request: only the kind is kept.
            return Misconfigured(POLICY_UNREAD, cause=f"reading failed: {type(error).__name__}")
        if text is None and self._last_text is None:
            return Misconfigured(POLICY_UNREAD, cause="the source says unchanged, but to what?")
        if text is None or text == self._last_text:
            # The same bad text is still bad, though nobody looks at it again.
            return self._last_refusal
        compiled = self._compiled(text)
        self._last_text = text
        self._last_refusal = compiled if isinstance(compiled, Misconfigured) else None
        return compiled

    def _compiled(self, text: str) -> CompiledPolicy | Misconfigured:
        try:
            return self._compile(text)
        except PolicyError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- a bug met by a new policy must not end service
            cause = f"compiling failed: {type(error).__name__}"
            return Misconfigured(POLICY_UNREAD, cause=cause)

    def _tell(self, text: str) -> None:
        """Report what differs from the last report: an outage is two lines, not one a minute."""
        if text != self._reported:
            self._reported = text
            for line in text.splitlines():
                self._report(f"policy: {line}")
