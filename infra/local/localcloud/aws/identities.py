"""Users and roles as IAM would make them: their policies read, and what it refuses.

Names are told apart by more than their case, policies have a longest size, and whom a role trusts
in its own account must be there already, so that a new role cannot name itself.
Specification: CreateRole and PutRolePolicy, IAM API Reference; "IAM and AWS STS quotas".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from localcloud.aws import iam
from localcloud.world import AwsRole, AwsUser

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAME, _PATH = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII), re.compile("/|/[!-~]{1,510}/")
_SESSION_SECONDS = 3600, 43200
# Characters of the inline policies together, and of a trust policy; white space does not count.
_MAX_OF_USER, _MAX_OF_ROLE, _MAX_TRUST = 2048, 10240, 2048


def identity_arn(account: str, identity: AwsUser | AwsRole) -> str:
    """The ARN of a user or role of an account."""
    kind = "user" if isinstance(identity, AwsUser) else "role"
    return f"arn:aws:iam::{account}:{kind}{identity.path}{_name(identity)}"


def trust(role: AwsRole) -> iam.Policy:
    """A role's trust policy; raises PolicyError."""
    name = f"the trust policy of {role.role_name}"
    _check_size(name, [role.assume_role_policy_document], _MAX_TRUST)
    return iam.read(role.assume_role_policy_document, name, resource=True, trust=True)


def policies(identity: AwsUser | AwsRole) -> list[iam.Policy]:
    """What the identity may do, inline and by managed policies; raises PolicyError."""
    name = _name(identity)
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


def check(account: str, users: Sequence[AwsUser], roles: Sequence[AwsRole]) -> None:
    """Whether an account may hold these; raises PolicyError."""
    everybody: list[AwsUser | AwsRole] = [*users, *roles]
    for kind in (AwsUser, AwsRole):
        names = [_name(each) for each in everybody if isinstance(each, kind)]
        if len({name.lower() for name in names}) < len(names):
            raise iam.PolicyError(f"EntityAlreadyExists: two of {', '.join(names)} share a name")
    for identity in everybody:
        name = _name(identity)
        if not _NAME.fullmatch(name) or not _PATH.fullmatch(identity.path):
            raise iam.PolicyError(f"{identity.path}{name}: no user or role has such a path or name")
        policies(identity)
    arns = {identity_arn(account, each) for each in everybody}
    for role in roles:
        least, most = _SESSION_SECONDS
        if not least <= role.max_session_duration <= most:
            raise iam.PolicyError(f"{role.role_name}: MaxSessionDuration is {least} to {most}")
        _check_trusted(role, account, arns - {identity_arn(account, role)})


def _check_trusted(role: AwsRole, account: str, there: set[str]) -> None:
    here = f"arn:aws:iam::{account}:"
    for statement in trust(role).statements:
        for kind, name in statement.principals or ():
            if kind == "AWS" and name.startswith(here) and name not in {*there, f"{here}root"}:
                raise iam.PolicyError(
                    f'{role.role_name}: Invalid principal in policy: "AWS":"{name}"'
                )


def _check_size(name: str, documents: Iterable[object], most: int) -> None:
    if sum(len(json.dumps(each, separators=(",", ":"))) for each in documents) > most:
        raise iam.PolicyError(f"{name}: Maximum policy size of {most} bytes exceeded")


def _name(identity: AwsUser | AwsRole) -> str:
    return identity.user_name if isinstance(identity, AwsUser) else identity.role_name
