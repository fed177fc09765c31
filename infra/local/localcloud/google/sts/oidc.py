"""OIDC credentials: a JWT of the provider's issuer, for its audience, fresh and well signed.

RS256 and ES256 with a kid only. Keys come from the provider's uploaded set or from the issuer's
discovery document, whose issuer must be the configured one; a key address inside the token is
never followed. Clock skew of 60 seconds is allowed.
"""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt

from localcloud.google.core.errors import OAuthError
from localcloud.wire.web import Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.world import OidcConfig

SKEW = 60
MAX_AGE = 24 * 3600
ALGORITHMS = {"RS256": "RSA", "ES256": "EC"}


def verify(
    token: str, provider: str, config: OidcConfig, fetch: Callable[[Request], Response], now: float
) -> dict[str, Any]:
    """The token's claims; raises OAuthError. `now` is epoch seconds."""
    header, unverified = _decode(token)
    issuer = unverified.get("iss")
    if issuer != config.issuer_uri:
        text = (
            f"The issuer in ID Token {_shown(issuer)} does not match the expected one in config: "
            f"{config.issuer_uri}"
        )
        raise OAuthError("invalid_grant", text)
    resource = f"//iam.googleapis.com/{provider}"
    _check_audience(
        unverified.get("aud"), config.allowed_audiences or [resource, f"https:{resource}"]
    )
    key = _key(header, _keys(config, fetch))
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[header["alg"]],
            # Times are judged below by this cloud's clock, the audience is judged already.
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
            },
        )
    except jwt.PyJWTError:
        raise _unverified() from None
    _check_times(claims, now)
    return claims


def _decode(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        whole = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise OAuthError("invalid_grant", "Unable to parse the ID Token.") from None
    return whole["header"], whole["payload"]


def _check_audience(audience: Any, expected: list[str]) -> None:
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(name, str) and name in expected for name in named):
        shown = ", ".join(_shown(name) for name in named if name is not None)
        text = f"The audience in ID Token [{shown}] does not match the expected audience."
        raise OAuthError("invalid_grant", text)


def _check_times(claims: dict[str, Any], now: float) -> None:
    issued, expires = _time(claims.get("iat")), _time(claims.get("exp"))
    shown = "null" if issued is None else int(issued)
    if issued is None or expires is None or expires + SKEW <= now or issued + MAX_AGE + SKEW < now:
        raise OAuthError("invalid_grant", f"ID Token issued at {shown} is stale to sign-in.")
    not_before = _time(claims.get("nbf", 0))
    if not_before is None or max(issued, not_before) - SKEW > now:
        text = f"ID Token issued at {shown} is issued in the future."
        raise OAuthError("invalid_grant", text)


def _time(value: Any) -> float | None:
    """A NumericDate; Python's JSON reads NaN, which is neither before nor after any time."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _shown(claim: Any) -> str:
    """A claim as Google's texts name it."""
    return "null" if claim is None else str(claim)


def _keys(config: OidcConfig, fetch: Callable[[Request], Response]) -> list[dict[str, Any]]:
    if config.jwks_json:
        document = _json_document(config.jwks_json)
    else:
        discovery = _get(config.issuer_uri.rstrip("/") + "/.well-known/openid-configuration", fetch)
        if discovery.get("issuer") != config.issuer_uri:
            raise _unreachable()
        document = _get(str(discovery.get("jwks_uri")), fetch)
    keys = document.get("keys")
    return [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _key(header: dict[str, Any], keys: list[dict[str, Any]]) -> jwt.PyJWK:
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(kid, str) or not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _unverified()
    found = [key for key in keys if key.get("kid") == kid]
    if not found:
        raise _unreachable()
    fits = [
        key
        for key in found
        if key.get("kty") == ALGORITHMS[algorithm]
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    ]
    if len(fits) != 1:
        raise _unverified()
    try:
        return jwt.PyJWK(fits[0], algorithm=algorithm)
    except jwt.PyJWTError:
        raise _unverified() from None


def _get(url: str, fetch: Callable[[Request], Response]) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.netloc:
        raise _unreachable()
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    headers = Headers([("Host", parts.netloc), ("Accept", "application/json")])
    answer = fetch(Request("GET", parts.netloc, target, headers))
    if answer.status != HTTPStatus.OK:
        raise _unreachable()
    return _json_document(answer.body)


def _json_document(text: bytes | str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _unreachable() from None
    if not isinstance(document, dict):
        raise _unreachable()
    return document


def _unreachable() -> OAuthError:
    return OAuthError("invalid_grant", "Error connecting to the given credential's issuer.")


def _unverified() -> OAuthError:
    return OAuthError("invalid_grant", "Unable to verify the ID Token signature.")
