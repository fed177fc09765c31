"""Where in a policy's text each key stands: TOML and JSON in one pass over their lexemes.

`tomllib` and `json` give values without lines. This scanner is asked only about text that one of
them has already accepted, so it need not judge syntax; it keeps its own stack, because a policy
may be nested deeper than Python recurses. A path it does not know is answered by its parent's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tokenvend.policy.reading.problems import Path

_LEXEME = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}
                  |\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*')
      | (?P<mark>[\[\]{}=:,.\n])
      | (?P<bare>[^\s\[\]{}=:,.#"']+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(slots=True)
class Lines:
    """The line, from 1, of every key and array entry; `repeated`: JSON keys that stand twice."""

    at: dict[Path, int] = field(default_factory=dict)
    repeated: list[tuple[Path, int]] = field(default_factory=list)

    def of(self, path: Path) -> int:
        """The line of `path`, or of the nearest thing around it."""
        for length in range(len(path), 0, -1):
            if (line := self.at.get(path[:length])) is not None:
                return line
        return 1


def find_lines(text: str, *, is_json: bool) -> Lines:
    """Scan `text`, which is known to be well formed, for the line of each key."""
    scanner = _Scanner(is_json=is_json)
    for lexeme in _LEXEME.finditer(text):
        kind, value = lexeme.lastgroup, lexeme.group()
        if kind != "comment":
            scanner.take(value, is_mark=kind == "mark")
        scanner.line += value.count("\n")
    return scanner.lines


@dataclass(slots=True)
class _Frame:
    """One open bracket: a table of `key = value`, an array, or a `[header]` line."""

    kind: Literal["table", "array", "header"]
    path: Path
    keys: list[str] = field(default_factory=list)
    index: int = 0
    in_value: bool = False
    seen: set[str] = field(default_factory=set)


class _Scanner:
    def __init__(self, *, is_json: bool) -> None:
        self.lines = Lines()
        self.line = 1
        self._is_json = is_json
        self._root = _Frame("array" if is_json else "table", ())
        self._stack = [self._root]
        # TOML: how many tables each [[array.of.tables]] has had so far.
        self._counts: dict[Path, int] = {}
        self._double = False

    def take(self, lexeme: str, *, is_mark: bool) -> None:
        frame = self._stack[-1]
        if frame.kind == "header":
            self._in_header(frame, lexeme, is_mark=is_mark)
        elif is_mark and lexeme == "\n":
            if frame is self._root:
                frame.keys, frame.in_value = [], False
        elif frame.kind == "table" and not frame.in_value:
            self._in_key(frame, lexeme, is_mark=is_mark)
        else:
            self._in_value(frame, lexeme, is_mark=is_mark)

    def _in_header(self, frame: _Frame, lexeme: str, *, is_mark: bool) -> None:
        if not is_mark:
            frame.keys.append(_key(lexeme))
        elif lexeme == "[":
            self._double = True
        elif lexeme == "]":
            self._stack.pop()
            self._open_header(frame.keys)

    def _open_header(self, keys: list[str]) -> None:
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if (count := self._counts.get(path)) is not None:
                path = (*path, count - 1)
        path = (*path, *keys[-1:])
        if self._double:
            self.lines.at.setdefault(path, self.line)
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            path = (*path, index)
        self.lines.at[path] = self.line
        self._root.path, self._root.keys, self._root.in_value = path, [], False

    def _in_key(self, frame: _Frame, lexeme: str, *, is_mark: bool) -> None:
        if not is_mark:
            frame.keys.append(_key(lexeme))
        elif lexeme == "[" and frame is self._root and not frame.keys:
            self._double = False
            self._stack.append(_Frame("header", ()))
        elif lexeme in "=:":
            self._note_key(frame)
            frame.in_value = True
        elif lexeme == "}":
            self._close()

    def _note_key(self, frame: _Frame) -> None:
        path = frame.path
        for key in frame.keys:
            path = (*path, key)
            # A repeated key is only ever valid JSON; the first place is the one to show first.
            if self._is_json and key in frame.seen:
                self.lines.repeated.append((path, self.line))
            frame.seen.add(key)
            self.lines.at.setdefault(path, self.line)

    def _in_value(self, frame: _Frame, lexeme: str, *, is_mark: bool) -> None:
        path = self._value_path(frame)
        if frame.kind == "array" and frame is not self._root and lexeme not in ("]", ","):
            self.lines.at.setdefault(path, self.line)
        if not is_mark:
            return
        if lexeme == "{":
            self._stack.append(_Frame("table", path))
        elif lexeme == "[":
            self._stack.append(_Frame("array", path))
        elif lexeme in "]}":
            self._close()
        elif lexeme == "," and frame.kind == "array":
            frame.index += 1
        elif lexeme == ",":
            frame.keys, frame.in_value = [], False

    def _value_path(self, frame: _Frame) -> Path:
        if frame.kind == "table":
            return (*frame.path, *frame.keys)
        return () if frame is self._root else (*frame.path, frame.index)

    def _close(self) -> None:
        if len(self._stack) > 1:
            self._stack.pop()


def _key(lexeme: str) -> str:
    return lexeme[1:-1] if lexeme[0] in "\"'" else lexeme
