"""RSA keys that sign tokens: Google's own, one per service account, Entra's.

Keys are made anew at every start and never leave the process.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An RSA-2048 key; `kid` is the SHA-1 of its public half in hex, unless it is given."""

    private: rsa.RSAPrivateKey = field(repr=False)
    kid: str

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key."""
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - names a key, protects nothing
        digest.update(_spki(private))
        return cls(private, digest.finalize().hex())

    def sign_jwt(self, claims: Mapping[str, Any], header: Mapping[str, Any] | None = None) -> str:
        """A compact RS256 JWT; `header` is added to `typ`, `alg` and `kid`."""
        return jwt.encode(dict(claims), self.private, "RS256", {"kid": self.kid, **(header or {})})

    def sign_text(self, claims: str) -> str:
        """A compact RS256 JWT around claims as they are written, spaces and all."""
        header = {"typ": "JWT", "kid": self.kid}
        return jwt.PyJWS().encode(claims.encode(), self.private, "RS256", header)

    def sign(self, payload: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 SHA-256 signature."""
        return self.private.sign(payload, padding.PKCS1v15(), hashes.SHA256())

    def jwk(self) -> dict[str, str]:
        """The public half as a JWK (RFC 7517) without `alg`."""
        numbers = self.private.public_key().public_numbers()
        modulus = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        return {
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "n": base64url(modulus),
            "e": base64url(numbers.e.to_bytes(3)),
        }

    def certificate(self, subject: str, start: float, days: int) -> x509.Certificate:
        """A self-signed certificate around the public half, from `start` (epoch seconds) on."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
        since = datetime.fromtimestamp(start, UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(since + timedelta(days=days))
            .sign(self.private, hashes.SHA256())
        )


def base64url(data: bytes) -> str:
    """Base64 of RFC 4648 section 5 without padding, as JOSE writes it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _spki(private: rsa.RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
