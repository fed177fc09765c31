"""Lambda's Invoke API, so that an SDK's `invoke` reaches the function.

`POST /2015-03-31/functions/NAME/invocations`, signed for service `lambda` by an identity of the
account; NAME may be a name, a partial ARN or an ARN, each with an alias, or the alias comes as
Qualifier. Specification: AWS Lambda API Reference.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from localcloud.aws.gateway import MAX_EVENT
from localcloud.aws.sigv4 import Reason, RefusedError, verify
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts
    from localcloud.aws.functions import Functions
    from localcloud.aws.template import Function

_PATH = re.compile(r"/2015-03-31/functions/([^/]+)/invocations/?")
_NAME = re.compile(
    r"(?:(?:arn:aws:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>\d{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)
LATEST = "$LATEST"
# Lambda's own names for what SigV4 verification refuses.
_REFUSALS = {
    Reason.MISSING: "MissingAuthenticationTokenException",
    Reason.INCOMPLETE: "IncompleteSignatureException",
    Reason.MISMATCH: "InvalidSignatureException",
    Reason.UNKNOWN_KEY: "UnrecognizedClientException",
    Reason.EXPIRED_SESSION: "ExpiredTokenException",
}


@dataclass(frozen=True)
class _Target:
    function: Function
    qualifier: str


class _InvokeError(Exception):
    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def site(functions: Functions, accounts: Accounts) -> Site:
    """The endpoint `lambda.REGION.amazonaws.com`."""

    def serve(request: Request) -> Response:
        try:
            target = _target(request, functions, accounts)
            return _invoke(request, functions, target)
        except _InvokeError as error:
            body = json.dumps({"Type": "User", "Message": str(error)}).encode()
            fields = (("Content-Type", "application/json"), ("x-amzn-ErrorType", error.kind))
            return Response(error.status, body, (*fields, _request_id()))

    return serve


def _target(request: Request, functions: Functions, accounts: Accounts) -> _Target:
    try:
        signed = verify(request, accounts, service="lambda", region=accounts.aws.region)
    except RefusedError as refused:
        status = 400 if refused.reason is Reason.INCOMPLETE else 403
        raise _InvokeError(status, _REFUSALS[refused.reason], str(refused)) from None
    path = _PATH.fullmatch(request.path)
    if path is None or request.method != "POST":
        raise _InvokeError(405, "NotImplemented", "The embedded cloud serves Invoke alone.")
    match = _NAME.fullmatch(unquote(path[1]))
    if match is None:
        raise _InvokeError(400, "ValidationException", "functionName is not a function's name")
    own = (match["account"] or accounts.aws.account, match["region"] or accounts.aws.region)
    if signed.principal.account != accounts.aws.account:
        text = f"User: {signed.principal.arn} is not authorized to perform: lambda:InvokeFunction"
        raise _InvokeError(403, "AccessDeniedException", text)
    asked = request.params.get("Qualifier", "")
    qualifier = match["qualifier"] or asked
    if asked not in {"", qualifier}:
        text = "The derived qualifier from the function name does not match the specified qualifier"
        raise _InvokeError(400, "InvalidParameterValueException", text)
    function = functions.find(match["name"])
    known = function is not None and qualifier in {"", LATEST, *function.aliases}
    if function is None or not known or own != (accounts.aws.account, accounts.aws.region):
        arn = f"arn:aws:lambda:{own[1]}:{own[0]}:function:{match['name']}"
        arn += f":{qualifier}" if qualifier else ""
        raise _InvokeError(404, "ResourceNotFoundException", f"Function not found: {arn}")
    return _Target(function, qualifier)


def _invoke(request: Request, functions: Functions, target: _Target) -> Response:
    payload = request.body or b"{}"
    if len(payload) > MAX_EVENT:
        raise _InvokeError(413, "RequestTooLargeException", "The payload exceeds 6291456 bytes")
    try:
        json.loads(payload)
    except ValueError:
        text = "Could not parse request body into json"
        raise _InvokeError(400, "InvalidRequestContentException", text) from None

    context = request.headers.get("X-Amz-Client-Context")

    def run() -> Response:
        outcome = functions.invoke(
            target.function, payload, qualifier=target.qualifier, client_context=context
        )
        fields = [("Content-Type", "application/json"), ("X-Amz-Executed-Version", LATEST)]
        if outcome.failed:
            fields.append(("X-Amz-Function-Error", "Unhandled"))
        return Response(200, outcome.payload, (*fields, _request_id()))

    match request.headers.get("X-Amz-Invocation-Type", "RequestResponse"):
        case "RequestResponse":
            return run()
        case "Event":
            threading.Thread(target=run, daemon=True).start()
            return Response(202, b"", (_request_id(),))
        case "DryRun":
            return Response(204, b"", (_request_id(),))
        case other:
            raise _InvokeError(
                400, "InvalidParameterValueException", f"Unsupported InvocationType {other[:32]!r}"
            )


def _request_id() -> tuple[str, str]:
    return "x-amzn-RequestId", str(uuid.uuid4())
