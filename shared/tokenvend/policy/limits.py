"""Whether one grant permits one request: the conditions in order, and the first that fails.

Two kinds of condition. *What for* (the grant's name, the service account, the kind of token) is
never relaxed. *How much* (dates, scopes, audience, lifetime) is held by a grant that enforces, and
only reported by one in shadow mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from tokenvend.lifetimes import DEFAULT_LIFETIME, MAX_LIFETIME
from tokenvend.model import (
    AccessTokenRequest,
    AccessTokenSpec,
    IdTokenRequest,
    IdTokenSpec,
    TokenRequest,
    TokenSpec,
)
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.values import (
    CLOUD_PLATFORM,
    plausible_audience,
)

if TYPE_CHECKING:
    from tokenvend.policy.compiled import AccessLimits, Grant, IdLimits


class Condition(IntEnum):
    """What a grant asks of a request, in the order of asking: the higher, the nearer to a yes."""

    NAME = 0
    SERVICE_ACCOUNT = 1
    KIND = 2
    POSSIBLE = 3
    DATES = 4
    WHAT = 5
    LIFETIME = 6


@dataclass(frozen=True, slots=True)
class Refusal:
    """A condition that failed. `reason`: for the operator; `relaxed`: whether shadow mode lets it
    pass.
    """

    condition: Condition
    reason: str
    relaxed: bool = False


def refusals(rule: Grant, request: TokenRequest, now: int) -> list[Refusal]:
    """What stands against the request: one refusal that is never relaxed, or every limit that it
    passes, or nothing. `now`: epoch seconds.
    """
    never = _never_relaxed(rule, request)
    if never is not None:
        return [never]
    date = _outside_dates(rule, now)
    found = [] if not date else [Refusal(Condition.DATES, date, relaxed=True)]
    match request:
        case AccessTokenRequest() if rule.access_token is not None:
            return found + _beyond_access(rule.access_token, request)
        case IdTokenRequest() if rule.id_token is not None:
            return found + _beyond_id(rule.id_token, request)
        case _:
            return [_no_such_kind(rule, request)]


def resolve(rule: Grant, request: TokenRequest) -> TokenSpec:
    """The token that a permitted request gets: what was asked, or all the rule has."""
    match request:
        case AccessTokenRequest() if rule.access_token is not None:
            limits = rule.access_token
            return AccessTokenSpec(
                grant_name=rule.name,
                service_account=rule.service_account,
                scopes=_scopes(limits, request),
                lifetime=_lifetime(limits, request),
                delegates=rule.delegates,
                attributed=rule.attributed,
            )
        case IdTokenRequest() if rule.service_account is not None:
            return IdTokenSpec(
                grant_name=rule.name,
                service_account=rule.service_account,
                audience=request.audience,
                include_email=request.include_email,
                delegates=rule.delegates,
                attributed=rule.attributed,
            )
        case _:
            msg = "the rule has no such kind of token"
            raise ValueError(msg)


def date(seconds: int) -> str:
    """Epoch seconds as the policy could write them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _never_relaxed(rule: Grant, request: TokenRequest) -> Refusal | None:
    if request.grant_name is not None and request.grant_name != rule.name:
        return Refusal(
            Condition.NAME, f"the request asks for the grant {shown(request.grant_name)}"
        )
    if request.service_account is not None and request.service_account != rule.service_account:
        of = shown(rule.service_account) if rule.service_account else "no service account (direct)"
        return Refusal(
            Condition.SERVICE_ACCOUNT, f"it is for {of}, not {shown(request.service_account)}"
        )
    match request:
        case AccessTokenRequest():
            offered = rule.access_token is not None
        case IdTokenRequest():
            offered = rule.id_token is not None and rule.service_account is not None
    if not offered:
        return _no_such_kind(rule, request)
    return _impossible(rule, request)


def _no_such_kind(rule: Grant, request: TokenRequest) -> Refusal:
    asked = "access" if isinstance(request, AccessTokenRequest) else "ID"
    other = "ID tokens" if rule.access_token is None else "access tokens"
    return Refusal(Condition.KIND, f"it gives {other} and the request is for an {asked} token")


def _impossible(rule: Grant, request: TokenRequest) -> Refusal | None:
    """What Google would not give to anyone, in whatever mode."""
    match request:
        case AccessTokenRequest(lifetime=int(lifetime)):
            if rule.service_account is None:
                return Refusal(
                    Condition.POSSIBLE,
                    "a direct token's lifetime is up to Google's STS; ask for none",
                )
            if not 1 <= lifetime <= MAX_LIFETIME:
                return Refusal(
                    Condition.POSSIBLE,
                    f"a lifetime of {lifetime} s is not from 1 to {MAX_LIFETIME} s",
                )
        case IdTokenRequest(audience=audience) if not plausible_audience(audience):
            return Refusal(Condition.POSSIBLE, f"{shown(audience)} cannot be an audience")
    return None


def _outside_dates(rule: Grant, now: int) -> str:
    if rule.not_before is not None and now < rule.not_before:
        return f"it holds only from {date(rule.not_before)}"
    if rule.expires is not None and now >= rule.expires:
        return f"it expired at {date(rule.expires)}"
    return ""


def _beyond_access(limits: AccessLimits, request: AccessTokenRequest) -> list[Refusal]:
    found: list[Refusal] = []
    extra = [scope for scope in request.scopes if scope not in limits.scopes]
    if extra and not (request.narrow and _narrowed(limits, request)):
        named = ", ".join(shown(scope) for scope in extra[:3])
        found.append(Refusal(Condition.WHAT, f"its scopes do not include {named}", relaxed=True))
    asked, most = request.lifetime, limits.max_lifetime
    if asked is not None and most is not None and asked > most:
        reason = f"its tokens live at most {most} s and {asked} s were asked for"
        found.append(Refusal(Condition.LIFETIME, reason, relaxed=True))
    return found


def _beyond_id(limits: IdLimits, request: IdTokenRequest) -> list[Refusal]:
    if any(pattern.matches(request.audience) for pattern in limits.audiences):
        return []
    reason = f"its audiences do not include {shown(request.audience)}"
    return [Refusal(Condition.WHAT, reason, relaxed=True)]


def _scopes(limits: AccessLimits, request: AccessTokenRequest) -> tuple[str, ...]:
    """In the rule's order, so that two spellings of one request share a cached token."""
    if not request.scopes:
        return limits.scopes
    narrowed = _narrowed(limits, request) if request.narrow else ()
    if narrowed:
        return narrowed
    known = tuple(scope for scope in limits.scopes if scope in request.scopes)
    beyond = {scope for scope in request.scopes if scope not in limits.scopes}
    return (*known, *sorted(beyond))


def _narrowed(limits: AccessLimits, request: AccessTokenRequest) -> tuple[str, ...]:
    """What the rule has of the scopes asked for. Clients that were told no scopes ask for
    cloud-platform, which stands for everything: everything the rule has is the answer, whatever
    else is asked beside it, so that leaving a scope out never gets more.
    """
    if CLOUD_PLATFORM in request.scopes:
        return limits.scopes
    return tuple(scope for scope in limits.scopes if scope in request.scopes)


def _lifetime(limits: AccessLimits, request: AccessTokenRequest) -> int | None:
    if limits.max_lifetime is None or request.lifetime is not None:
        return request.lifetime
    return min(DEFAULT_LIFETIME, limits.max_lifetime)
