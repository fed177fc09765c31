"""What of a template nobody here plays, and what a deployment would refuse or leave dead.

Of the services that decide who reaches the function, every resource and property is known here or
is an error that names it: what is skipped would pass here and act there. Resources of other
services, such as alarms, are left alone.
Specification: AWS CloudFormation Template Reference Guide; "Quotas for HTTP APIs", API Gateway;
"Lambda quotas" and "Defined runtime environment variables", AWS Lambda Developer Guide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from localcloud.aws.template.expansion import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping

RUNTIME = "python3.13"
_DECIDING = ("AWS::ApiGateway", "AWS::IAM::", "AWS::Lambda::", "AWS::Serverless::")
# By type: the properties that are read, or say nothing that could be played; None for those whose
# readers refuse others themselves.
_KNOWN: Final[dict[str, frozenset[str] | None]] = {
    "AWS::ApiGatewayV2::Api": frozenset(
        {"Body", "Description", "DisableExecuteApiEndpoint", "Name", "ProtocolType", "Tags"}
    ),
    "AWS::ApiGatewayV2::Integration": frozenset(
        (
            *("ApiId", "ConnectionType", "Description", "IntegrationMethod", "IntegrationType"),
            *("IntegrationUri", "PayloadFormatVersion", "TimeoutInMillis"),
        )
    ),
    "AWS::ApiGatewayV2::Route": frozenset(
        {"ApiId", "AuthorizationType", "OperationName", "RouteKey", "Target"}
    ),
    "AWS::ApiGatewayV2::Stage": frozenset(
        (
            *("AccessLogSettings", "ApiId", "AutoDeploy", "DefaultRouteSettings", "DeploymentId"),
            *("Description", "RouteSettings", "StageName", "Tags"),
        )
    ),
    "AWS::ApiGatewayV2::Deployment": None,
    "AWS::IAM::Policy": frozenset({"PolicyDocument", "PolicyName", "Roles"}),
    "AWS::IAM::Role": None,
    "AWS::Lambda::Alias": frozenset({"Description", "FunctionName", "FunctionVersion", "Name"}),
    "AWS::Lambda::Function": None,
    "AWS::Lambda::Permission": None,
    "AWS::Lambda::Url": frozenset({"AuthType", "Qualifier", "TargetFunctionArn"}),
    "AWS::Lambda::Version": frozenset({"Description", "FunctionName"}),
}
_MILLISECONDS = 50, 30_000
# Of a function: seconds, MB, and the bytes of its environment's names and values.
_LIMITS: Final = {"Timeout": (1, 900), "MemorySize": (128, 10_240)}
_MAX_VARIABLES = 4096
_RESERVED = frozenset(
    (
        *("_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV"),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
        *("AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE"),
        *("AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API"),
        *("AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR"),
    )
)


def decides(kind: str) -> bool:
    """Whether resources of a type have a say in who reaches the function."""
    return kind.startswith(_DECIDING)


def check(name: str, kind: str, properties: Mapping[str, Any]) -> None:
    """Whether a resource, its properties resolved, can be played; raises TemplateError."""
    if kind not in _KNOWN:
        if decides(kind):
            raise TemplateError(f"{name}: {kind} is not understood here")
        return
    known = _KNOWN[kind]
    if known is not None and (unknown := properties.keys() - known):
        raise TemplateError(f"{name}: {min(unknown)} is not understood here")
    match kind:
        case "AWS::ApiGatewayV2::Api" if _is_true(properties.get("DisableExecuteApiEndpoint")):
            raise TemplateError(f"{name}: its only endpoint is disabled")
        case "AWS::ApiGatewayV2::Stage" if not (
            _is_true(properties.get("AutoDeploy")) or properties.get("DeploymentId")
        ):
            raise TemplateError(f"{name}: nothing is ever deployed to the stage")
        case "AWS::ApiGatewayV2::Integration":
            least, most = _MILLISECONDS
            if not least <= int(properties.get("TimeoutInMillis", most)) <= most:
                raise TemplateError(f"{name}: TimeoutInMillis is {least} to {most}")
        case "AWS::Lambda::Function":
            _check_function(name, properties)


def _check_function(name: str, properties: Mapping[str, Any]) -> None:
    if properties.get("Runtime") != RUNTIME:
        raise TemplateError(f"{name}: functions run on {RUNTIME} here")
    if int(properties.get("ReservedConcurrentExecutions", 1)) < 1:
        raise TemplateError(f"{name}: nobody can invoke it without concurrency")
    if "Layers" in properties:
        raise TemplateError(f"{name}: Layers are not understood here")
    for element, (least, most) in _LIMITS.items():
        if not least <= int(properties.get(element, least)) <= most:
            raise TemplateError(f"{name}: {element} is {least} to {most}")
    variables = properties.get("Environment", {}).get("Variables", {})
    if reserved := [each for each in variables if each in _RESERVED]:
        raise TemplateError(f"{name}: {min(reserved)} is reserved for Lambda's own use")
    size = sum(len(f"{key}{value}".encode()) for key, value in variables.items())
    if size > _MAX_VARIABLES:
        raise TemplateError(f"{name}: {size} bytes of environment, of {_MAX_VARIABLES} at most")


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"
