"""Workloads that an OpenID Connect issuer vouches for, by what their token claims."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tokenvend.model import OidcCaller
from tokenvend.policy.patterns import Glob
from tokenvend.policy.reading.problems import contrast, shown
from tokenvend.policy.values import of_form, pattern

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.callers import Fact, Matcher
    from tokenvend.policy.reading.table import Table

KEYS = ("issuer", "claims")

MAX_CLAIMS = 20
# OpenID Connect Discovery 1.0 section 2: https, no query, no fragment; and no user info.
_ISSUER = r"https://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]{0,512})?"
_CLAIM = r"[A-Za-z0-9_.:/-]{1,200}"


class OidcMatcher(NamedTuple):
    """All of `claims` must fit; they are sorted by name."""

    issuer: str
    claims: tuple[tuple[str, Glob], ...]

    def mismatch(self, caller: Caller) -> str:
        """Why it does not fit."""
        if not isinstance(caller, OidcCaller):
            return f"it is for callers of the issuer {shown(self.issuer)}"
        if caller.issuer != self.issuer:
            return f"the caller's issuer {contrast(caller.issuer, self.issuer)}"
        claims = _claims(caller)
        for name, wanted in self.claims:
            got = claims.get(name)
            if got is None:
                return f"the caller's token has no claim {shown(name)}"
            if not wanted.matches(got):
                return f"the claim {shown(name)}: {contrast(got, wanted)}"
        return ""

    def written(self) -> dict[str, str | tuple[str, ...]]:
        """By the policy's keys."""
        claims = {f"claims.{name}": str(wanted) for name, wanted in self.claims}
        return {"issuer": self.issuer, **claims}

    def wanted(self) -> list[tuple[Fact, str | Glob]]:
        """Its claims."""
        return [(("claim", self.issuer, name), wanted) for name, wanted in self.claims]

    def covers(self, narrow: Matcher) -> bool:
        """Whether it fits whomever `narrow` fits."""
        if not isinstance(narrow, OidcMatcher) or self.issuer != narrow.issuer:
            return False
        claims = dict(narrow.claims)
        return all(name in claims and wanted.covers(claims[name]) for name, wanted in self.claims)

    def templates(self) -> frozenset[str]:
        """The subject, and any claim by its name."""
        return frozenset({"caller.subject", "caller.claims."})


def read(table: Table) -> OidcMatcher | None:
    """The matcher in `table`."""
    form = of_form(_ISSUER, "must be the issuer's https URL, without query")
    issuer = table.parsed("issuer", form, advice="the issuer's URL, exactly as its tokens have it")
    claims = table.table("claims")
    if claims is None:
        if not table.has("claims"):
            table.problem(
                "`issuer` alone would fit everyone the issuer knows; "
                'add `claims`, such as { sub = "repo:acme/etl:ref:refs/heads/main" }'
            )
        return None
    return OidcMatcher(issuer or "", _read_claims(claims))


def facts(caller: OidcCaller) -> list[tuple[Fact, str]]:
    """Its claims."""
    return [(("claim", caller.issuer, name), value) for name, value in _claims(caller).items()]


def readable(caller: OidcCaller) -> str:
    """The subject."""
    return caller.subject


def principal(caller: OidcCaller) -> tuple[str, ...]:
    """Apart, so that no separator in a subject makes it another issuer's."""
    return caller.issuer, caller.subject


def narrowest(caller: OidcCaller) -> OidcMatcher:
    """The one subject of the one issuer."""
    return OidcMatcher(caller.issuer, (("sub", Glob(caller.subject)),))


def _claims(caller: OidcCaller) -> dict[str, str]:
    """What the caller's token claims; `sub` always is the subject that was verified."""
    return {**dict(caller.claims), "sub": caller.subject}


def _read_claims(claims: Table) -> tuple[tuple[str, Glob], ...]:
    if not claims.tree:
        claims.problem("`claims` is empty and would fit everyone the issuer knows; name a claim")
    if len(claims.tree) > MAX_CLAIMS:
        claims.problem(f"`claims` names more than {MAX_CLAIMS} claims")
        return ()
    found: list[tuple[str, Glob]] = []
    for name in claims.tree:
        if not re.fullmatch(_CLAIM, name):
            claims.problem(f"{shown(name)} is no name of a claim", name)
        elif (value := claims.parsed(name, pattern)) is not None:
            found.append((name, value))
    if found and all(str(value) == "*" for _, value in found):
        claims.problem('`claims` that are all "*" fit almost anyone; name a value')
    return tuple(sorted(found))
