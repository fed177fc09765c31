"""Routes, and the only table from outcomes to statuses.

Both functions hand their requests to `Api.handle` and send back what it answers, byte for byte
the same on both clouds. Errors are RFC 9457 problems. The audit record is opened here before
anybody is authenticated and closed here on every path.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from tokenvend import __version__, errors
from tokenvend.audit.record import AuditRecord, Steps
from tokenvend.deadline import Deadline
from tokenvend.errors import TokenvendError
from tokenvend.model import AccessTokenRequest, HttpResponse
from tokenvend.policy import grants_of
from tokenvend.wire import own, sts
from tokenvend.wire.objects import render, rfc3339

if TYPE_CHECKING:
    from tokenvend.audit.chain import AuditLog
    from tokenvend.caller import Authenticator
    from tokenvend.model import Caller, HttpRequest, TokenRequest, VendedToken
    from tokenvend.policy import GrantView
    from tokenvend.service import Vending

STATUSES: Mapping[type[TokenvendError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "The request cannot be understood"),
    errors.Unauthenticated: (401, "The caller is not authenticated"),
    errors.Denied: (403, "The caller may not have this"),
    errors.NotFound: (404, "There is no such route"),
    errors.MethodNotAllowed: (405, "The route takes another method"),
    errors.PayloadTooLarge: (413, "The body is too large"),
    errors.UnsupportedMediaType: (415, "The body's format is not supported"),
    errors.RateLimited: (429, "A quota is spent"),
    errors.Misconfigured: (500, "The endpoint is misconfigured"),
    errors.TokenvendError: (500, "The endpoint failed"),
    errors.UpstreamRefused: (502, "An upstream refused the endpoint"),
    errors.UpstreamUnavailable: (503, "An upstream is unavailable"),
    errors.DeadlineExceeded: (504, "The time ran out"),
}
# Seconds to wait where neither we nor an upstream know better; RFC 9110 section 10.2.3.
DEFAULT_RETRY_AFTER = 2

_COMMON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@dataclass(frozen=True)
class Ready:
    """What a well-configured endpoint works with.

    `audience`: this endpoint's name in token exchanges, empty where it takes none.
    """

    authenticator: Authenticator
    vending: Vending
    audience: str


@dataclass(frozen=True)
class Api:
    """The HTTP API of the contract. `budget`: seconds one request may take, upstreams included.

    `state`: what answers, or the misconfiguration that every route then answers with: a function
    that failed to load would show its callers nothing but a platform's 500 or 404.
    `fail_closed`: no token leaves unless its audit record was taken.
    """

    state: Ready | errors.Misconfigured
    audit: AuditLog
    budget: float
    fail_closed: bool
    now: Callable[[], float]
    monotonic: Callable[[], float]
    report: Callable[[str], None]
    on_restore: tuple[Callable[[], None], ...] = ()

    def restored(self) -> None:
        """Begin anew in a process that was restored from a snapshot, as many others may be."""
        self.audit.begin(str(uuid.uuid4()))
        for forget in self.on_restore:
            forget()

    def handle(self, request: HttpRequest | errors.InvalidRequest) -> HttpResponse:
        """One answer to one request, or to why a door could not read it; never raises."""
        visit = _Visit(self, request)
        try:
            response = visit.answer()
        except TokenvendError as error:
            response = visit.refuse(error)
        except Exception as crash:  # noqa: BLE001 -- a crash must be answered and recorded too
            # The crash's own text may quote a request or an upstream: only its type is kept.
            cause = f"crashed with {type(crash).__name__} at {_origin(crash)}"
            response = visit.refuse(TokenvendError(_CRASHED, cause=cause))
        return self._close(visit, response)

    def _close(self, visit: _Visit, response: HttpResponse) -> HttpResponse:
        record = visit.record
        record.status = response.status
        record.steps.stop()
        try:
            self.audit.close(record)
        except Exception as failure:  # noqa: BLE001 -- whatever the sink raises, the rule holds
            self.report(
                f"audit record of request {record.request_id} was not taken: "
                f"{type(failure).__name__}"
            )
            if self.fail_closed and record.outcome == "vended":
                unrecorded = TokenvendError(
                    "The audit record could not be written, so no token is given. Try again later.",
                    retry_after=DEFAULT_RETRY_AFTER,
                )
                return visit.refuse(unrecorded)
        return response


_CRASHED = "The endpoint failed. Quote the request id to the operator."


class _Visit:
    """One request on its way to its answer."""

    def __init__(self, api: Api, request: HttpRequest | errors.InvalidRequest) -> None:
        self._api = api
        self._came = request
        self._deadline = Deadline.after(api.budget, api.monotonic)
        self.record = AuditRecord(
            request_id=str(uuid.uuid4()),
            time=rfc3339(int(api.now())),
            steps=Steps(api.monotonic),
        )

    @property
    def _request(self) -> HttpRequest:
        if isinstance(self._came, errors.InvalidRequest):
            raise self._came
        return self._came

    @property
    def _ready(self) -> Ready:
        if isinstance(self._api.state, errors.Misconfigured):
            # Raised for every request: with its traceback, which each raise makes longer, it would
            # keep every request alive.
            raise self._api.state.with_traceback(None)
        return self._api.state

    def answer(self) -> HttpResponse:
        """The routed answer; raises TokenvendError."""
        request = self._request
        self.record.platform_request_id = request.platform_request_id
        methods = ROUTES.get(request.path)
        if methods is None:
            msg = "There is no such route; GET /openapi.json lists them."
            raise errors.NotFound(msg)
        self.record.route = request.path
        route = methods.get(request.method)
        if route is None:
            allowed = ", ".join(methods)
            msg = f"This route takes {allowed}."
            raise errors.MethodNotAllowed(msg, allowed=allowed)
        return route(self)

    def access_token(self) -> HttpResponse:
        """POST /v1/access-token."""
        return self._own(own.parse_access_token_request)

    def id_token(self) -> HttpResponse:
        """POST /v1/id-token."""
        return self._own(own.parse_id_token_request)

    def grants(self) -> HttpResponse:
        """GET /v1/grants: the caller as we see it, and what it may have."""
        caller = self._authenticate()
        in_force = self._ready.vending.policy(self._deadline)
        policy = in_force.policy
        self.record.policy, self.record.policy_checked_at = policy.digest, in_force.checked_at
        self.record.outcome = "answered"
        views = grants_of(policy, caller, int(self._api.now()))
        answer = {
            "caller": own.render_caller(caller),
            "grants": [_shown(view) for view in views],
            "policy": {
                "digest": policy.digest,
                "mode": str(policy.mode),
                "loaded_at": rfc3339(in_force.loaded_at),
                "checked_at": rfc3339(in_force.checked_at),
            },
        }
        return self._ok(render(answer))

    def token(self) -> HttpResponse:
        """POST /v1/token: the caller proves itself with the subject token it brings."""
        ready = self._ready
        body, media_type = self._body(sts.FORM, "application/json")
        wanted = sts.parse_exchange(body, media_type, ready.audience)
        self.record.asked = {
            "kind": "access_token",
            "grant": wanted.grant_name,
            "scopes": wanted.scopes,
        }
        with self.record.steps.timed("authenticate"):
            caller = ready.authenticator.authenticate_subject_token(
                wanted.subject_token_type,
                wanted.subject_token,
                wanted.audience,
                self._api.now(),
                self._deadline,
            )
        self.record.caller = caller
        request = AccessTokenRequest(
            grant_name=wanted.grant_name, scopes=wanted.scopes, narrow=True
        )
        token = self._vend(caller, request)
        return self._ok(sts.render_exchange(token, int(self._api.now())))

    def healthz(self) -> HttpResponse:
        """GET /healthz: alive and configured; asks nobody."""
        _ = self._ready
        self.record.outcome = "answered"
        return self._ok(render({"status": "ok", "version": __version__}))

    def openapi(self) -> HttpResponse:
        """GET /openapi.json."""
        self.record.outcome = "answered"
        return self._ok(resources.files("tokenvend").joinpath("openapi.json").read_bytes())

    def refuse(self, error: TokenvendError) -> HttpResponse:
        """The answer to an outcome that is none: a problem, or in Google's shape on its route."""
        record = self.record
        record.outcome, record.reason = error.code, error.cause or error.detail
        if record.route == TOKEN_ROUTE:
            status, body = sts.render_error(error, record.request_id)
            return self._response(status, "application/json", body, _headers_of(error))
        status, title = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
        problem = {
            "type": f"urn:tokenvend:problem:{error.code}",
            "title": title,
            "status": status,
            "code": error.code,
            "detail": error.detail,
            "request_id": record.request_id,
        }
        return self._response(
            status, "application/problem+json", render(problem), _headers_of(error)
        )

    def _own(self, parse: Callable[[bytes], TokenRequest]) -> HttpResponse:
        caller = self._authenticate()
        body, _ = self._body("application/json")
        wanted = parse(body)
        self.record.asked = own.describe(wanted)
        token = self._vend(caller, wanted)
        return self._ok(own.render_token(token, int(self._api.now())))

    def _vend(self, caller: Caller, wanted: TokenRequest) -> VendedToken:
        with self.record.steps.timed("vend"):
            token = self._ready.vending.vend(
                caller, wanted, int(self._api.now()), self._deadline, self.record
            )
        self.record.outcome = "vended"
        self.record.expires_at = rfc3339(token.expires_at)
        self.record.token_fingerprint = token.value.fingerprint(self._api.audit.fingerprint_key)
        return token

    def _authenticate(self) -> Caller:
        with self.record.steps.timed("authenticate"):
            caller = self._ready.authenticator.authenticate(
                self._request, self._api.now(), self._deadline
            )
        self.record.caller = caller
        return caller

    def _body(self, *media_types: str) -> tuple[bytes, str]:
        body = self._request.body
        if len(body) > own.MAX_BODY:
            msg = f"The body is larger than {own.MAX_BODY} bytes."
            raise errors.PayloadTooLarge(msg)
        sent = self._request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if body and sent not in media_types:
            msg = f"Send the body as Content-Type: {' or '.join(media_types)}."
            raise errors.UnsupportedMediaType(msg)
        return body, sent

    def _ok(self, body: bytes) -> HttpResponse:
        return self._response(200, "application/json", body, {})

    def _response(
        self, status: int, media_type: str, body: bytes, more: Mapping[str, str]
    ) -> HttpResponse:
        headers = {
            "Content-Type": media_type,
            **_COMMON_HEADERS,
            "X-Request-Id": self.record.request_id,
            **more,
        }
        return HttpResponse(status, headers, body)


