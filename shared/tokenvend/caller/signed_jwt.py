"""A signed JWT: read without trust, then verified with one configured issuer's key.

Reading tells which issuer the token claims; whoever calls looks that up among the configured ones
before anything is fetched. Refused before any cryptography: more than MAX_TOKEN characters,
algorithms other than RS256 and ES256 (so `none`, and HMAC under a public key), headers that carry
or point to a key (`jwk`, `jku`, `x5u`), `crit` and what it could switch on, tokens of another kind
by their `typ`. RFC 7515, RFC 7519, RFC 8725.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tokenvend.audit.record import MAX_CLAIMS, MAX_TEXT
from tokenvend.errors import Unauthenticated
from tokenvend.wire import jwt as compact
from tokenvend.wire.objects import read_object

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from jwt import PyJWK

    from tokenvend.model import Secret

MAX_TOKEN = 16 * 1024
"""Characters. Entra keeps tokens under 10 KB; API Gateway takes 10,240 bytes of headers."""
LEEWAY = 60
"""Seconds by which an issuer's clock may differ from ours."""
ALGORITHMS = frozenset({"RS256", "ES256"})

_DETAIL = (
    "The bearer token was refused. Send one that is signed by an issuer this endpoint trusts, is "
    "not expired, and names this endpoint alone as its audience."
)
_REFUSED_HEADERS = frozenset({"crit", "jku", "jwk", "x5u", "b64", "zip", "enc"})
# RFC 8725 section 3.11: a logout or DPoP token of the same issuer is not a token for us.
_TYPES = frozenset({"JWT", "AT+JWT", "APPLICATION/AT+JWT"})
_MAX_TIME = 2**53


def refused(*, cause: str) -> Unauthenticated:
    """The one refusal for every wrong token: its text does not tell what was wrong with it."""
    return Unauthenticated(_DETAIL, cause=cause)


def read_unverified(token: Secret) -> tuple[str, str, str]:
    """Algorithm, key id and issuer as the token tells them of itself. Raises Unauthenticated."""
    text = token.reveal()
    if len(text) > MAX_TOKEN:
        raise refused(cause="token too long")
    try:
        header, claims = compact.read_unverified(text)
    except ValueError as wrong:
        raise refused(cause=str(wrong)) from None
    present = _REFUSED_HEADERS & header.keys()
    if present:
        raise refused(cause=f"token header has {', '.join(sorted(present))}")
    algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise refused(cause="token algorithm is neither RS256 nor ES256")
    if str(header.get("typ", "JWT")).upper() not in _TYPES:
        raise refused(cause="token is of another type")
    if not isinstance(kid, str) or not kid or not isinstance(issuer, str):
        raise refused(cause="token without kid or iss")
    return algorithm, kid, issuer


def verified_claims(token: Secret, key: PyJWK, algorithm: str) -> Mapping[str, Any]:
    """The claims, once the key proved the signature. Nothing in them is checked yet.

    Raises Unauthenticated.
    """
    from jwt import PyJWS, PyJWTError  # noqa: PLC0415 - heavy, and most requests never need it

    try:
        return read_object(PyJWS().decode(token.reveal(), key, algorithms=[algorithm]))
    except (PyJWTError, ValueError):
        # Not chained: the library's messages quote the token's header.
        raise refused(cause="token signature does not verify") from None


def check_issuer_and_audience(
    claims: Mapping[str, Any], issuer: str, audiences: Collection[str]
) -> None:
    """Whether the token is this issuer's and for us alone. Raises Unauthenticated.

    A list of audiences counts where we are all of it: any other member could replay the token here.
    """
    if claims.get("iss") != issuer:
        raise refused(cause="issuer changed between reading and verifying")
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    if not isinstance(audience, str) or audience not in audiences:
        raise refused(cause="audience is not ours, or not ours alone")


def check_times(claims: Mapping[str, Any], now: float, required: Collection[str]) -> None:
    """Whether the token is valid now, LEEWAY granted. `now`: epoch seconds.

    `exp`, `iat` and `nbf` count wherever they are present. Raises Unauthenticated.
    """
    times = {name: claims[name] for name in ("exp", "iat", "nbf") if name in claims}
    missing = set(required) - times.keys()
    if missing:
        raise refused(cause=f"token without {', '.join(sorted(missing))}")
    for name, value in times.items():
        # Lenient readers take "9999999999" and true for a time.
        if type(value) is not int or not 0 <= value <= _MAX_TIME:
            raise refused(cause=f"{name} is not a time in whole seconds")
    if "exp" in times and times["exp"] <= now - LEEWAY:
        raise refused(cause="token expired")
    for name in ("iat", "nbf"):
        if name in times and times[name] > now + LEEWAY:
            raise refused(cause=f"{name} is in the future")


def text_claim(claims: Mapping[str, Any], name: str) -> str:
    """A claim that must be text of 1 to MAX_TEXT characters. Raises Unauthenticated."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < recorded_length(value) <= MAX_TEXT:
        raise refused(cause=f"token without {name}")
    return value


def recorded_length(text: str) -> int:
    """The characters that a text takes in an audit record, which is JSON in ASCII."""
    return len(json.dumps(text)) - 2


def check_recordable(texts: Iterable[str]) -> None:
    """Whether an audit record can hold all of what a token says. Raises Unauthenticated."""
    # Each in quotes, with a comma and a bracket; and two brackets around all.
    if sum(recorded_length(text) + 4 for text in texts) + 2 > MAX_CLAIMS:
        raise refused(cause="token says more than an audit record can hold")
