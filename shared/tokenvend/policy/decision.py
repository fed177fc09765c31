"""May this caller have this? A plain function of policy, caller, request and time.

Deny by default. Grants are tried in the file's order and the first that permits the whole request
wins, except that one in shadow mode gives way to any that permits it by right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tokenvend.errors import Denied
from tokenvend.model import TokenKind, TokenRequest, TokenSpec
from tokenvend.policy.compiled import Mode
from tokenvend.policy.limits import refusals, resolve
from tokenvend.policy.matchers import fields, mismatch
from tokenvend.policy.reading.problems import shown

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.compiled import CompiledPolicy, Grant
    from tokenvend.policy.limits import Refusal
    from tokenvend.policy.matchers import Matcher

# The same for every denial: a caller must not learn which grants exist by trying names.
DENIAL = "This caller may not have that. Quote the request id to the operator."


@dataclass(frozen=True, slots=True)
class Decision:
    """A yes. `matched`: the fields of the matcher that named the caller. `would_deny`: what shadow
    mode let pass, for the operator; empty where nothing was.
    """

    spec: TokenSpec
    matched: tuple[str, ...]
    would_deny: str = ""


@dataclass(frozen=True, slots=True)
class GrantView:
    """What a caller is told about a grant of its own. `max_lifetime`: seconds; None where an ID
    token's hour or Google's STS decides. `service_account` None: a direct token.
    """

    name: str
    service_account: str | None
    kinds: tuple[TokenKind, ...]
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]
    max_lifetime: int | None
    expires: int | None


class Candidate(NamedTuple):
    """A grant that names the caller, and the matcher by which it does."""

    rule: Grant
    matcher: Matcher


def decide(policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int) -> Decision:
    """The token that the policy gives this caller for this request. `now`: epoch seconds.

    Raises Denied, whose `cause` names the nearest grant and the first condition that failed.
    """
    in_shadow: tuple[Candidate, list[Refusal]] | None = None
    nearest: tuple[Refusal, Grant] | None = None
    for candidate in _candidates(policy, caller, request):
        rule = candidate.rule
        against = refusals(rule, request, now)
        if not against and rule.mode is Mode.ENFORCE:
            return Decision(resolve(rule, request), fields(candidate.matcher))
        if rule.mode is Mode.SHADOW and all(refusal.relaxed for refusal in against):
            if in_shadow is None or (in_shadow[1] and not against):
                in_shadow = candidate, against
        elif nearest is None or against[0].condition > nearest[0].condition:
            nearest = against[0], rule
    if in_shadow is not None:
        candidate, against = in_shadow
        would_deny = _would_deny(candidate.rule, against)
        return Decision(resolve(candidate.rule, request), fields(candidate.matcher), would_deny)
    raise Denied(DENIAL, cause=_cause(policy, caller, request, nearest))


def grants_of(policy: CompiledPolicy, caller: Caller, now: int) -> tuple[GrantView, ...]:
    """What this caller may have now, in the policy's order. `now`: epoch seconds."""
    return tuple(
        _view(rule)
        for rule, _ in candidates_of(policy, caller)
        if (rule.not_before is None or rule.not_before <= now)
        and (rule.expires is None or now < rule.expires)
    )


def candidates_of(policy: CompiledPolicy, caller: Caller) -> list[Candidate]:
    """Every grant that names the caller, in the policy's order."""
    places: dict[int, Matcher] = {}
    for entries in policy.index.entries(caller):
        for entry in entries:
            if entry.place not in places and not mismatch(entry.matcher, caller):
                places[entry.place] = entry.matcher
    return [Candidate(policy.grants[place], places[place]) for place in sorted(places)]


def candidate_in(rule: Grant, caller: Caller) -> Candidate | None:
    """The rule with its first matcher that fits the caller."""
    for matcher in rule.callers:
        if not mismatch(matcher, caller):
            return Candidate(rule, matcher)
    return None


def _candidates(policy: CompiledPolicy, caller: Caller, request: TokenRequest) -> list[Candidate]:
    """The grants worth trying. A request that names a grant is about that one alone."""
    if request.grant_name is None:
        return candidates_of(policy, caller)
    place = policy.by_name.get(request.grant_name)
    found = None if place is None else candidate_in(policy.grants[place], caller)
    return [] if found is None else [found]


def _view(rule: Grant) -> GrantView:
    access, identity = rule.access_token, rule.id_token
    offered = ((TokenKind.ACCESS, access), (TokenKind.ID, identity))
    return GrantView(
        name=rule.name,
        service_account=rule.service_account,
        kinds=tuple(kind for kind, limits in offered if limits is not None),
        scopes=access.scopes if access else (),
        audiences=tuple(str(pattern) for pattern in identity.audiences) if identity else (),
        max_lifetime=access.max_lifetime if access else None,
        expires=rule.expires,
    )


def _would_deny(rule: Grant, against: list[Refusal]) -> str:
    if not against:
        return ""
    return f"grant {shown(rule.name)}: " + "; ".join(refusal.reason for refusal in against)


def _cause(
    policy: CompiledPolicy,
    caller: Caller,
    request: TokenRequest,
    nearest: tuple[Refusal, Grant] | None,
) -> str:
    if nearest is not None:
        refusal, rule = nearest
        return f"nearest grant {shown(rule.name)}: {refusal.reason}"
    if request.grant_name is None:
        return f"no grant names the caller {shown(caller.id)}"
    if request.grant_name not in policy.by_name:
        return f"the request asks for the grant {shown(request.grant_name)}, which does not exist"
    return f"the grant {shown(request.grant_name)} does not name the caller {shown(caller.id)}"
