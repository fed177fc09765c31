"""Callers whom AWS authenticated: SigV4 at API Gateway or a Function URL, or a direct invoke.

Whoever may invoke the function can write an event that looks like API Gateway's, so an event counts
only where it names a configured API and the gateway's own account; the resource policy has to keep
others from invoking at all. Refused: an ARN that is not exactly an assumed role's or a user's
(root, federated users, unknown partitions), and an invoke through anything but an alias (a version
or $LATEST is nobody's name). IAM identifiers: AWS IAM User Guide, "IAM identifiers".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenvend.errors import Unauthenticated
from tokenvend.identifiers import (
    AWS_ORGANIZATION,
    AWS_SESSION_ARN,
    AWS_USER_ARN,
    LAMBDA_ALIAS,
    LAMBDA_ARN,
)
from tokenvend.model import AwsCaller, LambdaCaller

if TYPE_CHECKING:
    from tokenvend.model import AwsIamIdentity, AwsJwtIdentity, LambdaInvocation

_DETAIL_GATEWAY = (
    "Call this endpoint through its API, with a request signed (SigV4) by an IAM role or user."
)
_DETAIL_PRINCIPAL = "Sign with the credentials of an IAM role or user: nobody else may call."
_DETAIL_INVOKE = "Invoke one of the function's aliases: the alias says who is calling."


@dataclass(frozen=True, slots=True)
class OwnFunction:
    """The function that we are, whose aliases are callers; empty: nothing on AWS is believed.

    `account`: its own and its gateways', 12 digits. `api_ids`: of the APIs whose events count, for
    a Function URL the first label of its host name. `alias`: the one that they invoke, empty where
    they invoke the function itself.
    """

    account: str = ""
    name: str = ""
    api_ids: frozenset[str] = frozenset()
    alias: str = ""


def check_gateway(identity: AwsIamIdentity | AwsJwtIdentity, own: OwnFunction) -> None:
    """Whether our own gateway made the event. Raises Unauthenticated."""
    if identity.api_id not in own.api_ids or identity.api_account != own.account:
        raise Unauthenticated(_DETAIL_GATEWAY, cause="event not from our gateway")
    # An alias is a caller of its own: who may invoke `function:etl` and nothing else could write
    # an event of our API's in the name of anybody.
    _, _, qualifier = identity.function_arn.partition(":function:")[2].partition(":")
    if qualifier != own.alias:
        cause = "gateway event through a qualifier that the gateway does not invoke"
        raise Unauthenticated(_DETAIL_GATEWAY, cause=cause)


def principal(arn: str, account: str, organization: str = "") -> AwsCaller:
    """The caller behind an ARN and account as AWS STS tells them. Raises Unauthenticated."""
    role = AWS_SESSION_ARN.fullmatch(arn)
    match = role or AWS_USER_ARN.fullmatch(arn)
    if match is None:
        raise Unauthenticated(_DETAIL_PRINCIPAL, cause="principal is neither a role nor a user")
    if match["account"] != account:
        raise Unauthenticated(_DETAIL_PRINCIPAL, cause="principal's account differs from its ARN's")
    # An organisation that is none fits no condition.
    if not AWS_ORGANIZATION.fullmatch(organization):
        organization = ""
    if role is None:
        return AwsCaller(arn, account, organization=organization)
    return AwsCaller(
        arn=f"arn:{role['partition']}:iam::{account}:role/{role['role']}",
        account=account,
        role_name=role["role"],
        session=role["session"],
        organization=organization,
    )


def lambda_caller(invocation: LambdaInvocation, own: OwnFunction) -> LambdaCaller:
    """The alias that was invoked. Raises Unauthenticated."""
    invoked = LAMBDA_ARN.fullmatch(invocation.function_arn)
    if invoked is None or (invoked["account"], invoked["name"]) != (own.account, own.name):
        raise Unauthenticated(_DETAIL_INVOKE, cause="invoked ARN is not our function's")
    qualifier = invoked["qualifier"] or ""
    if not LAMBDA_ALIAS.fullmatch(qualifier):
        raise Unauthenticated(_DETAIL_INVOKE, cause="invoked without an alias")
    return LambdaCaller(alias=qualifier, account=own.account)
