"""A role's credentials as AWS keeps them fresh on a machine: the same until well before their end.

A service of AWS assumes the role for the machine, anew for each set of them, so that a role which
no longer trusts the service gets no more.
Specification: EC2 User Guide, "Retrieve security credentials from instance metadata": new ones are
there at least five minutes before the old ones expire. AWS replaces them far earlier; so do we.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from localcloud.aws.service_roles import may_take_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.aws.accounts import AccessKey, Accounts

LIFETIME = 6 * 3600
RENEWED_BEFORE = 3600


class UntrustedError(Exception):
    """The role's trust policy does not let the machine's service assume it."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """How AWS assumes a machine's role.

    Args:
        service: who does.
        session: what it names the session after, such as the instance's id.
        source: the ARN that it asks for, empty if it does not say.
        tags: the session's.

    """

    service: str
    session: str
    source: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def is_trusted(accounts: Accounts, role_arn: str, how: Assumption) -> bool:
    """Whether the role of this ARN lets itself be taken on so just now."""
    return may_take_on(accounts, how.service, role_arn, source=how.source, tags=how.tags)


class RotatingCredentials:
    """The credentials of one machine, which runs as `role` (its name)."""

    def __init__(self, accounts: Accounts, role: str, assumption: Assumption) -> None:
        self._accounts = accounts
        self._role = role
        self._assumption = assumption
        self._held: tuple[AccessKey, float] | None = None
        self._lock = threading.Lock()

    @property
    def role_arn(self) -> str:
        """The role's ARN; of one that was deleted, what it would be."""
        role = self._accounts.role(self._role)
        if role is not None:
            return self._accounts.role_arn(role)
        return f"arn:aws:iam::{self._accounts.aws.account}:role/{self._role}"

    def current(self) -> tuple[AccessKey, float]:
        """The key that is served now, and the epoch second at which it was issued.

        Raises UntrustedError when new ones are due and the role does not trust the service.
        """
        now = self._accounts.clock()
        with self._lock:
            # Also when the clock was set back: to a wrong clock these are not issued yet.
            held = self._held
            if held is None or not held[1] <= now < held[1] + LIFETIME - RENEWED_BEFORE:
                if not is_trusted(self._accounts, self.role_arn, self._assumption):
                    raise UntrustedError
                key = self._accounts.issue(
                    self.role_arn,
                    self._assumption.session,
                    seconds=LIFETIME,
                    tags=self._assumption.tags,
                )
                held = self._held = (key, now)
            return held


def timestamp(moment: float) -> str:
    """Epoch seconds as AWS writes them: ``2026-11-24T19:15:00Z``."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
