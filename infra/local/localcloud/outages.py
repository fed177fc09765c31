"""How each vendor says that it cannot serve just now: the body of a fault that sets a status.

A client decides by more than the status: botocore by an error's code, google-auth by OAuth's words,
Azure's SDK by x-ms-error-code. So a fault answers in the shape of whom the request is for, in the
vendor's own words where they are known and in the status's name where they are not.
Sources: google/rpc/code.proto, Cloud Storage's "HTTP status and error codes", "Common errors" of
the AWS APIs, Entra's error codes, "Status and error codes" of Azure Storage.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from localcloud.azure.refusals import EntraError
from localcloud.google.core.errors import INVALID_CREDENTIALS
from localcloud.wire.web import Request, Response

TOO_MANY = 429
BAD = 400
# What AWS's query and JSON protocols throttle with; Lambda and the gateways say 429.
THROTTLED = (BAD, TOO_MANY)
SERVER = 500


@dataclass(frozen=True, slots=True)
class Outage:
    """What is to be said, about which path and when (epoch seconds)."""

    path: str
    status: int
    now: float


def answer(request: Request, status: int, now: float) -> Response:
    """A status as the one whom the request is for says it; `now` is epoch seconds."""
    host = request.host.lower()
    shape = next((found for pattern, found in _SHAPES if fnmatchcase(host, pattern)), _plain)
    return shape(Outage(request.path, status, now))


_GOOGLE = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", INVALID_CREDENTIALS),
    403: ("PERMISSION_DENIED", "The caller does not have permission"),
    404: ("NOT_FOUND", "Requested entity was not found."),
    409: ("ABORTED", "The operation was aborted."),
    429: ("RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    500: ("INTERNAL", "Internal error encountered."),
    501: ("UNIMPLEMENTED", "Operation is not implemented, or supported, or enabled."),
    503: ("UNAVAILABLE", "The service is currently unavailable."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}
_STORAGE = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    408: "uploadBrokenConnection",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "backendError",
    502: "badGateway",
    503: "backendError",
    504: "gatewayTimeout",
}
_STORAGE_JSON = ("/storage/", "/upload/", "/download/", "/resumable/", "/batch")


def _google(outage: Outage) -> Response:
    status = outage.status
    if status not in _GOOGLE:
        return _front_end(status)
    word, text = _GOOGLE[status]
    return Response.json(status, {"error": {"code": status, "message": text, "status": word}})


def _front_end(status: int) -> Response:
    """Google's front end, when no service behind it answers."""
    page = (
        f"<!DOCTYPE html>\n<html lang=en>\n<title>Error {status} ({_phrase(status)})!!1</title>\n"
        f"<p><b>{status}.</b> <ins>That's an error.</ins>\n"
    )
    return Response(status, page.encode(), (("Content-Type", "text/html; charset=UTF-8"),))


def _token_service(outage: Outage) -> Response:
    status = outage.status
    words = {
        TOO_MANY: (
            "quota_exceeded",
            (
                "The request was throttled due to rate limit: sts.googleapis.com/requests. Please "
                "retry after a few seconds."
            ),
        ),
        503: ("temporarily_unavailable", "The service is currently unavailable."),
    }
    fallback = ("internal_failure", "Internal error encountered.")
    if status < SERVER:
        fallback = ("invalid_request", _phrase(status))
    error, text = words.get(status, fallback)
    return Response.json(status, {"error": error, "error_description": text})


def _storage(outage: Outage) -> Response:
    status = outage.status
    text = _GOOGLE[status][1] if status in _GOOGLE else _phrase(status)
    if not outage.path.startswith(_STORAGE_JSON):
        code = {503: "ServiceUnavailable", 500: "InternalError", TOO_MANY: "SlowDown"}
        named = code.get(status, _phrase(status).replace(" ", ""))
        body = f"<?xml version='1.0' encoding='UTF-8'?>{_xml_error(named, text)}"
        return Response(
            status, body.encode(), (("Content-Type", "application/xml; charset=UTF-8"),)
        )
    one = {"message": text, "domain": "global", "reason": _STORAGE.get(status, "backendError")}
    return Response.json(status, {"error": {"code": status, "message": text, "errors": [one]}})


