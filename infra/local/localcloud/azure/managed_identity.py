"""What every door to a managed identity shares: which identity is meant, and its token.

A workload has one identity of its own, or several of which a request must name one. Platforms hand
the same token out for most of a day.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from localcloud.azure.entra import DEFAULT_LIFETIME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.azure.entra import Entra
    from localcloud.world import ManagedIdentity

FRESH_SECONDS = 300
"""A token is handed out until so long before its end."""
SELECTORS = ("client_id", "object_id", "principal_id", "mi_res_id", "msi_res_id")
"""The query parameters that name an identity."""
AMBIGUOUS = (
    "Multiple user assigned identities exist, please specify the clientId / resourceId of the "
    "identity in the token request"
)


class SelectionError(LookupError):
    """No identity of the workload is meant, or no single one; the text is Azure's."""


def selected(entra: Entra, workload: ManagedIdentity, params: Mapping[str, str]) -> ManagedIdentity:
    """The identity that a request is for; raises SelectionError.

    Without a selector it is the workload's own, unless that is one of several user-assigned ones.
    """
    chosen = [(key, params[key].lower()) for key in SELECTORS if params.get(key)]
    others = [entra.identity(name) for name in workload.user_assigned_identities]
    if not chosen and workload.resource_id and others:
        raise SelectionError(AMBIGUOUS)
    if not chosen:
        return workload
    if len(chosen) == 1:
        key, wanted = chosen[0]
        for identity in (workload, *others):
            if _named(identity, key).lower() == wanted:
                return identity
    raise SelectionError("Identity not found")


class Tokens:
    """Tokens already handed out; `lifetime` in seconds."""

    def __init__(self, entra: Entra, lifetime: int = DEFAULT_LIFETIME) -> None:
        self._entra = entra
        self._lifetime = lifetime
        self._held: dict[tuple[str, str], tuple[str, int]] = {}
        self._lock = threading.Lock()

    def get(self, identity: ManagedIdentity, resource: str) -> tuple[str, int]:
        """The token and the epoch second of its end; raises UnknownResourceError."""
        key = (identity.principal_id, resource)
        with self._lock:
            held = self._held.get(key)
            now = int(self._entra.clock())
            # Also when the clock was set back: to a wrong clock that one is not issued yet.
            if held is None or not held[1] - self._lifetime <= now < held[1] - FRESH_SECONDS:
                token = self._entra.mint(identity, resource, lifetime=self._lifetime)
                held = self._held[key] = (token, now + self._lifetime)
            return held


def _named(identity: ManagedIdentity, key: str) -> str:
    """What a selector is compared with; Azure ignores the letters' case."""
    if key == "client_id":
        return identity.client_id
    return identity.resource_id if key.endswith("_res_id") else identity.principal_id
