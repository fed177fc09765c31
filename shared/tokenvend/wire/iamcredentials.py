"""The IAM Service Account Credentials API's own shapes: what is asked and what is a token.

https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tokenvend.model import IdTokenSpec
from tokenvend.wire import jwt
from tokenvend.wire.objects import read_token, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenvend.model import Secret, TokenSpec

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)


def method_of(spec: TokenSpec) -> str:
    """The custom method that gives the spec's token."""
    return "generateIdToken" if isinstance(spec, IdTokenSpec) else "generateAccessToken"


def render_request(spec: TokenSpec, lifetime: int, delegates: Sequence[str]) -> bytes:
    """The body that asks for the spec's token. `lifetime`: seconds, of an access token.

    `delegates`: the names of service accounts.
    """
    if isinstance(spec, IdTokenSpec):
        body: dict[str, Any] = {"audience": spec.audience, "includeEmail": spec.include_email}
    else:
        body = {"scope": spec.scopes, "lifetime": f"{lifetime}s"}
    if delegates:
        body["delegates"] = delegates
    return render(body)


def read_answer(answer: object, spec: TokenSpec) -> tuple[Secret, int]:
    """The token in an answer and its end in epoch seconds.

    Raises ValueError, whose text holds nothing of the answer.
    """
    fields = answer if isinstance(answer, dict) else {}
    if not isinstance(spec, IdTokenSpec):
        return read_token(fields.get("accessToken")), _epoch(fields.get("expireTime"))
    token = read_token(fields.get("token"))
    # It came from Google over TLS: read, not verified.
    _, claims = jwt.read_unverified(token.reveal())
    if claims.get("aud") != spec.audience:
        raise ValueError("the ID token is for another audience")
    if type(claims.get("exp")) is not int:
        raise ValueError("the ID token has no expiry")
    return token, claims["exp"]


def _epoch(value: object) -> int:
    found = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    try:
        # What is no such time is none to this parser either.
        return int(datetime.fromisoformat("".join(found.groups() if found else ())).timestamp())
    except (ValueError, OverflowError):
        raise ValueError("expireTime is not an RFC 3339 time") from None
