"""A role's credentials as AWS keeps them fresh on a machine: the same until well before their end.

Specification: EC2 User Guide, "Retrieve security credentials from instance metadata": new ones are
there at least five minutes before the old ones expire. AWS replaces them far earlier; so do we.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localcloud.aws.accounts import AccessKey, Accounts

LIFETIME = 6 * 3600
RENEWED_BEFORE = 3600


class RotatingCredentials:
    """The credentials of one machine.

    Args:
        accounts: who issues them.
        role: the role's name.
        session: what AWS names the session after, such as the instance's id.

    """

    def __init__(self, accounts: Accounts, role: str, session: str) -> None:
        self.accounts = accounts
        self.role = role
        self._session = session
        self._held: tuple[AccessKey, float] | None = None
        self._lock = threading.Lock()

    def current(self) -> tuple[AccessKey, float]:
        """The key that is served now, and the epoch second at which it was issued."""
        now = self.accounts.clock()
        with self._lock:
            # Also when the clock was set back: to a wrong clock these are not issued yet.
            held = self._held
            if held is None or not held[1] <= now < held[1] + LIFETIME - RENEWED_BEFORE:
                key = self.accounts.session(self.role, self._session, seconds=LIFETIME)
                held = self._held = (key, now)
            return held


def timestamp(moment: float) -> str:
    """Epoch seconds as AWS writes them: ``2026-11-24T19:15:00Z``."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
