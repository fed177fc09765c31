"""IAM of the embedded cloud: policies as AWS writes them, evaluated as AWS evaluates them.

`policy` reads documents, `conditions` compares, `evaluation` decides, `managed` holds the few
policies of AWS's own that are known here. Not modelled, and never assumed to allow: permissions
boundaries, session policies, policies of an organization (SCP, RCP) and of VPC endpoints.
Specification: "Policy evaluation logic" and "IAM JSON policy reference", IAM User Guide.
"""

from __future__ import annotations

from localcloud.aws.iam.evaluation import Asked, Decision, Kind, Requester, evaluate
from localcloud.aws.iam.managed import AWS_MANAGED
from localcloud.aws.iam.policy import Policy, PolicyError, read

__all__ = [
    "AWS_MANAGED",
    "Asked",
    "Decision",
    "Kind",
    "Policy",
    "PolicyError",
    "Requester",
    "evaluate",
    "read",
]
