"""From what is known of a caller to the few grants that could be meant for it.

The index makes a decision's time independent of the number of grants, and of the names of grants
that a request tries. It only ever narrows: each candidate is still matched in full.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tokenvend.policy.callers.matcher import Facts, Matcher
    from tokenvend.policy.patterns import Glob

Entry = tuple[int, "Matcher"]
"""A grant's place in the file, and one of its matchers."""
_Key = tuple[str, ...]


class Index(NamedTuple):
    """Entries by an exact fact of a caller, or by the literal ends of a pattern over one.

    `shapes`: for each kind of fact, the lengths of (prefix, suffix) that its patterns have.
    """

    exact: Mapping[_Key, tuple[Entry, ...]]
    patterns: Mapping[_Key, tuple[Entry, ...]]
    shapes: Mapping[_Key, frozenset[tuple[int, int]]]

    def entries(self, caller: Facts) -> Iterator[Entry]:
        """The entries that may fit the caller."""
        for key, texts in caller.known.items():
            for text in texts:
                yield from self.exact.get((caller.whom, key, text), ())
                for before, after in self.shapes.get((caller.whom, key), ()):
                    ends = (caller.whom, key, text[:before], text[len(text) - after :])
                    yield from self.patterns.get(ends, ())


def build_index(callers: Iterable[tuple[Matcher, ...]]) -> Index:
    """Index every matcher under its rarest fact, so that a common one (the organisation of every
    repository) does not put all grants into one group. `callers`: of each grant.
    """
    entries = [
        (place, matcher, [_key(matcher.whom, key, wanted) for key, wanted in matcher.asked])
        for place, matchers in enumerate(callers)
        for matcher in matchers
    ]
    counts = Counter(key for _, _, keys in entries for key in keys)
    exact: dict[_Key, list[Entry]] = {}
    patterns: dict[_Key, list[Entry]] = {}
    shapes: dict[_Key, set[tuple[int, int]]] = {}
    for place, matcher, keys in entries:
        key = min(keys, key=lambda key: (counts[key], len(key)))
        match key:
            case whom, asked, before, after:
                patterns.setdefault(key, []).append((place, matcher))
                shapes.setdefault((whom, asked), set()).add((len(before), len(after)))
            case _:
                exact.setdefault(key, []).append((place, matcher))
    return Index(
        MappingProxyType({key: tuple(found) for key, found in exact.items()}),
        MappingProxyType({key: tuple(found) for key, found in patterns.items()}),
        MappingProxyType({key: frozenset(found) for key, found in shapes.items()}),
    )


def _key(whom: str, key: str, wanted: Glob) -> _Key:
    """Of a pattern, with both its ends: the longer kind of key."""
    ends = (wanted.prefix,) if wanted.exact else (wanted.prefix, wanted.suffix)
    return (whom, key, *ends)
