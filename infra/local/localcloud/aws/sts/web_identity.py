"""AssumeRoleWithWebIdentity: a session for who brings a token of an issuer that a role trusts.

This is how a pod of EKS gets its role (IRSA). The issuer is one of the account's OpenID Connect
providers; its keys come from its own discovery document, and an address inside the token is never
followed. RS256 and ES256 with a kid.
Specification: AWS STS API Reference; "Create an OIDC identity provider in IAM".
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt

from localcloud.aws import iam
from localcloud.aws.authorization import DeniedError, Question, authorize_stranger
from localcloud.aws.errors import ServiceError, elements
from localcloud.aws.identities import trust
from localcloud.aws.sts.query import NAME, Call, credentials
from localcloud.wire.web import Headers, Request

if TYPE_CHECKING:
    from localcloud.world import OidcProvider

_ACTION = "sts:AssumeRoleWithWebIdentity"
_ALGORITHMS = ["RS256", "ES256"]
# Seconds that the issuer's clock may be ahead.
_SKEW = 300


def assume_role(call: Call) -> str:
    """A session of a role that trusts the token's issuer and what the token says."""
    call.only("RoleArn|RoleSessionName|DurationSeconds|WebIdentityToken")
    role_arn = call.role_arn()
    session = call.text("RoleSessionName", NAME, 2, 64)
    token = call.text("WebIdentityToken", r"[\w.-]+", 4, 20000)
    seconds = call.seconds(43200, 3600)
    provider = _provider(call, token)
    claims = _verified(call, token, provider)
    role = call.accounts.role_of(role_arn)
    name = _name(provider)
    keys: dict[str, tuple[str, ...]] = {
        f"{name}:aud": (str(claims["aud"]),),
        f"{name}:oaud": claims["oaud"],
        f"{name}:sub": (str(claims["sub"]),),
        "aws:RequestedRegion": (call.region,),
        "sts:RoleSessionName": (session,),
    }
    arn = f"arn:aws:iam::{call.accounts.aws.account}:oidc-provider/{name}"
    who = iam.Requester(iam.Kind.FEDERATED, (arn,))
    policies = [trust(role)] if role else []
    question = Question(_ACTION, role_arn, keys, policies, trust=True)
    try:
        authorize_stranger(call.accounts, who, question, call.request)
    except DeniedError as denied:
        text = f"Not authorized to perform {_ACTION}"
        raise ServiceError(403, "AccessDenied", text) from denied
    if role is None or seconds > role.max_session_duration:
        text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise ServiceError(400, "ValidationError", text)
    key = call.accounts.issue(role_arn, session, seconds=seconds)
    user = {"AssumedRoleId": key.principal.user_id, "Arn": key.principal.arn}
    told = {
        "SubjectFromWebIdentityToken": str(claims["sub"]),
        "Audience": str(claims["aud"]),
        "Provider": arn,
    }
    return (
        credentials(key) + f"<AssumedRoleUser>{elements(user)}</AssumedRoleUser>" + elements(told)
    )


def _provider(call: Call, token: str) -> OidcProvider:
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _invalid("The ID Token provided is not a valid JWT.") from None
    for provider in call.accounts.aws.open_id_connect_providers:
        if provider.url.rstrip("/") == str(issuer).rstrip("/"):
            return provider
    raise _invalid("No OpenIDConnect provider found in your account for the token's issuer")


def _verified(call: Call, token: str, provider: OidcProvider) -> dict[str, Any]:
    """The token's claims, raises ServiceError.

    `aud` is then one text: whom the token was issued to (`azp`), if it says so, else whom it is
    for; `oaud` the token's own audiences where `azp` took their place.
    """
    kid = jwt.get_unverified_header(token).get("kid")
    found = [each for each in _keys(call, provider) if each.get("kid") == kid]
    if len(found) != 1:
        raise _invalid("No key of the issuer has the token's kid")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK.from_dict(found[0]),
            algorithms=_ALGORITHMS,
            # Times are judged below by this cloud's clock.
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
            },
        )
    except (jwt.PyJWTError, ValueError):
        raise _invalid("Couldn't verify the token's signature with the issuer's keys") from None
    now = call.accounts.clock()
    times = [claims.get(name, 0) for name in ("exp", "iat", "nbf")]
    # Python's JSON reads NaN, which is neither before nor after any time.
    if not all(isinstance(time, int | float) and math.isfinite(time) for time in times):
        raise _invalid("A time of the token is not a number")
    if times[0] <= now:
        raise ServiceError(400, "ExpiredTokenException", "Token expired: it must be renewed")
    if max(times[1:]) > now + _SKEW:
        raise _invalid("The token is not valid yet")
    audiences = claims.get("aud")
    named = audiences if isinstance(audiences, list) else [audiences]
    party = claims.get("azp")
    counted = [party] if party is not None else named
    known = [name for name in counted if name in provider.client_id_list]
    if not known or not isinstance(claims.get("sub"), str):
        raise _invalid("Incorrect token audience")
    return {**claims, "aud": known[0], "oaud": tuple(map(str, named)) if party is not None else ()}


def _keys(call: Call, provider: OidcProvider) -> list[dict[str, Any]]:
    discovery = _fetched(call, f"{provider.url.rstrip('/')}/.well-known/openid-configuration")
    if discovery.get("issuer") != provider.url:
        raise _invalid("The discovery document names another issuer")
    keys = _fetched(call, str(discovery.get("jwks_uri"))).get("keys")
    return [each for each in keys if isinstance(each, dict)] if isinstance(keys, list) else []


def _fetched(call: Call, url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    answer = call.fetch(Request("GET", host, parts.path, Headers([("Host", host)])))
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if parts.scheme != "https" or answer.status != 200 or not isinstance(document, dict):  # noqa: PLR2004
        text = "Couldn't retrieve verification key from your identity provider"
        raise ServiceError(400, "IDPCommunicationError", text)
    return document


def _name(provider: OidcProvider) -> str:
    """A provider's name in ARNs and condition keys: its URL without the scheme."""
    return provider.url.removeprefix("https://").rstrip("/")


def _invalid(text: str) -> ServiceError:
    return ServiceError(400, "InvalidIdentityToken", text)
