"""Freshness, single flight, stale while an upstream fails, and what is never hidden."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.issuing import NOW, Clock, deadline
from tokenvend.cache import Cache, half_left, quarter_left
from tokenvend.errors import (
    DeadlineExceeded,
    Denied,
    Misconfigured,
    RateLimited,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)

Value = tuple[str, int, int]
Tokens = Cache[str, Value]


class Mint:
    """Counts its mints; each value lives `life` seconds from the clock's now."""

    def __init__(self, clock: Clock, life: int = 3600) -> None:
        self.clock = clock
        self.life = life
        self.count = 0
        self.error: Exception | None = None

    def __call__(self) -> Value:
        self.count += 1
        if self.error:
            raise self.error
        now = int(self.clock.now)
        return f"token-{self.count}", now, now + self.life


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mint(clock: Clock) -> Mint:
    return Mint(clock)


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Cache(life=lambda value: value[1:], now=clock)


def get(tokens: Tokens, mint: Callable[[], Value], key: str = "k") -> tuple[str, bool]:
    value, hit = tokens.get_or_mint(key, mint, deadline())
    return value[0], hit


@pytest.mark.parametrize(
    ("life", "fresh_for"),
    [(3600, 2700), (43_200, 42_300), (900, 675), (298, 223), (60, 45), (4, 3)],
)
def test_a_value_is_fresh_until_a_quarter_of_its_life_remains(
    tokens: Tokens, mint: Mint, clock: Clock, life: int, fresh_for: int
) -> None:
    mint.life = life
    assert get(tokens, mint) == ("token-1", False)
    clock.now += fresh_for - 1
    assert get(tokens, mint) == ("token-1", True)
    clock.now += 2
    assert get(tokens, mint) == ("token-2", False)


@given(life=st.integers(1, 100_000))
def test_whatever_its_life_a_new_value_is_used_more_than_once(life: int) -> None:
    """A fixed rule of five minutes left minted on every request for a token of 4 min 58 s."""
    clock = Clock()
    tokens: Tokens = Cache(life=lambda value: value[1:], now=clock)
    mint = Mint(clock, life)
    get(tokens, mint)
    clock.now += life / 2
    assert get(tokens, mint) == ("token-1", True)


def test_keys_do_not_share_values(tokens: Tokens, mint: Mint) -> None:
    assert get(tokens, mint, "a") == ("token-1", False)
    assert get(tokens, mint, "b") == ("token-2", False)
    assert get(tokens, mint, "a") == ("token-1", True)


def test_the_longest_unused_value_goes_first(clock: Clock, mint: Mint) -> None:
    tokens: Tokens = Cache(life=lambda value: value[1:], now=clock, size=2)
    for key in "ab":
        get(tokens, mint, key)
    assert get(tokens, mint, "a")[1]
    get(tokens, mint, "c")
    assert get(tokens, mint, "a")[1]
    assert not get(tokens, mint, "b")[1]


@pytest.mark.parametrize("life", [0, -1, -3600])
def test_a_value_dead_on_arrival_is_neither_served_nor_kept(
    tokens: Tokens, mint: Mint, life: int
) -> None:
    mint.life = life
    for count in (1, 2):
        with pytest.raises(UpstreamUnavailable):
            get(tokens, mint)
        assert mint.count == count


@pytest.mark.parametrize("error", [UpstreamUnavailable, RateLimited, DeadlineExceeded])
def test_a_passing_failure_is_bridged_while_the_value_is_good(
    tokens: Tokens, mint: Mint, clock: Clock, error: type[TokenvendError]
) -> None:
    get(tokens, mint)
    clock.now = NOW + 3000
    mint.error = error("no")
    assert get(tokens, mint) == ("token-1", True)
    assert mint.count == 2
    clock.now += 9
    assert get(tokens, mint) == ("token-1", True)
    assert mint.count == 2, "every request of the bad minute asked the upstream"
    clock.now += 2
    assert get(tokens, mint) == ("token-1", True)
    assert mint.count == 3
    clock.now = NOW + 3569
    assert get(tokens, mint) == ("token-1", True)
    clock.now = NOW + 3580
    with pytest.raises(error):
        get(tokens, mint)


@pytest.mark.parametrize("error", [UpstreamRefused, Denied, Misconfigured, RuntimeError])
def test_a_refusal_shows_at_once_and_drops_the_old_value(
    tokens: Tokens, mint: Mint, clock: Clock, error: type[Exception]
) -> None:
    get(tokens, mint)
    clock.now += 2701
    mint.error = error("revoked")
    with pytest.raises(error, match="revoked"):
        get(tokens, mint)
    mint.error = UpstreamUnavailable("down")
    with pytest.raises(UpstreamUnavailable):
        get(tokens, mint)


