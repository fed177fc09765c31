"""What Azure's data services check of a bearer token, and who may read.

Only the tenant's own tokens for the service's audience pass; of them only the function's identity
has the reader's role, as a deployment would assign it, and whoever is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from collections.abc import Collection

    from localcloud.azure.entra import Entra
    from localcloud.wire.web import Request

SKEW = 300


class BearerError(Exception):
    """The token is not accepted; the text says why and quotes none of it."""


class Readers:
    """Object ids of the identities that hold the reader's role; the function's own at first."""

    def __init__(self, entra: Entra) -> None:
        own = entra.azure.managed_identity(entra.azure.function_app)
        self.object_ids = {own.principal_id} if own else set[str]()


def bearer_object(request: Request, entra: Entra, audiences: Collection[str]) -> str | None:
    """The `oid` of the caller's token; None without an Authorization header.

    Raises BearerError.
    """
    presented = request.headers.all("Authorization")
    if not presented:
        return None
    scheme, _, token = presented[0].partition(" ")
    if len(presented) > 1 or scheme.lower() != "bearer" or not token:
        raise BearerError("the Authorization header is not one bearer token")
    claims = _verified(token, entra, audiences)
    now = entra.clock()
    if not claims["nbf"] - SKEW <= now < claims["exp"] + SKEW:
        raise BearerError("the token is expired or not yet valid")
    return str(claims["oid"])


def _verified(token: str, entra: Entra, audiences: Collection[str]) -> dict[str, Any]:
    tenant = entra.azure.tenant
    issuers = [
        f"https://sts.windows.net/{tenant}/",
        f"https://login.microsoftonline.com/{tenant}/v2.0",
    ]
    # The cloud's clock may be wrong on purpose, and PyJWT reads this machine's.
    options: Any = {
        "require": ["exp", "nbf", "iss", "aud", "oid"],
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
    }
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        for entry in entra.key_set()["keys"]:
            if entry["kid"] == kid:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    jwt.PyJWK(entry, "RS256"),
                    algorithms=["RS256"],
                    audience=list(audiences),
                    issuer=issuers,
                    options=options,
                )
                return claims
    except jwt.PyJWTError as refused:
        raise BearerError(f"the token is not accepted: {type(refused).__name__}") from None
    raise BearerError("no key of the tenant signed the token")
