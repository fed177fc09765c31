"""AWS identities and their access keys: what IAM and STS know about who signs a request.

Keys are random and made on demand; the world file holds none. Every temporary session carries a
token and an end, and is forgotten a while after it, so that an expired session is told apart from
an unknown key as AWS does. Roles are the world's and those of the deployed template; what each may
do stands in their policies alone.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localcloud.aws import iam
from localcloud.aws.identities import check, identity_arn, policies
from localcloud.aws.template.expansion import TemplateError
from localcloud.world import AwsUser, WorldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from localcloud.world import Aws, AwsRole

REMEMBERED = 24 * 3600
_ROLE_ARN = re.compile(r"arn:aws:iam::(\d{12}):role(/(?:[\w+=,.@-]+/)*)([\w+=,.@-]{1,64})")


class UnknownIdentityError(LookupError):
    """The world has no such user or role."""


@dataclass(frozen=True)
class Principal:
    """Who a key belongs to.

    `user_id` is `AIDA…` for a user and `AROA…:session` for an assumed role; `role` is the role's
    name, empty for a user, and `role_arn` its ARN; `tags` are the session's, of which `transitive`
    go on to the next session.
    """

    account: str
    arn: str
    user_id: str
    role: str = ""
    role_arn: str = ""
    session: str = ""
    source_identity: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    transitive: tuple[str, ...] = ()

    @property
    def requester(self) -> iam.Requester:
        """The principal as policies name it."""
        names = (self.arn, self.role_arn) if self.role else (self.arn,)
        return iam.Requester(iam.Kind.AWS, names, self.account)


@dataclass(frozen=True)
class AccessKey:
    """One key pair; `token` and `expires` (epoch seconds) belong to a temporary session."""

    id: str
    secret: str = field(repr=False)
    principal: Principal
    token: str = field(default="", repr=False)
    issued: float = 0.0
    expires: float | None = None

    def environment(self) -> dict[str, str]:
        """The variables that AWS's SDKs read it from."""
        found = {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": self.secret}
        return {**found, "AWS_SESSION_TOKEN": self.token} if self.token else found


class Accounts:
    """The world's account and every key that was issued; keys of foreign accounts too.

    Raises WorldError for a policy of the world that IAM would refuse.
    """

    def __init__(self, aws: Aws, clock: Callable[[], float]) -> None:
        self.aws = aws
        self.clock = clock
        self._deployed: dict[str, AwsRole] = {}
        self._keys: dict[str, AccessKey] = {}
        self._users: dict[str, AccessKey] = {}
        self._lock = threading.Lock()
        try:
            check(aws.account, aws.users, aws.roles)
        except iam.PolicyError as refused:
            raise WorldError(f"aws: {refused}") from refused

    def deploy(self, roles: Iterable[AwsRole]) -> None:
        """Create or update the roles of a stack; raises TemplateError.

        A role that is not the stack's is never taken over, and none that is made now can trust
        itself by name.
        """
        roles = list(roles)
        there = {role.role_name.lower() for role in self.aws.roles}
        for role in roles:
            if role.role_name.lower() in there:
                raise TemplateError(
                    f"Resource of type 'AWS::IAM::Role' with identifier '{role.role_name}' already "
                    "exists: the world has a role of this name"
                )
        try:
            check(self.aws.account, self.aws.users, [*self.aws.roles, *roles])
        except iam.PolicyError as refused:
            raise TemplateError(str(refused)) from refused
        with self._lock:
            self._deployed.update({role.role_name: role for role in roles})

    def role(self, name: str) -> AwsRole | None:
        """The role of this name, of the stack or of the world."""
        return self._deployed.get(name) or self.aws.role(name)

    def role_of(self, arn: str) -> AwsRole | None:
        """The account's role of this ARN."""
        match = _ROLE_ARN.fullmatch(arn)
        role = self.role(match[3]) if match and match[1] == self.aws.account else None
        return role if role is not None and self.role_arn(role) == arn else None

    def role_arn(self, role: AwsRole) -> str:
        """The ARN of a role of this account."""
        return identity_arn(self.aws.account, role)

    def identity(self, principal: Principal) -> AwsUser | AwsRole | None:
        """The user or role behind a principal; None for a deleted or a foreign one."""
        if principal.account != self.aws.account:
            return None
        if principal.role:
            return self.role_of(principal.role_arn)
        return self.aws.user(principal.arn.rpartition("/")[2])

    def policies(self, principal: Principal) -> list[iam.Policy]:
        """What an identity's own policies say."""
        identity = self.identity(principal)
        return policies(identity) if identity else []

    def issued(self) -> list[AccessKey]:
        """Every key that was issued and is not forgotten."""
        with self._lock:
            return list(self._keys.values())

    def find(self, key_id: str) -> AccessKey | None:
        """The key of this id, expired or not."""
        with self._lock:
            return self._keys.get(key_id)

    def user(self, name: str) -> AccessKey:
        """The long-term key of a user of the world; raises UnknownIdentityError."""
        user = self.aws.user(name)
        if user is None:
            raise UnknownIdentityError(f"the world has no AWS user {name!r}")
        arn = identity_arn(self.aws.account, user)
        principal = Principal(self.aws.account, arn, _unique_id("AIDA", arn))
        with self._lock:
            if name not in self._users:
                self._users[name] = _new_key("AKIA", principal, self.clock())
                self._keys[self._users[name].id] = self._users[name]
            return self._users[name]

    def session(self, role_name: str, session_name: str, *, seconds: int = 3600) -> AccessKey:
        """A session of a role of the account, `seconds` long; raises UnknownIdentityError."""
        role = self.role(role_name)
        if role is None:
            raise UnknownIdentityError(f"the world has no AWS role {role_name!r}")
        return self.issue(self.role_arn(role), session_name, seconds=seconds)

    def issue(
        self,
        role_arn: str,
        session_name: str,
        *,
        seconds: int = 3600,
        source_identity: str = "",
        tags: Mapping[str, str] | None = None,
        transitive: tuple[str, ...] = (),
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
            role_arn=role_arn,
            session=session_name,
            source_identity=source_identity,
            tags=dict(tags or {}),
            transitive=transitive,
        )
        return self._temporary(principal, seconds)

    def renew(self, principal: Principal, *, seconds: int) -> AccessKey:
        """A temporary key of a user (GetSessionToken)."""
        return self._temporary(principal, seconds)

    def _temporary(self, principal: Principal, seconds: int) -> AccessKey:
        now = self.clock()
        key = _new_key("ASIA", principal, now, expires=now + seconds)
        with self._lock:
            self._forget(now - REMEMBERED)
            self._keys[key.id] = key
        return key

    def _forget(self, before: float) -> None:
        old = [k for k, v in self._keys.items() if v.expires is not None and v.expires < before]
        for key_id in old:
            del self._keys[key_id]


def _new_key(
    prefix: str, principal: Principal, now: float, *, expires: float | None = None
) -> AccessKey:
    return AccessKey(
        id=prefix + base64.b32encode(secrets.token_bytes(10)).decode(),
        secret=base64.b64encode(secrets.token_bytes(30)).decode(),
        principal=principal,
        token="" if expires is None else base64.b64encode(secrets.token_bytes(258)).decode(),
        issued=now,
        expires=expires,
    )


def _unique_id(prefix: str, arn: str) -> str:
    """AWS's unique id of a user or role: the same for the same ARN, at every start."""
    return prefix + base64.b32encode(hashlib.sha256(arn.encode()).digest())[:17].decode()
