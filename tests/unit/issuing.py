"""A clock, issuers' keys and a recording stand-in for the transport, for tests of callers."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tokenvend.caller.entra import VERSIONS, TenantIssuer
from tokenvend.deadline import Deadline
from tokenvend.errors import UpstreamUnavailable
from tokenvend.transport import Answer, Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.caller import Issuer

NOW = 1_800_000_000
PROVIDER = (
    "//iam.googleapis.com/projects/111/locations/global/workloadIdentityPools/pool/providers/test"
)


def deadline(seconds: float = 5.0) -> Deadline:
    """A deadline that no test reaches."""
    return Deadline.after(seconds, time.monotonic)


class Clock:
    """A clock that a test moves; epoch seconds."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@dataclass
class Recorder:
    """A `Sender` that answers from `pages` and keeps every call. An exception in it is raised."""

    pages: dict[str, Answer | Exception | Callable[[], Answer]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """What the page at the URL holds; nothing there: the upstream is down."""
        assert deadline.remaining() > 0
        assert repeatable
        with self.lock:
            self.calls.append(call)
        page = self.pages.get(call.url, UpstreamUnavailable("down", cause="no such page"))
        if isinstance(page, Exception):
            raise page
        return page() if callable(page) else page

    @property
    def urls(self) -> list[str]:
        """Where the calls went, in order."""
        return [call.url for call in self.calls]


@dataclass(frozen=True)
class Key:
    """An issuer's key pair."""

    kid: str
    algorithm: str
    private: Any = field(repr=False)

    def jwk(self, **extra: Any) -> dict[str, Any]:
        """The public half as a key set lists it."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        public = json.loads(algorithm.to_jwk(self.private.public_key()))
        public.pop("key_ops", None)
        return {**public, "kid": self.kid, "use": "sig", **extra}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A JWT; header fields given are added or replace others."""
        return jwt.encode(dict(claims), self.private, self.algorithm, {"kid": self.kid, **header})


@cache
def rsa_key(kid: str = "rsa-1", bits: int = 2048) -> Key:
    """An RSA key, the same one for the same id."""
    return Key(kid, "RS256", rsa.generate_private_key(public_exponent=65537, key_size=bits))


@cache
def ec_key(kid: str = "ec-1") -> Key:
    """A P-256 key, the same one for the same id."""
    return Key(kid, "ES256", ec.generate_private_key(ec.SECP256R1()))


def by_name(*issuers: Issuer) -> dict[str, Issuer]:
    """Issuers as an authenticator looks them up."""
    return {issuer.source.issuer: issuer for issuer in issuers}


def tenant(tenant: str, audiences: frozenset[str], **more: Any) -> list[TenantIssuer]:
    """Both issuers of an Entra tenant."""
    return [TenantIssuer(tenant, version, audiences, **more) for version in VERSIONS]


def key_set(*keys: Mapping[str, Any]) -> Answer:
    """A published key set."""
    return page({"keys": list(keys)})


def page(document: Any, status: int = 200) -> Answer:
    """A JSON answer."""
    body = json.dumps(document).encode()
    return Answer(status, {"content-type": "application/json"}, body)


def segment(document: Any) -> str:
    """One part of a JWT, made by hand for tokens that no library would sign."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
