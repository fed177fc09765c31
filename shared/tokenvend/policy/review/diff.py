"""What a change of policy means: who gains and who loses what.

Each grant is taken apart into single permissions (these callers, this target, this scope or
audience), so that moving, renaming or splitting grants is no difference. A permission that another
one covers (a role beside `role/*`) is no difference either. What is not seen: that scopes spread
over two grants cannot be had in one token.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenvend.model import TokenKind
from tokenvend.policy.compiled import Mode
from tokenvend.policy.patterns import Glob
from tokenvend.policy.review.coverage import covers
from tokenvend.policy.review.words import in_line, limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.compiled import CompiledPolicy, Grant


class Change(StrEnum):
    """Which way a permission went."""

    GAINS = "gains"
    LOSES = "loses"


@dataclass(frozen=True, slots=True)
class Difference:
    """One permission that only one of the two policies gives. `service_account` None: direct;
    `what`: the scope or the audience pattern; `limits`: lifetime, dates and mode in words.
    """

    change: Change
    caller: str
    service_account: str | None
    kind: TokenKind
    what: str
    limits: str
    grant: str


@dataclass(frozen=True, slots=True)
class _Permission:
    matcher: Matcher
    kind: TokenKind
    what: Glob
    grant: Grant


# Service account, delegates, and whether Google sees the caller, to its IAM another identity.
_Target = tuple[str | None, tuple[str, ...], bool]


def diff(old: CompiledPolicy, new: CompiledPolicy) -> tuple[Difference, ...]:
    """Losses and gains from `old` to `new`, by caller."""
    before, after = _permissions(old), _permissions(new)
    found = {
        *_only_in(before, after, Change.LOSES),
        *_only_in(after, before, Change.GAINS),
    }
    return tuple(
        sorted(
            found,
            key=lambda each: (
                each.caller,
                each.service_account or "",
                each.kind,
                each.what,
                each.change,
                each.limits,
                each.grant,
            ),
        )
    )


def _only_in(
    mine: dict[_Target, list[_Permission]],
    other: dict[_Target, list[_Permission]],
    change: Change,
) -> Iterator[Difference]:
    for target, permissions in mine.items():
        theirs = other.get(target, [])
        same = {_key(permission) for permission in theirs}
        for permission in permissions:
            if _key(permission) in same or any(_gives(each, permission) for each in theirs):
                continue
            grant = permission.grant
            yield Difference(
                change=change,
                caller=in_line(permission.matcher),
                service_account=grant.service_account,
                kind=permission.kind,
                what=str(permission.what),
                limits=limits(grant, permission.kind),
                grant=grant.name,
            )


def _permissions(policy: CompiledPolicy) -> dict[_Target, list[_Permission]]:
    found: dict[_Target, list[_Permission]] = {}
    for grant in policy.grants:
        target = (grant.service_account, grant.delegates, grant.attributed)
        of_target = found.setdefault(target, [])
        scopes = grant.access_token.scopes if grant.access_token else ()
        audiences = grant.id_token.audiences if grant.id_token else ()
        for matcher in grant.callers:
            for scope in scopes:
                of_target.append(_Permission(matcher, TokenKind.ACCESS, Glob(scope), grant))
            for audience in audiences:
                of_target.append(_Permission(matcher, TokenKind.ID, audience, grant))
    return found


def _key(permission: _Permission) -> tuple[object, ...]:
    return permission.matcher, permission.kind, permission.what, *_limits(permission)


def _limits(permission: _Permission) -> tuple[int | None, int | None, int | None, Mode]:
    grant = permission.grant
    lifetime = grant.access_token.max_lifetime if grant.access_token else None
    own = lifetime if permission.kind is TokenKind.ACCESS else None
    return own, grant.not_before, grant.expires, grant.mode


def _gives(wide: _Permission, narrow: _Permission) -> bool:
    if wide.kind is not narrow.kind or not wide.what.covers(narrow.what):
        return False
    lifetime, start, end, mode = _limits(wide)
    its_lifetime, its_start, its_end, its_mode = _limits(narrow)
    return (
        (mode is its_mode or mode is Mode.SHADOW)
        and (lifetime or 0) >= (its_lifetime or 0)
        and (start is None or (its_start is not None and start <= its_start))
        and (end is None or (its_end is not None and end >= its_end))
        and covers(wide.matcher, narrow.matcher)
    )
