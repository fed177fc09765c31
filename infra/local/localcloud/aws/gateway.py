"""The ways into a function over HTTP: API Gateway's HTTP API and REST API, and Function URLs.

A route with AWS_IAM authorisation lets through requests that an identity of the API's own account
signed for the service of that door; anything else gets the door's own 403 and the function never
runs. The REST API mirrors the HTTP API's routes at the stage `prod`: the template deploys none, but
the function serves its events.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from typing import TYPE_CHECKING, Any

from localcloud.aws import events, routes
from localcloud.aws.events import Arrival, BadResultError
from localcloud.aws.sigv4 import Reason, RefusedError, Signed, verify
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.aws.accounts import Accounts
    from localcloud.aws.functions import Functions
    from localcloud.aws.runtime import Outcome
    from localcloud.aws.template import Function, HttpApi

log = logging.getLogger(__name__)

REST_STAGE = "prod"
REST_TIMEOUT = 29.0
# Lambda's limit of a synchronous invocation's payload.
MAX_EVENT = 6 * 1024 * 1024
MAX_BODY = 10 * 1024 * 1024


class _LateError(Exception):
    """The integration took longer than its timeout."""


def http_api(api: HttpApi, functions: Functions, accounts: Accounts) -> Site:
    """An HTTP API with payload format 2.0; the stage is $default."""

    def serve(request: Request, request_id: str) -> Response:
        match = routes.find(api.routes, request.method, request.path)
        if match is None:
            return _message(404, "Not Found")
        signed: Signed | None = None
        if match.route.authorization == "AWS_IAM":
            try:
                signed = _authorised(request, accounts, "execute-api")
            except RefusedError as refused:
                log.info("HTTP API refused %s: %s", request.path, refused.reason)
                return _message(403, "Forbidden")
        arrival = Arrival(
            request=request,
            account=accounts.aws.account,
            organization=accounts.aws.organization,
            domain=api.domain,
            stage="$default",
            route=match.route.key,
            now=accounts.clock(),
            parameters=dict(match.parameters),
            signed=signed,
            id=request_id,
        )
        event = _encoded(events.version_2(arrival, decoded_path=True))
        if len(request.body) > MAX_BODY or len(event) > MAX_EVENT:
            return _message(413, "Request Entity Too Large")
        try:
            outcome = _run(functions, match.route.function, event, match.route.timeout)
            answer = _answered(outcome, events.answer_2)
        except _LateError:
            return _message(503, "Service Unavailable")
        except BadResultError as bad:
            log.warning("HTTP API: integration error on %s: %s", match.route.key, bad)
            return _message(500, "Internal Server Error")
        return answer

    return _identified("apigw-requestid", serve)


def rest_api(api: HttpApi, functions: Functions, accounts: Accounts) -> Site:
    """A REST API with payload format 1.0 over the routes of an HTTP API."""
    named = [route for route in api.routes if route.key != routes.DEFAULT]

    def serve(request: Request, request_id: str) -> Response:
        stage, _, path = request.path.lstrip("/").partition("/")
        match = routes.find(named, request.method, f"/{path}")
        if stage != REST_STAGE or match is None:
            # What a REST API says of a resource it does not have.
            return _message(403, "Missing Authentication Token")
        signed: Signed | None = None
        if match.route.authorization == "AWS_IAM":
            try:
                signed = _authorised(request, accounts, "execute-api")
            except RefusedError as refused:
                return _message(403, str(refused))
        inner = Request(
            request.method,
            request.host,
            f"/{path}" + (f"?{request.query}" if request.query else ""),
            request.headers,
            request.body,
            request.peer,
        )
        resource = match.route.key.partition(" ")[2]
        arrival = Arrival(
            request=inner,
            account=accounts.aws.account,
            organization=accounts.aws.organization,
            domain=api.rest_domain,
            stage=stage,
            route=resource,
            now=accounts.clock(),
            parameters=dict(match.parameters),
            signed=signed,
            id=request_id,
        )
        event = _encoded(events.version_1(arrival))
        if len(request.body) > MAX_BODY or len(event) > MAX_EVENT:
            return _message(413, "Request Too Long")
        try:
            outcome = _run(functions, match.route.function, event, REST_TIMEOUT)
            answer = _answered(outcome, events.answer_1)
        except _LateError:
            return _message(504, "Endpoint request timed out")
        except BadResultError as bad:
            log.warning("REST API: integration error on %s: %s", resource, bad)
            return _message(502, "Internal server error")
        return answer

    return _identified("x-amzn-RequestId", serve)


def function_url(function: Function, functions: Functions, accounts: Accounts) -> Site:
    """A Function URL; its requests are signed for the service `lambda`."""

    def serve(request: Request, request_id: str) -> Response:
        signed: Signed | None = None
        if function.url_auth != "NONE":
            try:
                signed = _authorised(request, accounts, "lambda")
            except RefusedError as refused:
                log.info("Function URL refused %s: %s", request.path, refused.reason)
                return Response.json(403, {"Message": "Forbidden"})
        arrival = Arrival(
            request=request,
            account=signed.principal.account if signed else "anonymous",
            organization=accounts.aws.organization,
            domain=function.url_domain,
            stage="$default",
            route="$default",
            now=accounts.clock(),
            signed=signed,
            id=request_id,
        )
        event = _encoded(events.version_2(arrival, decoded_path=False))
        if len(event) > MAX_EVENT:
            return Response.json(413, {"Message": "Request Entity Too Large"})
        try:
            outcome = functions.invoke(function, event)
            answer = _answered(outcome, events.answer_2)
        except BadResultError as bad:
            log.warning("Function URL: error on %s: %s", request.path, bad)
            return Response(502, b"Internal Server Error", (("Content-Type", "text/plain"),))
        return answer

    return _identified("x-amzn-RequestId", serve)


def _authorised(request: Request, accounts: Accounts, service: str) -> Signed:
    signed = verify(request, accounts, service=service, region=accounts.aws.region)
    if signed.principal.account != accounts.aws.account:
        # A valid signature of a stranger: only the account's own identities may invoke.
        raise RefusedError(
            Reason.UNKNOWN_KEY, "The security token included in the request is invalid."
        )
    return signed


def _run(functions: Functions, arn: str, event: bytes, timeout: float) -> Outcome:
    """Invoke, but wait no longer than the integration's timeout; the function runs on."""
    function = functions.template.function(arn)
    alias = arn[len(function.arn) + 1 :]
    found: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: found.append(functions.invoke(function, event, qualifier=alias)), daemon=True
    )
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise _LateError
    if not found:
        raise BadResultError("the invocation failed")
    return found[0]


def _answered(outcome: Outcome, read: Callable[[bytes], Response]) -> Response:
    if outcome.failed:
        raise BadResultError("the function raised or was ended")
    return read(outcome.payload)


def _encoded(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


def _identified(header: str, serve: Callable[[Request, str], Response]) -> Site:
    """Every answer bears the request's id, a refusal of the gateway's own too."""

    def identified(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        return _with(serve(request, request_id), (header, request_id))

    return identified


def _with(answer: Response, field: tuple[str, str]) -> Response:
    return Response(answer.status, answer.body, (*answer.headers, field))


def _message(status: int, text: str) -> Response:
    # API Gateway's errors carry a bare application/json.
    body = json.dumps({"message": text}).encode()
    return Response(status, body, (("Content-Type", "application/json"),))
