"""Whether one matcher, or one grant, gives all that another does.

Sound and not complete: a yes is certain, a no may be a yes that is hard to see. The tools that ask
(`lint`, `diff`) then say too much rather than too little.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from tokenvend.policy.callers.aws import OWN, account_of
from tokenvend.policy.compiled import Mode
from tokenvend.policy.patterns import Glob

if TYPE_CHECKING:
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.compiled import Grant

Target = tuple[str | None, tuple[str, ...], bool]


def target_of(grant: Grant) -> Target:
    """Service account, delegates, and whether Google sees the caller, to its IAM another identity.

    No grant gives anything of another target's.
    """
    return grant.service_account, grant.delegates, grant.attributed


def gives_all(wide: Grant, narrow: Grant) -> bool:
    """Whether `wide` gives the callers of `narrow`, of the same target, whatever that gives."""
    return (
        wide.mode in (narrow.mode, Mode.SHADOW)
        and all(scope in wide.scopes for scope in narrow.scopes)
        and (narrow.max_lifetime or 0) <= (wide.max_lifetime or 0)
        and (wide.not_before or 0) <= (narrow.not_before or 0)
        and _end(narrow) <= _end(wide)
        and all(any(mine.covers(its) for mine in wide.audiences) for its in narrow.audiences)
        and all(any(covers(mine, its) for mine in wide.callers) for its in narrow.callers)
    )


def covers(wide: Matcher, narrow: Matcher) -> bool:
    """Whether every caller that fits `narrow` fits `wide`."""
    # An ARN names its account.
    accounts = [("aws_account", Glob(account_of(arn))) for key, arn in narrow.asked if key in OWN]
    asked = [*narrow.asked, *accounts]
    return wide.whom == narrow.whom and all(
        any(key == other and wanted.covers(its) for other, its in asked)
        for key, wanted in wide.asked
    )


def _end(grant: Grant) -> float:
    return inf if grant.expires is None else grant.expires
