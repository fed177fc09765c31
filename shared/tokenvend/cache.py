"""Expiry-aware, bounded memory of minted values, with one mint at a time per key.

What it promises: a value is renewed while it is still good, a crowd that asks for one key costs
one mint, an upstream's bad minute is bridged with a value that is still good, and a refusal is
never hidden. Renewing a value that still serves may take a share of the caller's time and no more,
so that a hung upstream leaves time for what comes after. What it refuses: a value that is dead on
arrival.

A fixed rule such as "at least five minutes left" would mint on every request for a token that
lives five minutes, so freshness is a fraction of each value's own life.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from tokenvend.errors import DeadlineExceeded, RateLimited, TokenvendError, UpstreamUnavailable

if TYPE_CHECKING:
    from tokenvend.deadline import Deadline

# After a failed renewal the value at hand is served this long before the next try, in seconds:
# or every request of an upstream's bad minute would first wait for its share.
HOLD_AFTER_FAILURE = 10
# A clock that ran back further than this (seconds) makes stored values look younger than they are.
CLOCK_SLACK = 5
MIN_LEFT_TO_SERVE = 30
MAX_LEFT_TO_RENEW = 900
_BRIDGED = (UpstreamUnavailable, RateLimited, DeadlineExceeded)

# Whose a key is: a group that the operator made, and the member of it who asked.
Owner = tuple[Hashable, Hashable]


@dataclass(frozen=True, slots=True)
class Cached[V]:
    """A value and how it was had.

    `hit`: without a mint of the caller's own. `bridged`: a newer one could not be had, `cause`
    (for the operator alone) says why, and this one still serves.
    """

    value: V
    how: Literal["hit", "miss", "bridged"]
    cause: str = ""


def quarter_left(life: int) -> float:
    """Seconds before its end at which a value is renewed: a quarter of its life, at most 15 min."""
    return min(life / 4, MAX_LEFT_TO_RENEW)


def half_left(life: int) -> float:
    """Seconds before its end at which a value is renewed: half of its life."""
    return life / 2


class Cache[K: Hashable, V]:
    """Values by key, at most `size` of them. Thread-safe.

    `life` tells a value's issue and end in epoch seconds; `now` is the same clock. `renew_left`
    tells from a value's whole life (seconds) how much is left when it should be renewed. `owner`
    tells whose a key is: a full cache gives up the longest unused value of the member that has
    most in the group that has most. So whoever keeps to an equal share loses nothing to others,
    and inventing members takes no more than the group's share.
    """

    def __init__(
        self,
        *,
        life: Callable[[V], tuple[int, int]],
        now: Callable[[], float],
        owner: Callable[[K], Owner],
        size: int,
        renew_left: Callable[[int], float] = quarter_left,
    ) -> None:
        self._life = life
        self._now = now
        self._size = size
        self._renew_left = renew_left
        self._owner = owner
        self._lock = threading.Lock()
        self._entries: dict[K, _Entry[V]] = {}
        self._shares = _Shares[K]()
        self._flights: dict[K, _Flight[V]] = {}

    def get_or_mint(self, key: K, mint: Callable[[Deadline], V], deadline: Deadline) -> Cached[V]:
        """The value of `key`, by `mint` if it is missing or due for renewal.

        One caller per key mints; its mint gets the caller's deadline, or a share of it while a
        value at hand still serves. Meanwhile the others are served the value at hand, and wait
        where there is none, until their own deadline. A failed mint fails every waiter with the
        same error: letting each try in turn would turn one upstream failure into a queue of them.
        Only when the minting caller ran out of *its* time does the next waiter try.

        When minting fails with UpstreamUnavailable, RateLimited or DeadlineExceeded, a value with
        more than 30 s left (an eighth of its life if that is less) is served instead. After any
        other error the old value is dropped: a revoked binding must show.
        """
        while True:
            with self._lock:
                entry = self._entry(key)
                if entry is not None and self._is_fresh(entry):
                    self._shares.use(self._owner(key), key)
                    return entry.served()
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = _Flight()
                    lent = self._lent(entry, deadline)
                    break
                if entry is not None and self._is_servable(entry):
                    return entry.served()
            if not flight.done.wait(deadline.remaining()):
                raise DeadlineExceeded(cause="waited for another request's token")
            if flight.landed is not None:
                return flight.landed
            if isinstance(flight.error, TokenvendError):
                # A copy: one exception object must not collect the tracebacks of many threads.
                raise copy.copy(flight.error)
            if flight.error is not None:
                raise flight.error
        return self._lead(key, mint, flight, lent)

    def drop(self, key: K, value: V) -> None:
        """Forget `value`, which its upstream no longer takes.

        What has come into its place meanwhile stays: of a crowd that was refused with the same
        value only the first has to mint.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.value is value:
                self._forget(key)

    def clear(self) -> None:
        """Forget everything. A mint under way answers those who wait for it, and is not kept."""
        with self._lock:
            self._entries.clear()
            self._shares = _Shares()
            self._flights.clear()

    def _lead(
        self, key: K, mint: Callable[[Deadline], V], flight: _Flight[V], lent: Deadline
    ) -> Cached[V]:
        try:
            value = mint(lent)
            entry = self._alive(value)
        except _BRIDGED as error:
            with self._lock:
                held = self._entry(key)
                if held is not None and self._is_servable(held):
                    held.hold_until = self._now() + HOLD_AFTER_FAILURE
                    held.cause = error.cause or error.detail
                    flight.landed = held.served()
                    return flight.landed
            if not isinstance(error, DeadlineExceeded):
                flight.error = error
            raise
        except Exception as error:
            with self._lock:
                if self._flights.get(key) is flight:
                    self._forget(key)
            flight.error = error
            raise
        else:
            flight.landed = entry.served()
            with self._lock:
                if self._flights.get(key) is flight:
                    self._store(key, entry)
            return replace(flight.landed, how="miss")
        finally:
            with self._lock:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.done.set()

    def _lent(self, entry: _Entry[V] | None, deadline: Deadline) -> Deadline:
        share = deadline.share()
        # It must still serve when the share is over: by then there is nothing else to give.
        bridges = entry is not None and self._is_servable(entry, after=share.remaining())
        return share if bridges else deadline

    def _alive(self, value: V) -> _Entry[V]:
        issued_at, expires_at = self._life(value)
        now = self._now()
        if expires_at <= now:
            cause = "a token was dead on arrival; is this machine's clock right?"
            raise UpstreamUnavailable(cause=cause)
        return _Entry(value, now, max(1, expires_at - issued_at), expires_at)

    def _store(self, key: K, entry: _Entry[V]) -> None:
        self._shares.use(self._owner(key), key, 0 if key in self._entries else 1)
        self._entries[key] = entry
        if len(self._entries) > self._size:
            self._forget(self._shares.first_to_go())

    def _forget(self, key: K) -> None:
        if self._entries.pop(key, None) is not None:
            self._shares.use(self._owner(key), key, -1)

    def _entry(self, key: K) -> _Entry[V] | None:
        entry = self._entries.get(key)
        if entry is not None and not (
            entry.stored_at - CLOCK_SLACK <= self._now() < entry.expires_at
        ):
            self._forget(key)
            return None
        return entry

    def _is_fresh(self, entry: _Entry[V]) -> bool:
        now = self._now()
        return entry.expires_at - now > self._renew_left(entry.life) or (
            now < entry.hold_until and self._is_servable(entry)
        )

    def _is_servable(self, entry: _Entry[V], after: float = 0) -> bool:
        left = entry.expires_at - self._now() - after
        return left > min(MIN_LEFT_TO_SERVE, entry.life / 8)


