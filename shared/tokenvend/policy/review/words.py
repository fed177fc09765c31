"""Grants, callers and matchers in an operator's words, the same in every tool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, assert_never

from tokenvend.errors import Denied
from tokenvend.lifetimes import lifetime_text
from tokenvend.model import AccessTokenSpec, IdTokenSpec
from tokenvend.policy.callers import KINDS, facts_of
from tokenvend.policy.compiled import Mode
from tokenvend.policy.decision import decide
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.review.scopes import ROOT
from tokenvend.policy.values import date_of

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest, TokenSpec
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.compiled import CompiledPolicy, Grant
    from tokenvend.policy.decision import Decision

DIRECT = "the endpoint itself (direct)"


def decided(
    policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int
) -> tuple[Decision | None, str]:
    """The decision, None where it is a denial, and the outcome in a sentence."""
    try:
        decision = decide(policy, caller, request, now)
    except Denied as denied:
        return None, f"denied: {denied.cause}"
    relaxed = decision.would_deny and f", only because of shadow mode ({decision.would_deny})"
    return decision, f"granted by {shown(decision.spec.grant_name)}{relaxed}"


def in_line(matcher: Matcher) -> str:
    """The matcher as `key=value`, the way `--caller` takes it."""
    return " ".join(f"{key}={wanted}" for key, wanted in matcher.asked)


def as_entry(caller: Caller) -> str:
    """The narrowest entry of `callers` that fits this caller."""
    known = facts_of(caller).known
    parts = []
    for key in KINDS[type(caller)].OWN:
        if key in known:
            value = json.dumps(known[key][0], ensure_ascii=False)
            table, _, claim = key.partition(".")
            parts.append(f"{table} = {{ {claim} = {value} }}" if claim else f"{key} = {value}")
    return f"{{ {', '.join(parts)} }}"


def limits(grant: Grant) -> str:
    """Lifetime, dates, mode and attribution."""
    parts = [
        grant.max_lifetime is not None and f"up to {lifetime_text(grant.max_lifetime)}",
        grant.not_before is not None and f"from {date_of(grant.not_before)}",
        grant.expires is not None and f"until {date_of(grant.expires)}",
        grant.mode is Mode.SHADOW and "in shadow mode",
        grant.attributed and "attributed to the caller",
    ]
    return ", ".join(part for part in parts if part)


def what(grant: Grant) -> tuple[str, ...]:
    """Scopes, without what all of Google's begin with, and audiences."""
    return (*(scope.removeprefix(ROOT) for scope in grant.scopes), *map(str, grant.audiences))


def gives(grant: Grant) -> str:
    """Whose tokens a grant gives, for what, within which limits: a sentence's worth."""
    within = limits(grant)
    given = f"{grant.service_account or DIRECT}: {', '.join(what(grant))}"
    return f"{given} ({within})" if within else given


def token_in_words(spec: TokenSpec) -> str:
    """What a decision allows."""
    of = spec.service_account or DIRECT
    match spec:
        case AccessTokenSpec():
            life = f" for {lifetime_text(spec.lifetime)}" if spec.lifetime is not None else ""
            return f"an access token of {of} with {', '.join(spec.scopes)}{life}"
        case IdTokenSpec():
            return f"an ID token of {of} for {spec.audience}"
        case _ as never:
            assert_never(never)
