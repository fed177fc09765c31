"""Kubernetes clusters as far as a cloud trusts them: service account tokens and who may check them.

A cluster signs the tokens that it projects into pods (JWTs with the claims of Kubernetes' bound
service account tokens) and publishes its keys at its OIDC issuer, where Entra, AWS and Google
would fetch them. `Projected` keeps such tokens in files, as the kubelet does, and replaces each
before it ends. The signing key is made when it is first needed and never leaves memory.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jwt

from localcloud.keys import SigningKey
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localcloud.wire.web import Site

DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/openid/v1/jwks"
# The kubelet asks for a new token when 80 % of its life has passed.
RENEWED_AT = 0.8
POLL_SECONDS = 1.0


class TokenError(Exception):
    """A token that the cluster did not sign for this audience, or that is not valid now."""

    def __init__(self, *, expired: bool = False) -> None:
        super().__init__("the token is not valid now" if expired else "the token is not accepted")
        self.expired = expired


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of the namespace `default` that runs under a service account."""

    service_account: str

    @property
    def name(self) -> str:
        """The pod's name, as a deployment would number it."""
        digest = hashlib.sha256(self.service_account.encode()).hexdigest()
        return f"{self.service_account}-{digest[:9]}-{digest[9:14]}"

    @property
    def subject(self) -> str:
        """The service account as a token's `sub` names it."""
        return f"system:serviceaccount:default:{self.service_account}"


class Cluster:
    """One cluster.

    Args:
        issuer: the address that its tokens name, where its keys are published.
        clock: gives epoch seconds.

    """

    def __init__(self, issuer: str, clock: Callable[[], float]) -> None:
        self.issuer = issuer
        self._clock = clock
        self._held: SigningKey | None = None
        self._lock = threading.Lock()

    def token(self, pod: Pod, audience: str, seconds: int) -> str:
        """A pod's token for one audience, `seconds` long."""
        now = int(self._clock())
        claims = {
            "aud": [audience],
            "exp": now + seconds,
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": "default",
                "node": {"name": "node-1", "uid": _uid(self.issuer, "node")},
                "pod": {"name": pod.name, "uid": _uid(self.issuer, pod.name)},
                "serviceaccount": {
                    "name": pod.service_account,
                    "uid": _uid(self.issuer, pod.subject),
                },
            },
            "nbf": now,
            "sub": pod.subject,
        }
        return self._key.sign_jwt(claims)

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """What a token of this cluster says; raises TokenError."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key.private.public_key(),
                algorithms=["RS256"],
                audience=audience,
                issuer=self.issuer,
                # The embedded cloud's clock counts, not this machine's.
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise TokenError from None
        if not claims["nbf"] <= self._clock() < claims["exp"]:
            raise TokenError(expired=True)
        return claims

    def published(self) -> dict[str, Any]:
        """The key as the issuer's key set shows it."""
        return {**self._key.jwk(), "alg": "RS256"}

    def sites(self) -> dict[str, Site]:
        """The issuer's hostname to its site: the discovery document and the key set."""
        address = urlsplit(self.issuer)
        base = address.path.rstrip("/")
        document = {
            "issuer": self.issuer,
            "jwks_uri": f"https://{address.netloc}{base}{KEYS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

        def serve(request: Request) -> Response:
            if request.method == "GET" and request.path == base + DISCOVERY:
                return Response.json(200, document)
            if request.method == "GET" and request.path == base + KEYS:
                return Response.json(200, {"keys": [self.published()]})
            return Response(404, b"404 page not found\n", (("Content-Type", "text/plain"),))

        return {address.netloc: serve}

    @property
    def _key(self) -> SigningKey:
        with self._lock:
            if self._held is None:
                self._held = SigningKey.generate()
            return self._held


class Projected:
    """Token files in a directory, each renewed when 80 % of its token's life has passed.

    Args:
        directory: where they lie; made when the first is asked for, private to the user.
        clock: gives epoch seconds.

    """

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._clock = clock
        self._files: dict[str, tuple[Callable[[], str], int, float]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="kubelet", daemon=True)

    def file(self, name: str, seconds: int, make: Callable[[], str]) -> Path:
        """A file that holds what `make` gives, made anew in good time before `seconds` are over."""
        with self._lock:
            if name not in self._files:
                self._directory.mkdir(mode=0o700, exist_ok=True)
                self._write(name, seconds, make)
            if not self._thread.is_alive():
                self._thread.start()
        return self._directory / name

    def stop(self) -> None:
        """Renew no more; the files go with what holds them."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _write(self, name: str, seconds: int, make: Callable[[], str]) -> None:
        fresh = self._directory / f"{name}.new"
        fresh.touch(mode=0o600)
        fresh.write_text(make())
        fresh.replace(self._directory / name)
        self._files[name] = (make, seconds, self._clock() + RENEWED_AT * seconds)

    def _renew(self) -> None:
        while not self._stopped.wait(POLL_SECONDS):
            with self._lock:
                for name, (make, seconds, due) in list(self._files.items()):
                    # A clock that was set back leaves a token that is not valid yet.
                    if not due - RENEWED_AT * seconds <= self._clock() < due:
                        self._write(name, seconds, make)


def _uid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))
