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
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import RunService

SERVICE = "run.googleapis.com"
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
_INVOKE = "run.routes.invoke"


def site(cloud: GoogleCloud) -> Site:
    """Every `*.run.app` host; which service answers is the world's."""

    def serve(request: Request) -> Response:
        service = cloud.world.google.service_at(request.host)
        if service is None:
            return _page(404, "Page not found", "The requested URL was not found on this server.")
        now = cloud.clock()
        caller, refusal = _admit(cloud, request, service, now)
        _log(cloud, request, service, caller, refusal, now)
        return refusal or _orders(request, service, caller)

    return serve


def _admit(
    cloud: GoogleCloud, request: Request, service: RunService, now: float
) -> tuple[ServiceAccountPrincipal | None, Response | None]:
    target = hierarchy.run_service(cloud.world.google, service)
    if open_to_all(_INVOKE, target):
        return None, None
    values = request.headers.all(_credential_header(request))
    if not values:
        return None, _forbidden(request)
    scheme, _, token = values[0].strip().partition(" ")
    claims = id_tokens.verify(token.strip(), cloud.key, now) if scheme.lower() == "bearer" else None
    audiences = (*cloud.world.google.urls(service), *service.custom_audiences)
    if len(values) != 1 or claims is None or claims["aud"] not in audiences:
        return None, _unauthorized()
    account = cloud.world.google.service_account(claims["sub"])
    if account is None or account.disabled:
        return None, _unauthorized()
    caller = ServiceAccountPrincipal(account.email, account.unique_id)
    if not allows(cloud, caller, _INVOKE, target, now):
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
    cloud: GoogleCloud,
    request: Request,
    service: RunService,
    caller: ServiceAccountPrincipal | None,
    refusal: Response | None,
    now: float,
) -> None:
    cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(now),
            service_name=SERVICE,
            method_name="/HttpIngress",
            resource_name=service.name,
            status=refusal.status if refusal else 0,
            authentication_info=audit.authentication_info(caller) if caller else {},
            metadata={"requestMethod": request.method, "requestPath": request.path},
        )
    )
