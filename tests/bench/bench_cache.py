"""A store into a full cache: what a miss costs beside its mint, against another checkout.

Run alone: `.venv/bin/python tests/bench/bench_cache.py [--before PATH]`. Each checkout's cache is
in a process of its own, and the two store in turn. Every key is new, so every store evicts.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path

from rich.table import Table

from tests.bench import measuring
from tests.bench.measuring import BEFORE, OURS, RATIO_COLUMNS, RATIO_NOTE, Ratio, Spread, Worker

WORKER = Path(__file__).with_name("cache_worker.py")
SIZES = (1_024, 10_000, 100_000)
TURNS = 12
SECONDS = 0.15
# What is asked of a cache of 100,000, in microseconds.
STORE_WITHIN = 100.0


def main() -> int:
    """Print the table."""
    parser = measuring.arguments("A store into a full cache.")
    parser.add_argument("--turns", type=int, default=TURNS, help="of either side, for each row")
    given = parser.parse_args()
    sides = measuring.checkouts(given.before)
    compared = BEFORE in sides
    columns = ["entries", "owners", *(f"{name}, µs a miss" for name in sides)]
    table = Table(
        *columns, *(RATIO_COLUMNS[1:] if compared else ()), title="Store into a full cache"
    )
    console = measuring.console()
    console.print(measuring.load())
    worst = 0.0
    with ExitStack() as running:
        workers = {
            name: running.enter_context(Worker(checkout, WORKER))
            for name, checkout in sides.items()
        }
        for size in SIZES:
            for owners in (1, 100, size):
                for worker in workers.values():
                    worker.ask([size, owners])
                took: dict[str, list[float]] = {name: [] for name in sides}
                turns: dict[str, list[float]] = {name: [] for name in sides}
                for turn in measuring.rounds(given.turns):
                    for name in measuring.turning(list(sides), turn):
                        samples = [ns / 1e3 for ns in workers[name].ask(SECONDS)]
                        took[name] += samples
                        turns[name].append(statistics.median(samples))
                spreads = {name: Spread.of(samples) for name, samples in took.items()}
                worst = max(worst, spreads[OURS].median)
                cells = Ratio.of(turns[OURS], turns[BEFORE]).cells()[1:] if compared else ()
                figures = [
                    spread.shown(1 if spread.median < 100 else 0) for spread in spreads.values()
                ]
                table.add_row(f"{size:,}", f"{owners:,}", *figures, *cells)
    console.print(table)
    console.print("median (5th to 95th percentile)")
    if compared:
        console.print(RATIO_NOTE)
    console.print(f"asked for: under {STORE_WITHIN:.0f} µs; worst median here: {worst:.1f} µs")
    console.print(measuring.load())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
