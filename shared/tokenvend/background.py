"""Work of a library that knows no deadline, done in a thread of its own.

An SDK retries and sleeps as it likes. Whoever waits for it waits no longer than its own deadline,
and who comes while the work is still going on joins it instead of starting another. A result that
came too late for everybody is the next one's, while it is fresh: of work that always takes a little
longer than anybody waits, no result would be seen at all.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from tokenvend.deadline import Deadline


# Seconds: more than the policy's interval, so that its next check still finds a late answer.
FRESH = 90


class Background[V]:
    """One piece of work, at most once at a time. `failure` makes of what it raises what its callers
    see: a new error, not one that was raised from the library's, which may quote a secret. `now`:
    epoch seconds; without it no late result is kept.
    """

    def __init__(
        self,
        work: Callable[[], V],
        failure: Callable[[Exception], Exception] = lambda error: error,
        *,
        now: Callable[[], float] | None = None,
    ) -> None:
        self._work = work
        self._failure = failure
        self._now = now
        self._lock = threading.Lock()
        self._under_way: Future[V] | None = None
        self._ended_at = 0.0

    def join(self, deadline: Deadline, *, late: Exception) -> V:
        """The work's result, begun now or earlier. Raises `late` when the deadline comes first."""
        from concurrent.futures import Future  # noqa: PLC0415 - heavy, and most starts never need it

        if deadline.remaining() <= 0:
            raise late
        with self._lock:
            under_way = self._under_way
            if under_way is None or (under_way.done() and not self._is_fresh()):
                under_way = Future()
                threading.Thread(target=self._do, args=(under_way,), daemon=True).start()
                # Not before: for work that could not start everybody would wait for ever.
                self._under_way = under_way
        try:
            result = under_way.result(deadline.remaining())
        except TimeoutError:
            raise late from None
        self._ended_at = 0.0
        return result

    def _is_fresh(self) -> bool:
        return self._now is not None and 0 <= self._now() - self._ended_at < FRESH

    def _do(self, under_way: Future[V]) -> None:
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - it belongs to those who wait
            under_way.set_exception(self._told(error))
        else:
            self._ended_at = self._now() if self._now is not None else 0.0
            under_way.set_result(result)

    def _told(self, error: BaseException) -> Exception:
        """What those who wait see: something, whatever happens, or they would wait for ever."""
        try:
            return self._failure(error) if isinstance(error, Exception) else RuntimeError()
        except Exception as worse:  # noqa: BLE001 - as above
            return RuntimeError(type(worse).__name__)
