"""The HTTP API: routes, and what each asks of the caller and answers.

Both functions hand their requests to `Api.handle` and send back what it answers, byte for byte the
same on both clouds. A visit returns a value or raises an error, and the resource's dialect renders
either. Before anybody is authenticated nothing but path and method is looked at, save where the
body is the proof of who is calling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tokenvend import __version__, errors
from tokenvend.endpoint import DEFAULT_RETRY_AFTER
from tokenvend.errors import InvalidRequest, TokenvendError
from tokenvend.lifetimes import lifetime_text
from tokenvend.model import HttpResponse
from tokenvend.policy import grants_of
from tokenvend.wire import own, sts
from tokenvend.wire.objects import render, rfc3339

if TYPE_CHECKING:
    from tokenvend.caller import Authenticator
    from tokenvend.deadline import Deadline
    from tokenvend.endpoint import Endpoint, Invocation
    from tokenvend.model import Caller, HttpRequest, TokenRequest, VendedToken
    from tokenvend.policy import Grant
    from tokenvend.policy_source.store import PolicyInForce
    from tokenvend.service import Vending

Value = Mapping[str, Any] | bytes
"""What a visit answers: the members of a JSON object, or JSON that is bytes already."""


@dataclass(frozen=True)
class Backend:
    """What the routes stand on once the settings are good.

    `audience`: this endpoint's name in token exchanges, empty where it takes none. `loaded`: the
    policy that is there, without a check of its source.
    """

    authenticator: Authenticator
    vending: Vending
    audience: str
    loaded: Callable[[Deadline], PolicyInForce]


class Visit(NamedTuple):
    """One request at its resource. `parameters`: what its path has in the template's braces."""

    api: Api
    invocation: Invocation
    request: HttpRequest
    parameters: Mapping[str, str]

    @property
    def backend(self) -> Backend:
        """What the resource stands on; raises the misconfiguration that keeps it from that."""
        state = self.api.state
        if isinstance(state, errors.Misconfigured):
            # Raised for every request: with its traceback, which each raise makes longer, it would
            # keep every request alive.
            raise state.with_traceback(None)
        return state


class Resource(NamedTuple):
    """What each method of a path does, and how its dialect tells an error."""

    methods: Mapping[str, Callable[[Visit], Value]]
    render_error: Callable[[TokenvendError, str], tuple[int, str, Mapping[str, Any]]] = (
        own.render_error
    )


@dataclass(frozen=True)
class Api:
    """The HTTP API of the contract.

    `state`: what the resources stand on, or the misconfiguration that they answer with: a function
    that failed to load would show its callers nothing but a platform's 500 or 404.
    """

    endpoint: Endpoint
    state: Backend | errors.Misconfigured
    resources: Mapping[str, Resource] = field(default_factory=lambda: RESOURCES)

    def handle(self, request: HttpRequest | InvalidRequest) -> HttpResponse:
        """One answer to one request, or to why a door could not read it; never raises."""

        def serve(invocation: Invocation) -> HttpResponse:
            value = self._serve(invocation, request)
            body = value if isinstance(value, bytes) else render(value)
            return _response(invocation, "application/json", body)

        def refuse(invocation: Invocation, error: TokenvendError) -> HttpResponse:
            record = invocation.record
            resource = self.resources.get(record.route)
            render_error = own.render_error if resource is None else resource.render_error
            record.status, media_type, body = render_error(error, record.request_id)
            return _response(invocation, media_type, render(body), _headers_of(error))

        return self.endpoint.run(serve, refuse)

    def invoke(self, request: HttpRequest | InvalidRequest) -> Value:
        """A resource's value, for doors that have no statuses; raises the outcome's own class.

        Step Functions match the class's name.
        """

        def refuse(invocation: Invocation, error: TokenvendError) -> TokenvendError:
            record = invocation.record
            record.status, _, _ = own.render_error(error, record.request_id)
            kind: type[TokenvendError]
            kind = next(kind for kind in type(error).__mro__ if kind in own.STATUSES)
            # Without its cause, which is for the operator.
            return kind(f"{error.detail} (request {record.request_id})")

        outcome = self.endpoint.run(lambda invocation: self._serve(invocation, request), refuse)
        if isinstance(outcome, TokenvendError):
            raise outcome
        return outcome

    def _serve(self, invocation: Invocation, request: HttpRequest | InvalidRequest) -> Value:
        if isinstance(request, InvalidRequest):
            raise request
        record = invocation.record
        record.platform_request_id = request.platform_request_id
        record.source = request.source
        record.user_agent = request.headers.get("user-agent", "")
        record.trace_id = _trace_id(request.headers)
        record.route, parameters = find(self.resources, request.path)
        methods = self.resources[record.route].methods
        if request.method not in methods:
            raise errors.MethodNotAllowed(allowed=", ".join(methods))
        value = methods[request.method](Visit(self, invocation, request, parameters))
        record.status = 200
        if record.outcome != "vended":
            record.outcome = "answered"
        return value


