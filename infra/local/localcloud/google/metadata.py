"""Google's public documents and small lookups: key sets, discovery, tokeninfo, projects, policies.

Only what real clients of this project ask for; everything else answers 501.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.core.cel import Resource
from localcloud.google.core.errors import (
    GoogleError,
    answering,
    invalid_argument,
    json_object,
    not_found,
    permission_denied,
)
from localcloud.google.core.iam import allows
from localcloud.google.core.principals import ServiceAccountPrincipal, UserPrincipal
from localcloud.google.core.tokens import (
    CLOUD_PLATFORM,
    IAM_SCOPE,
    authenticate,
    bearer,
    require_scope,
)
from localcloud.google.iamcredentials.minting import ISSUER
from localcloud.wire.web import Request, Response, Site
from localcloud.world import Policy, ServiceAccount
from localcloud.world.resources import WorldError, parse, unparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.google.core.cloud import GoogleCloud

_CACHE = ("Cache-Control", "public, max-age=3600, must-revalidate")
_MANAGER_SCOPES = (
    CLOUD_PLATFORM,
    "https://www.googleapis.com/auth/cloud-platform.read-only",
    "https://www.googleapis.com/auth/cloudplatformprojects",
    "https://www.googleapis.com/auth/cloudplatformprojects.readonly",
)


def sites(cloud: GoogleCloud) -> dict[str, Site]:
    """The hosts of Google's small lookups."""
    bound: dict[str, Callable[[GoogleCloud, Request], Response]] = {
        "www.googleapis.com": _certificates,
        "accounts.google.com": _discovery,
        "oauth2.googleapis.com": _token_info,
        "cloudresourcemanager.googleapis.com": _project,
        "iam.googleapis.com": _service_account,
    }

    def bind(serve: Callable[[GoogleCloud, Request], Response]) -> Site:
        return answering(lambda request: serve(cloud, request))

    return {host: bind(serve) for host, serve in bound.items()}


def _certificates(cloud: GoogleCloud, request: Request) -> Response:
    path = request.path
    if request.method != "GET":
        return not_found(request)
    if path == "/oauth2/v3/certs":
        return Response.json(200, {"keys": [cloud.key.jwk()]}, _CACHE)
    if path == "/oauth2/v1/certs":
        subject = "federated-signon.system.gserviceaccount.com"
        certificate = cloud.key.certificate(subject, cloud.clock())
        return Response.json(200, {cloud.key.kid: certificate}, _CACHE)
    match request.segments():
        case ["service_accounts", "v1", "metadata", ("jwk" | "x509") as form, name]:
            return _account_certificates(cloud, form, name)
    return not_found(request)


def _account_certificates(cloud: GoogleCloud, form: str, name: str) -> Response:
    account = cloud.world.google.service_account(name)
    if account is None:
        raise GoogleError("NOT_FOUND", "Requested entity was not found.")
    key = cloud.account_key(account.unique_id)
    if form == "jwk":
        return Response.json(200, {"keys": [key.jwk()]}, _CACHE)
    certificate = key.certificate(account.unique_id, cloud.clock())
    return Response.json(200, {key.kid: certificate}, _CACHE)


def _discovery(_cloud: GoogleCloud, request: Request) -> Response:
    if (request.method, request.path) != ("GET", "/.well-known/openid-configuration"):
        return not_found(request)
    document = {
        "issuer": ISSUER,
        "token_endpoint": "https://oauth2.googleapis.com/token",
        "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"],
    }
    return Response.json(200, document, _CACHE)


def _token_info(cloud: GoogleCloud, request: Request) -> Response:
    if request.path not in ("/tokeninfo", "/oauth2/v3/tokeninfo"):
        return not_found(request)
    now = cloud.clock()
    text = request.params.get("access_token") or bearer(request) or ""
    token = cloud.tokens.live(text, cloud.world, now)
    if token is None:
        body = {"error": "invalid_token", "error_description": "Invalid Value"}
        return Response.json(400, body)
    info = {
        "scope": " ".join(sorted(token.scopes)),
        "exp": str(token.expires_at),
        "expires_in": str(token.expires_at - int(now)),
        "access_type": "online",
    }
    if isinstance(token.principal, ServiceAccountPrincipal):
        unique_id = token.principal.unique_id
        info |= {"azp": unique_id, "aud": unique_id, "sub": unique_id}
        info |= {"email": token.principal.email, "email_verified": "true"}
    if isinstance(token.principal, UserPrincipal):
        info |= {"email": token.principal.email, "email_verified": "true"}
    return Response.json(200, info)


def _project(cloud: GoogleCloud, request: Request) -> Response:
    """Resource Manager's projects.get; projects carry no policy here, so any live token reads."""
    match request.method, request.segments():
        case "GET", [("v1" | "v3") as version, "projects", name]:
            return _get_project(cloud, request, version, name)
    return not_found(request)


def _get_project(cloud: GoogleCloud, request: Request, version: str, wanted: str) -> Response:
    token = authenticate(request, cloud.tokens, cloud.world, cloud.clock())
    require_scope(token, _MANAGER_SCOPES, request.host, "GetProject")
    project = cloud.world.google.project(wanted)
    if project is None:
        text = "The caller does not have permission"
        raise GoogleError("PERMISSION_DENIED", text)
    number, name = project.project_number, project.display_name or project.project_id
    if version == "v3":
        body = {"name": f"projects/{number}", "projectId": project.project_id}
        return Response.json(200, body | {"state": "ACTIVE", "displayName": name})
    body = {"projectNumber": number, "projectId": project.project_id}
    return Response.json(200, body | {"lifecycleState": "ACTIVE", "name": name})


def _service_account(cloud: GoogleCloud, request: Request) -> Response:
    """Read or replace a service account's policy."""
    match request.method, request.segments():
        case "POST", ["v1", "projects", _, "serviceAccounts", call]:
            name, _, verb = call.rpartition(":")
            if verb in ("getIamPolicy", "setIamPolicy"):
                return _policy(cloud, request, name, verb)
    return not_found(request)


def _policy(cloud: GoogleCloud, request: Request, name: str, verb: str) -> Response:
    now = cloud.clock()
    token = authenticate(request, cloud.tokens, cloud.world, now)
    require_scope(token, (CLOUD_PLATFORM, IAM_SCOPE), request.host, verb)
    permission = f"iam.serviceAccounts.{verb}"
    account = cloud.world.google.service_account(name)
    if account is None or token.boundary is not None:
        raise permission_denied(permission)
    resource = Resource(account.name, "iam.googleapis.com/ServiceAccount", "iam.googleapis.com")
    if not allows(account.iam_policy, token.principal, permission, resource, now):
        raise permission_denied(permission)
    if verb == "setIamPolicy":
        _replace_policy(account, json_object(request.body))
    return Response.json(200, {"etag": "ACAB", "version": 1} | unparse(account.iam_policy))


def _replace_policy(account: ServiceAccount, message: dict[str, object]) -> None:
    try:
        account.iam_policy = parse(Policy, message.get("policy"), "policy")
    except WorldError as failure:
        raise invalid_argument(str(failure), "policy") from failure
