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
class GatewayBinding:
    """Whose events count: the account that owns the APIs (12 digits), and the APIs' ids.

    For a Function URL the id is the first label of its host name. `alias`: the one that the
    gateways invoke, empty where they invoke the function itself.
    """

    account: str
    api_ids: frozenset[str]
    alias: str = ""


@dataclass(frozen=True, slots=True)
class FunctionBinding:
    """The function whose aliases are callers: its account (12 digits) and name."""

    account: str
    function_name: str


def check_gateway(
    identity: AwsIamIdentity | AwsJwtIdentity, binding: GatewayBinding | None
) -> None:
    """Whether our own gateway made the event. Raises Unauthenticated."""
    ours = (
        binding is not None
        and identity.api_id in binding.api_ids
        and identity.api_account == binding.account
    )
    if not ours:
        raise Unauthenticated(_DETAIL_GATEWAY, cause="event not from our gateway")
    # An alias is a caller of its own: who may invoke `function:etl` and nothing else could write
    # an event of our API's in the name of anybody.
    _, _, qualifier = identity.function_arn.partition(":function:")[2].partition(":")
    if binding is not None and qualifier != binding.alias:
        cause = "gateway event through a qualifier that the gateway does not invoke"
        raise Unauthenticated(_DETAIL_GATEWAY, cause=cause)


def iam_caller(identity: AwsIamIdentity, binding: GatewayBinding | None) -> AwsCaller:
    """The IAM principal that signed the request. Raises Unauthenticated."""
    check_gateway(identity, binding)
    return principal(identity.principal_arn, identity.account, identity.organization)


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


def lambda_caller(invocation: LambdaInvocation, binding: FunctionBinding | None) -> LambdaCaller:
    """The alias that was invoked. Raises Unauthenticated."""
    invoked = LAMBDA_ARN.fullmatch(invocation.function_arn)
    ours = (
        binding is not None
        and invoked is not None
        and invoked["account"] == binding.account
        and invoked["name"] == binding.function_name
    )
    if invoked is None or not ours:
        raise Unauthenticated(_DETAIL_INVOKE, cause="invoked ARN is not our function's")
    qualifier = invoked["qualifier"] or ""
    if not LAMBDA_ALIAS.fullmatch(qualifier):
        raise Unauthenticated(_DETAIL_INVOKE, cause="invoked without an alias")
    return LambdaCaller(alias=qualifier, account=invoked["account"])
