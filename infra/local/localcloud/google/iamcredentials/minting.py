"""What IAM Credentials mints once the caller is allowed: tokens, ID tokens, signatures."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.google.core import audit, id_tokens, scopes
from localcloud.google.core.errors import invalid_argument
from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import ServiceAccount

DEFAULT_LIFETIME = 3600
MAX_LIFETIME = 3600
EXTENDED_LIFETIME = 43_200
ID_TOKEN_LIFETIME = 3600
MAX_JWT_LIFETIME = 12 * 3600
_DURATION = re.compile(r"(-?[0-9]{1,12})(\.[0-9]{1,9})?s")


@dataclass(frozen=True, slots=True)
class Target:
    """The account to speak for, and who impersonates it (origin first)."""

    account: ServiceAccount
    chain: tuple[str, ...]


def access_token(
    cloud: GoogleCloud, target: Target, message: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """GenerateAccessTokenResponse."""
    asked = message.get("scope", [])
    if not asked:
        raise invalid_argument("At least one scope is required.", "scope")
    # Google takes an empty name for no name, and no name for the scope of everything.
    granted = frozenset(name for name in asked if name) or {CLOUD_PLATFORM}
    if not scopes.all_known(granted):
        raise invalid_argument("Request contains an invalid argument.")
    lifetime = _lifetime(message.get("lifetime"), target.account, cloud)
    principal = ServiceAccountPrincipal(
        target.account.email, target.account.unique_id, target.chain
    )
    token = IssuedToken(principal, frozenset(granted), int(now) + lifetime)
    text = cloud.tokens.issue(token, now)
    return {"accessToken": text, "expireTime": audit.timestamp(token.expires_at)}


def id_token(
    cloud: GoogleCloud, target: Target, message: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """GenerateIdTokenResponse."""
    audience = message.get("audience", "")
    if not audience:
        raise invalid_argument("The audience is required.", "audience")
    account = target.account
    claims: dict[str, Any] = {
        "iss": id_tokens.ISSUER,
        "aud": audience,
        "azp": account.email if message.get("use_email_azp") else account.unique_id,
        "sub": account.unique_id,
        "iat": int(now),
        "exp": int(now) + ID_TOKEN_LIFETIME,
    }
    if message.get("include_email"):
        claims |= {"email": account.email, "email_verified": True}
    if message.get("organization_number_included"):
        claims["google"] = {"organization_number": None}
    return {"token": cloud.key.sign_jwt(claims)}


def sign_blob(
    cloud: GoogleCloud, target: Target, message: Mapping[str, Any], _now: float
) -> dict[str, Any]:
    """SignBlobResponse, signed with the account's own key."""
    try:
        # proto3 JSON takes both alphabets, with or without padding.
        text = message.get("payload", "").replace("-", "+").replace("_", "/").rstrip("=")
        payload = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        text = "Invalid value at 'payload' (TYPE_BYTES), Base64 decoding failed."
        raise invalid_argument(text, "payload") from None
    if not payload:
        raise invalid_argument("The payload is required.", "payload")
    key = cloud.account_key(target.account.unique_id)
    return {"keyId": key.kid, "signedBlob": base64.b64encode(key.sign(payload)).decode()}


def sign_jwt(
    cloud: GoogleCloud, target: Target, message: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """SignJwtResponse, signed with the account's own key."""
    payload = message.get("payload", "")
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise invalid_argument("The payload must be a JSON object.", "payload")
    expires = claims.get("exp", int(now) + 1)
    if type(expires) is not int or not now <= expires <= now + MAX_JWT_LIFETIME:
        text = (
            "The exp claim must be an integer timestamp that is not in the past and no more than "
            "12 hours in the future."
        )
        raise invalid_argument(text, "payload")
    key = cloud.account_key(target.account.unique_id)
    return {"keyId": key.kid, "signedJwt": key.sign_text(payload)}


def _lifetime(text: str | None, account: ServiceAccount, cloud: GoogleCloud) -> int:
    """Seconds of a google-duration; a fraction counts as the whole seconds below it."""
    if text is None:
        return DEFAULT_LIFETIME
    shape = _DURATION.fullmatch(text)
    if shape is None:
        message = (
            "Invalid value at 'lifetime' (type.googleapis.com/google.protobuf.Duration), Field "
            "'lifetime', Illegal duration format; duration must end with 's'"
        )
        raise invalid_argument(message, "lifetime")
    seconds = int(shape[1])
    if seconds < 1:
        raise invalid_argument("Lifetime of access token must be larger then zero.")
    extended = account.email in cloud.world.google.lifetime_extension
    longest = EXTENDED_LIFETIME if extended else MAX_LIFETIME
    if seconds > longest or (seconds == longest and shape[2] and int(shape[2][1:])):
        hint = (
            " Use the Org Policy Constraint "
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension to allow up to 12 "
            "hours."
        )
        message = (
            f"Access tokens for service account {account.email} can not have lifetimes of more "
            f"than {'12 hours' if extended else '1 hour'}.{'' if extended else hint}"
        )
        raise invalid_argument(message)
    return seconds
