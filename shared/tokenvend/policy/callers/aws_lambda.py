"""Whoever may invoke an alias of the function directly: the alias is the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.identifiers import LAMBDA_ALIAS
from tokenvend.policy.callers.matcher import Facts, Matcher, matcher
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.model import LambdaCaller
    from tokenvend.policy.reading.table import Table

KEYS = {"lambda_alias": ("caller.account", "caller.alias")}
OWN = ("lambda_alias",)

_WHOM = "direct invokes of an alias"


def read(table: Table) -> Matcher:
    """The matcher in `table`."""
    advice = "must be the name of an alias (no version, not $LATEST)"
    alias = table.parsed("lambda_alias", of_form(LAMBDA_ALIAS, advice))
    return matcher(_WHOM, [("lambda_alias", alias)])


def facts(caller: LambdaCaller) -> Facts:
    """The alias."""
    return Facts(_WHOM, caller.alias, {"lambda_alias": (caller.alias,)})
