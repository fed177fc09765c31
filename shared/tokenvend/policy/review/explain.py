"""Why a decision came out as it did: every grant considered, and the first condition that failed.

Written for an operator who holds a request id and a denial, and has not read the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenvend.model import AccessTokenRequest, TokenSpec
from tokenvend.policy.attribution import caller_label
from tokenvend.policy.callers import facts_of
from tokenvend.policy.limits import Condition, weigh
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.review.questions import describe, kind_in_words
from tokenvend.policy.review.words import as_entry, decided, gives, token_in_words

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest
    from tokenvend.policy.callers.matcher import Facts, Matcher
    from tokenvend.policy.compiled import CompiledPolicy, Grant

_ADVICE = {
    Condition.SERVICE_ACCOUNT: (
        "ask without `service_account`, or add a grant for that service account"
    ),
    Condition.POSSIBLE: "change the request; Google would not give this to anyone",
    Condition.DATES: "change `not_before` or `expires` of {name}",
    Condition.LIFETIME: "ask for a shorter lifetime, or raise `max_lifetime` of {name}",
    Condition.KIND: "add [grant.{kind}] to {name}, if its callers should have such tokens",
    Condition.WHAT: "ask for {other} of {name}",
}
_OTHER = {
    "access_token": "fewer scopes, or add these to `scopes`",
    "id_token": "another audience, or add this one to `audiences`",
}


class Verdict(StrEnum):
    """What became of one grant."""

    CHOSEN = "chosen"
    PERMITS = "permits too"
    SHADOW = "would pass in shadow mode"
    REFUSES = "refuses"
    OTHERS = "names others"


@dataclass(frozen=True, slots=True)
class Considered:
    """One grant. `gives`: whose tokens, for what and within which limits; `reason`: the first
    condition that failed, or by what the caller was matched.
    """

    grant: str
    service_account: str | None
    gives: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`kind`: of caller, in words. `granted` None: denied. `summary`: the outcome in a sentence;
    `gets`: the token in words; `next_step`: what would change a denial; each empty where
    it has no meaning. `google_sees`: what Google knows the caller by, for a binding of its
    own (`attribute.caller`); empty where the endpoint acts as itself.
    """

    caller: str
    kind: str
    request: str
    granted: TokenSpec | None
    summary: str
    next_step: str
    considered: tuple[Considered, ...]
    gets: str
    google_sees: str


def explain(policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int) -> Explanation:
    """Decide as the endpoint does, and tell every step. `now`: epoch seconds."""
    decision, summary = decided(policy, caller, request, now)
    granted = decision.spec if decision else None
    chosen = granted.grant_name if granted else ""
    return Explanation(
        caller=caller.id,
        kind=kind_in_words(caller),
        request=describe(request),
        granted=granted,
        summary=summary,
        next_step="" if granted else _next_step(policy, caller, request, now),
        considered=tuple(_consider(grant, caller, request, now, chosen) for grant in policy.grants),
        gets=token_in_words(granted) if granted else "",
        google_sees=caller_label(caller) if granted and granted.attributed else "",
    )


def _consider(
    grant: Grant, caller: Caller, request: TokenRequest, now: int, chosen: str
) -> Considered:
    facts = facts_of(caller)
    matcher = next((matcher for matcher in grant.callers if matcher.fits(facts)), None)
    if matcher is None:
        verdict, reason = Verdict.OTHERS, _nearest_mismatch(grant.callers, facts)
    else:
        spec, against = weigh(grant, request, now)
        matched = f"matched by {', '.join(matcher.fields())}"
        reason = "; ".join(refusal.reason for refusal in against)
        if spec is None:
            verdict = Verdict.REFUSES
        elif grant.name == chosen:
            verdict, reason = Verdict.CHOSEN, f"{matched}; {reason}" if reason else matched
        elif against:
            verdict = Verdict.SHADOW
        else:
            verdict, reason = Verdict.PERMITS, matched
    return Considered(grant.name, grant.service_account, gives(grant), verdict, reason)


def _nearest_mismatch(matchers: tuple[Matcher, ...], caller: Facts) -> str:
    """Of several matchers, the one for callers of this kind is the one worth reading about."""
    return min(matchers, key=lambda matcher: matcher.whom != caller.whom).mismatch(caller)


def _next_step(policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int) -> str:
    if request.grant_name is not None and request.grant_name not in policy.names:
        return "ask for a grant that exists, or leave `grant` out"
    asked = [grant for grant in policy.grants if request.grant_name in (None, grant.name)]
    facts = facts_of(caller)
    named = [grant for grant in asked if any(each.fits(facts) for each in grant.callers)]
    if not named:
        which = (
            shown(request.grant_name)
            if request.grant_name
            else "the grant that should serve this caller"
        )
        return f"add {as_entry(caller)} to `callers` of {which}"
    against, grant = max(
        ((weigh(grant, request, now)[1][0], grant) for grant in named),
        key=lambda pair: pair[0].condition,
    )
    kind = "access_token" if isinstance(request, AccessTokenRequest) else "id_token"
    advice = _ADVICE[against.condition]
    return advice.format(name=shown(grant.name), kind=kind, other=_OTHER[kind])
