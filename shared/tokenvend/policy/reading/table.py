"""Reading one table of a policy: each key once and with its type; what is left over is unknown.

A wrong value is reported and read as absent, so that one pass finds every problem. Nothing read
after a problem is ever used: the compiler refuses whatever has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.policy.reading.problems import nearest, shown
from tokenvend.policy.values import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.policy.reading.problems import Found, Path

# A JSON null is a value, and a wrong one; only a key that is not there may fall to its default.
_ABSENT = object()
_WORDS = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "a table",
}


class Table:
    """A table being read. `path` leads to it from the document's root; what is wrong goes to
    `found`.
    """

    __slots__ = ("_found", "_taken", "path", "tree")

    def __init__(self, tree: dict[str, object], path: Path, found: Found) -> None:
        self.tree = tree
        self.path = path
        self._found = found
        # A dict for its order: the known keys of a table are told in the order they are read.
        self._taken: dict[str, None] = {}

    def has(self, key: str) -> bool:
        """Whether the key is there at all, well formed or not."""
        return key in self.tree

    def problem(self, message: str, *keys: str | int) -> None:
        """Report `message` at the key named by `keys`, or at the table."""
        self._found.append(((*self.path, *keys), message))

    def typed[T](self, kind: type[T], key: str, *, advice: str = "") -> T | None:
        """The value of `key` where it is of exactly this type (true is no number).

        With `advice` the key is required; it says what to write.
        """
        self._taken[key] = None
        value = self.tree.get(key, _ABSENT)
        if type(value) is kind:
            return value
        if value is not _ABSENT:
            self.problem(f"`{key}` must be {_WORDS[kind]}, not {shown(value)}", key)
        elif advice:
            self.problem(f"`{key}` is missing; write {advice}")
        return None

    def parsed[T](self, key: str, parse: Callable[[str], T], *, advice: str = "") -> T | None:
        """The string at `key` through `parse`, whose ValueError says what to write instead."""
        text = self.typed(str, key, advice=advice)
        return None if text is None else self._tried(parse, text, key)

    def moment(self, key: str, *, up: bool = False) -> int | None:
        """The date and time at `key`, in epoch seconds; fractions go `up` or down."""
        self._taken[key] = None
        if key not in self.tree:
            return None
        return self._tried(lambda value: moment(value, up=up), self.tree[key], key)

    def list_of[T](
        self, key: str, parse: Callable[[str], T], *, most: int, advice: str = ""
    ) -> tuple[T, ...]:
        """The strings at `key`, each through `parse`; an empty list is refused where required."""
        values = self._listed(key, str, "strings", most, advice)
        if len({value for _, value in values}) < len(values):
            self.problem(f"`{key}` names something twice; write each entry once", key)
        parsed = [self._tried(parse, value, key, index) for index, value in values]
        return tuple(value for value in parsed if value is not None)

    def strings[T](
        self, key: str, parse: Callable[[str], T], *, most: int, advice: str = ""
    ) -> tuple[T, ...]:
        """The strings at `key`, where one may stand without its list."""
        if isinstance(self.tree.get(key), list):
            return self.list_of(key, parse, most=most, advice=advice)
        one = self.parsed(key, parse)
        return () if one is None else (one,)

    def table(self, key: str, *, advice: str = "") -> Table | None:
        """The table at `key`."""
        tree = self.typed(dict, key, advice=advice)
        return None if tree is None else Table(tree, (*self.path, key), self._found)

    def tables(self, key: str, *, most: int, advice: str = "") -> list[Table]:
        """The list of tables at `key`."""
        if type(self.tree.get(key)) is dict:
            self._taken[key] = None
            name = ".".join(str(each) for each in (*self.path, key) if type(each) is str)
            self.problem(f"`{key}` is a list of tables; write [[{name}]], not [{name}]", key)
            return []
        return [
            Table(value, (*self.path, key, index), self._found)
            for index, value in self._listed(key, dict, "tables", most, advice)
        ]

    def close(self) -> None:
        """Report every key that was not taken: a misspelt limit must not go unenforced."""
        if self.tree.keys() <= self._taken.keys():
            return
        for key in self.tree.keys() - self._taken.keys():
            self.problem(f"unknown key {shown(key)}; {nearest(key, self._taken)}", key)

    def _tried[V, T](self, parse: Callable[[V], T], value: V, *keys: str | int) -> T | None:
        try:
            return parse(value)
        except ValueError as error:
            self.problem(f"`{keys[0]}` {error}", *keys)
            return None

    def _listed[T](
        self, key: str, kind: type[T], plural: str, most: int, advice: str
    ) -> list[tuple[int, T]]:
        """The entries at `key` that are of this type, with their places."""
        values = self.typed(list, key, advice=advice) or []
        if advice and self.tree.get(key) == []:
            self.problem(f"`{key}` is empty; write {advice}", key)
        if len(values) > most:
            self.problem(f"`{key}` has {len(values)} entries; at most {most} are read", key)
            return []
        found = []
        for index, value in enumerate(values):
            if type(value) is kind:
                found.append((index, value))
            else:
                self.problem(f"`{key}` must list {plural}, not {shown(value)}", key, index)
        return found