@dataclass(slots=True)
class _Entry[V]:
    """`cause`: why the last renewal failed, empty when none has."""

    value: V
    stored_at: float
    life: int
    expires_at: int
    hold_until: float = 0.0
    cause: str = ""

    def served(self) -> Cached[V]:
        return Cached(self.value, "bridged" if self.cause else "hit", self.cause)


@dataclass(slots=True)
class _Flight[V]:
    """One mint under way: `landed` is what its waiters get, if any, `error` what all should see."""

    done: threading.Event = field(default_factory=threading.Event)
    landed: Cached[V] | None = None
    error: Exception | None = None


class _Shares[K: Hashable]:
    """Who has how much: groups, the members of each, and their keys; all in constant time."""

    def __init__(self) -> None:
        self._rankings: defaultdict[Hashable, _Ranking] = defaultdict(_Ranking)

    def use(self, owner: Owner, key: K, more: Literal[-1, 0, 1] = 0) -> None:
        """The owner used this key just now, and has so many more of it."""
        group, member = owner
        for among, name in ((), group), ((group,), member), (owner, key):
            ranking = self._rankings[among]
            ranking.use(name, more)
            if not ranking.counts:
                del self._rankings[among]

    def first_to_go(self) -> K:
        group = self._rankings[()].first()
        member = self._rankings[group,].first()
        key: K = self._rankings[group, member].first()
        return key


class _Ranking:
    """Names by how much they have; of those with the same, the longest unused comes first."""

    def __init__(self) -> None:
        self.counts: dict[Hashable, int] = {}
        self._names: defaultdict[int, OrderedDict[Any, None]] = defaultdict(OrderedDict)
        self._most = 0

    def use(self, name: Hashable, more: Literal[-1, 0, 1]) -> None:
        before = self.counts.get(name, 0)
        if not more:
            self._names[before].move_to_end(name)
            return
        if before:
            del self._names[before][name], self.counts[name]
            if not self._names[before]:
                del self._names[before]
        after = before + more
        if after:
            self.counts[name] = after
            self._names[after][name] = None
        # One at a time: when the only one who had most has less, it is the most there is.
        if after > self._most or self._most not in self._names:
            self._most = after

    def first(self) -> Any:
        return next(iter(self._names[self._most]))
