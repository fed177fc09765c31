"""A page's console blocks, run in order in one shell and held against what the page prints.

A block is fenced as ``console``. A line that begins with ``$ `` is a command; it goes on while its
line ends in a backslash or a pipe, or to the end of its here-document. What follows is what it must
print on both of its outputs: ``…`` stands for anything within a line, a line of ``…`` alone for any
lines. A command must fail if what is printed holds a line that begins with one of `FAILURES`, else
not.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FAILURES = ("ERROR:", "curl: (22)")
TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the page, what it prints there, and the heading that it stands under."""

    chapter: str
    command: str
    printed: str

    @property
    def fails(self) -> bool:
        """Whether the page says that it fails."""
        return any(line.startswith(FAILURES) for line in self.printed.splitlines())


def steps(page: str) -> list[Step]:
    """Every command of a page, in order."""
    found = []
    for chapter, block in _blocks(page):
        lines = block.splitlines()
        while lines:
            command = [lines.pop(0).removeprefix("$ ")]
            end = re.search(r"<<'?(\w+)", command[0])
            while command[-1].endswith(("\\", "|")) or (end and command[-1] != end[1]):
                command.append(lines.pop(0))
            printed = []
            while lines and not lines[0].startswith("$ "):
                printed.append(lines.pop(0))
            found.append(Step(chapter, "\n".join(command), "\n".join(printed)))
    return found


def chapters(page: str) -> dict[str, list[Step]]:
    """The commands by the heading that they stand under, in order."""
    return {name: list(each) for name, each in groupby(steps(page), lambda step: step.chapter)}


def _blocks(page: str) -> Iterator[tuple[str, str]]:
    chapter = ""
    parts = re.compile(r"^##+ ([^\n]*)|^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
    for heading, block in parts.findall(page):
        chapter = heading or chapter
        if block:
            yield chapter, block


def matches(printed: str, answered: str) -> bool:
    """Whether an answer is the one that the page prints."""
    pattern = "\n".join(
        ".*" if line.strip() == "…" else "[^\n]*".join(map(re.escape, line.split("…")))
        for line in printed.strip().splitlines()
    )
    answer = "\n".join(line.rstrip() for line in answered.strip().splitlines())
    return re.fullmatch(pattern, answer, re.DOTALL) is not None


class Shell:
    """One bash that keeps its variables from command to command; a context manager."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._answer = directory / ".answer"
        self._status, status = os.pipe()
        self._bash = subprocess.Popen(
            ["/bin/bash", "--noprofile", "--norc"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[status],
            text=True,
        )
        self._report = status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bash.kill()
        self._bash.communicate()
        os.close(self._status)
        os.close(self._report)

    def run(self, command: str) -> tuple[int, str]:
        """A command's status and what it wrote, to either output; raises TimeoutError."""
        if self._bash.stdin is None:
            raise TypeError("the shell reads nothing")
        script = f"{{ {command}\n}} >{self._answer} 2>&1 </dev/null\necho $? >&{self._report}\n"
        self._bash.stdin.write(script)
        self._bash.stdin.flush()
        ready, _, _ = select.select([self._status], [], [], TIMEOUT)
        if not ready:
            raise TimeoutError(f"no end after {TIMEOUT} s: {command}")
        return int(os.read(self._status, 16)), self._answer.read_text("utf-8", "replace")
