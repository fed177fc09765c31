"""A policy ready to be asked: immutable grants, and an index from what a caller is to the few
grants that could be meant for it.

The index makes a decision's time independent of the number of grants. It only ever narrows: each
candidate is still matched in full.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

from tokenvend.model import AwsCaller, EntraCaller, LambdaCaller, OidcCaller
from tokenvend.policy.matchers import (
    AwsMatcher,
    EntraMatcher,
    LambdaMatcher,
    OidcMatcher,
    claims_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tokenvend.model import Caller
    from tokenvend.policy.matchers import Matcher
    from tokenvend.policy.patterns import Glob


class Mode(StrEnum):
    """Whether a grant's limits are held, or only reported when they are passed."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class AccessLimits:
    """Of access tokens. `max_lifetime`: seconds; None for a direct token, where STS decides."""

    scopes: tuple[str, ...]
    max_lifetime: int | None


@dataclass(frozen=True, slots=True)
class IdLimits:
    """Of ID tokens."""

    audiences: tuple[Glob, ...]


@dataclass(frozen=True, slots=True)
class Grant:
    """One `[[grant]]`. `service_account` None means direct: the federated token itself.

    `not_before`, `expires`: epoch seconds; the grant holds from the first to before the second.
    `attributed`: whether Google is to see the caller (`attribute = "caller"`).
    """

    name: str
    callers: tuple[Matcher, ...]
    service_account: str | None
    access_token: AccessLimits | None
    id_token: IdLimits | None
    delegates: tuple[str, ...] = ()
    not_before: int | None = None
    expires: int | None = None
    mode: Mode = Mode.ENFORCE
    attributed: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a matcher stands: the grant's place in the file, and the matcher."""

    place: int
    matcher: Matcher


@dataclass(frozen=True, slots=True)
class Index:
    """Entries by an exact fact of a caller, or by the literal ends of a pattern over one.

    `shapes`: for each kind of fact, the lengths of (prefix, suffix) that its patterns have.
    """

    exact: Mapping[tuple[str, ...], tuple[Entry, ...]]
    patterns: Mapping[tuple[str, ...], tuple[Entry, ...]]
    shapes: Mapping[tuple[str, ...], tuple[tuple[int, int], ...]]

    def entries(self, caller: Caller) -> Iterator[tuple[Entry, ...]]:
        """The groups of entries that may fit the caller."""
        for fact, text in _facts(caller):
            found = self.exact.get((*fact, text))
            if found is not None:
                yield found
            for before, after in self.shapes.get(fact, ()):
                ends = (*fact, text[:before], text[len(text) - after :])
                found = self.patterns.get(ends)
                if found is not None:
                    yield found


@dataclass(frozen=True, slots=True)
class CompiledPolicy:
    """A policy in force. `digest`: SHA-256 of its content, 64 hex digits, the same however the
    text is laid out. `mode`: of grants that do not say their own.
    """

    digest: str
    mode: Mode
    grants: tuple[Grant, ...]
    index: Index = field(repr=False, compare=False)
    by_name: Mapping[str, int] = field(repr=False, compare=False)


def build_index(grants: Iterable[Grant]) -> Index:
    """Index every matcher under its rarest fact, so that a common one (the organisation of every
    repository) does not put all grants into one group.
    """
    anchored = [
        (Entry(place, matcher), _anchors(matcher))
        for place, grant in enumerate(grants)
        for matcher in grant.callers
    ]
    counts = Counter(chain.from_iterable(anchors for _, anchors in anchored))
    exact: dict[tuple[str, ...], list[Entry]] = {}
    patterns: dict[tuple[str, ...], list[Entry]] = {}
    shapes: dict[tuple[str, ...], set[tuple[int, int]]] = {}
    for entry, anchors in anchored:
        is_pattern, key = anchors[0]
        if len(anchors) > 1:
            is_pattern, key = min(anchors, key=lambda anchor: (counts[anchor], anchor[0]))
        if not is_pattern:
            exact.setdefault(key, []).append(entry)
            continue
        patterns.setdefault(key, []).append(entry)
        shapes.setdefault(key[:-2], set()).add((len(key[-2]), len(key[-1])))
    return Index(
        MappingProxyType({key: tuple(entries) for key, entries in exact.items()}),
        MappingProxyType({key: tuple(entries) for key, entries in patterns.items()}),
        MappingProxyType({key: tuple(sorted(lengths)) for key, lengths in shapes.items()}),
    )


# A fact's kind and value, or its kind and a pattern's two ends, in one tuple; True for a pattern.
_Anchor = tuple[bool, tuple[str, ...]]


def _anchors(matcher: Matcher) -> list[_Anchor]:
    match matcher:
        case AwsMatcher():
            arns = [pattern for pattern in (matcher.role, matcher.user) if pattern is not None]
            found = [_anchor(("arn",), arn) for arn in arns]
            if matcher.account and not arns:
                found.append((False, ("account", matcher.account)))
            if matcher.organization and not arns:
                found.append((False, ("organization", matcher.organization)))
            return found
        case LambdaMatcher():
            return [(False, ("alias", matcher.alias))]
        case EntraMatcher(tenant=tenant):
            ids = (("object", matcher.object_id), ("app", matcher.app_id))
            found = [(False, (kind, tenant, value)) for kind, value in ids if value]
            found += [(False, ("role", tenant, role)) for role in matcher.roles]
            return found
        case OidcMatcher():
            return [
                _anchor(("claim", matcher.issuer, name), value) for name, value in matcher.claims
            ]
        case _ as never:
            assert_never(never)


def _anchor(fact: tuple[str, ...], pattern: Glob) -> _Anchor:
    if pattern.exact:
        return False, (*fact, pattern.prefix)
    return True, (*fact, pattern.prefix, pattern.suffix)


def _facts(caller: Caller) -> Iterator[tuple[tuple[str, ...], str]]:
    match caller:
        case AwsCaller():
            yield ("arn",), caller.arn
            yield ("account",), caller.account
            yield ("organization",), caller.organization
        case LambdaCaller():
            yield ("alias",), caller.alias
        case EntraCaller():
            tenant = caller.tenant.lower()
            yield ("object", tenant), caller.object_id.lower()
            yield ("app", tenant), caller.app_id.lower()
            for role in caller.roles:
                yield ("role", tenant), role
        case OidcCaller():
            for name, value in claims_of(caller).items():
                yield ("claim", caller.issuer, name), value
        case _ as never:
            assert_never(never)