def test_a_clock_that_runs_back_does_not_lengthen_a_life(
    tokens: Tokens, mint: Mint, clock: Clock
) -> None:
    get(tokens, mint)
    clock.now -= 3
    assert get(tokens, mint) == ("token-1", True)
    clock.now -= 600
    assert get(tokens, mint) == ("token-2", False)


def test_a_dropped_value_is_minted_anew_and_its_successor_stays(tokens: Tokens, mint: Mint) -> None:
    refused, _ = tokens.get_or_mint("k", mint, deadline())
    tokens.drop("k", refused)
    assert get(tokens, mint) == ("token-2", False)
    tokens.drop("k", refused)
    assert get(tokens, mint) == ("token-2", True)


def test_the_part_left_for_renewal_can_be_half(clock: Clock, mint: Mint) -> None:
    tokens: Tokens = Cache(life=lambda value: value[1:], now=clock, renew_left=half_left)
    mint.life = 86_400
    get(tokens, mint)
    clock.now += 43_201
    assert not get(tokens, mint)[1]


@given(life=st.integers(1, 1_000_000))
def test_what_is_left_for_renewal_is_less_than_the_life(life: int) -> None:
    assert 0 < quarter_left(life) <= min(life / 4, 900)
    assert half_left(life) == life / 2


# --- many at once --------------------------------------------------------------------------------


class SlowMint(Mint):
    """A mint that waits until it is let go."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self) -> Value:
        self.started.set()
        assert self.go.wait(10)
        return super().__call__()


def crowd(pool: ThreadPoolExecutor, tokens: Tokens, mint: SlowMint, size: int) -> list[object]:
    """What `size` callers of one key get; the mint is let go once all of them are there."""
    arrived = threading.Barrier(size)

    def ask() -> object:
        arrived.wait(10)
        try:
            return get(tokens, mint)
        except Exception as error:  # noqa: BLE001 - the outcome under test
            return error

    asked = [pool.submit(ask) for _ in range(size)]
    assert mint.started.wait(10)
    time.sleep(0.05)  # lets the others reach the wait; the outcome does not depend on it
    mint.go.set()
    return [one.result(10) for one in asked]


def test_a_crowd_costs_one_mint(tokens: Tokens, clock: Clock) -> None:
    mint = SlowMint(clock)
    with ThreadPoolExecutor(20) as pool:
        outcomes = crowd(pool, tokens, mint, 20)
    assert mint.count == 1
    assert sorted(outcomes, key=str) == [("token-1", False)] + [("token-1", True)] * 19


def test_a_crowd_shares_one_failure(tokens: Tokens, clock: Clock) -> None:
    mint = SlowMint(clock)
    mint.error = UpstreamRefused("no", cause="binding", retry_after=7)
    with ThreadPoolExecutor(20) as pool:
        outcomes = crowd(pool, tokens, mint, 20)
    assert mint.count < 20
    for outcome in outcomes:
        assert isinstance(outcome, UpstreamRefused)
        assert (outcome.detail, outcome.cause, outcome.retry_after) == ("no", "binding", 7)
    assert len({id(outcome) for outcome in outcomes}) > mint.count


def test_while_one_renews_the_others_are_served_what_is_there(tokens: Tokens, clock: Clock) -> None:
    get(tokens, Mint(clock))
    clock.now += 3000
    mint = SlowMint(clock)
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(get, tokens, mint)
        assert mint.started.wait(10)
        assert get(tokens, mint) == ("token-1", True)
        mint.go.set()
        assert renewing.result(10) == ("token-1", False)
    assert mint.count == 1


def test_a_waiter_waits_no_longer_than_its_own_deadline(tokens: Tokens, clock: Clock) -> None:
    mint = SlowMint(clock)
    with ThreadPoolExecutor(1) as pool:
        minting = pool.submit(get, tokens, mint)
        assert mint.started.wait(10)
        with pytest.raises(DeadlineExceeded):
            tokens.get_or_mint("k", mint, deadline(0.02))
        mint.go.set()
        assert minting.result(10) == ("token-1", False)


def test_one_caller_out_of_time_does_not_fail_the_next(tokens: Tokens, clock: Clock) -> None:
    mint, hurried = Mint(clock), SlowMint(clock)
    hurried.error = DeadlineExceeded("late")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(get, tokens, hurried)
        assert hurried.started.wait(10)
        second = pool.submit(get, tokens, mint)
        time.sleep(0.02)
        hurried.go.set()
        assert second.result(10) == ("token-1", False)
        assert isinstance(first.exception(10), DeadlineExceeded)
