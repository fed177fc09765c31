"""Expiry-aware, bounded memory of minted values, with one mint at a time per key.

What it promises: a value is renewed while it is still good, a crowd that asks for one key costs
one mint, an upstream's bad minute is bridged with a value that is still good, and a refusal is
never hidden. What it refuses: a value that is dead on arrival.

A fixed rule such as "at least five minutes left" would mint on every request for a token that
lives five minutes, so freshness is a fraction of each value's own life.
"""

from __future__ import annotations

import copy
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tokenvend.errors import DeadlineExceeded, RateLimited, TokenvendError, UpstreamUnavailable

if TYPE_CHECKING:
    from tokenvend.deadline import Deadline

MAX_ENTRIES = 1024
# After a failed renewal the value at hand is served this long before the next try, in seconds:
# or every request of an upstream's bad minute would first wait for its timeout.
HOLD_AFTER_FAILURE = 10
# A clock that ran back further than this (seconds) makes stored values look younger than they are.
CLOCK_SLACK = 5
MIN_LEFT_TO_SERVE = 30
MAX_LEFT_TO_RENEW = 900
_BRIDGED = (UpstreamUnavailable, RateLimited, DeadlineExceeded)


def quarter_left(life: int) -> float:
    """Seconds before its end at which a value is renewed: a quarter of its life, at most 15 min."""
    return min(life / 4, MAX_LEFT_TO_RENEW)


def half_left(life: int) -> float:
    """Seconds before its end at which a value is renewed: half of its life."""
    return life / 2


def _itself[K: Hashable](key: K) -> Hashable:
    return key


class Cache[K: Hashable, V]:
    """Values by key, at most `size` of them. Thread-safe.

    `life` tells a value's issue and end in epoch seconds; `now` is the same clock. `renew_left`
    tells from a value's whole life (seconds) how much is left when it should be renewed. `owner`
    tells whose a key is: a full cache gives up the longest unused value of whoever has most.
    """

    def __init__(
        self,
        *,
        life: Callable[[V], tuple[int, int]],
        now: Callable[[], float],
        size: int = MAX_ENTRIES,
        renew_left: Callable[[int], float] = quarter_left,
        owner: Callable[[K], Hashable] = _itself,
    ) -> None:
        self._life = life
        self._now = now
        self._size = size
        self._renew_left = renew_left
        self._owner = owner
        self._lock = threading.Lock()
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._flights: dict[K, _Flight[V]] = {}

    def get_or_mint(self, key: K, mint: Callable[[], V], deadline: Deadline) -> tuple[V, bool]:
        """The value of `key` and whether it was had without a mint of this call's own.

        One caller per key mints. Meanwhile the others are served the value at hand if it is still
        good, and wait otherwise, until their own deadline. A failed mint fails every waiter with
        the same error: letting each try in turn would turn one upstream failure into a queue of
        them. Only when the minting caller ran out of *its* time does the next waiter try.

        When minting fails with UpstreamUnavailable, RateLimited or DeadlineExceeded, a value with
        more than 30 s left (an eighth of its life if that is less) is served instead. After any
        other error the old value is dropped: a revoked binding must show.
        """
        while True:
            with self._lock:
                entry = self._entry(key)
                if entry is not None and self._is_fresh(entry):
                    self._entries.move_to_end(key)
                    return entry.value, True
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = _Flight()
                    break
                if entry is not None and self._is_servable(entry):
                    return entry.value, True
            if not flight.done.wait(deadline.remaining()):
                msg = "The request took too long. Try again."
                raise DeadlineExceeded(msg, cause="waited for another request's token")
            if flight.values:
                return flight.values[0], True
            if flight.error is not None:
                raise _shared(flight.error)
        return self._lead(key, mint, flight)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def drop(self, key: K, value: V) -> None:
        """Forget `value`, which its upstream no longer takes.

        What has come into its place meanwhile stays: of a crowd that was refused with the same
        value only the first has to mint.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.value is value:
                del self._entries[key]

    def _lead(self, key: K, mint: Callable[[], V], flight: _Flight[V]) -> tuple[V, bool]:
        try:
            value = mint()
            entry = self._alive(value)
        except _BRIDGED as error:
            with self._lock:
                held = self._entry(key)
                if held is not None and self._is_servable(held):
                    held.hold_until = self._now() + HOLD_AFTER_FAILURE
                    flight.values.append(held.value)
                    return held.value, True
            if not isinstance(error, DeadlineExceeded):
                flight.error = error
            raise
        except Exception as error:
            with self._lock:
                self._entries.pop(key, None)
            flight.error = error
            raise
        else:
            flight.values.append(value)
            with self._lock:
                self._store(key, entry)
            return value, False
        finally:
            with self._lock:
                del self._flights[key]
            flight.done.set()

    def _alive(self, value: V) -> _Entry[V]:
        issued_at, expires_at = self._life(value)
        now = self._now()
        if expires_at <= now:
            msg = "An upstream gave a token that has already expired. Try again shortly."
            raise UpstreamUnavailable(msg, cause="dead on arrival; is this machine's clock right?")
        return _Entry(value, now, max(1, expires_at - issued_at), expires_at)

    def _store(self, key: K, entry: _Entry[V]) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            # Whoever asks for many different things makes room for them itself.
            owners = Counter(map(self._owner, self._entries))
            most = owners.most_common(1)[0][0]
            del self._entries[next(each for each in self._entries if self._owner(each) == most)]

    def _entry(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is not None and not (
            entry.stored_at - CLOCK_SLACK <= self._now() < entry.expires_at
        ):
            del self._entries[key]
            return None
        return entry

    def _is_fresh(self, entry: _Entry[V]) -> bool:
        now = self._now()
        return entry.expires_at - now > self._renew_left(entry.life) or (
            now < entry.hold_until and self._is_servable(entry)
        )

    def _is_servable(self, entry: _Entry[V]) -> bool:
        return entry.expires_at - self._now() > min(MIN_LEFT_TO_SERVE, entry.life / 8)


@dataclass(slots=True)
class _Entry[V]:
    value: V
    stored_at: float
    life: int
    expires_at: int
    hold_until: float = 0.0


@dataclass(slots=True)
class _Flight[V]:
    """One mint under way: `values` holds its result, if any, and `error` what all should see."""

    done: threading.Event = field(default_factory=threading.Event)
    values: list[V] = field(default_factory=list)
    error: Exception | None = None


def _shared(error: Exception) -> Exception:
    # A copy: one exception object must not collect the tracebacks of many threads.
    return copy.copy(error) if isinstance(error, TokenvendError) else error
