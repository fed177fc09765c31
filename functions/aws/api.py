"""The AWS function: API Gateway (HTTP and REST), Function URL and direct invoke, one handler.

An event becomes an `HttpRequest`; everything that is decided is decided in the core. What an
event says of its caller is believed only for the configured gateway: whoever may invoke the
function can write any event.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

from tokenvend import app, redaction
from tokenvend.errors import InvalidRequest
from tokenvend.http import outcome_of
from tokenvend.model import AwsIamIdentity, AwsJwtIdentity, HttpRequest, LambdaInvocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from tokenvend.model import HttpResponse, PlatformIdentity

OPERATIONS = ("access-token", "id-token")

logger = Logger(service="tokenvend")
redaction.install(logging.getLogger(), logging.getLogger("tokenvend"))
metrics = Metrics(namespace="tokenvend", service="tokenvend")


class LogSink:
    """Audit records as structured log lines, and what they count as metrics (EMF)."""

    def write(self, record: Mapping[str, Any]) -> None:
        """One line and one metric set for each record."""
        logger.info("audit", audit=record)
        metrics.add_dimension(name="route", value=record["route"] or "none")
        metrics.add_metric(name=record["outcome"], unit=MetricUnit.Count, value=1)
        metrics.add_metric(
            name="latency",
            unit=MetricUnit.Microseconds,
            value=record["durations_us"]["total"],
        )
        if record["policy_checked_at"]:
            metrics.add_metric(
                name="policy_age",
                unit=MetricUnit.Seconds,
                value=max(0, int(time.time()) - record["policy_checked_at"]),
            )
        if record["cache"]:
            metrics.add_metric(name=f"cache_{record['cache']}", unit=MetricUnit.Count, value=1)
        metrics.flush_metrics()


api = app.build_aws(os.environ, sink=LogSink(), report=logger.warning)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Lambda's entry: a gateway's event -> its answer; a direct invoke -> the answer's body.

    A direct invoke that fails raises, so that Step Functions can match the error's class name.
    """
    if "operation" in event and "requestContext" not in event:
        answer: dict[str, Any] = outcome_of(api.handle(_invoked(event, context)))
        return answer
    if event.get("version") == "2.0":
        return _to_gateway(api.handle(_from_payload_2(event, context)))
    if "httpMethod" in event and "requestContext" in event:
        return _to_gateway(api.handle(_from_payload_1(event, context)))
    msg = (
        "The event is no API Gateway or Function URL request. To invoke directly send "
        '{"operation": "access-token" or "id-token", ...}.'
    )
    raise InvalidRequest(msg)


def _invoked(event: Mapping[str, Any], context: LambdaContext) -> HttpRequest:
    operation = event["operation"]
    if operation not in OPERATIONS:
        msg = f"`operation` must be one of {', '.join(OPERATIONS)}."
        raise InvalidRequest(msg)
    body = {name: value for name, value in event.items() if name != "operation"}
    return HttpRequest(
        method="POST",
        path=f"/v1/{operation}",
        headers={"content-type": "application/json"},
        body=json.dumps(body).encode(),
        platform=LambdaInvocation(context.invoked_function_arn),
        platform_request_id=context.aws_request_id,
    )


def _from_payload_2(event: Mapping[str, Any], context: LambdaContext) -> HttpRequest:
    """HTTP API and Function URL events.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    gateway = event["requestContext"]
    path = event["rawPath"]
    if ".lambda-url." in gateway.get("domainName", ""):
        # An HTTP API decodes the path, a Function URL does not.
        path = unquote(path)
    stage = gateway["stage"]
    if stage != "$default":
        path = path.removeprefix(f"/{stage}")
    return HttpRequest(
        method=gateway["http"]["method"],
        path=path,
        headers={name.lower(): value for name, value in event.get("headers", {}).items()},
        body=_body(event),
        platform=_authorized(gateway, context.invoked_function_arn),
        platform_request_id=gateway["requestId"],
    )


def _from_payload_1(event: Mapping[str, Any], context: LambdaContext) -> HttpRequest:
    """REST API events, private APIs too.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
    """
    gateway = event["requestContext"]
    headers = event.get("multiValueHeaders") or {}
    return HttpRequest(
        method=event["httpMethod"],
        path=unquote(event["path"]),
        headers={name.lower(): ", ".join(values) for name, values in headers.items()},
        body=_body(event),
        platform=_identified(gateway, context.invoked_function_arn),
        platform_request_id=gateway["requestId"],
    )


def _authorized(gateway: Mapping[str, Any], function_arn: str) -> PlatformIdentity | None:
    authorizer = gateway.get("authorizer") or {}
    if "iam" in authorizer:
        iam = authorizer["iam"]
        return AwsIamIdentity(
            principal_arn=iam["userArn"],
            account=iam["accountId"],
            api_id=gateway["apiId"],
            api_account=gateway["accountId"],
            organization=iam.get("principalOrgId") or "",
            function_arn=function_arn,
        )
    if "jwt" in authorizer:
        return AwsJwtIdentity(
            claims={name: str(value) for name, value in authorizer["jwt"]["claims"].items()},
            api_id=gateway["apiId"],
            api_account=gateway["accountId"],
            function_arn=function_arn,
        )
    return None


def _identified(gateway: Mapping[str, Any], function_arn: str) -> PlatformIdentity | None:
    identity = gateway.get("identity") or {}
    if not identity.get("userArn"):
        return None
    return AwsIamIdentity(
        principal_arn=identity["userArn"],
        account=identity["accountId"],
        api_id=gateway["apiId"],
        api_account=gateway["accountId"],
        organization=identity.get("principalOrgId") or "",
        function_arn=function_arn,
    )


def _body(event: Mapping[str, Any]) -> bytes:
    text = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        msg = "The event's body is not Base64."
        raise InvalidRequest(msg) from None


def _to_gateway(response: HttpResponse) -> dict[str, Any]:
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
