"""RSA signing keys of the stand-in: Google's own for ID tokens, one per service account.

Keys are made anew at every start and never leave the process.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class SigningKey:
    """An RSA-2048 key with its key id."""

    kid: str
    private: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key; its id is derived from the public half."""
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        digest = hashes.Hash(hashes.SHA1())  # noqa: S303 - names a key, protects nothing
        digest.update(_spki(private))
        return cls(digest.finalize().hex(), private)

    def sign_jwt(self, claims: dict[str, Any]) -> str:
        """An RS256 JWT with this key's id."""
        return jwt.encode(claims, self.private, algorithm="RS256", headers={"kid": self.kid})

    def sign(self, payload: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 SHA-256 signature."""
        return self.private.sign(payload, padding.PKCS1v15(), hashes.SHA256())

    def jwk(self) -> dict[str, str]:
        """The public half as a JWK."""
        numbers = self.private.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self.kid,
            "n": _base64url(numbers.n),
            "e": _base64url(numbers.e),
        }

    def certificate(self, subject: str, now: float) -> str:
        """A self-signed certificate in PEM around the public half."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
        start = datetime.fromtimestamp(now, UTC) - timedelta(hours=1)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(int(self.kid[:16], 16))
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=16))
            .sign(self.private, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.PEM).decode()


def _spki(private: rsa.RSAPrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _base64url(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
