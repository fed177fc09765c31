"""Whoever may invoke an alias of the function directly: the alias is the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokenvend.identifiers import LAMBDA_ALIAS
from tokenvend.model import LambdaCaller
from tokenvend.policy.reading.problems import contrast
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.callers import Fact, Matcher
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.table import Table

KEYS = ("lambda_alias",)


class LambdaMatcher(NamedTuple):
    """One alias, by its whole name."""

    alias: str

    def mismatch(self, caller: Caller) -> str:
        """Why it does not fit."""
        if not isinstance(caller, LambdaCaller):
            return "it is for direct invokes of an alias"
        if caller.alias == self.alias:
            return ""
        return f"the invoked alias {contrast(caller.alias, self.alias)}"

    def written(self) -> dict[str, str | tuple[str, ...]]:
        """By the policy's key."""
        return {"lambda_alias": self.alias}

    def wanted(self) -> list[tuple[Fact, str | Glob]]:
        """The alias."""
        return [(("alias",), self.alias)]

    def covers(self, narrow: Matcher) -> bool:
        """Whether it is the same alias."""
        return isinstance(narrow, LambdaMatcher) and self == narrow

    def templates(self) -> frozenset[str]:
        """Account and alias."""
        return frozenset({"caller.account", "caller.alias"})


def read(table: Table) -> LambdaMatcher | None:
    """The matcher in `table`."""
    advice = "must be the name of an alias (no version, not $LATEST)"
    alias = table.parsed("lambda_alias", of_form(LAMBDA_ALIAS, advice))
    return None if alias is None else LambdaMatcher(alias)


def facts(caller: LambdaCaller) -> list[tuple[Fact, str]]:
    """The alias."""
    return [(("alias",), caller.alias)]


def readable(caller: LambdaCaller) -> str:
    """The alias."""
    return caller.alias


def principal(caller: LambdaCaller) -> tuple[str, ...]:
    """Account and alias."""
    return (caller.id,)


def narrowest(caller: LambdaCaller) -> LambdaMatcher:
    """The one alias."""
    return LambdaMatcher(caller.alias)
