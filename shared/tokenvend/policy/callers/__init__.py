"""The kinds of caller, one a file: how each is written in `callers`, and what is known of one.

Several matchers are alternatives, and a matcher of one kind never fits a caller of another. Refused
when read: a matcher that is empty, that could fit nobody, or that would fit everyone an identity
provider knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenvend.model import AwsCaller, EntraCaller, LambdaCaller, OidcCaller
from tokenvend.policy.callers import aws, aws_lambda, entra, oidc
from tokenvend.policy.reading.problems import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.model import Caller
    from tokenvend.policy.callers.matcher import Facts, Matcher
    from tokenvend.policy.reading.table import Table

MAX_CALLERS = 500


class Kind(Protocol):
    """A module of this package."""

    @property
    def KEYS(self) -> Mapping[str, tuple[str, ...]]:  # noqa: N802 - a module's constant
        """The keys by which a policy writes such callers, each with the parts of a caller that it
        stands for in a boundary's prefix (`{caller.…}`).
        """

    @property
    def OWN(self) -> tuple[str, ...]:  # noqa: N802
        """The facts that name one caller and no other."""

    def read(self, table: Table, /) -> Matcher | None:
        """The matcher in `table`; what is wrong is reported."""

    def facts(self, caller: Any, /) -> Facts:
        """What is known of the caller."""


KINDS: Mapping[type[Caller], Kind] = {
    AwsCaller: aws,
    LambdaCaller: aws_lambda,
    EntraCaller: entra,
    OidcCaller: oidc,
}
KEYS: Mapping[str, Kind] = {key: kind for kind in KINDS.values() for key in kind.KEYS}


def facts_of(caller: Caller) -> Facts:
    """What is known of the caller, for matchers and the index."""
    return KINDS[type(caller)].facts(caller)


def read_callers(grant: Table) -> tuple[Matcher, ...]:
    """The matchers of one grant; what is wrong is reported."""
    advice = 'who may use the grant, such as [{ aws_role = "arn:aws:iam::111122223333:role/etl" }]'
    tables = grant.tables("callers", most=MAX_CALLERS, advice=advice)
    return tuple(found for table in tables if (found := _read_caller(table)) is not None)


def _read_caller(table: Table) -> Matcher | None:
    known = [key for key in table.tree if key in KEYS]
    if not known:
        told = [f"unknown key {shown(key)}; {nearest(key, KEYS)}" for key in table.tree]
        table.problem(
            "; ".join(told)
            or "an empty matcher fits nobody; name a role, an alias, a workload or an issuer"
        )
        return None
    kind = KEYS[known[0]]
    if any(KEYS[key] is not kind for key in known):
        table.problem(
            f"no caller is all of {', '.join(known)}; write one entry of `callers` for each"
        )
        return None
    matcher = kind.read(table)
    table.close()
    return matcher
