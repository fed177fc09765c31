"""AWS identities and their access keys: what IAM and STS know about who signs a request.

Keys are random and made on demand; the world file holds none. Every temporary session carries a
token and an end, and is forgotten a while after it, so that an expired session is told apart from
an unknown key as AWS does. Roles are the world's and those of the deployed template; what each may
do stands in their policies alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localcloud.aws import iam
from localcloud.aws.template.expansion import TemplateError
from localcloud.world import AwsUser, WorldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from localcloud.world import Aws, AwsRole

REMEMBERED = 24 * 3600
_SESSION_SECONDS = 3600, 43200
# Characters of the inline policies together, and of a trust policy; white space does not count.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
_MAX_OF_USER, _MAX_OF_ROLE, _MAX_TRUST = 2048, 10240, 2048
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
            for user in aws.users:
                _policies(user)
            for role in aws.roles:
                _policies(role)
                self._check(role)
        except iam.PolicyError as refused:
            raise WorldError(f"aws: {refused}") from refused

    def deploy(self, roles: Iterable[AwsRole]) -> None:
        """Create or update the roles of a stack; raises TemplateError.

        A role that is not the stack's is never taken over, and none that is made now can trust
        itself by name.
        """
        roles = list(roles)
        for role in roles:
            if self.aws.role(role.role_name) is not None:
                raise TemplateError(
                    f"Resource of type 'AWS::IAM::Role' with identifier '{role.role_name}' already "
                    "exists: the world has a role of this name"
                )
            try:
                self._check(role, others=roles)
            except iam.PolicyError as refused:
                raise TemplateError(str(refused)) from refused
        with self._lock:
            self._deployed.update({role.role_name: role for role in roles})

    def _check(self, role: AwsRole, others: Iterable[AwsRole] = ()) -> None:
        """Whether IAM would make a role: whom it trusts in this account must be there already."""
        least, most = _SESSION_SECONDS
        if not least <= role.max_session_duration <= most:
            raise iam.PolicyError(f"{role.role_name}: MaxSessionDuration is {least} to {most}")
        roles = [*self.aws.roles, *self._deployed.values(), *others]
        known = {self.role_arn(each) for each in roles if each.role_name != role.role_name}
        known |= {self.user_arn(each) for each in self.aws.users}
        here = f"arn:aws:iam::{self.aws.account}:"
        for statement in trust(role).statements:
            for kind, name in statement.principals or ():
                if kind == "AWS" and name.startswith(here) and name not in {*known, f"{here}root"}:
                    raise iam.PolicyError(
                        f'{role.role_name}: Invalid principal in policy: "AWS":"{name}"'
                    )

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
        return f"arn:aws:iam::{self.aws.account}:role{role.path}{role.role_name}"

    def user_arn(self, user: AwsUser) -> str:
        """The ARN of a user of this account."""
        return f"arn:aws:iam::{self.aws.account}:user{user.path}{user.user_name}"

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
        return _policies(identity) if identity else []

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
        arn = self.user_arn(user)
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


def trust(role: AwsRole) -> iam.Policy:
    """A role's trust policy; raises PolicyError."""
    name = f"the trust policy of {role.role_name}"
    _check_size(name, [role.assume_role_policy_document], _MAX_TRUST)
    return iam.read(role.assume_role_policy_document, name, resource=True, trust=True)


def _policies(identity: AwsUser | AwsRole) -> list[iam.Policy]:
    name = identity.user_name if isinstance(identity, AwsUser) else identity.role_name
    unknown = [arn for arn in identity.managed_policy_arns if arn not in iam.AWS_MANAGED]
    if unknown:
        raise iam.PolicyError(f"{name}: the managed policy {unknown[0]} is not known here")
    most = _MAX_OF_USER if isinstance(identity, AwsUser) else _MAX_OF_ROLE
    _check_size(name, [each.policy_document for each in identity.policies], most)
    inline = [
        iam.read(each.policy_document, f"{each.policy_name} of {name}")
        for each in identity.policies
    ]
    managed = [iam.read(iam.AWS_MANAGED[arn], arn) for arn in identity.managed_policy_arns]
    return [*inline, *managed]


def _check_size(name: str, documents: Iterable[object], most: int) -> None:
    if sum(len(json.dumps(each, separators=(",", ":"))) for each in documents) > most:
        raise iam.PolicyError(f"{name}: Maximum policy size of {most} bytes exceeded")


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
