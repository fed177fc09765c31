"""INIT: what importing the Lambda handler costs in a fresh process.

Run alone: `.venv/bin/python tests/bench/bench_start.py [--before PATH] [--modules]`. Every round
starts one process for each side, in turn: this checkout, the same handler on google-auth
(`google_auth_handler.py`), and another checkout if one is given. A process ends right after its
import, by `os._exit`, because Lambda tears nothing down either. `--modules` shows where our own
time goes, module by module, with what each is the first to bring in: the place to find what a start
loads that only a tool or an error message needs.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from localcloud.aws import Accounts
from localcloud.wire.faults import Clock
from localcloud.world import World
from tests.bench import measuring
from tests.bench.lambdas import GOOGLE_AUTH_HANDLER, HANDLER, SETTINGS, event_of
from tests.bench.measuring import (
    BEFORE,
    GOOGLE_AUTH,
    OURS,
    RATIO_COLUMNS,
    RATIO_NOTE,
    ROOT,
    Ratio,
    Spread,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

PAIRS = 60
# Starts with -X importtime, which itself slows the import: shares are right, sums are not.
TRACES = 7
SHOWN = 45
LEAST = 0.1
OWN = ("tokenvend", "functions", "localcloud")
# Lambda's own runtime, which has been imported before a handler's INIT begins.
RUNTIME = "import awslambdaric.bootstrap"
START = """
import time
wall, cpu = time.perf_counter_ns(), time.process_time_ns()
import {module}
wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
import json, os, re
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print("\\n" + json.dumps({{"import_wall": wall, "import_cpu": cpu, "peak": peak}}), flush=True)
os._exit(0)
"""
REFUSAL = """
import json, os
from types import SimpleNamespace
import {module} as made
arn = "arn:aws:lambda:us-east-1:111122223333:function:tokenvend"
context = SimpleNamespace(invoked_function_arn=arn, aws_request_id="1")
print("\\n" + json.dumps(made.handler(json.loads(os.environ["EVENT"]), context)["statusCode"]))
"""


@dataclass(frozen=True, slots=True)
class Side:
    """What is started: a module of a checkout."""

    checkout: Path
    module: str
    preamble: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: milliseconds, and MiB at the peak. `process_cpu`: interpreter included."""

    process_cpu: float
    import_cpu: float
    import_wall: float
    peak: float


@dataclass(slots=True)
class Cost:
    """A module of ours, ms by start: its own, and that of foreign modules it is first to load."""

    own: list[float] = field(default_factory=list)
    brought: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def total(self) -> float:
        """The median start's sum."""
        return statistics.median(self.own) + sum(map(statistics.median, self.brought.values()))


def main() -> int:
    """Print the tables."""
    parser = measuring.arguments("What importing the Lambda handler costs in a fresh process.")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="rounds of one start of each side")
    parser.add_argument("--modules", action="store_true", help="show the cost of each module too")
    parser.add_argument(
        "--runtime", action="store_true", help="import Lambda's own runtime before the handler"
    )
    given = parser.parse_args()
    preamble = RUNTIME if given.runtime else ""
    checkouts = measuring.checkouts(given.before)
    sides = {name: Side(checkout, HANDLER, preamble) for name, checkout in checkouts.items()}
    sides[GOOGLE_AUTH] = Side(ROOT, GOOGLE_AUTH_HANDLER, preamble)
    console = measuring.console()
    console.print(measuring.load())
    for side in sides.values():
        _require_ready(side)
        start(side)  # writes what bytecode is missing
    starts: dict[str, list[Start]] = {name: [] for name in sides}
    for number in measuring.rounds(given.pairs):
        for name in measuring.turning(list(sides), number):
            starts[name].append(start(sides[name]))
    _print_starts(console, starts)
    if given.modules:
        for name in checkouts:
            _print_modules(console, name, sides[name])
    console.print(measuring.load())
    return 0


def start(side: Side) -> Start:
    """Start once; SystemExit when the import fails."""
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter and text
        [
            measuring.python_of(side.checkout),
            "-c",
            side.preamble + START.format(module=side.module),
        ],
        cwd=side.checkout,
        env=SETTINGS,
        stdout=subprocess.PIPE,
        text=True,
    )
    measuring.pin(process.pid)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{side.module} of {side.checkout} does not start")
    told = json.loads(said.splitlines()[-1])
    return Start(
        process_cpu=(usage.ru_utime + usage.ru_stime) * 1e3,
        import_cpu=told["import_cpu"] / 1e6,
        import_wall=told["import_wall"] / 1e6,
        peak=told["peak"] / 1024,
    )


