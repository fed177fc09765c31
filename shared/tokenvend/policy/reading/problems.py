"""What is wrong with a policy, where, and what to write instead: every problem in one go.

A checker notes a problem at a path of keys; lines are looked up only when there is something to
tell, because `tomllib` keeps none and a good policy should load fast.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenvend.errors import Misconfigured

# A list that went wrong at every entry would fill the log; the first hundred are enough to start.
MAX_PROBLEMS = 100
# Room for the longest ARN, issuer with subject and email: two of them often differ at their ends.
_LONGEST_SHOWN = 400

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake. `line`: from 1. `where`: the grant, or empty for the policy as a whole."""

    line: int
    where: str
    message: str

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"line {self.line}: {where}{self.message}"


class PolicyError(Misconfigured):
    """The policy cannot be used. `problems`: all of them, by line; none is in the `detail`."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        lines = "\n".join(f"{source}: {problem}" for problem in problems)
        super().__init__(
            "The policy cannot be used; the operator finds every problem in the log.", cause=lines
        )
        self.source = source
        self.problems = problems


class Report:
    """Collects problems by path while a policy is read."""

    def __init__(self) -> None:
        self.found: list[tuple[Path, str]] = []

    def add(self, path: Path, message: str) -> None:
        """Note that what stands at `path` is wrong."""
        self.found.append((path, message))


def shown(value: object) -> str:
    """`value` as a message may show it: quoted, control characters escaped, cut when long."""
    match value:
        case str():
            text = quoted(value)
        case bool() | None:
            text = {True: "true", False: "false", None: "null"}[value]
        case _:
            text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def quoted(text: str) -> str:
    """`text` in double quotes; what is not printable is escaped, so that no log line is forged."""
    body = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "replace").decode()
        for char in text[: _LONGEST_SHOWN + 1]
    )
    return f'"{body}"'
