"""Times stores into full caches of this checkout.

Orders are JSON lines: `[size, owners]` fills a cache of `size` with the keys of `owners` owners,
and a number times stores of new keys for that many seconds. Each store also makes room, as the
cache is full. It runs with another checkout's code too, so all it imports of ours is tokenvend.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from tokenvend.cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 1_800_000_000
MOST = 5_000
Key = tuple[str, int]


def new_cache(size: int) -> Callable[[Key], object]:
    """What stores a new key into a new cache: all that this knows of the cache's construction."""
    try:
        from tokenvend.deadline import Deadline  # noqa: PLC0415
    except ImportError:
        from tokenvend.transport import Deadline  # noqa: PLC0415

    value = ("token", NOW, NOW + 3600)
    # A pair of group and member: a checkout from before the pair takes it for a name like another.
    cache: Any = Cache(
        life=lambda value: value[1:], now=lambda: NOW, size=size, owner=lambda key: ("", key[0])
    )
    deadline = Deadline.after(3600, time.monotonic)
    return lambda key: cache.get_or_mint(key, lambda *_: value, deadline)


def main() -> int:
    """Answer orders until there are no more."""
    store, owners, number = new_cache(1), 1, 0
    for line in sys.stdin:
        order = json.loads(line)
        took: list[int] = []
        if isinstance(order, list):
            size, owners = order
            store = new_cache(size)
            for number in range(size):
                store(_key(number, owners))
        else:
            until = time.perf_counter() + order
            while time.perf_counter() < until and len(took) < MOST:
                number += 1
                key = _key(number, owners)
                start = time.perf_counter_ns()
                store(key)
                took.append(time.perf_counter_ns() - start)
        print(json.dumps(took), flush=True)
    return 0


def _key(number: int, owners: int) -> Key:
    return f"arn:aws:iam::111122223333:role/team-{number % owners}", number


if __name__ == "__main__":
    raise SystemExit(main())
