"""API Gateway's events and answers: a request to a Lambda event, a Lambda result to a response.

Payload 2.0 is what HTTP APIs and Function URLs send, 1.0 what REST APIs send. What differs between
them is kept: an HTTP API hands the path on decoded and lets everything after a decoded `?` go,
REST APIs and Function URLs keep it encoded. Only a signature that was verified fills the identity
fields; a header that imitates one stays a header.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.aws.sigv4 import Signed

_TEXT = re.compile(r"text/.*|application/(json|javascript|xml|.*\+json|.*\+xml)", re.IGNORECASE)
_NOT_OURS = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"}


class BadResultError(ValueError):
    """The function's result is not one that the gateway can answer with."""


@dataclass(frozen=True)
class Arrival:
    """A request as the gateway took it in.

    `account` is what the event shows as its account; `now` is epoch seconds; `route` the key or
    resource that matched; `signed` None when the route asks for no signature.
    """

    request: Request
    account: str
    organization: str
    domain: str
    stage: str
    route: str
    now: float
    parameters: dict[str, str] = field(default_factory=dict)
    signed: Signed | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def api_id(self) -> str:
        """The first label of the door's hostname: the API's or the Function URL's id."""
        return self.domain.partition(".")[0]


def version_2(arrival: Arrival, *, decoded_path: bool) -> dict[str, Any]:
    """The event of payload format 2.0; `decoded_path` as HTTP APIs do it."""
    request = arrival.request
    path = unquote(request.path).partition("?")[0] if decoded_path else request.path
    lowered = _joined(request)
    cookies = [c for value in request.headers.all("Cookie") for c in value.split("; ")]
    lowered.pop("cookie", None)
    forwarded = ",".join([*request.headers.all("X-Forwarded-For"), request.peer])
    body, encoded = _body(request)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": arrival.route,
        "rawPath": path,
        "rawQueryString": request.query,
        "headers": {**lowered, **_added(arrival, forwarded)},
        "requestContext": {
            "accountId": arrival.account,
            "apiId": arrival.api_id,
            "domainName": arrival.domain,
            "domainPrefix": arrival.api_id,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": request.peer,
                "userAgent": request.headers.get("User-Agent"),
            },
            "requestId": arrival.id,
            "routeKey": arrival.route,
            "stage": arrival.stage,
            "time": _common_log_time(arrival.now),
            "timeEpoch": int(arrival.now * 1000),
        },
        "isBase64Encoded": encoded,
    }
    if cookies:
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _query_joined(request)
    if arrival.parameters:
        event["pathParameters"] = arrival.parameters
    if request.body:
        event["body"] = body
    if arrival.signed is not None:
        event["requestContext"]["authorizer"] = {"iam": _iam(arrival, arrival.signed)}
    return event


def version_1(arrival: Arrival) -> dict[str, Any]:
    """The event of payload format 1.0, as a REST API's proxy integration sends it."""
    request = arrival.request
    path = request.path
    many: dict[str, list[str]] = {}
    for name, value in request.headers.fields:
        many.setdefault(name, []).append(value)
    forwarded = ", ".join([*request.headers.all("X-Forwarded-For"), request.peer])
    many = {k: v for k, v in many.items() if not k.lower().startswith("x-forwarded-")}
    for name, value in _added(arrival, forwarded).items():
        many["-".join(part.capitalize() for part in name.split("-"))] = [value]
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    return {
        "resource": arrival.route,
        "path": path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in many.items()},
        "multiValueHeaders": many,
        "queryStringParameters": {k: v[-1] for k, v in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": arrival.parameters or None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": secrets.token_hex(3),
            "resourcePath": arrival.route,
            "httpMethod": request.method,
            "extendedRequestId": base64.b64encode(secrets.token_bytes(9)).decode(),
            "requestTime": _common_log_time(arrival.now),
            "path": f"/{arrival.stage}{path}",
            "accountId": arrival.account,
            "protocol": "HTTP/1.1",
            "stage": arrival.stage,
            "domainPrefix": arrival.api_id,
            "requestTimeEpoch": int(arrival.now * 1000),
            "requestId": arrival.id,
            "identity": _identity(arrival),
            "domainName": arrival.domain,
            "apiId": arrival.api_id,
        },
        # A REST API without binary media types takes every body for text.
        "body": request.body.decode(errors="replace") or None,
        "isBase64Encoded": False,
    }


