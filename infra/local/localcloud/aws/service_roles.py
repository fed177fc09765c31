"""Whether a service of AWS may take on a role for a workload: the role's trust policy says so.

Lambda does it for a function, EC2 for an instance, ECS for a task; EKS Pod Identity also passes
session tags and needs leave for those too. ECS and EKS say for which resource of which account they
ask, so that a role need not trust them on behalf of others ("confused deputy").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.aws.authorization import DeniedError, Question, authorize_service
from localcloud.aws.identities import trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.aws.accounts import Accounts

LAMBDA = "lambda.amazonaws.com"
EC2 = "ec2.amazonaws.com"
ECS = "ecs-tasks.amazonaws.com"
EKS = "pods.eks.amazonaws.com"


def may_take_on(
    accounts: Accounts,
    service: str,
    role_arn: str,
    *,
    source: str = "",
    tags: Mapping[str, str] | None = None,
) -> bool:
    """Whether the role of this ARN trusts the service; there may be no such role.

    `source`: the ARN of what the service asks for, if it says so; `tags`: the session's.
    """
    role = accounts.role_of(role_arn)
    policies = [trust(role)] if role else []
    actions = ["sts:AssumeRole", *(["sts:TagSession"] if tags else [])]
    keys: dict[str, tuple[str, ...]] = {
        "aws:SourceArn": (source,) if source else (),
        "aws:SourceAccount": (accounts.aws.account,) if source else (),
        "aws:TagKeys": tuple(tags or {}),
        **{f"aws:RequestTag/{name}": (value,) for name, value in (tags or {}).items()},
    }
    try:
        for action in actions:
            question = Question(action, role_arn, keys, policies, trust=True)
            authorize_service(accounts, service, question)
    except DeniedError:
        return False
    return True
