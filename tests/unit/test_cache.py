"""Freshness, single flight, bridging, whose values make room, and what is never hidden."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.issuing import NOW, Clock, deadline
from tokenvend.cache import Cache, Cached, half_left, quarter_left
from tokenvend.deadline import Deadline
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
    """Counts its mints; each value lives `life` seconds from the clock's now. `lent`: the seconds
    that each mint was given.
    """

    def __init__(self, clock: Clock, life: int = 3600) -> None:
        self.clock = clock
        self.life = life
        self.count = 0
        self.error: Exception | None = None
        self.lent: list[float] = []

    def __call__(self, deadline: Deadline) -> Value:
        self.count += 1
        self.lent.append(deadline.remaining())
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


def made(
    clock: Clock, size: int = 1024, renew_left: Callable[[int], float] = quarter_left
) -> Tokens:
    """A cache whose keys say whose they are: `group/member/name`."""

    def owner(key: str) -> tuple[str, str]:
        group, _, rest = key.partition("/")
        return group, rest.partition("/")[0]

    return Cache(
        life=lambda value: value[1:], now=clock, owner=owner, size=size, renew_left=renew_left
    )


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return made(clock)


def get(tokens: Tokens, mint: Callable[[Deadline], Value], key: str = "k") -> tuple[str, str]:
    cached = tokens.get_or_mint(key, mint, deadline())
    return cached.value[0], cached.how


def holds(tokens: Tokens, key: str) -> bool:
    """Whether the key's value is at hand, while nothing new can be had."""

    def none(_: Deadline) -> Value:
        raise UpstreamUnavailable

    try:
        return bool(tokens.get_or_mint(key, none, deadline()))
    except UpstreamUnavailable:
        return False


@pytest.mark.parametrize(
    ("life", "fresh_for"),
    [(3600, 2700), (43_200, 42_300), (900, 675), (298, 223), (60, 45), (4, 3)],
)
def test_a_value_is_fresh_until_a_quarter_of_its_life_remains(
    tokens: Tokens, mint: Mint, clock: Clock, life: int, fresh_for: int
) -> None:
    mint.life = life
    assert get(tokens, mint) == ("token-1", "miss")
    clock.now += fresh_for - 1
    assert get(tokens, mint) == ("token-1", "hit")
    clock.now += 2
    assert get(tokens, mint) == ("token-2", "miss")


@given(life=st.integers(1, 100_000))
def test_whatever_its_life_a_new_value_is_used_more_than_once(life: int) -> None:
    """A fixed rule of five minutes left minted on every request for a token of 4 min 58 s."""
    clock = Clock()
    tokens = made(clock)
    mint = Mint(clock, life)
    get(tokens, mint)
    clock.now += life / 2
    assert get(tokens, mint) == ("token-1", "hit")


def test_keys_do_not_share_values(tokens: Tokens, mint: Mint) -> None:
    assert get(tokens, mint, "a") == ("token-1", "miss")
    assert get(tokens, mint, "b") == ("token-2", "miss")
    assert get(tokens, mint, "a") == ("token-1", "hit")


@pytest.mark.parametrize("life", [0, -1, -3600])
def test_a_value_dead_on_arrival_is_neither_served_nor_kept(
    tokens: Tokens, mint: Mint, life: int
) -> None:
    mint.life = life
    for count in (1, 2):
        with pytest.raises(UpstreamUnavailable):
            get(tokens, mint)
        assert mint.count == count


# --- an upstream's bad minute --------------------------------------------------------------------


@pytest.mark.parametrize("error", [UpstreamUnavailable, RateLimited, DeadlineExceeded])
def test_a_passing_failure_is_bridged_and_shows(
    tokens: Tokens, mint: Mint, clock: Clock, error: type[TokenvendError]
) -> None:
    get(tokens, mint)
    clock.now = NOW + 3000
    mint.error = error("no", cause="sts: reset")
    bridged = Cached(("token-1", NOW, NOW + 3600), "bridged", "sts: reset")
    for seconds, mints in (0, 2), (9, 2), (2, 3):
        clock.now += seconds
        assert tokens.get_or_mint("k", mint, deadline()) == bridged
        assert mint.count == mints, "every request of the bad minute asked the upstream"
    clock.now += 20
    mint.error = None
    assert get(tokens, mint) == ("token-4", "miss")
    assert get(tokens, mint) == ("token-4", "hit")


