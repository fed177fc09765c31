"""What Google's stand-ins share: the world, the clock, the way out, tokens, keys and the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from localcloud.google.core.audit import AuditLog
from localcloud.google.core.tokens import TokenStore
from localcloud.keys import SigningKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from localcloud.wire.web import Request, Response
    from localcloud.world import World


@dataclass(frozen=True)
class GoogleCloud:
    """Shared state of Google's sites.

    Args:
        world: what exists; may be changed while it runs.
        clock: epoch seconds.
        fetch: reaches the other clouds' stand-ins by hostname: AWS STS for GetCallerIdentity, an
            OIDC issuer for its key set.
        log: receives the audit entries.
        directory: where Cloud Storage keeps content, cleared at the start; without one it is
            temporary.
        tokens: what has been issued.
        keys: of service accounts, by unique id.
        operations: the long-running operations of Service Usage and IAM, by name.
        propagation: seconds until a policy that an API has set acts.

    """

    world: World
    clock: Callable[[], float]
    fetch: Callable[[Request], Response]
    log: AuditLog = field(default_factory=AuditLog)
    directory: Path | None = None
    tokens: TokenStore = field(default_factory=TokenStore)
    keys: dict[str, SigningKey] = field(default_factory=dict)
    operations: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    propagation: float = 0

    @property
    def key(self) -> SigningKey:
        """Google's own key, which signs ID tokens."""
        return self.account_key("")

    def account_key(self, unique_id: str) -> SigningKey:
        """The Google-managed signing key of one service account, made at first use."""
        with self.world.lock:
            if unique_id not in self.keys:
                self.keys[unique_id] = SigningKey.generate()
            return self.keys[unique_id]
