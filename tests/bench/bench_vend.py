"""A vend of a kept token through the whole Lambda handler, against another checkout.

Run alone: `.venv/bin/python tests/bench/bench_vend.py [--before PATH]`. The embedded cloud runs in
this process and the handlers in theirs, so they share no interpreter. Each process vends once for
real; every vend timed after it is answered from what that left in the cache, audit line (to
/dev/null) and metrics included. Two processes of the same code differ by some per cent for as long
as they live, so several are started. What a caller of a cold function waits for, the import and the
first vend together, is also told of the same handler on google-auth (`google_auth_handler.py`).
"""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from localcloud.cloud import Cloud
from localcloud.world import World
from tests.bench import measuring
from tests.bench.lambdas import GOOGLE_AUTH_HANDLER, HANDLER, SETTINGS, event_of
from tests.bench.measuring import (
    BEFORE,
    GOOGLE_AUTH,
    OURS,
    RATIO_COLUMNS,
    RATIO_NOTE,
    Ratio,
    Spread,
    Worker,
)

if TYPE_CHECKING:
    from rich.console import Console

WORKER = Path(__file__).with_name("vending_worker.py")
PROCESSES = 10
BATCHES = 80
VENDS = 25
WARM_UP = 300
# The names that the world gives the function's own role, and a role that the policy knows.
OWN_ROLE, CALLER_ROLE = "tokenvend", "etl"


@dataclass(slots=True)
class Figures:
    """One side's: milliseconds of each cold start; microseconds of vends, and medians of them."""

    cold: list[float] = field(default_factory=list)
    vends: list[float] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    processes: list[float] = field(default_factory=list)


def main() -> int:
    """Print the tables."""
    parser = measuring.arguments("A vend of a kept token through the whole Lambda handler.")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="of either side, in turn")
    parser.add_argument("--batches", type=int, default=BATCHES, help="timed in each process")
    parser.add_argument("--vends", type=int, default=VENDS, help="in a batch")
    given = parser.parse_args()
    sides = measuring.checkouts(given.before)
    console = measuring.console()
    console.print(measuring.load())
    figures = {name: Figures() for name in (*sides, GOOGLE_AUTH)}
    with tempfile.TemporaryDirectory() as directory:
        cloud = Cloud(World.load(), Path(directory) / "cloud", functions=())
        with cloud:
            bench = Bench(sides, cloud, given.batches, given.vends)
            # The embedded cloud's own first time, and missing bytecode, are no handler's matter.
            bench.round(0, {name: Figures() for name in figures})
            for number in measuring.rounds(given.processes):
                bench.round(number, figures)
    title = f"{given.processes} processes of {given.batches} batches of {given.vends} kept tokens"
    _print(console, title, figures)
    console.print(measuring.load())
    return 0


class Bench:
    """What is started, in which world, and how much of it is timed."""

    def __init__(self, sides: dict[str, Path], cloud: Cloud, batches: int, vends: int) -> None:
        self._starts = {name: (checkout, HANDLER) for name, checkout in sides.items()}
        self._starts[GOOGLE_AUTH] = measuring.ROOT, GOOGLE_AUTH_HANDLER
        self._timed = list(sides)
        self._environ = {**SETTINGS, **cloud.environment_for(OWN_ROLE)}
        self._event = event_of(cloud.accounts.session(CALLER_ROLE, "bench"))
        self._batches = batches
        self._vends = vends

    def round(self, number: int, figures: dict[str, Figures]) -> None:
        """A new process of each side, then batches of theirs in turn."""
        with ExitStack() as running:
            workers = {}
            for name in measuring.turning(list(self._starts), number):
                checkout, module = self._starts[name]
                worker = Worker(checkout, WORKER, module, environ=self._environ)
                workers[name] = running.enter_context(worker)
                figures[name].cold.append(_cold(name, worker, self._event))
            for name in self._timed:
                workers[name].ask(WARM_UP)
            for batch in range(self._batches):
                for name in measuring.turning(self._timed, number + batch):
                    took = _batch(workers[name], self._vends)
                    figures[name].vends += took
                    figures[name].batches.append(statistics.median(took))
        for name in self._timed:
            of_process = figures[name].batches[-self._batches :]
            figures[name].processes.append(statistics.median(of_process))


def _cold(name: str, worker: Worker, event: dict[str, Any]) -> float:
    """Milliseconds of the import and the vend that asks Google. SystemExit when it was refused."""
    reply = worker.ask(event)
    if reply["refusal"]:
        raise SystemExit(f"{name}: the handler refused: {reply['refusal']}")
    return float(reply["init_ns"] + reply["first_ns"]) / 1e6


def _batch(worker: Worker, count: int) -> list[float]:
    """Microseconds of each vend. SystemExit when the token is not the one that was kept."""
    reply = worker.ask(count)
    if not reply["same"]:
        raise SystemExit("a vend was not answered from the cache")
    return [ns / 1e3 for ns in reply["ns"]]


def _print(console: Console, title: str, figures: dict[str, Figures]) -> None:
    columns = ("vend, µs", "99 % within, µs", "process medians, µs", "cold start to token, ms")
    table = Table("side", *columns, title=title)
    for name, of in figures.items():
        cells = ["", "", ""]
        if of.vends:
            most = f"{measuring.percentile(of.vends, 99):.0f}"
            cells = [Spread.of(of.vends).shown(0), most, Spread.of(of.processes).shown(0)]
        table.add_row(name, *cells, Spread.of(of.cold).shown(0))
    console.print(table)
    console.print("median (5th to 95th percentile)")
    ratios = Table("", "", *RATIO_COLUMNS)
    ours = figures[OURS]
    if BEFORE in figures:
        before = figures[BEFORE]
        for label, first, second in (
            ("vend, by batch", ours.batches, before.batches),
            ("vend, by process", ours.processes, before.processes),
            ("cold start", ours.cold, before.cold),
        ):
            ratios.add_row(f"{OURS} / {BEFORE}", label, *Ratio.of(first, second).cells())
    cells_of_cold = Ratio.of(ours.cold, figures[GOOGLE_AUTH].cold).cells()
    ratios.add_row(f"{OURS} / {GOOGLE_AUTH}", "cold start", *cells_of_cold)
    console.print(ratios)
    console.print(RATIO_NOTE)


if __name__ == "__main__":
    raise SystemExit(main())
