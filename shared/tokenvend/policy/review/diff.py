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
from tokenvend.policy.limits import date
from tokenvend.policy.matchers import Matcher, written
from tokenvend.policy.patterns import Glob
from tokenvend.policy.review.coverage import covers, glob_covers

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    rule: Grant


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
            rule = permission.rule
            yield Difference(
                change=change,
                caller=written(permission.matcher),
                service_account=rule.service_account,
                kind=permission.kind,
                what=str(permission.what),
                limits=_limits(permission),
                grant=rule.name,
            )


def _permissions(policy: CompiledPolicy) -> dict[_Target, list[_Permission]]:
    found: dict[_Target, list[_Permission]] = {}
    for rule in policy.grants:
        target = (rule.service_account, rule.delegates, rule.attributed)
        of_target = found.setdefault(target, [])
        scopes = rule.access_token.scopes if rule.access_token else ()
        audiences = rule.id_token.audiences if rule.id_token else ()
        for matcher in rule.callers:
            for scope in scopes:
                of_target.append(_Permission(matcher, TokenKind.ACCESS, Glob(scope), rule))
            for audience in audiences:
                of_target.append(_Permission(matcher, TokenKind.ID, audience, rule))
    return found


def _key(permission: _Permission) -> tuple[object, ...]:
    return permission.matcher, permission.kind, permission.what, *_terms(permission)


def _terms(permission: _Permission) -> tuple[int | None, int | None, int | None, Mode]:
    rule = permission.rule
    lifetime = rule.access_token.max_lifetime if rule.access_token else None
    own = lifetime if permission.kind is TokenKind.ACCESS else None
    return own, rule.not_before, rule.expires, rule.mode


def _gives(wide: _Permission, narrow: _Permission) -> bool:
    if wide.kind is not narrow.kind or not glob_covers(wide.what, narrow.what):
        return False
    lifetime, start, end, mode = _terms(wide)
    its_lifetime, its_start, its_end, its_mode = _terms(narrow)
    return (
        (mode is its_mode or mode is Mode.SHADOW)
        and (lifetime or 0) >= (its_lifetime or 0)
        and (start is None or (its_start is not None and start <= its_start))
        and (end is None or (its_end is not None and end >= its_end))
        and covers(wide.matcher, narrow.matcher)
    )


def _limits(permission: _Permission) -> str:
    lifetime, start, end, mode = _terms(permission)
    parts = [f"up to {lifetime} s"] if lifetime is not None else []
    parts += [f"from {date(start)}"] if start is not None else []
    parts += [f"until {date(end)}"] if end is not None else []
    parts += ["in shadow mode"] if mode is Mode.SHADOW else []
    parts += ["attributed to the caller"] if permission.rule.attributed else []
    return ", ".join(parts)
