"""A JWT in compact form, read without trust (RFC 7519): nothing here verifies a signature."""

from __future__ import annotations

import base64
import re
from typing import Any

from tokenvend.wire.objects import read_object

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")


def read_unverified(jwt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, as whoever made the token wrote them.

    Raises ValueError, whose text holds nothing of the token.
    """
    parts = _COMPACT.fullmatch(jwt)
    if parts is None:
        raise ValueError("not a JWT in compact form")
    try:
        # Padding beyond what is missing changes nothing.
        header, claims = (
            read_object(base64.urlsafe_b64decode(f"{part}==")) for part in parts.groups()
        )
    except ValueError:
        raise ValueError("token does not hold JSON") from None
    return header, claims
