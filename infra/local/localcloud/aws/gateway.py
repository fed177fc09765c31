"""API Gateway: an HTTP API, and a REST API over the same routes.

A route with AWS_IAM authorisation lets through requests that were signed for `execute-api` by whom
IAM allows `execute-api:Invoke` on it; anything else gets the door's own 403 and the function never
runs. The API itself needs Lambda's permission to call the function, or answers 500 to everybody.
The REST API mirrors the HTTP API's routes at the stage `prod`: the template deploys none, but the
function serves its events; who makes one by hand gives it a permission, so it has one here.
Quotas: "Quotas for configuring and running an HTTP API", API Gateway Developer Guide.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from localcloud.aws import events, routes
from localcloud.aws.authorization import DeniedError, Question, authorize
from localcloud.aws.events import Arrival, BadResultError
from localcloud.aws.integration import (
    MAX_EVENT,
    LateError,
    answered,
    encoded,
    identified,
    require_permission,
    run,
)
from localcloud.aws.sigv4 import RefusedError, Signed, verify
from localcloud.aws.template import permission
from localcloud.aws.throttling import Buckets
from localcloud.wire.routes import Route as Served
from localcloud.wire.routes import Service, Unserved
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.aws.accounts import Accounts
    from localcloud.aws.functions import Functions
    from localcloud.aws.iam import Policy
    from localcloud.aws.routes import Match
    from localcloud.aws.template import HttpApi, Route

log = logging.getLogger(__name__)

INVOKE = "execute-api:Invoke"
HTTP_STAGE, REST_STAGE = "$default", "prod"
REST_TIMEOUT = 29.0
MAX_BODY = 10 * 1024 * 1024
# Request line and header values together, in bytes.
MAX_HEAD = 10_240


def http_api(api: HttpApi, functions: Functions, accounts: Accounts) -> Site:
    """An HTTP API with payload format 2.0; the stage is $default."""
    buckets = Buckets()
    door = _Door(
        accounts,
        functions,
        api.domain,
        HTTP_STAGE,
        events.answer_2,
        large="Request Entity Too Large",
        late=(503, "Service Unavailable"),
        bad=(500, "Internal Server Error"),
    )

    def serve(request: Request, request_id: str) -> Response:
        if _head(request) > MAX_HEAD:
            return _too_long()
        match = routes.find(api.routes, request.method, request.path)
        if match is None:
            return _message(404, "Not Found")
        if not buckets.take(match.route, accounts.clock()):
            return _message(429, "Too Many Requests")
        try:
            signed = door.signer(request, match.route, request.path)
        except (RefusedError, DeniedError) as refused:
            log.info("HTTP API refused %s: %s", request.path, refused)
            return _message(403, "Forbidden")
        arrival = door.arrival(request, match, match.route.key, signed, request_id)
        event = encoded(events.version_2(arrival, decoded_path=True))
        return door.answer(request, match.route, event, match.route.timeout)

    return identified("apigw-requestid", serve)


def rest_api(api: HttpApi, functions: Functions, accounts: Accounts) -> Site:
    """A REST API with payload format 1.0 over the routes of an HTTP API."""
    named = [route for route in api.routes if route.key != routes.DEFAULT]
    door = _Door(
        accounts,
        functions,
        api.rest_domain,
        REST_STAGE,
        events.answer_1,
        large="Request Too Long",
        late=(504, "Endpoint request timed out"),
        bad=(502, "Internal server error"),
        by_hand={route.function: _by_hand(accounts, api.rest_domain, route) for route in named},
    )

    def serve(request: Request, request_id: str) -> Response:
        if _head(request) > MAX_HEAD:
            return _too_long()
        stage, _, rest = request.path.lstrip("/").partition("/")
        path = f"/{rest}"
        match = routes.find(named, request.method, path)
        if stage != REST_STAGE or match is None:
            # What a REST API says of a resource it does not have.
            return _message(403, "Missing Authentication Token")
        try:
            signed = door.signer(request, match.route, path)
        except RefusedError as refused:
            return _message(403, str(refused))
        except DeniedError as denied:
            return Response.json(403, {"Message": _masked(str(denied))})
        target = f"{path}?{request.query}" if request.query else path
        resource = match.route.key.partition(" ")[2]
        inner = replace(request, target=target)
        arrival = door.arrival(inner, match, resource, signed, request_id)
        event = encoded(events.version_1(arrival))
        return door.answer(request, match.route, event, REST_TIMEOUT)

    return identified("x-amzn-RequestId", serve)


@dataclass(frozen=True)
class _Door:
    """One API at one stage, and what it says when it has no answer of the function's.

    `by_hand`: permissions to call a function that stand beside the template's, by its ARN.
    """

    accounts: Accounts
    functions: Functions
    domain: str
    stage: str
    read: Callable[[bytes], Response]
    large: str
    late: tuple[int, str]
    bad: tuple[int, str]
    by_hand: Mapping[str, Policy] = field(default_factory=dict)

    def signer(self, request: Request, route: Route, path: str) -> Signed | None:
        """Who signed, if IAM lets it call this path; None where the route asks for nothing.

        Raises RefusedError and DeniedError.
        """
        if route.authorization != "AWS_IAM":
            return None
        accounts = self.accounts
        signed = verify(request, accounts, service="execute-api", region=accounts.aws.region)
        resource = _arn(accounts, self.domain, f"{self.stage}/{request.method}{path}")
        authorize(accounts, signed.key, Question(INVOKE, resource), request)
        return signed

    def arrival(
        self, request: Request, match: Match, route: str, signed: Signed | None, identifier: str
    ) -> Arrival:
        """The request as the event tells of it."""
        return Arrival(
            request=request,
            account=self.accounts.aws.account,
            organization=self.accounts.aws.organization,
            domain=self.domain,
            stage=self.stage,
            route=route,
            now=self.accounts.clock(),
            parameters=dict(match.parameters),
            signed=signed,
            id=identifier,
        )

    def answer(self, request: Request, route: Route, event: bytes, timeout: float) -> Response:
        """Call the function, as API Gateway may if the function's policy says so."""
        if len(request.body) > MAX_BODY or len(event) > MAX_EVENT:
            return _message(413, self.large)
        arn = route.function
        further = [self.by_hand[arn]] if arn in self.by_hand else []
        try:
            require_permission(
                self.accounts, self.functions, arn, self._source(request, route), further
            )
            return answered(run(self.functions, arn, event, timeout), self.read)
        except LateError:
            return _message(*self.late)
        except BadResultError as bad:
            log.warning("%s: integration error on %s: %s", self.domain, route.key, bad)
            return _message(*self.bad)

    def _source(self, request: Request, route: Route) -> str:
        """How API Gateway names the route to Lambda."""
        path = route.key.partition(" ")[2]
        named = routes.DEFAULT if route.key == routes.DEFAULT else f"{request.method}{path}"
        return _arn(self.accounts, self.domain, f"{self.stage}/{named}")


