"""What Google's stand-ins share: the world, the clock, the way out, tokens, keys and the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localcloud.google.audit import AuditLog
from localcloud.google.keys import SigningKey
from localcloud.google.tokens import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.web import Request, Response
    from localcloud.world import World


@dataclass(frozen=True)
class Cloud:
    """Shared state of Google's sites; `clock` gives epoch seconds, `fetch` reaches other clouds."""

    world: World
    clock: Callable[[], float]
    fetch: Callable[[Request], Response]
    log: AuditLog = field(default_factory=AuditLog)
    tokens: TokenStore = field(default_factory=TokenStore)
    key: SigningKey = field(default_factory=SigningKey.generate)
    account_keys: dict[str, SigningKey] = field(default_factory=dict)

    def account_key(self, unique_id: str) -> SigningKey:
        """The Google-managed signing key of one service account, made at first use."""
        with self.world.lock:
            return self.account_keys.setdefault(unique_id, SigningKey.generate())
