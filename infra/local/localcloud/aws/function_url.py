"""Function URLs: a function's own hostname.

With AuthType AWS_IAM a request is signed for the service `lambda`, and IAM must allow both
`lambda:InvokeFunctionUrl` and, since October 2025, `lambda:InvokeFunction`. With NONE the
function's own policy must let everybody in.
Specification: "Control access to Lambda function URLs", AWS Lambda Developer Guide.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from localcloud.aws import events, iam
from localcloud.aws.authorization import DeniedError, Question, authorize, authorize_stranger
from localcloud.aws.events import Arrival, BadResultError
from localcloud.aws.integration import INVOKE, MAX_EVENT, answered, encoded, identified
from localcloud.aws.sigv4 import RefusedError, Signed, verify
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts
    from localcloud.aws.functions import Functions
    from localcloud.aws.template import Function

log = logging.getLogger(__name__)

INVOKE_URL = "lambda:InvokeFunctionUrl"
_FORBIDDEN = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_ANYBODY = iam.Requester(iam.Kind.ANONYMOUS)


def site(function: Function, functions: Functions, accounts: Accounts) -> Site:
    """The Function URL of a function."""

    def serve(request: Request, request_id: str) -> Response:
        try:
            signed = _authorised(request, function, accounts)
        except (RefusedError, DeniedError) as refused:
            log.info("Function URL refused %s: %s", request.path, refused)
            kind = ("x-amzn-ErrorType", "AccessDeniedException")
            return Response.json(403, {"Message": _FORBIDDEN}, kind)
        arrival = Arrival(
            request=request,
            account=signed.principal.account if signed else "anonymous",
            organization=accounts.aws.organization,
            domain=function.url.domain,
            stage="$default",
            route="$default",
            now=accounts.clock(),
            signed=signed,
            id=request_id,
        )
        event = encoded(events.version_2(arrival, decoded_path=False))
        if len(event) > MAX_EVENT:
            return Response.json(413, {"Message": "Request Entity Too Large"})
        try:
            outcome = functions.invoke(function, event, qualifier=function.url.qualifier)
            answer = answered(outcome, events.answer_2)
        except BadResultError as bad:
            log.warning("Function URL: error on %s: %s", request.path, bad)
            return Response(502, b"Internal Server Error", (("Content-Type", "text/plain"),))
        return answer

    return identified("x-amzn-RequestId", serve)


SERVICE: Service[None] = Service(
    title="AWS Lambda Function URLs",
    hosts=("{url}.lambda-url.REGION.on.aws",),
    routes=(Route("*", "/{path+}", None, f"{INVOKE_URL}, {INVOKE}"),),
)


def _authorised(request: Request, function: Function, accounts: Accounts) -> Signed | None:
    """Who signed, None where nobody need; raises RefusedError and DeniedError."""
    qualifier = function.url.qualifier
    arn = f"{function.arn}:{qualifier}" if qualifier else function.arn
    keys = {
        "lambda:FunctionUrlAuthType": (function.url.auth,),
        "lambda:InvokedViaFunctionUrl": ("true",),
    }
    policies = function.policies.get(qualifier, ())
    questions = [Question(action, arn, keys, policies) for action in (INVOKE_URL, INVOKE)]
    if function.url.auth == "NONE":
        for question in questions:
            authorize_stranger(accounts, _ANYBODY, question, request)
        return None
    signed = verify(request, accounts, service="lambda", region=accounts.aws.region)
    for question in questions:
        authorize(accounts, signed.key, question, request)
    return signed
