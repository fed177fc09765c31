"""Entra's signing keys, published in Microsoft's key-set shape.

Microsoft's entries carry `x5t` (equal to `kid`), `x5c` and, on the v2 endpoint, `issuer`; they
carry no `alg`.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from localcloud.keys import SigningKey, base64url

SUBJECT = "accounts.accesscontrol.windows.net"
VALID_DAYS = 5 * 365


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A key under the id that its certificate's thumbprint gives it; `certificate` is DER."""

    key: SigningKey
    certificate: bytes

    @property
    def kid(self) -> str:
        """The key id."""
        return self.key.kid

    def published(self) -> dict[str, Any]:
        """The entry of the key set."""
        return self.key.jwk() | {
            "x5t": self.kid,
            "x5c": [base64.b64encode(self.certificate).decode()],
            "cloud_instance_name": "microsoftonline.com",
        }


def new_key(now: float) -> CertifiedKey:
    """A fresh key; its certificate starts at `now` (epoch seconds)."""
    key = SigningKey.generate()
    certificate = key.certificate(SUBJECT, now, VALID_DAYS).public_bytes(Encoding.DER)
    # RFC 7515 section 4.1.7 fixes SHA-1 for x5t; it names the key and proves nothing.
    thumbprint = hashlib.sha1(certificate, usedforsecurity=False).digest()
    return CertifiedKey(replace(key, kid=base64url(thumbprint)), certificate)
