"""What the benchmarks share: spreads, pairs of measurements, and workers in another checkout.

On a busy machine one run after the other compares the neighbours, not the code. So every round
measures each side once, the order turning from round to round, and the ratio is taken within the
round: noise that lasts longer than a round hits both sides and cancels.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
OURS, BEFORE, GOOGLE_AUTH = "this", "before", "google-auth"
# Of the normal distribution, for an interval that holds the truth 95 times in 100.
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 5th and 95th percentile of the samples, in their unit."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """The spread of at least two samples."""
        cuts = statistics.quantiles(samples, n=20, method="inclusive")
        return cls(statistics.median(samples), cuts[0], cuts[-1])

    def shown(self, digits: int) -> str:
        """`median (low to high)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class Ratio:
    """One side against another, round by round; below 1 the first took less.

    `of_medians`: of all rounds of either side. `paired`: of the rounds' own ratios. `sure`: between
    these the median of the paired ratios lies with 95 % confidence (order statistics, so whatever
    the distribution); what includes 1 is no difference.
    """

    of_medians: float
    paired: Spread
    sure: tuple[float, float]

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> Ratio:
        """`first` and `second` by round, at least two rounds."""
        ratios = sorted(a / b for a, b in zip(first, second, strict=True))
        rank = max(0, int((len(ratios) - _Z * len(ratios) ** 0.5) / 2))
        return cls(
            statistics.median(first) / statistics.median(second),
            Spread.of(ratios),
            (ratios[rank], ratios[-1 - rank]),
        )

    def cells(self) -> tuple[str, str, str]:
        """The ratio of medians, the paired ratio with its spread, and where its median lies."""
        low, high = self.sure
        return f"{self.of_medians:.3f}", self.paired.shown(3), f"{low:.3f} to {high:.3f}"


RATIO_COLUMNS = ("ratio of medians", "paired ratio", "its median, 95 % sure")
RATIO_NOTE = "paired ratio: median (5th to 95th percentile) of the rounds' own; below 1 is faster"


def turning[T](sides: Sequence[T], number: int) -> list[T]:
    """The sides in the order of round `number`: each comes first as often as the others."""
    start = number % len(sides)
    return [*sides[start:], *sides[:start]]


def arguments(about: str) -> ArgumentParser:
    """A command line that takes another checkout to compare with."""
    parser = ArgumentParser(description=about)
    parser.add_argument(
        "--before",
        type=Path,
        metavar="PATH",
        help="another checkout, set up with `make setup`, that is measured in turn with this one",
    )
    return parser


def checkouts(before: Path | None) -> dict[str, Path]:
    """The checkouts to measure, by name."""
    return {OURS: ROOT} if before is None else {OURS: ROOT, BEFORE: before.resolve()}


def python_of(checkout: Path) -> str:
    """A checkout's own interpreter, which imports the checkout's own code."""
    python = checkout / ".venv/bin/python"
    if not python.exists():
        raise SystemExit(f"{checkout} has no .venv: run `make setup` there")
    return str(python)


def console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for them elsewhere."""
    return Console(width=None if sys.stdout.isatty() else 120)


def load() -> str:
    """How busy the machine is, for the reader of a table."""
    averages = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"load average {averages} on {os.cpu_count()} CPUs, Python {sys.version.split()[0]}"


def pin(pid: int) -> None:
    """Keep a process on one processor, the same for all sides.

    A virtual machine's processors slow down on their own, to half their speed, with what their
    neighbours do: two sides on two of them would compare the processors.
    """
    os.sched_setaffinity(pid, {max(os.sched_getaffinity(0))})


class Worker:
    """A script in a process of its own, with a checkout's code: a JSON line in, a JSON line out."""

    def __init__(
        self,
        checkout: Path,
        script: Path,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        # -P: the scripts' own folder stays off the path, so that only the checkout's code is found.
        self._process = subprocess.Popen(  # noqa: S603 -- our own interpreter and script
            [python_of(checkout), "-P", str(script), *arguments],
            cwd=checkout,
            env=dict(environ or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        pin(self._process.pid)

    def ask(self, order: Any) -> Any:
        """Send an order and wait for its answer; SystemExit when the script has ended."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            raise SystemExit("a worker has ended; what it said stands above") from None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("a worker has ended; what it said stands above")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def percentile(samples: Sequence[float], percent: int) -> float:
    """The sample that this many per cent are not above."""
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def rounds(count: int) -> Iterator[int]:
    """The numbers of the rounds, told on a terminal as they pass."""
    for number in range(count):
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {count}", end="", file=sys.stderr)
        yield number
    if sys.stderr.isatty():
        print("\r" + " " * 24 + "\r", end="", file=sys.stderr)