def answer_2(payload: bytes) -> Response:
    """A result of payload format 2.0 as a response; raises BadResultError."""
    result = _result(payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        return Response(200, json.dumps(result).encode(), (("Content-Type", "application/json"),))
    fields = [(k, str(v)) for k, v in _mapping(result, "headers").items()]
    fields += [("Set-Cookie", str(cookie)) for cookie in result.get("cookies") or []]
    return _response(result, fields, binary=bool(result.get("isBase64Encoded")))


def answer_1(payload: bytes) -> Response:
    """A result of payload format 1.0 as a response; raises BadResultError."""
    result = _result(payload)
    if not isinstance(result, dict) or "statusCode" not in result:
        raise BadResultError("the result has no statusCode")
    many = {k: v for k, v in _mapping(result, "multiValueHeaders").items() if isinstance(v, list)}
    single = _mapping(result, "headers")
    listed = {name.lower() for name in many}
    fields = [(k, str(v)) for k, v in single.items() if k.lower() not in listed]
    fields += [(k, str(v)) for k, values in many.items() for v in values]
    # Without binary media types base64 goes out as it is, whatever isBase64Encoded says.
    return _response(result, fields, binary=False)


def _iam(arrival: Arrival, signed: Signed) -> dict[str, Any]:
    who = signed.principal
    return {
        "accessKey": signed.key.id,
        "accountId": who.account,
        "callerId": who.user_id,
        "cognitoIdentity": None,
        "principalOrgId": arrival.organization,
        "userArn": who.arn,
        "userId": who.user_id,
    }


def _identity(arrival: Arrival) -> dict[str, Any]:
    blank = dict.fromkeys(
        (
            *("cognitoIdentityPoolId", "cognitoIdentityId", "cognitoAuthenticationType"),
            *("cognitoAuthenticationProvider", "accountId", "caller", "principalOrgId"),
            *("accessKey", "userArn", "user"),
        )
    )
    seen = {
        "sourceIp": arrival.request.peer,
        "userAgent": arrival.request.headers.get("User-Agent") or None,
    }
    if arrival.signed is None:
        return {**blank, **seen}
    who = arrival.signed.principal
    return {
        **blank,
        **seen,
        "accountId": who.account,
        "caller": who.user_id,
        "principalOrgId": arrival.organization,
        "accessKey": arrival.signed.key.id,
        "userArn": who.arn,
        "user": who.user_id,
    }


def _added(arrival: Arrival, forwarded: str) -> dict[str, str]:
    """Headers that the gateway sets itself, whatever came in under their names."""
    root = f"1-{int(arrival.now):08x}-{secrets.token_hex(12)}"
    return {
        "host": arrival.request.headers.get("Host"),
        "x-amzn-trace-id": f"Root={root}",
        "x-forwarded-for": forwarded,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
    }


def _joined(request: Request) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in request.headers.fields:
        key = name.lower()
        joined[key] = f"{joined[key]},{value}" if key in joined else value
    return joined


def _query_joined(request: Request) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _body(request: Request) -> tuple[str, bool]:
    """The body as the event holds it, and whether that is base64."""
    kind = request.headers.get("Content-Type").partition(";")[0].strip()
    try:
        if not request.body or _TEXT.fullmatch(kind):
            return request.body.decode(), False
    except UnicodeDecodeError:
        return base64.b64encode(request.body).decode(), True
    return base64.b64encode(request.body).decode(), True


def _common_log_time(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def _result(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        raise BadResultError("the result is not JSON") from None


def _mapping(result: dict[str, Any], key: str) -> dict[str, Any]:
    value = result.get(key) or {}
    if not isinstance(value, dict):
        raise BadResultError(f"{key} is not an object")
    return value


def _response(result: dict[str, Any], fields: list[tuple[str, str]], *, binary: bool) -> Response:
    try:
        status = int(result["statusCode"])
        text = result.get("body") or ""
        body = base64.b64decode(text, validate=True) if binary else text.encode()
    except (TypeError, ValueError, AttributeError, binascii.Error):
        raise BadResultError("statusCode or body is not usable") from None
    if not 100 <= status <= 599:  # noqa: PLR2004 - the range of HTTP statuses
        raise BadResultError("statusCode is out of range")
    kept = [(k, v) for k, v in fields if k.lower() not in _NOT_OURS]
    if not any(name.lower() == "content-type" for name, _ in kept):
        kept.append(("Content-Type", "text/plain; charset=utf-8"))
    return Response(status, body, tuple(kept))