def find(templates: Iterable[str], path: str) -> tuple[str, Mapping[str, str]]:
    """The template that a path fits, and what stands in the place of its `{names}`.

    A name takes the place of one or more characters other than `/` and `:`. Raises NotFound.
    """
    if "{" not in path and path in templates:
        return path, {}
    for template in templates:
        if "{" in template and (match := _pattern(template).fullmatch(path)):
            return template, match.groupdict()
    raise errors.NotFound


@cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{([a-z_]+)\\}", r"(?P<\1>[^/:]+)", re.escape(template)))


def own_token(visit: Visit, *, parse: Callable[[bytes], TokenRequest]) -> Value:
    """POST /v1/access-token and /v1/id-token."""
    caller = _authenticate(visit)
    body, _ = _body(visit.request, "application/json")
    wanted = parse(body)
    visit.invocation.record.asked = own.describe(wanted)
    token = _vend(visit, caller, wanted)
    return own.render_token(token, visit.invocation.answered_at())


def exchange(visit: Visit) -> Value:
    """POST /v1/token: the caller proves itself with the subject token it brings."""
    backend, (record, now, deadline, _) = visit.backend, visit.invocation
    body, media_type = _body(visit.request, sts.FORM, "application/json")
    exchanged = sts.parse_exchange(body, media_type, backend.audience)
    record.asked = own.describe(exchanged.wanted)
    with record.steps.timed("authenticate"):
        record.caller = backend.authenticator.authenticate_subject_token(
            exchanged.subject_token_type, exchanged.subject_token, exchanged.audience, now, deadline
        )
    token = _vend(visit, record.caller, exchanged.wanted)
    return sts.render_exchange(token, visit.invocation.answered_at())


def grants(visit: Visit) -> Value:
    """GET /v1/grants: the caller as we see it, and what it may have.

    Who may have nothing learns nothing else: not which policy is in force, nor since when.
    """
    record, now, deadline, _ = visit.invocation
    caller = _authenticate(visit)
    in_force = visit.backend.vending.policy(deadline)
    policy = in_force.policy
    record.policy, record.policy_checked_at = policy.digest, in_force.checked_at
    held = grants_of(policy, caller, now)
    answer = {"caller": own.render_caller(caller), "grants": [_shown(grant) for grant in held]}
    if held:
        answer["policy"] = {
            "digest": policy.digest,
            "mode": str(policy.mode),
            "loaded_at": rfc3339(in_force.loaded_at),
            "checked_at": rfc3339(in_force.checked_at),
        }
    return answer


def healthz(_: Visit) -> Value:
    """GET /healthz: alive, misconfigured or not; asks nobody."""
    return {"status": "ok", "version": __version__}


def readyz(visit: Visit) -> Value:
    """GET /readyz: able to vend, as far as settings and policy go."""
    record, _, deadline, _ = visit.invocation
    try:
        in_force = visit.backend.loaded(deadline.share())
    except TokenvendError as error:
        raise errors.NotReady(cause=error.cause or error.detail) from None
    record.policy, record.policy_checked_at = in_force.policy.digest, in_force.checked_at
    return {"status": "ok", "version": __version__}


