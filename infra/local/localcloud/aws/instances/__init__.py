"""Where AWS's machines get their role's credentials: EC2 instances, ECS tasks and EKS pods."""

from localcloud.aws.instances import ec2, ecs, eks

SERVICES = (ec2.SERVICE, ecs.SERVICE, eks.SERVICE)
"""What each of them serves."""

__all__ = ["SERVICES", "ec2", "ecs", "eks"]
