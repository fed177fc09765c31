"""Google's ID tokens: how one is verified, by whoever gets one.

RS256 by the published key, of Google's issuer, issued and not expired. Whom it is for is the
verifier's own question. https://cloud.google.com/docs/authentication/token-types#id
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from localcloud.keys import SigningKey

ISSUER = "https://accounts.google.com"
SKEW = 30
"""Seconds that a verifier's clock may be behind."""


def verify(text: str, key: SigningKey, now: float) -> dict[str, Any] | None:
    """The claims of an ID token, or None if it is not a valid one; `now` is epoch seconds."""
    try:
        header = jwt.get_unverified_header(text)
        claims: dict[str, Any] = jwt.decode(
            text,
            key.private.public_key(),
            algorithms=["RS256"],
            # Times are judged by this cloud's clock below, not by the machine's.
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
                "require": ["exp", "iat", "aud", "iss", "sub"],
            },
        )
    except (jwt.PyJWTError, ValueError):
        return None
    issued, expires = claims["iat"], claims["exp"]
    valid = (
        header.get("kid") == key.kid
        and claims["iss"] in (ISSUER, "accounts.google.com")
        and type(issued) is int
        and type(expires) is int
        and issued - SKEW <= now < expires
    )
    return claims if valid else None
