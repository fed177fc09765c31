"""Whether everyone, or everything, that one pattern fits is fitted by another too.

Sound and not complete: a yes is certain, a no may be a yes that is hard to see. The tools that ask
(`lint`, `diff`) then say too much rather than too little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.policy.matchers import AwsMatcher, EntraMatcher, LambdaMatcher, Matcher, OidcMatcher

if TYPE_CHECKING:
    from tokenvend.policy.patterns import Glob


def glob_covers(wide: Glob, narrow: Glob) -> bool:
    """Whether every text that fits `narrow` fits `wide`.

    A star of `narrow` that `wide` reads as a plain character was read by one of its own stars,
    which reads whatever else that star could stand for.
    """
    return wide.matches(str(narrow))


def covers(wide: Matcher, narrow: Matcher) -> bool:
    """Whether every caller that fits `narrow` fits `wide`."""
    match wide, narrow:
        case AwsMatcher(), AwsMatcher():
            return _aws_covers(wide, narrow)
        case LambdaMatcher(), LambdaMatcher():
            return wide == narrow
        case EntraMatcher(), EntraMatcher():
            return (
                wide.tenant == narrow.tenant
                and wide.object_id in ("", narrow.object_id)
                and wide.app_id in ("", narrow.app_id)
                and set(wide.roles) <= set(narrow.roles)
            )
        case OidcMatcher(), OidcMatcher():
            claims = dict(narrow.claims)
            return wide.issuer == narrow.issuer and all(
                name in claims and glob_covers(pattern, claims[name])
                for name, pattern in wide.claims
            )
        case _:
            return False


def _aws_covers(wide: AwsMatcher, narrow: AwsMatcher) -> bool:
    arn = narrow.role or narrow.user
    account = narrow.account or (arn.prefix.split(":")[4] if arn else "")
    return (
        (wide.role is None or (narrow.role is not None and glob_covers(wide.role, narrow.role)))
        and (wide.user is None or (narrow.user is not None and glob_covers(wide.user, narrow.user)))
        and wide.account in ("", account)
        and wide.organization in ("", narrow.organization)
    )
