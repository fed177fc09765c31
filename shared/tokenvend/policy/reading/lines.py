"""Where in a policy's text each key stands, in TOML and in JSON.

`tomllib` and `json` give values without lines. This is asked only about text that one of them has
already accepted, so it need not judge syntax. A path it does not know is answered by its parent's.
"""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenvend.policy.reading.problems import Path

_STRING = r"""(?:"{3}(?:\\.|[^\\])*?"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*')"""
_NAME = rf"(?:{_STRING}|[A-Za-z0-9_-]+)"
_NAMES = re.compile(_NAME, re.DOTALL)
_KEY = re.compile(rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*", re.DOTALL)
_HEADER = re.compile(rf"\[\[?[ \t]*{_KEY.pattern}[ \t]*\]\]?", re.DOTALL)
_SCALAR = re.compile(rf"{_STRING}|[^,\]}}\n#]+", re.DOTALL)
# What separates keys, values and entries: between two of them it says nothing more.
_BETWEEN = re.compile(r"(?:[\s,=:]|#[^\n]*)*+")


class Lines:
    """The line, from 1, of every key and array entry; `repeated`: JSON keys that stand twice."""

    def __init__(self) -> None:
        self.at: dict[Path, int] = {}
        self.repeated: list[tuple[Path, int]] = []

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        around = (path[:length] for length in range(len(path), 0, -1))
        return next((self.at[each] for each in around if each in self.at), 1)


def find_lines(text: str) -> Lines:
    """Scan `text`, which is known to be well formed, for the line of each key."""
    scan = _Scan(text)
    # What was found is told, should JSON be nested deeper than Python recurses (C does more), or
    # should this misread what the parsers took.
    with suppress(RecursionError, LookupError):
        if scan.next() == "{":
            scan.value(())
        else:
            scan.document()
    return scan.lines


class _Scan:
    def __init__(self, text: str) -> None:
        self.lines = Lines()
        self._text = text
        self._place = 0
        self._line = 1
        # How many tables each [[array.of.tables]] has had so far.
        self._counts: dict[Path, int] = {}

    def next(self) -> str:
        """The character that the next key, value or bracket begins with; empty at the end."""
        self._take(_BETWEEN)
        return self._text[self._place : self._place + 1]

    def document(self) -> None:
        """TOML, from its top."""
        table: Path = ()
        while begin := self.next():
            if begin == "[":
                table = self._header()
            else:
                self.value(self._key(table))

    def value(self, path: Path) -> None:
        """The value that stands next, and all that is in it."""
        match self.next():
            case "[":
                self._place += 1
                for index in count():
                    if self.next() == "]":
                        break
                    self.lines.at[*path, index] = self._line
                    self.value((*path, index))
                self._place += 1
            case "{":
                self._place += 1
                seen: set[Path] = set()
                while self.next() != "}":
                    key = self._key(path)
                    if key in seen:
                        self.lines.repeated.append((key, self._line))
                    seen.add(key)
                    self.value(key)
                self._place += 1
            case _:
                self._take(_SCALAR)

    def _key(self, table: Path) -> Path:
        path = table
        for name in _NAMES.findall(self._take(_KEY)):
            path = (*path, _plain(name))
            # Of a repeated key the first place is the one to show first.
            self.lines.at.setdefault(path, self._line)
        return path

    def _header(self) -> Path:
        header = self._take(_HEADER)
        *above, last = map(_plain, _NAMES.findall(header))
        path: Path = ()
        for name in above:
            path = (*path, name)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        path = (*path, last)
        if header.startswith("[["):
            self.lines.at.setdefault(path, self._line)
            self._counts[path] = self._counts.get(path, 0) + 1
            path = (*path, self._counts[path] - 1)
        self.lines.at[path] = self._line
        return path

    def _take(self, form: re.Pattern[str]) -> str:
        found = form.match(self._text, self._place)
        if found is None:
            raise LookupError(form.pattern)
        self._place = found.end()
        self._line += found[0].count("\n")
        return found[0]


def _plain(name: str) -> str:
    return name[1:-1] if name[0] in "\"'" else name
