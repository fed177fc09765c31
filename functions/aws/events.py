"""Lambda events -> HttpRequest: API Gateway's two payloads, Function URLs, direct invokes.

What an event says of its caller is believed only for the configured gateway (`caller.aws`): whoever
may invoke the function can write any event. So an event is read field by field, and one that is not
what a gateway sends raises InvalidRequest and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tokenvend.errors import InvalidRequest
from tokenvend.model import AwsIamIdentity, AwsJwtIdentity, HttpRequest, LambdaInvocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.model import PlatformIdentity

OPERATIONS = ("access-token", "id-token")


def is_direct(event: Any) -> bool:
    """Whether nobody but a direct invoke sends this: no gateway, so no statuses to answer with."""
    return not isinstance(event, dict) or "requestContext" not in event


def request_of(event: Any, function_arn: str, request_id: str) -> HttpRequest | InvalidRequest:
    """The request that an event is, or why it cannot be read: that is answered and recorded too.

    `function_arn`: what was invoked, `request_id`: Lambda's own id of a direct invoke.
    """
    try:
        if is_direct(event):
            return _from_direct(event, function_arn, request_id)
        if event.get("version") == "2.0":
            return _from_payload_2(event, function_arn)
        return _from_payload_1(event, function_arn)
    except InvalidRequest as unreadable:
        return unreadable


def _from_direct(event: Any, function_arn: str, request_id: str) -> HttpRequest:
    """`{"operation": "access-token" or "id-token", ...}`: the same body as over HTTP."""
    operation = event.get("operation") if isinstance(event, dict) else None
    if operation not in OPERATIONS:
        raise InvalidRequest(f"Send an object whose `operation` is {' or '.join(OPERATIONS)}.")
    body = {name: value for name, value in event.items() if name != "operation"}
    return HttpRequest(
        method="POST",
        path=f"/v1/{operation}",
        headers={"content-type": "application/json"},
        body=json.dumps(body).encode(),
        platform=LambdaInvocation(function_arn),
        platform_request_id=request_id,
    )


def _from_payload_2(event: Mapping[str, Any], function_arn: str) -> HttpRequest:
    """HTTP APIs and Function URLs.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """
    gateway = _member(event, "requestContext", dict)
    path = _member(event, "rawPath", str)
    if ".lambda-url." in _member(gateway, "domainName", str, ""):
        # An HTTP API decodes the path, a Function URL does not.
        path = unquote(path)
    stage = _member(gateway, "stage", str)
    if stage != "$default":
        path = path.removeprefix(f"/{stage}")
    headers, http = _member(event, "headers", dict, {}), _member(gateway, "http", dict)
    return HttpRequest(
        method=_member(http, "method", str),
        path=path,
        headers=_lowered({name: _member(headers, name, str) for name in headers}),
        body=_body(event),
        platform=_authorized(gateway, function_arn),
        platform_request_id=_member(gateway, "requestId", str),
        source=_member(http, "sourceIp", str, ""),
    )


def _from_payload_1(event: Mapping[str, Any], function_arn: str) -> HttpRequest:
    """REST APIs, private ones too.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
    """
    gateway = _member(event, "requestContext", dict)
    identity = _member(gateway, "identity", dict, {})
    headers = _member(event, "multiValueHeaders", dict, {})
    return HttpRequest(
        method=_member(event, "httpMethod", str),
        path=unquote(_member(event, "path", str)),
        headers=_lowered({name: ", ".join(_texts(headers, name)) for name in headers}),
        body=_body(event),
        platform=_signer(identity, gateway, function_arn) if identity.get("userArn") else None,
        platform_request_id=_member(gateway, "requestId", str),
        source=_member(identity, "sourceIp", str, ""),
    )


def _authorized(gateway: Mapping[str, Any], function_arn: str) -> PlatformIdentity | None:
    authorizer = _member(gateway, "authorizer", dict, {})
    if "iam" in authorizer:
        return _signer(_member(authorizer, "iam", dict), gateway, function_arn)
    if "jwt" in authorizer:
        claims = _member(_member(authorizer, "jwt", dict), "claims", dict)
        return AwsJwtIdentity(
            claims={name: str(value) for name, value in claims.items()},
            api_id=_member(gateway, "apiId", str),
            api_account=_member(gateway, "accountId", str),
            function_arn=function_arn,
        )
    return None


def _signer(
    identity: Mapping[str, Any], gateway: Mapping[str, Any], function_arn: str
) -> AwsIamIdentity:
    return AwsIamIdentity(
        principal_arn=_member(identity, "userArn", str),
        account=_member(identity, "accountId", str),
        api_id=_member(gateway, "apiId", str),
        api_account=_member(gateway, "accountId", str),
        organization=_member(identity, "principalOrgId", str, ""),
        function_arn=function_arn,
    )


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    if len(lowered) != len(headers):
        # One reader would take the first, another the last.
        raise InvalidRequest("The request names a header in two spellings.")
    return lowered


def _body(event: Mapping[str, Any]) -> bytes:
    text = _member(event, "body", str, "")
    try:
        if event.get("isBase64Encoded"):
            return base64.b64decode(text, validate=True)
        return text.encode()
    except (binascii.Error, ValueError):
        raise InvalidRequest("The event's body is not Base64.") from None


def _member[T](event: Mapping[str, Any], name: str, kind: type[T], default: T | None = None) -> T:
    value = event.get(name)
    # A gateway writes null where it has nothing to say.
    if value is None and default is not None:
        return default
    if not isinstance(value, kind):
        raise _not_an_event(name)
    return value


def _texts(event: Mapping[str, Any], name: str) -> list[str]:
    values = event[name]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _not_an_event(name)
    return values


def _not_an_event(name: str) -> InvalidRequest:
    return InvalidRequest(
        "The event is none that API Gateway or a Function URL sends.",
        cause=f"its {name[:40]!r} is missing or of another type",
    )
