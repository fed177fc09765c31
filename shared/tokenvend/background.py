"""Work of a library that knows no deadline, done in a thread of its own.

An SDK retries and sleeps as it likes. Whoever waits for it waits no longer than its own deadline,
and who comes while the work is still going on joins it instead of starting another.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from tokenvend.deadline import Deadline


class Background[V]:
    """One piece of work, at most once at a time. `failure` makes of what it raises what its callers
    see: a new error, not one that was raised from the library's, which may quote a secret.
    """

    def __init__(
        self, work: Callable[[], V], failure: Callable[[Exception], Exception] = lambda error: error
    ) -> None:
        self._work = work
        self._failure = failure
        self._lock = threading.Lock()
        self._under_way: Future[V] | None = None

    def join(self, deadline: Deadline, *, late: Exception) -> V:
        """The work's result, begun now or earlier. Raises `late` when the deadline comes first."""
        from concurrent.futures import Future  # noqa: PLC0415 - heavy, and most starts never need it

        if deadline.remaining() <= 0:
            raise late
        with self._lock:
            under_way = self._under_way
            if under_way is None or under_way.done():
                under_way = self._under_way = Future()
                threading.Thread(target=self._do, args=(under_way,), daemon=True).start()
        try:
            return under_way.result(deadline.remaining())
        except TimeoutError:
            raise late from None

    def _do(self, under_way: Future[V]) -> None:
        try:
            under_way.set_result(self._work())
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            under_way.set_exception(self._failure(error))
