"""What a change of policy means: who gains and who loses what.

Each grant is taken apart into grants of a single permission (these callers, this scope or
audience), so that moving, renaming or splitting grants is no difference. A permission that another
one covers (a role beside `role/*`) is no difference either. What is not seen: that scopes spread
over two grants cannot be had in one token.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenvend.policy.review.coverage import gives_all, target_of
from tokenvend.policy.review.words import in_line, limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tokenvend.policy.compiled import CompiledPolicy, Grant
    from tokenvend.policy.review.coverage import Target


class Change(StrEnum):
    """Which way a permission went."""

    GAINS = "gains"
    LOSES = "loses"


@dataclass(frozen=True, slots=True)
class Difference:
    """One permission that only one of the two policies gives. `service_account` None: direct;
    `kind`: of token; `what`: the scope or the audience pattern; `limits`: lifetime, dates and mode
    in words.
    """

    caller: str
    service_account: str | None
    kind: str
    what: str
    change: Change
    limits: str
    grant: str


def diff(old: CompiledPolicy, new: CompiledPolicy) -> list[Difference]:
    """Losses and gains from `old` to `new`, by caller."""
    before, after = _permissions(old), _permissions(new)
    found = {*_only_in(before, after, Change.LOSES), *_only_in(after, before, Change.GAINS)}
    return sorted(found, key=lambda each: [text or "" for text in astuple(each)])


def _only_in(
    mine: Mapping[Target, list[Grant]], other: Mapping[Target, list[Grant]], change: Change
) -> Iterator[Difference]:
    for target, permissions in mine.items():
        theirs = other.get(target, [])
        same = {_nameless(each) for each in theirs}
        for one in permissions:
            if _nameless(one) in same or any(gives_all(each, one) for each in theirs):
                continue
            yield Difference(
                caller=in_line(one.callers[0]),
                service_account=one.service_account,
                kind="access_token" if one.scopes else "id_token",
                what="".join(map(str, (*one.scopes, *one.audiences))),
                change=change,
                limits=limits(one),
                grant=one.name,
            )


def _permissions(policy: CompiledPolicy) -> Mapping[Target, list[Grant]]:
    found: dict[Target, list[Grant]] = defaultdict(list)
    for grant in policy.grants:
        of_target = found[target_of(grant)]
        nothing = grant._replace(scopes=(), audiences=())
        for caller in grant.callers:
            own = nothing._replace(callers=(caller,))
            of_target += (own._replace(scopes=(scope,)) for scope in grant.scopes)
            own = own._replace(max_lifetime=None)
            of_target += (own._replace(audiences=(audience,)) for audience in grant.audiences)
    return found


def _nameless(permission: Grant) -> Grant:
    return permission._replace(name="")