def _require_ready(side: Side) -> None:
    """A start counts only where settings and policy are in force: a stranger is then denied."""
    stranger = Accounts(World.load().aws, Clock()).session("stranger", "bench")
    ended = subprocess.run(  # noqa: S603 -- our own interpreter and text
        [measuring.python_of(side.checkout), "-c", REFUSAL.format(module=side.module)],
        cwd=side.checkout,
        env={**SETTINGS, "EVENT": json.dumps(event_of(stranger))},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.stdout.splitlines()[-1:] != ["403"]:
        raise SystemExit(
            f"{side.module} of {side.checkout} is not ready: {ended.stdout}{ended.stderr}"
        )


def _print_starts(console: Console, starts: dict[str, list[Start]]) -> None:
    measures = {
        "process cpu, ms": attrgetter("process_cpu"),
        "import cpu, ms": attrgetter("import_cpu"),
        "import wall, ms": attrgetter("import_wall"),
        "peak memory, MiB": attrgetter("peak"),
    }
    pairs = len(starts[OURS])
    table = Table("side", *measures, title=f"INIT of the Lambda handler, {pairs} starts a side")
    for name, of in starts.items():
        spreads = [Spread.of([measure(each) for each in of]) for measure in measures.values()]
        table.add_row(name, *(spread.shown(1) for spread in spreads))
    console.print(table)
    console.print("median (5th to 95th percentile)")
    ratios = Table("", "", *RATIO_COLUMNS)
    for other in (name for name in (BEFORE, GOOGLE_AUTH) if name in starts):
        for label, measure in list(measures.items())[:3]:
            ours, theirs = ([measure(each) for each in starts[name]] for name in (OURS, other))
            cells = Ratio.of(ours, theirs).cells()
            ratios.add_row(f"{OURS} / {other}", label.partition(",")[0], *cells)
    console.print(ratios)
    console.print(RATIO_NOTE)


def _print_modules(console: Console, name: str, side: Side) -> None:
    costs: dict[str, Cost] = defaultdict(Cost)
    for _ in range(TRACES):
        for module, own, brought in _trace(side):
            costs[module].own.append(own)
            for foreign, took in brought:
                costs[module].brought[foreign].append(took)
    table = Table(
        *("module", "own, ms", "with what it brings, ms", "brings in, ms"),
        title=f"{name}: {len(costs)} modules of ours, median of {TRACES} traced starts",
    )
    ranked = sorted(costs.items(), key=lambda item: item[1].total(), reverse=True)
    for module, cost in ranked[:SHOWN]:
        medians = [(statistics.median(took), each) for each, took in cost.brought.items()]
        table.add_row(
            module,
            f"{statistics.median(cost.own):.1f}",
            f"{cost.total():.1f}",
            ", ".join(
                f"{each} {took:.1f}" for took, each in sorted(medians)[::-1] if took >= LEAST
            ),
        )
    own = sum(statistics.median(cost.own) for cost in costs.values())
    table.add_row("all of ours", f"{own:.1f}", f"{sum(c.total() for c in costs.values()):.1f}", "")
    console.print(table)
    rest = sorted(module for module, _ in ranked[SHOWN:])
    if rest:
        console.print("less than these:", ", ".join(rest))


def _trace(side: Side) -> Iterator[tuple[str, float, list[tuple[str, float]]]]:
    """Each module of ours: its name, its own ms, and the foreign modules it was first to load, with
    all that those loaded.
    """
    ended = subprocess.run(  # noqa: S603 -- our own interpreter and text
        [
            *(measuring.python_of(side.checkout), "-X", "importtime"),
            *("-c", f"{side.preamble}\nimport {side.module}"),
        ],
        cwd=side.checkout,
        env=SETTINGS,
        capture_output=True,
        text=True,
        check=True,
    )
    # A module's line stands below those of what it imported, which are indented deeper.
    waiting: list[tuple[int, str, float]] = []
    for match in re.finditer(
        r"^import time: +(\d+) \| +(\d+) \|( +)(\S+)$", ended.stderr, re.MULTILINE
    ):
        own, total, depth, module = int(match[1]), int(match[2]), len(match[3]), match[4]
        inner = []
        while waiting and waiting[-1][0] > depth:
            inner.append(waiting.pop())
        if module.partition(".")[0] in OWN:
            foreign = [(n, t) for _, n, t in inner if n.partition(".")[0] not in OWN]
            yield module, own / 1e3, foreign
        waiting.append((depth, module, total / 1e3))


if __name__ == "__main__":
    raise SystemExit(main())