@pytest.mark.parametrize(("life", "least"), [(3600, 30), (240, 30), (160, 20), (8, 1)])
def test_a_value_bridges_until_too_little_of_it_is_left(
    clock: Clock, mint: Mint, life: int, least: int
) -> None:
    for left, serves in (least + 1, True), (least, False):
        tokens = made(clock)
        mint.life, mint.error = life, None
        get(tokens, mint)
        clock.now += life - left
        mint.error = UpstreamUnavailable("down")
        assert holds(tokens, "k") is serves
        if not serves:
            with pytest.raises(UpstreamUnavailable):
                get(tokens, mint)


def test_a_failure_is_not_held_beyond_what_still_serves(
    tokens: Tokens, mint: Mint, clock: Clock
) -> None:
    get(tokens, mint)
    mint.error = UpstreamUnavailable("down")
    clock.now += 3600 - 32
    assert get(tokens, mint) == ("token-1", "bridged")
    clock.now += 3
    with pytest.raises(UpstreamUnavailable):
        get(tokens, mint)


def test_a_hung_upstream_costs_a_third_of_the_time_while_a_value_serves(
    tokens: Tokens, mint: Mint, clock: Clock
) -> None:
    """A hung STS ate the whole request, though its token was at hand for 15 minutes more."""
    waited = Clock()

    def hang(lent: Deadline) -> Value:
        waited.now += lent.remaining()
        raise DeadlineExceeded(cause="sts.googleapis.com had not answered")

    get(tokens, mint)
    clock.now += 3000
    request = Deadline.after(9, waited)
    assert tokens.get_or_mint("k", hang, request).how == "bridged"
    assert request.remaining() == pytest.approx(6)


def test_what_holds_nothing_to_serve_lends_all_it_has(
    tokens: Tokens, mint: Mint, clock: Clock
) -> None:
    steady = Clock()
    for seconds in (0, 3000, 3569, 3599):
        clock.now = NOW + seconds
        mint.life = NOW + 3600 - int(clock.now)
        if seconds:
            mint.error = UpstreamUnavailable("down")
        with contextlib.suppress(UpstreamUnavailable):
            tokens.get_or_mint("k", mint, Deadline.after(9, steady))
        clock.now += 20
    # The third time the value would no longer serve when a third of the time is over.
    assert mint.lent == pytest.approx([9, 3, 9, 9])


def test_each_of_nested_caches_keeps_time_for_its_own_work(clock: Clock, mint: Mint) -> None:
    outer, inner, waited = made(clock), made(clock), Clock()

    def hang(lent: Deadline) -> Value:
        waited.now += lent.remaining()
        raise DeadlineExceeded

    def outermost(lent: Deadline) -> Value:
        inner.get_or_mint("k", hang, lent)
        assert lent.remaining() > 0, "nothing was left to go on with what the inner one bridged"
        return mint(lent)

    get(inner, mint)
    get(outer, mint)
    clock.now += 3000
    request = Deadline.after(9, waited)
    assert outer.get_or_mint("k", outermost, request).how == "miss"
    assert request.remaining() == pytest.approx(8)


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
    assert get(tokens, mint) == ("token-1", "hit")
    clock.now -= 600
    assert get(tokens, mint) == ("token-2", "miss")


def test_a_dropped_value_is_minted_anew_and_its_successor_stays(tokens: Tokens, mint: Mint) -> None:
    refused = tokens.get_or_mint("k", mint, deadline()).value
    tokens.drop("k", refused)
    assert get(tokens, mint) == ("token-2", "miss")
    tokens.drop("k", refused)
    assert get(tokens, mint) == ("token-2", "hit")


def test_the_part_left_for_renewal_can_be_half(clock: Clock, mint: Mint) -> None:
    tokens = made(clock, renew_left=half_left)
    mint.life = 86_400
    get(tokens, mint)
    clock.now += 43_201
    assert get(tokens, mint)[1] == "miss"


