"""Whether one grant gives what one request asks for, and every condition that stands against it.

Two kinds of condition. *What for* (the grant's name, the service account, the kind of token) is
never relaxed. *How much* (dates, scopes, audience, lifetime) is held by a grant that enforces, and
only reported by one in shadow mode. Threat: a direct grant's scopes are what keeps its token, which
is the endpoint's own, from impersonating; they are held in shadow mode too.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from tokenvend.lifetimes import DEFAULT_LIFETIME, MAX_LIFETIME, lifetime_text
from tokenvend.model import (
    AccessTokenRequest,
    AccessTokenSpec,
    IdTokenRequest,
    IdTokenSpec,
    TokenRequest,
    TokenSpec,
)
from tokenvend.policy.compiled import Mode
from tokenvend.policy.reading.problems import contrast, shown
from tokenvend.policy.values import CLOUD_PLATFORM, date_of

if TYPE_CHECKING:
    from tokenvend.policy.compiled import Grant


class Condition(IntEnum):
    """What a grant asks of a request, in the order of asking: the higher, the nearer to a yes."""

    NAME = 0
    SERVICE_ACCOUNT = 1
    KIND = 2
    POSSIBLE = 3
    DATES = 4
    WHAT = 5
    LIFETIME = 6


class Refusal(NamedTuple):
    """A condition that failed. `reason`: for the operator; `relaxed`: whether shadow mode lets it
    pass.
    """

    condition: Condition
    reason: str
    relaxed: bool = False


def weigh(grant: Grant, request: TokenRequest, now: int) -> tuple[TokenSpec | None, list[Refusal]]:
    """The token that the grant gives for the request, with what only shadow mode lets pass; or
    None, with what is held against it. `now`: epoch seconds.
    """
    if request.grant_name not in (None, grant.name):
        return None, [
            Refusal(Condition.NAME, f"the request asks for the grant {shown(request.grant_name)}")
        ]
    if request.service_account not in (None, grant.service_account):
        return None, [Refusal(Condition.SERVICE_ACCOUNT, _other_account(grant, request))]
    spec: TokenSpec | None
    match request:
        case AccessTokenRequest():
            spec, against = _access(grant, request)
        case IdTokenRequest():
            spec, against = _id(grant, request)
    against = sorted([*_outside_dates(grant, now), *against])
    held = [each for each in against if grant.mode is Mode.ENFORCE or not each.relaxed]
    return (None, held) if held else (spec, against)


def _other_account(grant: Grant, request: TokenRequest) -> str:
    asked = request.service_account or ""
    if grant.service_account is None:
        return f"it is for no service account (direct), not {shown(asked)}"
    return f"it is for another service account: {contrast(asked, grant.service_account)}"


def _outside_dates(grant: Grant, now: int) -> list[Refusal]:
    if grant.not_before is not None and now < grant.not_before:
        reason = f"it holds only from {date_of(grant.not_before)}"
    elif grant.expires is not None and now >= grant.expires:
        reason = f"it expired at {date_of(grant.expires)}"
    else:
        return []
    return [Refusal(Condition.DATES, reason, relaxed=True)]


def _access(
    grant: Grant, request: AccessTokenRequest
) -> tuple[AccessTokenSpec | None, list[Refusal]]:
    if not grant.scopes:
        reason = "it gives ID tokens and the request is for an access token"
        return None, [Refusal(Condition.KIND, reason)]
    direct = grant.service_account is None
    against = []
    scopes = _scopes(grant.scopes, request)
    extra = [scope for scope in scopes if scope not in grant.scopes]
    if extra:
        named = ", ".join(shown(scope) for scope in extra[:3])
        reason = f"its scopes do not include {named}"
        against.append(Refusal(Condition.WHAT, reason, relaxed=not direct))
    lifetime, most = request.lifetime, grant.max_lifetime
    if most is None:
        if lifetime is not None:
            reason = "a direct token's lifetime is up to Google's STS; ask for none"
            against.append(Refusal(Condition.POSSIBLE, reason))
    elif lifetime is None:
        lifetime = min(DEFAULT_LIFETIME, most)
    elif lifetime > most:
        asked, limit = lifetime_text(lifetime), lifetime_text(most)
        reason = f"its tokens live at most {limit} and {asked} were asked for"
        within_google = lifetime <= MAX_LIFETIME
        against.append(Refusal(Condition.LIFETIME, reason, relaxed=within_google))
    spec = AccessTokenSpec(
        grant_name=grant.name,
        service_account=grant.service_account,
        scopes=scopes,
        lifetime=lifetime,
        delegates=grant.delegates,
        attributed=grant.attributed,
    )
    return spec, against


def _scopes(limit: tuple[str, ...], request: AccessTokenRequest) -> tuple[str, ...]:
    """What is asked for, in the grant's order, so that two spellings share a cached token.

    Clients that were told no scopes ask for cloud-platform, which stands for everything. Where the
    request narrows, everything the grant has is the answer then, whatever else is asked beside it,
    so that leaving a scope out never gets more.
    """
    asked = request.scopes
    if not asked or (request.narrow and CLOUD_PLATFORM in asked):
        return limit
    known = tuple(scope for scope in limit if scope in asked)
    if request.narrow and known:
        return known
    return (*known, *sorted({scope for scope in asked if scope not in limit}))


def _id(grant: Grant, request: IdTokenRequest) -> tuple[IdTokenSpec | None, list[Refusal]]:
    if not grant.audiences or grant.service_account is None:
        reason = "it gives access tokens and the request is for an ID token"
        return None, [Refusal(Condition.KIND, reason)]
    against = []
    if not any(audience.matches(request.audience) for audience in grant.audiences):
        reason = f"its audiences do not include {shown(request.audience)}"
        against.append(Refusal(Condition.WHAT, reason, relaxed=True))
    spec = IdTokenSpec(
        grant_name=grant.name,
        service_account=grant.service_account,
        audience=request.audience,
        include_email=request.include_email,
        delegates=grant.delegates,
        attributed=grant.attributed,
    )
    return spec, against