def _shared(outage: Outage) -> Response:
    """Storage's JSON API at its older address, and the documents beside it."""
    return (_storage if outage.path.startswith(_STORAGE_JSON) else _google)(outage)


def _cloud_run(outage: Outage) -> Response:
    status = outage.status
    text = "Rate exceeded." if status == TOO_MANY else _phrase(status)
    return Response(status, text.encode(), (("Content-Type", "text/plain"),))


def _aws_code(status: int) -> tuple[str, str]:
    if status in THROTTLED:
        return "Throttling", "Rate exceeded"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return "ServiceUnavailable", "The request has failed due to a temporary failure."
    if status >= SERVER:
        return "InternalFailure", "The request processing has failed because of an unknown error."
    return _phrase(status).replace(" ", ""), _phrase(status)


def _aws_query(outage: Outage) -> Response:
    status = outage.status
    code, text = _aws_code(status)
    sender = "Receiver" if status >= SERVER else "Sender"
    request_id = str(uuid.uuid4())
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Type>{sender}</Type><Code>{code}</Code><Message>{text}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    kinds = (("x-amzn-RequestId", request_id), ("Content-Type", "text/xml"))
    return Response(status, body.encode(), kinds)


def _aws_json(outage: Outage) -> Response:
    status = outage.status
    code, text = _aws_code(status)
    named = {"Throttling": "ThrottlingException", "InternalFailure": "InternalServerError"}
    body = {"__type": named.get(code, code), "message": text}
    return _typed(status, body, named.get(code, code), "application/x-amz-json-1.1")


def _aws_rest(outage: Outage) -> Response:
    status = outage.status
    code, text = _aws_code(status)
    named = {
        "Throttling": "TooManyRequestsException",
        "InternalFailure": "ServiceException",
        "ServiceUnavailable": "ServiceException",
    }
    sender = "Service" if status >= SERVER else "User"
    body = {"Type": sender, "message": text}
    return _typed(status, body, named.get(code, code), "application/json")


def _aws_configuration(outage: Outage) -> Response:
    status = outage.status
    code, text = _aws_code(status)
    named = {"Throttling": "ThrottlingException", "InternalFailure": "InternalServerException"}
    return _typed(status, {"Message": text}, named.get(code, code), "application/json")


def _typed(status: int, body: dict[str, str], kind: str, content: str) -> Response:
    plain = Response.json(status, body)
    headers = (
        ("Content-Type", content),
        ("x-amzn-RequestId", str(uuid.uuid4())),
        ("x-amzn-ErrorType", kind),
    )
    return Response(status, plain.body, headers)


def _gateway(outage: Outage) -> Response:
    status = outage.status
    # Only these three have words of their own at a gateway.
    known = {TOO_MANY: "Too Many Requests", 503: "Service Unavailable", 403: "Forbidden"}
    text = known.get(status, "Internal Server Error" if status >= SERVER else _phrase(status))
    return Response.json(status, {"message": text}, ("apigw-requestid", uuid.uuid4().hex[:15]))


def _entra(outage: Outage) -> Response:
    status = outage.status
    if status == TOO_MANY:
        text = "There are too many incoming requests."
        return EntraError(90055, "temporarily_unavailable", text, status).answer(outage.now)
    text = "A transient error has occurred. Please try again."
    return EntraError(90033, "temporarily_unavailable", text, status).answer(outage.now)


def _metadata(outage: Outage) -> Response:
    """Azure's and EC2's instance metadata share their address and no path."""
    status = outage.status
    if not outage.path.startswith("/metadata/"):
        page = f"<html><body><h1>{status} - {_phrase(status)}</h1></body></html>"
        return Response(status, page.encode(), (("Content-Type", "text/html"),))
    if status == TOO_MANY:
        body = {
            "error": "too_many_requests",
            "error_description": "Temporarily throttled, too many requests",
        }
        return Response.json(status, body)
    text = "Failed to retrieve token from the Active directory. For details see logs."
    return Response.json(status, {"error": "unknown", "error_description": text})


