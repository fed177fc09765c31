"""The policies of AWS's own that are known here, by their ARN behind the partition.

A role with any other one is an error: to skip it would be to guess.
https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
"""

from __future__ import annotations

from typing import Any, Final


def _allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


_LOGS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_INTERFACE = ("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface")
_ADDRESSES = ("ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses")
_AGENT = (
    *("ssm:DescribeAssociation", "ssm:GetDeployablePatchSnapshotForInstance", "ssm:GetDocument"),
    *("ssm:DescribeDocument", "ssm:GetManifest", "ssm:GetParameter", "ssm:GetParameters"),
    *("ssm:ListAssociations", "ssm:ListInstanceAssociations", "ssm:PutInventory"),
    *("ssm:PutComplianceItems", "ssm:PutConfigurePackageResult", "ssm:UpdateAssociationStatus"),
    *("ssm:UpdateInstanceAssociationStatus", "ssm:UpdateInstanceInformation"),
    *("ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel"),
    *("ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"),
    *("ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage"),
    *("ec2messages:GetEndpoint", "ec2messages:GetMessages", "ec2messages:SendReply"),
)

AWS_MANAGED: Final[dict[str, dict[str, Any]]] = {
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole": _allow(*_LOGS),
    "arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole": _allow(
        "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", *_LOGS
    ),
    "arn:aws:iam::aws:policy/service-role/AWSLambdaVPCAccessExecutionRole": _allow(
        *_LOGS, *_INTERFACE, "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", *_ADDRESSES
    ),
    "arn:aws:iam::aws:policy/service-role/AWSLambdaRole": _allow("lambda:InvokeFunction"),
    "arn:aws:iam::aws:policy/AmazonAPIGatewayInvokeFullAccess": _allow(
        "execute-api:Invoke",
        "execute-api:ManageConnections",
        resource="arn:aws:execute-api:*:*:*",
    ),
    "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore": _allow(*_AGENT),
    "arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess": _allow(
        "ssm:Describe*", "ssm:Get*", "ssm:List*"
    ),
    "arn:aws:iam::aws:policy/AWSXRayDaemonWriteAccess": _allow(
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
        "xray:GetSamplingRules",
        "xray:GetSamplingTargets",
        "xray:GetSamplingStatisticSummaries",
    ),
    "arn:aws:iam::aws:policy/AdministratorAccess": _allow("*"),
}
