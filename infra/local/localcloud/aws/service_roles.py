"""Whether a service of AWS may take on a role for a workload: the role's trust policy says so.

Lambda does it for a function, EC2 for an instance, ECS for a task; EKS Pod Identity also passes
session tags and needs leave for those too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.aws.accounts import trust
from localcloud.aws.authorization import DeniedError, Question, authorize_service

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts

LAMBDA = "lambda.amazonaws.com"
EC2 = "ec2.amazonaws.com"
ECS = "ecs-tasks.amazonaws.com"
EKS = "pods.eks.amazonaws.com"


def may_take_on(accounts: Accounts, service: str, role_arn: str) -> bool:
    """Whether the role of this ARN trusts the service; there may be no such role."""
    role = accounts.role_of(role_arn)
    policies = [trust(role)] if role else []
    actions = ["sts:AssumeRole", "sts:TagSession"] if service == EKS else ["sts:AssumeRole"]
    try:
        for action in actions:
            question = Question(action, role_arn, policies=policies, trust=True)
            authorize_service(accounts, service, question)
    except DeniedError:
        return False
    return True
