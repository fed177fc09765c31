"""Entra's signing keys: RSA with a self-signed certificate, published in Microsoft's key-set shape.

Microsoft's entries carry `x5t` (equal to `kid`), `x5c` and, on the v2 endpoint, `issuer`; they
carry no `alg`. The private halves never leave memory.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Mapping

VALID_DAYS = 5 * 365


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key pair under the id that its certificate's thumbprint gives it."""

    kid: str
    certificate: bytes
    """DER."""
    private: rsa.RSAPrivateKey = field(repr=False)

    def sign(self, claims: Mapping[str, Any], header: Mapping[str, Any]) -> str:
        """A compact RS256 JWT; `header` is added to `typ`, `alg` and `kid`."""
        return jwt.encode(dict(claims), self.private, "RS256", {"kid": self.kid, **header})

    def published(self) -> dict[str, Any]:
        """The entry of the key set."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": _base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)),
            "e": _base64url(numbers.e.to_bytes(3)),
            "x5c": [base64.b64encode(self.certificate).decode()],
            "cloud_instance_name": "microsoftonline.com",
        }


def new_key(now: float) -> SigningKey:
    """A fresh RSA-2048 key; its certificate starts at `now` (epoch seconds)."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "accounts.accesscontrol.windows.net")]
    )
    start = datetime.fromtimestamp(now, UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=VALID_DAYS))
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    # RFC 7515 section 4.1.7 fixes SHA-1 for x5t; it names the key and proves nothing.
    thumbprint = hashlib.sha1(certificate, usedforsecurity=False).digest()
    return SigningKey(_base64url(thumbprint), certificate, private)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