def _loopback(outage: Outage) -> Response:
    """App Service's identity endpoint."""
    text = "An unexpected error occured while fetching the AAD Token."
    correlation = str(uuid.uuid4())
    body = {"statusCode": outage.status, "message": text, "correlationId": correlation}
    return Response.json(outage.status, body)


def _task(outage: Outage) -> Response:
    status = outage.status
    code = "InternalServerError" if status >= SERVER else _phrase(status).replace(" ", "")
    body: dict[str, Any] = {"code": code, "message": _phrase(status), "HTTPErrorCode": status}
    return Response.json(status, body)


def _blob(outage: Outage) -> Response:
    status = outage.status
    code, text = {
        500: (
            "InternalError",
            "Server encountered an internal error. Please try again after some time.",
        ),
        503: (
            "ServerBusy",
            "The server is currently unable to receive requests. Please retry your request.",
        ),
    }.get(status, (_phrase(status).replace(" ", ""), _phrase(status)))
    request_id, moment = str(uuid.uuid4()), datetime.fromtimestamp(outage.now, UTC)
    detail = f"{text}\nRequestId:{request_id}\nTime:{moment:%Y-%m-%dT%H:%M:%S.%f}0Z"
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?>{_xml_error(code, detail)}'
    headers = (
        ("Content-Type", "application/xml"),
        ("x-ms-error-code", code),
        ("x-ms-request-id", request_id),
        ("Date", format_datetime(moment, usegmt=True)),
    )
    return Response(status, body.encode(), headers)


def _configuration(outage: Outage) -> Response:
    status = outage.status
    body: dict[str, Any] = {"type": "about:blank", "title": _phrase(status), "status": status}
    if status == TOO_MANY:
        body = {
            "type": "https://azconfig.io/errors/too-many-requests",
            "title": "Resource utilization has surpassed the assigned quota",
            "policy": "Total Requests",
            "status": status,
        }
    plain = Response.json(status, body)
    return Response(status, plain.body, (("Content-Type", "application/problem+json"),))


def _app_service(outage: Outage) -> Response:
    """App Service's front end, when the app does not answer."""
    status = outage.status
    page = (
        f"<HTML><HEAD><TITLE>{_phrase(status)}</TITLE></HEAD><BODY><h2>{_phrase(status)}</h2>"
        f"<hr><p>HTTP Error {status}.</p></BODY></HTML>\n"
    )
    return Response(status, page.encode(), (("Content-Type", "text/html; charset=us-ascii"),))


def _plain(outage: Outage) -> Response:
    status = outage.status
    kind = ("Content-Type", "text/plain; charset=utf-8")
    return Response(status, f"{_phrase(status)}\n".encode(), (kind,))


def _xml_error(code: str, text: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


_SHAPES: tuple[tuple[str, Callable[[Outage], Response]], ...] = (
    ("sts.googleapis.com", _token_service),
    ("sts.*.googleapis.com", _token_service),
    ("oauth2.*googleapis.com", _token_service),
    ("storage.*googleapis.com", _storage),
    ("*.storage.googleapis.com", _storage),
    ("www.googleapis.com", _shared),
    ("accounts.google.com", lambda outage: _front_end(outage.status)),
    ("*.googleapis.com", _google),
    ("*.run.app", _cloud_run),
    ("sts.*amazonaws.com", _aws_query),
    ("ssm.*.amazonaws.com", _aws_json),
    ("lambda.*.amazonaws.com", _aws_rest),
    ("appconfigdata.*.amazonaws.com", _aws_configuration),
    ("*.execute-api.*.amazonaws.com", _gateway),
    ("*.lambda-url.*.on.aws", _gateway),
    ("login.microsoftonline.com", _entra),
    ("sts.windows.net", _entra),
    ("*.blob.core.windows.net", _blob),
    ("*.azconfig.io", _configuration),
    ("*.azurewebsites.net", _app_service),
    ("169.254.169.254", _metadata),
    ("169.254.170.2", _task),
    ("127.0.0.1", _loopback),
)
