"""What is wrong with a policy, where, and what to write instead: every problem in one go.

A checker notes a problem at a path of keys; lines are looked up only when there is something to
tell, because `tomllib` keeps none and a good policy should load fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokenvend.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable

# A list that went wrong at every entry would fill the log; the first hundred are enough to start.
MAX_PROBLEMS = 100
# Room for the longest ARN, issuer with subject and email: two of them often differ at their ends.
_LONGEST_SHOWN = 400
_BEFORE_THE_DIFFERENCE = 40

Path = tuple[str | int, ...]
Found = list[tuple[Path, str]]
"""Problems as they are noted while a policy is read: where, and what is wrong."""


class Problem(NamedTuple):
    """One mistake. `line`: from 1. `where`: the grant, or empty for the policy as a whole."""

    line: int
    where: str
    message: str

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        return f"{self.line}: {where}{self.message}"


class PolicyError(Misconfigured):
    """The policy cannot be used. `problems`: all of them, by line; none is in the `detail`."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        lines = "\n".join(f"{source}:{problem}" for problem in problems)
        super().__init__(
            "The policy cannot be used; the operator finds every problem in the log.", cause=lines
        )
        self.source = source
        self.problems = problems


def shown(value: object) -> str:
    """`value` as a message may show it: quoted, control characters escaped, cut when long."""
    match value:
        case str():
            text = quoted(value)
        case bool() | None:
            text = {True: "true", False: "false", None: "null"}[value]
        case _:
            text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN + 2 else f"{text[:_LONGEST_SHOWN]}…"


def contrast(got: str, wanted: object) -> str:
    """`X is not Y`, each as a message may show it. Of long ones it shows the part where they begin
    to differ: names often differ at their ends alone.
    """
    other = str(wanted)
    start = 0
    if max(len(got), len(other)) > _LONGEST_SHOWN:
        pairs = enumerate(zip(got, other, strict=False))
        same = next((at for at, (one, two) in pairs if one != two), min(len(got), len(other)))
        start = max(0, same - _BEFORE_THE_DIFFERENCE)
    cut = "…" if start else ""
    return f"{cut}{shown(got[start:])} is not {cut}{shown(other[start:])}"


def quoted(text: str) -> str:
    """`text` in double quotes; what is not printable is escaped, so that no log line is forged."""
    body = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "replace").decode()
        for char in text[: _LONGEST_SHOWN + 1]
    )
    return f'"{body}"'


def nearest(name: str, known: Iterable[str]) -> str:
    """Which of the known names was meant, or all of them."""
    # Nothing but a mistake needs it.
    from difflib import get_close_matches  # noqa: PLC0415

    names = list(known)
    near = get_close_matches(name, names, 1)
    return f"did you mean `{near[0]}`?" if near else f"known: {', '.join(names)}"
