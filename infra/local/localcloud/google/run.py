"""Cloud Run: the ID token is verified, then IAM decides, then the service answers.

The token must be Google's, for one of the service's URLs or its custom audiences; its subject is
the account that the invoker binding names, whether or not it carries an email.
`X-Serverless-Authorization` wins over `Authorization`, and the service sees the token without its
signature. Access tokens are refused: Cloud Run takes ID tokens only.
https://cloud.google.com/run/docs/authenticating/service-to-service
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from localcloud.google.core import audit, hierarchy, id_tokens
from localcloud.google.core.iam import allows, open_to_all
from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.google.core.api import Call, Handler
    from localcloud.world import RunService

REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
_INVOKE = "run.routes.invoke"


def _serve(call: Call) -> Response:
    """Which service answers is the world's."""
    service = call.google.service_at(call.request.host)
    if service is None:
        return _page(404, "Page not found", "The requested URL was not found on this server.")
    caller, refusal = _admit(call, service)
    _log(call, service, caller, refusal)
    return refusal or _orders(call.request, service, caller)


def _admit(
    call: Call, service: RunService
) -> tuple[ServiceAccountPrincipal | None, Response | None]:
    request, google = call.request, call.google
    target = hierarchy.run_service(google, service)
    if open_to_all(call.cloud, _INVOKE, target, call.now):
        return None, None
    values = request.headers.all(_credential_header(request))
    if not values:
        return None, _forbidden(request)
    scheme, _, token = values[0].strip().partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" and len(values) == 1 else ""
    claims = id_tokens.verify(bearer, call.cloud.key, call.now)
    if claims is None or claims["aud"] not in (*google.urls(service), *service.custom_audiences):
        return None, _unauthorized()
    account = google.service_account(claims["sub"])
    if account is None or account.disabled:
        return None, _unauthorized()
    caller = ServiceAccountPrincipal(account.email, account.unique_id)
    if not allows(call.cloud, caller, _INVOKE, target, call.now):
        return caller, _forbidden(request)
    return caller, None


def _credential_header(request: Request) -> str:
    """Which field Cloud Run reads, and takes the signature from."""
    serverless = "X-Serverless-Authorization"
    return serverless if request.headers.all(serverless) else "Authorization"


def _orders(
    request: Request, service: RunService, caller: ServiceAccountPrincipal | None
) -> Response:
    """The demonstration service: it says what it saw."""
    name = service.name.rpartition("/")[2]
    body: dict[str, str | None] = {"service": name, "method": request.method, "path": request.path}
    body["caller"] = caller.email if caller else None
    if caller is not None:
        header = _credential_header(request)
        head, _, _ = request.headers.get(header).rpartition(".")
        body[header.lower()] = f"{head}.{REMOVED}"
    return Response.json(200, body)


def _unauthorized() -> Response:
    challenge = (
        'Bearer error="invalid_token" error_description="The access token could not be verified"'
    )
    text = "Your client does not have permission to the requested URL."
    return _page(401, "Unauthorized", text, ("WWW-Authenticate", challenge))


def _forbidden(request: Request) -> Response:
    text = f"Your client does not have permission to get URL {request.path} from this server."
    return _page(403, "Forbidden", text)


def _page(status: int, title: str, text: str, *headers: tuple[str, str]) -> Response:
    body = (
        "<html><head>\n"
        '<meta http-equiv="content-type" content="text/html;charset=utf-8">\n'
        f"<title>{status} {title}</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n"
        f"<h1>Error: {title}</h1>\n<h2>{html.escape(text)}</h2>\n<h2></h2>\n</body></html>\n"
    )
    return Response(status, body.encode(), (("Content-Type", "text/html; charset=UTF-8"), *headers))


def _log(
    call: Call,
    service: RunService,
    caller: ServiceAccountPrincipal | None,
    refusal: Response | None,
) -> None:
    call.cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(call.now),
            service_name="run.googleapis.com",
            method_name="/HttpIngress",
            resource_name=service.name,
            status=refusal.status if refusal else 0,
            authentication_info=audit.authentication_info(caller) if caller else {},
            metadata={"requestMethod": call.request.method, "requestPath": call.request.path},
        )
    )


SERVICE: Service[Handler] = Service(
    "Cloud Run services",
    ("*.run.app",),
    (
        Route("*", "/", _serve, asks=_INVOKE),
        Route("*", "/{path+}", _serve, asks=_INVOKE),
    ),
)
