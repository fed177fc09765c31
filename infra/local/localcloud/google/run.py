"""Cloud Run: the ID token is verified, then IAM decides, then the service answers.

The token must be RS256 by Google's published key, of Google's issuer, unexpired, for the service's
URI or one of its custom audiences, and carry a verified email, which is what the invoker binding
names. `X-Serverless-Authorization` wins over `Authorization`. Access tokens are refused: Cloud Run
takes ID tokens only. https://cloud.google.com/run/docs/authenticating/service-to-service
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import jwt

from localcloud.google.core import audit
from localcloud.google.core.cel import Resource
from localcloud.google.core.iam import PERMISSIONS, allows
from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.iamcredentials.minting import ISSUER
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import RunService

SERVICE = "run.googleapis.com"
SKEW = 30
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
    if _open_to_all(service):
        return None, None
    values = request.headers.all("X-Serverless-Authorization") or request.headers.all(
        "Authorization"
    )
    if not values:
        return None, _forbidden(request)
    scheme, _, token = values[0].strip().partition(" ")
    claims = _verify(cloud, token.strip(), service, now) if scheme.lower() == "bearer" else None
    if len(values) != 1 or claims is None:
        return None, _unauthorized()
    caller = ServiceAccountPrincipal(claims["email"], claims["sub"])
    account = cloud.world.google.service_account(caller.email)
    resource = Resource(service.name, "run.googleapis.com/Service", SERVICE)
    if account is None or account.unique_id != caller.unique_id or account.disabled:
        return caller, _unauthorized()
    if not allows(service.iam_policy, caller, _INVOKE, resource, now):
        return caller, _forbidden(request)
    return caller, None


def _open_to_all(service: RunService) -> bool:
    return any(
        "allUsers" in binding.members
        and binding.condition is None
        and _INVOKE in PERMISSIONS.get(binding.role, frozenset())
        for binding in service.iam_policy.bindings
    )


def _verify(
    cloud: GoogleCloud, token: str, service: RunService, now: float
) -> dict[str, Any] | None:
    try:
        header = jwt.get_unverified_header(token)
        claims: dict[str, Any] = jwt.decode(
            token,
            cloud.key.private.public_key(),
            algorithms=["RS256"],
            # Times are judged by this cloud's clock below, not by the machine's.
            options={
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
                "verify_aud": False,
                "require": ["exp", "iat", "aud", "iss", "sub"],
            },
        )
    except (jwt.PyJWTError, ValueError):
        return None
    issued, expires = claims["iat"], claims["exp"]
    valid = (
        header.get("kid") == cloud.key.kid
        and claims["iss"] in (ISSUER, "accounts.google.com")
        and claims["aud"] in (service.uri, *service.custom_audiences)
        and type(issued) is int
        and type(expires) is int
        and issued - SKEW <= now < expires
        and isinstance(claims.get("email"), str)
        and claims.get("email_verified") is True
    )
    return claims if valid else None


def _orders(
    request: Request, service: RunService, caller: ServiceAccountPrincipal | None
) -> Response:
    """The demonstration service: it says what it saw."""
    name = service.name.rpartition("/")[2]
    body = {"service": name, "method": request.method, "path": request.path}
    return Response.json(200, body | {"caller": caller.email if caller else None})


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