@given(life=st.integers(1, 1_000_000))
def test_what_is_left_for_renewal_is_less_than_the_life(life: int) -> None:
    assert 0 < quarter_left(life) <= min(life / 4, 900)
    assert half_left(life) == life / 2


# --- who makes room ------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["{}", "group/{}", "group/member/{}"])
def test_of_equals_the_longest_unused_goes_first(clock: Clock, mint: Mint, key: str) -> None:
    tokens = made(clock, size=2)
    for name in "abac":
        get(tokens, mint, key.format(name))
    assert holds(tokens, key.format("a"))
    assert not holds(tokens, key.format("b"))


def test_whoever_asks_for_much_makes_room_itself(clock: Clock, mint: Mint) -> None:
    tokens = made(clock, size=5)
    others = ["g/one", "g/two", "h/one"]
    for key in (*others, *(f"g/greedy/{number}" for number in range(20))):
        get(tokens, mint, key)
    assert all(holds(tokens, key) for key in others)
    assert holds(tokens, "g/greedy/18")
    assert holds(tokens, "g/greedy/19")


def test_whoever_invents_members_takes_no_more_than_its_groups_share(
    clock: Clock, mint: Mint
) -> None:
    tokens = made(clock, size=6)
    others = ["h/one", "h/one/more", "i/one"]
    for key in (*others, *(f"g/made-up-{number}" for number in range(50))):
        get(tokens, mint, key)
    assert all(holds(tokens, key) for key in others)


KEYS = st.tuples(st.sampled_from("gh"), st.sampled_from("mn"), st.sampled_from("xyz"))


@given(
    st.lists(
        st.tuples(st.sampled_from(["get", "drop", "refuse", "wait"]), KEYS.map("/".join)),
        max_size=60,
    ),
    st.integers(1, 5),
)
def test_no_course_of_events_takes_from_whoever_keeps_to_its_share(
    events: list[tuple[str, str]], size: int
) -> None:
    clock = Clock()
    mint, tokens = Mint(clock), made(clock, size)
    held: set[str] = set()
    for event, key in events:
        if event == "get":
            get(tokens, mint, key)
            held.add(key)
        elif event == "drop":
            tokens.drop(key, tokens.get_or_mint(key, mint, deadline()).value)
        elif event == "refuse":
            with contextlib.suppress(Denied):
                tokens.get_or_mint(key, refused, deadline())
        else:
            clock.now += 1000
        now_held = set(tokens._entries)
        assert len(now_held) <= size
        lost = held - now_held - {key}
        groups = [each[0] for each in (*now_held, *lost)]
        for each in lost if event == "get" else ():
            assert groups.count(each[0]) == max(groups.count(group) for group in groups)
        held = now_held


def refused(_: Deadline) -> Value:
    raise Denied


def test_a_store_into_a_full_cache_costs_the_same_whatever_its_size(
    clock: Clock, mint: Mint
) -> None:
    """Counting all owners anew took as long as the cache was large: 55 ms at 100,000."""
    took = {}
    for size in (100, 10_000):
        tokens = made(clock, size)
        for number in range(size):
            get(tokens, mint, f"{number % 50}/{number}")
        best = float("inf")
        for attempt in range(20):
            began = time.perf_counter()
            for number in range(20):
                get(tokens, mint, f"new/{attempt}-{number}")
            best = min(best, time.perf_counter() - began)
        took[size] = best
    assert took[10_000] < 10 * took[100]


# --- forgetting ----------------------------------------------------------------------------------


def test_a_cleared_cache_holds_nothing_and_fills_again(clock: Clock, mint: Mint) -> None:
    tokens = made(clock, size=2)
    for key in ("a", "b"):
        get(tokens, mint, key)
    tokens.clear()
    assert not holds(tokens, "a")
    for key in ("c", "d", "e"):
        get(tokens, mint, key)
    assert not holds(tokens, "c")
    assert holds(tokens, "d")
    assert holds(tokens, "e")


