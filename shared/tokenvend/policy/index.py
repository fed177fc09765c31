"""From what a caller is to the few grants that could be meant for it.

The index makes a decision's time independent of the number of grants, and of the names of grants
that a request tries. It only ever narrows: each candidate is still matched in full.
"""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from tokenvend.policy.callers import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tokenvend.model import Caller
    from tokenvend.policy.callers import Fact, Matcher
    from tokenvend.policy.patterns import Glob

Entry = tuple[int, "Matcher"]
"""A grant's place in the file, and one of its matchers."""


class Index(NamedTuple):
    """Entries by an exact fact of a caller, or by the literal ends of a pattern over one.

    `shapes`: for each kind of fact, the lengths of (prefix, suffix) that its patterns have.
    """

    exact: Mapping[Fact, tuple[Entry, ...]]
    patterns: Mapping[Fact, tuple[Entry, ...]]
    shapes: Mapping[Fact, frozenset[tuple[int, int]]]

    def entries(self, caller: Caller) -> Iterator[Entry]:
        """The entries that may fit the caller."""
        for fact, text in kind_of(caller).facts(caller):
            yield from self.exact.get((*fact, text), ())
            for before, after in self.shapes.get(fact, ()):
                ends = (*fact, text[:before], text[len(text) - after :])
                yield from self.patterns.get(ends, ())


def build_index(callers: Iterable[tuple[Matcher, ...]]) -> Index:
    """Index every matcher under its rarest fact, so that a common one (the organisation of every
    repository) does not put all grants into one group. `callers`: of each grant.
    """
    entries = [
        (place, matcher, [_anchor(fact, wanted) for fact, wanted in matcher.wanted()])
        for place, matchers in enumerate(callers)
        for matcher in matchers
    ]
    counts = Counter(anchor for _, _, anchors in entries for anchor in anchors)
    exact: dict[Fact, list[Entry]] = {}
    patterns: dict[Fact, list[Entry]] = {}
    shapes: dict[Fact, set[tuple[int, int]]] = {}
    for place, matcher, anchors in entries:
        ends, key = min(anchors, key=lambda anchor: (counts[anchor], anchor[0] is not None))
        if ends is None:
            exact.setdefault(key, []).append((place, matcher))
        else:
            patterns.setdefault(key, []).append((place, matcher))
            shapes.setdefault(key[:-2], set()).add(ends)
    return Index(
        MappingProxyType({key: tuple(found) for key, found in exact.items()}),
        MappingProxyType({key: tuple(found) for key, found in patterns.items()}),
        MappingProxyType({key: frozenset(found) for key, found in shapes.items()}),
    )


def _anchor(fact: Fact, wanted: str | Glob) -> tuple[tuple[int, int] | None, Fact]:
    """A pattern's key holds its ends, whose lengths say how to cut a caller's text."""
    if isinstance(wanted, str):
        return None, (*fact, wanted)
    if wanted.exact:
        return None, (*fact, wanted.prefix)
    ends = (wanted.prefix, wanted.suffix)
    return (len(ends[0]), len(ends[1])), (*fact, *ends)
