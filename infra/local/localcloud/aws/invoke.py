"""Lambda's Invoke API, so that an SDK's `invoke` reaches the function.

`POST /2015-03-31/functions/NAME/invocations`, signed for service `lambda`; NAME may be a name, a
partial ARN or an ARN, each with an alias, or the alias comes as Qualifier. IAM is asked about the
ARN as it was invoked: a permission for an alias is none for the function.
Specification: AWS Lambda API Reference.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from localcloud.aws.authorization import DeniedError, Question, authorize
from localcloud.aws.errors import ServiceError, as_json, refused_signature, request_id
from localcloud.aws.integration import INVOKE, MAX_EVENT
from localcloud.aws.sigv4 import Reason, RefusedError, verify
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts
    from localcloud.aws.functions import Functions
    from localcloud.aws.template import Function

_NAME = re.compile(
    r"(?:(?:arn:aws:lambda:(?P<region>[a-z0-9-]+):)?(?P<account>\d{12}):function:)?"
    r"(?P<name>[A-Za-z0-9_-]{1,64})(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)
LATEST = "$LATEST"
# An asynchronous invocation's payload, in bytes; 256 KB before October 2025.
MAX_ASYNCHRONOUS = 1024 * 1024
# In bytes of base64.
MAX_CONTEXT = 3583

SERVICE: Service[None] = Service(
    title="AWS Lambda",
    hosts=("lambda.REGION.amazonaws.com",),
    routes=(Route("POST", "/2015-03-31/functions/{name+}/invocations", None, INVOKE),),
    unserved=(Unserved("*", "functions are made by the template alone"),),
)


def site(functions: Functions, accounts: Accounts) -> Site:
    """The endpoint `lambda.REGION.amazonaws.com`."""

    def serve(request: Request) -> Response:
        try:
            function, qualifier = _target(request, functions, accounts)
            return _invoke(request, functions, function, qualifier)
        except RefusedError as refused:
            status = 400 if refused.reason is Reason.INCOMPLETE else 403
            return as_json(refused_signature(refused, status))
        except DeniedError as denied:
            return as_json(ServiceError(403, "AccessDeniedException", str(denied)))
        except ServiceError as error:
            return as_json(error)

    return serve


def _target(request: Request, functions: Functions, accounts: Accounts) -> tuple[Function, str]:
    """The function and the qualifier that the signer may invoke."""
    signed = verify(request, accounts, service="lambda", region=accounts.aws.region)
    found = SERVICE.find(request.method, request.path.removesuffix("/"))
    if found is None:
        raise ServiceError(405, "NotImplemented", "The embedded cloud serves Invoke alone.")
    match = _NAME.fullmatch(found[1]["name"])
    if match is None:
        raise _error(400, "ValidationException", "functionName is not a function's name")
    asked = request.params.get("Qualifier", "")
    qualifier = match["qualifier"] or asked
    if asked not in {"", qualifier}:
        text = "The derived qualifier from the function name does not match the specified qualifier"
        raise _error(400, "InvalidParameterValueException", text)
    here = accounts.aws.region, accounts.aws.account
    place = match["region"] or here[0], match["account"] or here[1]
    arn = f"arn:aws:lambda:{place[0]}:{place[1]}:function:{match['name']}"
    arn += f":{qualifier}" if qualifier else ""
    function = functions.find(match["name"]) if place == here else None
    policies = function.policies.get(qualifier, ()) if function else ()
    keys = {"lambda:FunctionUrlAuthType": (), "lambda:InvokedViaFunctionUrl": ()}
    # Before anything is said about what there is.
    authorize(accounts, signed.key, Question(INVOKE, arn, keys, policies), request)
    if function is None or qualifier not in {"", LATEST, *function.aliases}:
        raise _error(404, "ResourceNotFoundException", f"Function not found: {arn}")
    return function, qualifier


def _invoke(request: Request, functions: Functions, function: Function, qualifier: str) -> Response:
    kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
    payload = request.body or b"{}"
    longest = MAX_ASYNCHRONOUS if kind == "Event" else MAX_EVENT
    if len(payload) > longest:
        text = f"Request must be smaller than {longest} bytes for the InvokeFunction operation"
        raise _error(413, "RequestTooLargeException", text)
    try:
        # UTF-8 and nothing beyond the standard, where Python reads more.
        json.loads(payload.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        text = "Could not parse request body into json"
        raise _error(400, "InvalidRequestContentException", text) from None
    match kind:
        case "RequestResponse":
            context = request.headers.get("X-Amz-Client-Context")
            if len(context) > MAX_CONTEXT:
                text = (
                    f"Client context must be no more than {MAX_CONTEXT} bytes when base64-encoded"
                )
                raise _error(400, "InvalidParameterValueException", text)
            outcome = functions.invoke(
                function, payload, qualifier=qualifier, client_context=context
            )
            fields = [("Content-Type", "application/json"), ("X-Amz-Executed-Version", LATEST)]
            if outcome.failed:
                fields.append(("X-Amz-Function-Error", "Unhandled"))
            return Response(200, outcome.payload, (*fields, request_id()))
        case "Event":
            functions.invoke_later(function, payload, qualifier=qualifier)
            return Response(202, b"", (request_id(),))
        case "DryRun":
            return Response(204, b"", (request_id(),))
        case other:
            text = f"Unsupported InvocationType {other[:32]!r}"
            raise _error(400, "InvalidParameterValueException", text)


def _no_number(name: str) -> None:
    raise ValueError(name)


def _error(status: int, kind: str, text: str) -> ServiceError:
    return ServiceError(status, kind, text, Type="User")
