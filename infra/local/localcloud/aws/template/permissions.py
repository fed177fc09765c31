"""What the template lets whom do: roles with their policies, and permissions of functions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.aws import iam
from localcloud.aws.template.expansion import TemplateError
from localcloud.world import AwsPolicy, AwsRole

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLE = {
    *("AssumeRolePolicyDocument", "Description", "ManagedPolicyArns", "MaxSessionDuration"),
    *("Path", "Policies", "RoleName", "Tags"),
}
_PERMISSION = {
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "InvokedViaFunctionUrl": ("Bool", "lambda:InvokedViaFunctionUrl"),
}
# What AddPermission takes: https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
_FORMS = {
    "Action": r"lambda:\*|lambda:[a-zA-Z]+|\*",
    "Principal": r"\S+",
    "SourceArn": r"arn:aws[a-zA-Z0-9-]*:[a-zA-Z0-9-]+:([a-z]{2}(-[a-z]+)+-\d)?:(\d{12})?:.*",
    "SourceAccount": r"\d{12}",
    "PrincipalOrgID": r"o-[a-z0-9]{10,32}",
    "FunctionUrlAuthType": r"NONE|AWS_IAM",
}


def role(name: str, role_name: str, properties: Mapping[str, Any]) -> AwsRole:
    """An AWS::IAM::Role of this logical id and name; raises TemplateError."""
    if unknown := properties.keys() - _ROLE:
        raise TemplateError(f"{name}: {min(unknown)} is not understood here")
    made = AwsRole(
        role_name=role_name,
        path=properties.get("Path", "/"),
        tags={str(each["Key"]): str(each["Value"]) for each in properties.get("Tags", [])},
        max_session_duration=int(properties.get("MaxSessionDuration", 3600)),
        assume_role_policy_document=properties["AssumeRolePolicyDocument"],
        policies=[inline(name, each) for each in properties.get("Policies", [])],
        managed_policy_arns=properties.get("ManagedPolicyArns", []),
    )
    try:
        iam.read(made.assume_role_policy_document, f"{name}'s trust", resource=True, trust=True)
        for policy in made.policies:
            iam.read(policy.policy_document, f"{name}'s {policy.policy_name}")
    except iam.PolicyError as refused:
        raise TemplateError(str(refused)) from refused
    for arn in made.managed_policy_arns:
        if arn not in iam.AWS_MANAGED:
            raise TemplateError(f"{name}: the managed policy {arn} is not known here")
    return made


def inline(name: str, properties: Mapping[str, Any]) -> AwsPolicy:
    """One entry of a role's Policies, or an AWS::IAM::Policy; raises TemplateError."""
    document, policy_name = properties.get("PolicyDocument"), properties.get("PolicyName")
    if not isinstance(document, dict) or not isinstance(policy_name, str):
        raise TemplateError(f"{name}: a policy has PolicyName and PolicyDocument")
    return AwsPolicy(policy_name, document)


def permission(name: str, arn: str, properties: Mapping[str, Any]) -> iam.Policy:
    """What an AWS::Lambda::Permission adds to the policy of a function or alias of this ARN."""
    known = {"Action", "FunctionName", "Principal", *_PERMISSION}
    if unknown := properties.keys() - known:
        raise TemplateError(f"{name}: {min(unknown)} is not understood here")
    for element, form in _FORMS.items():
        given = properties.get(element)
        if given is not None and not (isinstance(given, str) and re.fullmatch(form, given)):
            raise TemplateError(f"{name}: {element} {given!r} fails to satisfy pattern {form}")
    conditions: dict[str, dict[str, Any]] = {}
    for element, (operator, key) in _PERMISSION.items():
        if element in properties:
            conditions.setdefault(operator, {})[key] = properties[element]
    statement = {
        "Sid": name,
        "Effect": "Allow",
        "Principal": _principal(properties["Principal"]),
        "Action": properties["Action"],
        "Resource": arn,
        "Condition": conditions,
    }
    document = {"Version": "2012-10-17", "Statement": [statement]}
    try:
        return iam.read(document, name, resource=True)
    except iam.PolicyError as refused:
        raise TemplateError(str(refused)) from refused


def _principal(given: str) -> str | dict[str, str]:
    """Lambda takes a service, an account, an ARN or everybody."""
    if given == "*":
        return "*"
    return {"Service" if given.endswith(".amazonaws.com") else "AWS": given}
