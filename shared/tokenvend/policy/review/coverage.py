"""Whether everyone whom one matcher fits is fitted by another too.

Sound and not complete: a yes is certain, a no may be a yes that is hard to see. The tools that ask
(`lint`, `diff`) then say too much rather than too little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.policy.callers.aws import OWN, account_of
from tokenvend.policy.patterns import Glob

if TYPE_CHECKING:
    from tokenvend.policy.callers.matcher import Matcher


def covers(wide: Matcher, narrow: Matcher) -> bool:
    """Whether every caller that fits `narrow` fits `wide`."""
    # An ARN names its account.
    accounts = [("aws_account", Glob(account_of(arn))) for key, arn in narrow.asked if key in OWN]
    asked = [*narrow.asked, *accounts]
    return wide.whom == narrow.whom and all(
        any(key == other and wanted.covers(its) for other, its in asked)
        for key, wanted in wide.asked
    )