def openapi(_: Visit) -> Value:
    """GET /openapi.json."""
    from importlib import resources  # noqa: PLC0415 -- for this route alone

    return resources.files("tokenvend").joinpath("openapi.json").read_bytes()


RESOURCES: Mapping[str, Resource] = {
    "/v1/access-token": Resource(
        {"POST": partial(own_token, parse=own.parse_access_token_request)}
    ),
    "/v1/id-token": Resource({"POST": partial(own_token, parse=own.parse_id_token_request)}),
    "/v1/token": Resource({"POST": exchange}, sts.render_error),
    "/v1/grants": Resource({"GET": grants}),
    "/healthz": Resource({"GET": healthz}),
    "/readyz": Resource({"GET": readyz}),
    "/openapi.json": Resource({"GET": openapi}),
}


def _shown(grant: Grant) -> dict[str, Any]:
    what = {"access_token": grant.scopes, "id_token": grant.audiences}
    return {
        "name": grant.name,
        "service_account": grant.service_account,
        "kinds": [kind for kind, given in what.items() if given],
        "scopes": grant.scopes,
        "audiences": [str(audience) for audience in grant.audiences],
        "max_lifetime": grant.max_lifetime and lifetime_text(grant.max_lifetime),
        "expires": None if grant.expires is None else rfc3339(grant.expires),
    }


def _authenticate(visit: Visit) -> Caller:
    record, now, deadline, _ = visit.invocation
    with record.steps.timed("authenticate"):
        caller = visit.backend.authenticator.authenticate(visit.request, now, deadline)
    record.caller = caller
    return caller


def _vend(visit: Visit, caller: Caller, wanted: TokenRequest) -> VendedToken:
    record, now, deadline, _ = visit.invocation
    with record.steps.timed("vend"):
        token = visit.backend.vending.vend(caller, wanted, now, deadline, record)
    record.outcome = "vended"
    record.expires_at = rfc3339(token.expires_at)
    record.token_fingerprint = token.value.fingerprint(visit.api.endpoint.audit.fingerprint_key)
    return token


def _body(request: HttpRequest, *media_types: str) -> tuple[bytes, str]:
    body = request.body
    if len(body) > own.MAX_BODY:
        raise errors.PayloadTooLarge(f"The body is larger than {own.MAX_BODY} bytes.")
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and sent not in media_types:
        raise errors.UnsupportedMediaType(
            f"Send the body as Content-Type: {' or '.join(media_types)}."
        )
    return body, sent


def _response(
    invocation: Invocation, media_type: str, body: bytes, more: Mapping[str, str] = {}
) -> HttpResponse:
    record = invocation.record
    headers = {
        "Content-Type": media_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": record.request_id,
        **more,
    }
    return HttpResponse(record.status, headers, body)


def _headers_of(error: TokenvendError) -> dict[str, str]:
    headers: dict[str, str] = {}
    retry_after = error.retry_after
    if retry_after is None and isinstance(error, errors.RateLimited | errors.UpstreamUnavailable):
        retry_after = DEFAULT_RETRY_AFTER
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="tokenvend"'
    if isinstance(error, errors.MethodNotAllowed):
        headers["Allow"] = error.allowed
    return headers


def _trace_id(headers: Mapping[str, str]) -> str:
    """W3C Trace Context's trace-id, or AWS X-Ray's root: what other logs know the request by."""
    _, _, rest = headers.get("traceparent", "").partition("-")
    parent, _, _ = rest.partition("-")
    # W3C: 32 digits in lower case, not all of them zero.
    if len(parent) == 32 and parent.strip("0") and not parent.strip("0123456789abcdef"):  # noqa: PLR2004
        return parent
    fields = headers.get("x-amzn-trace-id", "").split(";")
    return next((field[5:] for field in fields if field.startswith("Root=")), "")
