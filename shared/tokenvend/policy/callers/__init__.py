"""The kinds of caller, one a file: how each is written in `callers`, matched, indexed and named.

A matcher's fields must all fit, several matchers are alternatives, and a matcher of one kind never
fits a caller of another. Refused when read: a matcher that is empty, that could fit nobody, or that
would fit everyone an identity provider knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tokenvend.model import AwsCaller, EntraCaller, LambdaCaller, OidcCaller
from tokenvend.policy.callers import aws, aws_lambda, entra, oidc
from tokenvend.policy.reading.problems import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tokenvend.model import Caller
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.table import Table

MAX_CALLERS = 500

Fact = tuple[str, ...]
"""What kind of thing is known of a caller, such as `("claim", issuer, name)`."""


class Matcher(Protocol):
    """Whom a grant is for: one entry of `callers`."""

    def mismatch(self, caller: Caller, /) -> str:
        """Why it does not fit the caller, in an operator's words; empty when it fits."""

    def written(self) -> dict[str, str | tuple[str, ...]]:
        """What it asks for, by the policy's keys (a claim's is `claims.NAME`)."""

    def wanted(self) -> list[tuple[Fact, str | Glob]]:
        """The facts that every caller it fits has; at least one, for the index."""

    def covers(self, narrow: Matcher, /) -> bool:
        """Whether every caller that fits `narrow` fits this. A yes is certain; a no may be a yes
        that is hard to see.
        """

    def templates(self) -> frozenset[str]:
        """The parts of its callers that their identity provider vouches for, as a boundary's
        prefix may name them; never a session's name.
        """


class Kind(Protocol):
    """A module of this package."""

    @property
    def KEYS(self) -> tuple[str, ...]:  # noqa: N802 - a module's constant
        """The keys by which a policy writes such callers."""

    def read(self, table: Table, /) -> Matcher | None:
        """The matcher in `table`; what is wrong is reported."""

    def facts(self, caller: Any, /) -> Iterable[tuple[Fact, str]]:
        """What is known of the caller, as the index asks for it."""

    def readable(self, caller: Any, /) -> str:
        """What a person calls the caller; others may have the same."""

    def principal(self, caller: Any, /) -> tuple[str, ...]:
        """What no two callers of the kind share and none can give itself."""

    def narrowest(self, caller: Any, /) -> Matcher:
        """The matcher that fits this caller and no other."""


KINDS: Mapping[type[Caller], Kind] = {
    AwsCaller: aws,
    LambdaCaller: aws_lambda,
    EntraCaller: entra,
    OidcCaller: oidc,
}
KEYS: Mapping[str, Kind] = {key: kind for kind in KINDS.values() for key in kind.KEYS}


def kind_of(caller: Caller) -> Kind:
    """The caller's kind."""
    return KINDS[type(caller)]


def read_callers(grant: Table) -> tuple[Matcher, ...]:
    """The matchers of one grant; what is wrong is reported."""
    advice = 'who may use the grant, such as [{ aws_role = "arn:aws:iam::111122223333:role/etl" }]'
    tables = grant.tables("callers", most=MAX_CALLERS, advice=advice)
    if not tables and grant.tree.get("callers") == []:
        grant.problem(
            f"`callers` is empty, so nobody could use the grant; write {advice}", "callers"
        )
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