SERVICE: Service[None] = Service(
    title="Amazon API Gateway",
    hosts=("{api}.execute-api.REGION.amazonaws.com",),
    routes=(Served("*", "/{route+}", None, INVOKE),),
    unserved=(
        Unserved("apigateway:*", "APIs are made by the template alone"),
        Unserved("execute-api:ManageConnections", "there are no WebSocket APIs"),
    ),
)


def _by_hand(accounts: Accounts, domain: str, route: Route) -> Policy:
    properties = {
        "Action": "lambda:InvokeFunction",
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": _arn(accounts, domain, "*"),
    }
    return permission("by-hand", route.function, properties)


def _arn(accounts: Accounts, domain: str, rest: str) -> str:
    api = domain.partition(".")[0]
    return f"arn:aws:execute-api:{accounts.aws.region}:{accounts.aws.account}:{api}/{rest}"


def _masked(text: str) -> str:
    """A REST API's refusal shows the last four digits of the API's account alone."""
    return re.sub(r"(:execute-api:[a-z0-9-]+:)\d{8}(\d{4}:)", r"\1********\2", text)


def _head(request: Request) -> int:
    line = f"{request.method} {request.target} HTTP/1.1"
    return len(line) + sum(len(value) for _, value in request.headers.fields)


def _too_long() -> Response:
    # The words are the gateway's; which status it gives them is not documented.
    return _message(431, f"HTTP header is larger than {MAX_HEAD} bytes.")


def _message(status: int, text: str) -> Response:
    # API Gateway's errors carry a bare application/json.
    body = json.dumps({"message": text}).encode()
    return Response(status, body, (("Content-Type", "application/json"),))
