"""Where AWS's machines get their role's credentials: EC2 instances, ECS tasks and EKS pods."""

from localcloud.aws.instances.containers import (
    POD_ADDRESS,
    POD_AUDIENCE,
    POD_PATH,
    POD_TOKEN_SECONDS,
    TASK_ADDRESS,
    PodIdentity,
    Task,
    eks_issuer,
)
from localcloud.aws.instances.metadata import ADDRESS, Instance

__all__ = [
    "ADDRESS",
    "POD_ADDRESS",
    "POD_AUDIENCE",
    "POD_PATH",
    "POD_TOKEN_SECONDS",
    "TASK_ADDRESS",
    "Instance",
    "PodIdentity",
    "Task",
    "eks_issuer",
]