@pytest.mark.parametrize("error", [None, Denied("no")])
def test_a_mint_under_way_when_all_is_forgotten_changes_nothing_afterwards(
    tokens: Tokens, clock: Clock, mint: Mint, error: Exception | None
) -> None:
    old, new = SlowMint(clock), SlowMint(clock)
    old.count, old.error = 10, error
    with ThreadPoolExecutor(2) as pool:
        before = pool.submit(get, tokens, old)
        assert old.started.wait(10)
        tokens.clear()
        after = pool.submit(get, tokens, new)
        assert new.started.wait(10)
        old.go.set()
        if error is None:
            assert before.result(10) == ("token-11", "miss")
        else:
            assert before.exception(10) is error
        # Whoever comes now waits for the mint that still counts.
        with pytest.raises(DeadlineExceeded):
            tokens.get_or_mint("k", mint, deadline(0.02))
        new.go.set()
        assert after.result(10) == ("token-1", "miss")
    assert mint.count == 0
    assert get(tokens, mint) == ("token-1", "hit")


def test_a_late_refusal_takes_no_value_that_came_after_all_was_forgotten(
    tokens: Tokens, clock: Clock, mint: Mint
) -> None:
    late = SlowMint(clock)
    late.error = Denied("no")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(get, tokens, late)
        assert late.started.wait(10)
        tokens.clear()
        get(tokens, mint)
        late.go.set()
        assert isinstance(asked.exception(10), Denied)
    assert get(tokens, mint) == ("token-1", "hit")


# --- many at once --------------------------------------------------------------------------------


class SlowMint(Mint):
    """A mint that waits until it is let go."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self, deadline: Deadline) -> Value:
        self.started.set()
        assert self.go.wait(10)
        return super().__call__(deadline)


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
    assert sorted(outcomes, key=str) == [("token-1", "hit")] * 19 + [("token-1", "miss")]


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


def test_who_comes_while_an_upstream_is_tried_again_is_told_that_it_failed(
    tokens: Tokens, clock: Clock, mint: Mint
) -> None:
    get(tokens, mint)
    clock.now += 3000
    slow = SlowMint(clock)
    mint.error = slow.error = UpstreamUnavailable("down", cause="sts: reset")
    assert get(tokens, mint) == ("token-1", "bridged")
    clock.now += 11
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(get, tokens, slow)
        assert slow.started.wait(10)
        assert tokens.get_or_mint("k", mint, deadline()).cause == "sts: reset"
        slow.go.set()
        assert leader.result(10) == ("token-1", "bridged")
    assert mint.count == 2


def test_while_one_renews_the_others_are_served_what_is_there(tokens: Tokens, clock: Clock) -> None:
    get(tokens, Mint(clock))
    clock.now += 3000
    mint = SlowMint(clock)
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(get, tokens, mint)
        assert mint.started.wait(10)
        assert get(tokens, mint) == ("token-1", "hit")
        mint.go.set()
        assert renewing.result(10) == ("token-1", "miss")
    assert mint.count == 1


def test_nobody_is_served_a_value_that_is_about_to_end(tokens: Tokens, clock: Clock) -> None:
    get(tokens, Mint(clock))
    clock.now += 3575
    mint = SlowMint(clock)
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(get, tokens, mint)
        assert mint.started.wait(10)
        with pytest.raises(DeadlineExceeded):
            tokens.get_or_mint("k", mint, deadline(0.02))
        mint.go.set()
        assert renewing.result(10) == ("token-1", "miss")


def test_a_waiter_waits_no_longer_than_its_own_deadline(tokens: Tokens, clock: Clock) -> None:
    mint = SlowMint(clock)
    with ThreadPoolExecutor(1) as pool:
        minting = pool.submit(get, tokens, mint)
        assert mint.started.wait(10)
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            tokens.get_or_mint("k", mint, deadline(0.02))
        assert time.monotonic() - began < 1
        mint.go.set()
        assert minting.result(10) == ("token-1", "miss")


def test_one_caller_out_of_time_does_not_fail_the_next(tokens: Tokens, clock: Clock) -> None:
    mint, hurried = Mint(clock), SlowMint(clock)
    hurried.error = DeadlineExceeded("late")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(get, tokens, hurried)
        assert hurried.started.wait(10)
        second = pool.submit(get, tokens, mint)
        time.sleep(0.02)
        hurried.go.set()
        assert second.result(10) == ("token-1", "miss")
        assert isinstance(first.exception(10), DeadlineExceeded)
