"""AWS identities and their access keys: what IAM and STS know about who signs a request.

Keys are random and made on demand; the world file holds none. Every temporary session carries a
token and an end, and is forgotten a while after it, so that an expired session is told apart from
an unknown key as AWS does.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.world import Aws

# The role whose sessions run the function; like a role that trusts itself, it may assume itself.
FUNCTION_ROLE = "tokenvend"
REMEMBERED = 24 * 3600
_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role(/(?:[\w+=,.@-]+/)*)([\w+=,.@-]{1,64})")


class UnknownIdentityError(LookupError):
    """The world has no such user or role."""


@dataclass(frozen=True)
class Principal:
    """Who a key belongs to.

    `user_id` is `AIDA…` for a user and `AROA…:session` for an assumed role; `role` is the role's
    name, empty for a user.
    """

    account: str
    arn: str
    user_id: str
    role: str = ""
    session: str = ""
    source_identity: str = ""


@dataclass(frozen=True)
class AccessKey:
    """One key pair; `token` and `expires` (epoch seconds) belong to a temporary session."""

    id: str
    secret: str = field(repr=False)
    principal: Principal
    token: str = field(default="", repr=False)
    expires: float | None = None

    def environment(self) -> dict[str, str]:
        """The variables that AWS's SDKs read it from."""
        found = {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}
        return {**found, "AWS_SESSION_TOKEN": self.token} if self.token else found


class Accounts:
    """The world's account and every key that was issued; keys of foreign accounts too."""

    def __init__(self, aws: Aws, clock: Callable[[], float]) -> None:
        self.aws = aws
        self.clock = clock
        self._keys: dict[str, AccessKey] = {}
        self._users: dict[str, AccessKey] = {}
        self._lock = threading.Lock()

    def find(self, key_id: str) -> AccessKey | None:
        """The key of this id, expired or not."""
        with self._lock:
            return self._keys.get(key_id)

    def user(self, name: str) -> AccessKey:
        """The long-term key of a user of the world; raises UnknownIdentityError."""
        user = self.aws.user(name)
        if user is None:
            raise UnknownIdentityError(f"the world has no AWS user {name!r}")
        arn = f"arn:aws:iam::{self.aws.account}:user{user.path}{user.user_name}"
        principal = Principal(self.aws.account, arn, _unique_id("AIDA", arn))
        with self._lock:
            if name not in self._users:
                self._users[name] = _new_key("AKIA", principal)
                self._keys[self._users[name].id] = self._users[name]
            return self._users[name]

    def session(self, role_name: str, session_name: str, *, seconds: int = 3600) -> AccessKey:
        """A session of a role of the world, `seconds` long; raises UnknownIdentityError."""
        role = self.aws.role(role_name)
        if role is None:
            raise UnknownIdentityError(f"the world has no AWS role {role_name!r}")
        arn = f"arn:aws:iam::{self.aws.account}:role{role.path}{role.role_name}"
        return self.issue(arn, session_name, seconds=seconds)

    def issue(
        self, role_arn: str, session_name: str, *, seconds: int = 3600, source_identity: str = ""
    ) -> AccessKey:
        """A session of any role, of a foreign account too; asks nobody's permission."""
        match = _ROLE_ARN.fullmatch(role_arn)
        if match is None:
            raise UnknownIdentityError(f"{role_arn!r} is not the ARN of a role")
        account, _, name = match.groups()
        principal = Principal(
            account=account,
            # The role's path does not show in the ARN of its sessions.
            arn=f"arn:aws:sts::{account}:assumed-role/{name}/{session_name}",
            user_id=f"{_unique_id('AROA', role_arn)}:{session_name}",
            role=name,
            session=session_name,
            source_identity=source_identity,
        )
        now = self.clock()
        key = _new_key("ASIA", principal, expires=now + seconds)
        with self._lock:
            self._forget(now - REMEMBERED)
            self._keys[key.id] = key
        return key

    def may_assume(self, principal: Principal, role_arn: str) -> bool:
        """Whether a role of this account trusts the principal: users, and the function itself."""
        match = _ROLE_ARN.fullmatch(role_arn)
        if match is None or match[1] != self.aws.account or principal.account != match[1]:
            return False
        role = self.aws.role(match[3])
        if role is None or role.path != match[2]:
            return False
        return not principal.role or principal.role == match[3] == FUNCTION_ROLE

    def _forget(self, before: float) -> None:
        old = [k for k, v in self._keys.items() if v.expires is not None and v.expires < before]
        for key_id in old:
            del self._keys[key_id]


def _new_key(prefix: str, principal: Principal, *, expires: float | None = None) -> AccessKey:
    return AccessKey(
        id=prefix + base64.b32encode(secrets.token_bytes(10)).decode(),
        secret=base64.b64encode(secrets.token_bytes(30)).decode(),
        principal=principal,
        token="" if expires is None else base64.b64encode(secrets.token_bytes(258)).decode(),
        expires=expires,
    )


def _unique_id(prefix: str, arn: str) -> str:
    """AWS's unique id of a user or role: the same for the same ARN, at every start."""
    return prefix + base64.b32encode(hashlib.sha256(arn.encode()).digest())[:17].decode()
