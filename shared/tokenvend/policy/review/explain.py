"""Why a decision came out as it did: every grant considered, and the first condition that failed.

Written for an operator who holds a request id and a denial, and has not read the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenvend.errors import Denied
from tokenvend.model import AccessTokenRequest, TokenSpec
from tokenvend.policy.attribution import caller_label
from tokenvend.policy.compiled import Mode
from tokenvend.policy.decision import candidate_in, decide
from tokenvend.policy.limits import Condition, refusals
from tokenvend.policy.matchers import fields, fits_kind, mismatch
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.review.questions import describe, matcher_for

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest
    from tokenvend.policy.compiled import CompiledPolicy, Grant
    from tokenvend.policy.matchers import Matcher

_ADVICE = {
    Condition.NAME: "ask for a grant that names this caller",
    Condition.SERVICE_ACCOUNT: (
        "ask without `service_account`, or add a grant for that service account"
    ),
    Condition.POSSIBLE: "change the request; Google would not give this to anyone",
    Condition.DATES: "change `not_before` or `expires` of {name}",
    Condition.LIFETIME: "ask for a shorter lifetime, or raise `max_lifetime` of {name}",
}
_ADVICE_ACCESS = _ADVICE | {
    Condition.KIND: "add [grant.access_token] to {name}, if its callers should have such tokens",
    Condition.WHAT: "ask for fewer scopes, or add these to `scopes` of {name}",
}
_ADVICE_ID = _ADVICE | {
    Condition.KIND: "add [grant.id_token] to {name}, if its callers should have such tokens",
    Condition.WHAT: "ask for another audience, or add this one to `audiences` of {name}",
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
    """One grant. `reason`: the first condition that failed, or by what the caller was matched."""

    grant: str
    service_account: str | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`granted` None: denied. `summary`: the outcome in a sentence; `next_step`: what would change
    a denial, empty otherwise. `google_sees`: what Google knows the caller by, for a binding of its
    own (`attribute.caller`); empty where the endpoint acts as itself.
    """

    caller: str
    request: str
    granted: TokenSpec | None
    summary: str
    next_step: str
    considered: tuple[Considered, ...]
    google_sees: str = ""


def explain(policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int) -> Explanation:
    """Decide as the endpoint does, and tell every step. `now`: epoch seconds."""
    granted, next_step = None, ""
    try:
        decision = decide(policy, caller, request, now)
        granted = decision.spec
        summary = f"granted by {shown(granted.grant_name)}"
        if decision.would_deny:
            summary += f", only because of shadow mode ({decision.would_deny})"
    except Denied as denied:
        summary = f"denied: {denied.cause}"
        next_step = _next_step(policy, caller, request, now)
    chosen = granted.grant_name if granted else ""
    return Explanation(
        caller=caller.id,
        request=describe(request),
        granted=granted,
        summary=summary,
        next_step=next_step,
        considered=tuple(_consider(rule, caller, request, now, chosen) for rule in policy.grants),
        google_sees=caller_label(caller) if granted and granted.attributed else "",
    )


def _consider(
    rule: Grant, caller: Caller, request: TokenRequest, now: int, chosen: str
) -> Considered:
    def verdict(which: Verdict, reason: str) -> Considered:
        return Considered(rule.name, rule.service_account, which, reason)

    candidate = candidate_in(rule, caller)
    if candidate is None:
        return verdict(Verdict.OTHERS, _nearest_mismatch(rule.callers, caller))
    matched = f"matched by {', '.join(fields(candidate.matcher))}"
    against = refusals(rule, request, now)
    reasons = "; ".join(refusal.reason for refusal in against)
    if rule.name == chosen:
        return verdict(Verdict.CHOSEN, f"{matched}; {reasons}" if reasons else matched)
    if not against:
        return verdict(Verdict.PERMITS, matched)
    if rule.mode is Mode.SHADOW and all(refusal.relaxed for refusal in against):
        return verdict(Verdict.SHADOW, reasons)
    return verdict(Verdict.REFUSES, reasons)


def _nearest_mismatch(matchers: tuple[Matcher, ...], caller: Caller) -> str:
    """Of several matchers, the one for callers of this kind is the one worth reading about."""
    nearest = min(matchers, key=lambda matcher: not fits_kind(matcher, caller))
    return mismatch(nearest, caller)


def _next_step(policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int) -> str:
    if request.grant_name is not None and request.grant_name not in policy.by_name:
        return "ask for a grant that exists, or leave `grant` out"
    rules = [rule for rule in policy.grants if request.grant_name in (None, rule.name)]
    named = [rule for rule in rules if candidate_in(rule, caller) is not None]
    if not named:
        grant = (
            shown(request.grant_name)
            if request.grant_name
            else "the grant that should serve this caller"
        )
        return f"add {matcher_for(caller)} to `callers` of {grant}"
    against, rule = max(
        ((refusals(rule, request, now)[0], rule) for rule in named),
        key=lambda pair: pair[0].condition,
    )
    is_access = isinstance(request, AccessTokenRequest)
    advice = (_ADVICE_ACCESS if is_access else _ADVICE_ID)[against.condition]
    return advice.format(name=shown(rule.name))
