"""Workloads that an OpenID Connect issuer vouches for, by what their token claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.identifiers import CLAIM
from tokenvend.policy.callers.matcher import Facts, Matcher, matcher
from tokenvend.policy.patterns import glob
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.model import OidcCaller
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.table import Table

KEYS = {"issuer": ("caller.subject", "caller.claims."), "claims": ()}
OWN = ("issuer", "claims.sub")

MAX_CLAIMS = 20
# OpenID Connect Discovery 1.0 section 2: https, no query, no fragment; and no user info.
_ISSUER = r"https://[a-z0-9.-]{1,253}(?:/[A-Za-z0-9._~%/-]{0,512})?"
_CLAIMS_ADVICE = (
    'what a token must say, such as { sub = "repo:acme/etl:ref:refs/heads/main" }; '
    "`issuer` alone would fit everyone the issuer knows"
)
_WHOM = "workloads of an OpenID Connect issuer"


def read(table: Table) -> Matcher | None:
    """The matcher in `table`, its claims by name."""
    form = of_form(_ISSUER, "must be the issuer's https URL, without port or query")
    issuer = table.parsed("issuer", form, advice="the issuer's URL, exactly as its tokens have it")
    claims = table.table("claims", advice=_CLAIMS_ADVICE)
    if claims is None:
        return None
    asked = [(f"claims.{name}", value) for name, value in _read_claims(claims)]
    return matcher(_WHOM, [("issuer", issuer), *asked])


def facts(caller: OidcCaller) -> Facts:
    """The issuer and what the token claims; `sub` always is the subject that was verified."""
    known = {f"claims.{name}": (value,) for name, value in caller.claims}
    own = {"issuer": (caller.issuer,), "claims.sub": (caller.subject,)}
    return Facts(_WHOM, caller.subject, known | own)


def _read_claims(claims: Table) -> list[tuple[str, Glob]]:
    if not claims.tree:
        claims.problem("`claims` is empty and would fit everyone the issuer knows; name a claim")
    if len(claims.tree) > MAX_CLAIMS:
        claims.problem(f"`claims` names more than {MAX_CLAIMS} claims")
        return []
    found: list[tuple[str, Glob]] = []
    for name in claims.tree:
        if not CLAIM.fullmatch(name):
            claims.problem(f"{shown(name)} is no name of a claim", name)
        elif (value := claims.parsed(name, glob)) is not None:
            found.append((name, value))
    if found and all(str(value) == "*" for _, value in found):
        claims.problem('`claims` that are all "*" fit almost anyone; name a value')
    return sorted(found)