TOKEN_ROUTE = "/v1/token"  # noqa: S105 -- a path
ROUTES: Mapping[str, Mapping[str, Callable[[_Visit], HttpResponse]]] = {
    "/v1/access-token": {"POST": _Visit.access_token},
    "/v1/id-token": {"POST": _Visit.id_token},
    TOKEN_ROUTE: {"POST": _Visit.token},
    "/v1/grants": {"GET": _Visit.grants},
    "/healthz": {"GET": _Visit.healthz},
    "/openapi.json": {"GET": _Visit.openapi},
}


def _shown(view: GrantView) -> dict[str, Any]:
    expires = None if view.expires is None else rfc3339(view.expires)
    return {**asdict(view), "expires": expires}


def outcome_of(response: HttpResponse) -> Any:
    """The body of an answer as Python sees it; a problem is raised as the error it came from.

    For doors that have no statuses: a direct Lambda invoke, where Step Functions match the
    error's class name.
    """
    body = json.loads(response.body)
    if response.status == 200:  # noqa: PLR2004 -- the only success of any route
        return body
    detail = f"{body['detail']} (request {body['request_id']})"
    kind = next(kind for kind in STATUSES if kind.code == body["code"])
    raise (
        kind(detail, allowed=response.headers["Allow"])
        if issubclass(kind, errors.MethodNotAllowed)
        else kind(detail)
    )


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


def _origin(crash: BaseException) -> str:
    trace = crash.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
