"""The tokens Google's stand-ins have issued, and the check every API makes of one.

Tokens are opaque random text; the store keeps their SHA-256 only, so that a dump of it is
worthless. Refuses a token that is unknown, expired, of a disabled pool, of a lost account
or of a suspended person.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import (
    INVALID_CREDENTIALS,
    MISSING_CREDENTIALS,
    GoogleError,
    error_info,
)
from localcloud.google.core.principals import (
    FederatedPrincipal,
    Principal,
    ServiceAccountPrincipal,
    UserPrincipal,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.wire.web import Request
    from localcloud.world import World

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
SWEEP = 1000
# What stands after ``ya29.`` in the tokens of each kind of principal.
_KINDS = {FederatedPrincipal: "d", ServiceAccountPrincipal: "c", UserPrincipal: "a"}
IAM_SCOPE = "https://www.googleapis.com/auth/iam"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What a token allows.

    Args:
        principal: whom it speaks for.
        scopes: what it may be used for.
        expires_at: epoch seconds.
        boundary: the rules of a Credential Access Boundary.
        user_project: the project that its calls are counted on, when the caller names no other.
        certificate: the thumbprint of the client certificate that it is bound to. Nothing here asks
            a client for one, so such a token opens nothing.

    """

    principal: Principal
    scopes: frozenset[str]
    expires_at: int
    boundary: tuple[dict[str, Any], ...] | None = None
    user_project: str = ""
    certificate: str = ""


class TokenStore:
    """Issued tokens, shared by all of Google's stand-ins."""

    def __init__(self) -> None:
        self._issued: dict[str, IssuedToken] = {}
        self._lock = threading.Lock()
        self._sweep_at = SWEEP

    def issue(self, token: IssuedToken, now: float) -> str:
        """A new token text for `token`; what has expired by `now` is forgotten."""
        kind = _KINDS[type(token.principal)]
        # Federated tokens are long at Google (up to 12,288 bytes): callers must not assume short.
        text = f"ya29.{kind}.{secrets.token_urlsafe(360 if kind == 'd' else 160)}"
        with self._lock:
            if len(self._issued) >= self._sweep_at:
                self._issued = {k: t for k, t in self._issued.items() if t.expires_at > now}
                self._sweep_at = 2 * len(self._issued) + SWEEP
            self._issued[_fingerprint(text)] = token
        return text

    def find(self, text: str) -> IssuedToken | None:
        """The token of this text, expired or not."""
        return self._issued.get(_fingerprint(text))

    def live(self, text: str, world: World, now: float) -> IssuedToken | None:
        """The token of this text if it still gives access."""
        token = self.find(text)
        if token is None or token.expires_at <= now or token.certificate:
            return None
        if not _principal_lives(token, world):
            return None
        return token


def bearer(request: Request) -> str | None:
    """The token of the Authorization field; None if there is no such field."""
    values = request.headers.all("Authorization")
    if not values:
        return None
    scheme, _, token = values[0].strip().partition(" ")
    return token.strip() if len(values) == 1 and scheme.lower() == "bearer" else ""


def authenticate(request: Request, store: TokenStore, world: World, now: float) -> IssuedToken:
    """The caller's token; raises the 401 that Google's API front end answers."""
    text = bearer(request)
    if text is None:
        info = error_info("CREDENTIALS_MISSING", "googleapis.com", service=request.host)
        raise GoogleError("UNAUTHENTICATED", MISSING_CREDENTIALS, (info,))
    token = store.live(text, world, now)
    if token is None:
        known = store.find(text)
        expired = known is not None and known.expires_at <= now
        reason = "ACCESS_TOKEN_EXPIRED" if expired else "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        info = error_info(reason, "googleapis.com", service=request.host)
        raise GoogleError("UNAUTHENTICATED", INVALID_CREDENTIALS, (info,))
    return token


def require_scope(token: IssuedToken, accepted: Sequence[str], service: str, method: str) -> None:
    """Raise Google's 403 unless the token carries one of the accepted scopes."""
    if token.scopes.isdisjoint(accepted):
        info = error_info(
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT", "googleapis.com", service=service, method=method
        )
        text = "Request had insufficient authentication scopes."
        raise GoogleError("PERMISSION_DENIED", text, (info,))


def _principal_lives(token: IssuedToken, world: World) -> bool:
    match token.principal:
        case FederatedPrincipal(pool=name):
            # Disabling the *provider* stops new exchanges only; the pool stops its tokens too.
            pool = world.google.pool(name)
            return pool is not None and pool.state == "ACTIVE" and not pool.disabled
        case ServiceAccountPrincipal(unique_id=unique_id):
            account = world.google.service_account(unique_id)
            return account is not None and not account.disabled
        case UserPrincipal(email=email):
            user = world.google.user(email)
            return user is not None and not user.suspended


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
