"""IAM Service Account Credentials: short-lived tokens, ID tokens and signatures.

Checks the caller's token and scope, the request message field by field, the delegation chain and
the binding on each account of it, as https://cloud.google.com/iam/docs/reference/credentials/rest
describes. Field names and answers are those of the iamcredentials.v1 discovery document.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.google.core import audit, hierarchy
from localcloud.google.core.errors import (
    GoogleError,
    answering,
    invalid_argument,
    json_object,
    not_found,
    permission_denied,
    unknown_field,
)
from localcloud.google.core.iam import allows
from localcloud.google.core.principals import Principal, ServiceAccountPrincipal, subject_name
from localcloud.google.core.tokens import CLOUD_PLATFORM, IAM_SCOPE, authenticate, require_scope
from localcloud.google.iamcredentials import minting
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import ServiceAccount

SERVICE = "iamcredentials.googleapis.com"
MAX_CHAIN = 10
_DELEGATE = "projects/-/serviceAccounts/"


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its permission on the account, its message's fields, and what it does."""

    permission: str
    fields: Mapping[str, type]
    mint: Callable[[GoogleCloud, minting.Target, Mapping[str, Any], float], dict[str, Any]]


METHODS = {
    "generateAccessToken": Method(
        "iam.serviceAccounts.getAccessToken",
        {"scope": list, "lifetime": str, "delegates": list},
        minting.access_token,
    ),
    "generateIdToken": Method(
        "iam.serviceAccounts.getOpenIdToken",
        {
            "audience": str,
            "includeEmail": bool,
            "organizationNumberIncluded": bool,
            # Not in the discovery document, but google-auth-library for Node sends it.
            "useEmailAzp": bool,
            "delegates": list,
        },
        minting.id_token,
    ),
    "signBlob": Method(
        "iam.serviceAccounts.signBlob", {"payload": str, "delegates": list}, minting.sign_blob
    ),
    "signJwt": Method(
        "iam.serviceAccounts.signJwt", {"payload": str, "delegates": list}, minting.sign_jwt
    ),
}


def site(cloud: GoogleCloud) -> Site:
    """The IAM Service Account Credentials API."""

    def serve(request: Request) -> Response:
        match request.method, request.segments():
            case "GET", ["v1", *resource, "allowedLocations"]:
                return _allowed_locations(cloud, request, resource)
            case "POST", ["v1", "projects", project, "serviceAccounts", call]:
                name, _, verb = call.rpartition(":")
                if verb in METHODS:
                    return _call(cloud, request, project, name, verb)
        return not_found(request)

    return answering(serve)


def _allowed_locations(cloud: GoogleCloud, request: Request, resource: list[str]) -> Response:
    """No account here is bound to a region: 0x0, as Google answers for the others."""
    authenticate(request, cloud.tokens, cloud.world, cloud.clock())
    match resource:
        case ["projects", _, "serviceAccounts", name]:
            _account(cloud, name)
        case ["projects", _, "locations", *_] if cloud.world.google.pool("/".join(resource)):
            pass
        case _:
            return not_found(request)
    return Response.json(200, {"encodedLocations": "0x0"})


def _call(cloud: GoogleCloud, request: Request, project: str, name: str, verb: str) -> Response:
    now = cloud.clock()
    token = authenticate(request, cloud.tokens, cloud.world, now)
    rpc = f"google.iam.credentials.v1.IAMCredentials.{verb[0].upper()}{verb[1:]}"
    require_scope(token, (CLOUD_PLATFORM, IAM_SCOPE), SERVICE, rpc)
    method = METHODS[verb]
    message = _message(request.body, method.fields)
    if project != "-":
        text = "The project in the resource name must be the wildcard character '-'."
        raise invalid_argument(text, "name")
    delegates = _delegates(message)
    account = _account(cloud, name)
    if token.boundary is not None:
        # A boundary names Cloud Storage buckets only, so nothing of IAM lies within it.
        raise permission_denied(method.permission)
    try:
        chain = _walk(cloud, token.principal, [*delegates, account], method.permission, now)
        answer = method.mint(cloud, minting.Target(account, chain), message, now)
    except GoogleError as refusal:
        _log(cloud, request, verb, account, token.principal, now, refusal.code)
        raise
    _log(cloud, request, verb, account, token.principal, now)
    return Response.json(200, answer)


def _message(body: bytes, fields: Mapping[str, type]) -> dict[str, Any]:
    message = json_object(body)
    for name, value in message.items():
        if name not in fields:
            raise unknown_field(name)
        # proto3 JSON: null is the same as absent.
        if value is not None and type(value) is not fields[name]:
            raise invalid_argument(f"Invalid value at '{name}'.", name)
        if isinstance(value, list) and not all(isinstance(entry, str) for entry in value):
            raise invalid_argument(f"Invalid value at '{name}' (TYPE_STRING).", name)
    return {name: value for name, value in message.items() if value is not None}


def _delegates(message: Mapping[str, Any]) -> list[str]:
    delegates: list[str] = message.get("delegates", [])
    for delegate in delegates:
        name = delegate.removeprefix(_DELEGATE)
        if not delegate.startswith(_DELEGATE) or not name or "/" in name:
            text = (
                "The delegates must have the following format: "
                "projects/-/serviceAccounts/{ACCOUNT_EMAIL_OR_UNIQUEID}."
            )
            raise invalid_argument(text, "delegates")
    if len(delegates) > MAX_CHAIN:
        raise invalid_argument("The delegation chain is too long.", "delegates")
    return [delegate.removeprefix(_DELEGATE) for delegate in delegates]


def _account(cloud: GoogleCloud, name: str) -> ServiceAccount:
    account = cloud.world.google.service_account(name)
    if account is None:
        raise GoogleError("NOT_FOUND", f"Not found; Gaia id not found for email {name}")
    return account


def _walk(
    cloud: GoogleCloud,
    origin: Principal,
    steps: list[str | ServiceAccount],
    permission: str,
    now: float,
) -> tuple[str, ...]:
    """Check every link of the chain; the last needs `permission`, the others delegation.

    Returns who acted, origin first, as the minted token's audit trail.
    """
    actor = origin
    trail = list(origin.delegation) if isinstance(origin, ServiceAccountPrincipal) else []
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        account = _account(cloud, step) if isinstance(step, str) else step
        needed = permission if last else "iam.serviceAccounts.implicitDelegation"
        target = hierarchy.service_account(cloud.world.google, account)
        if not allows(cloud, actor, needed, target, now):
            raise permission_denied(needed)
        if account.disabled:
            raise GoogleError("FAILED_PRECONDITION", "Service account is disabled.")
        trail.append(actor.identifier)
        actor = ServiceAccountPrincipal(account.email, account.unique_id)
    return tuple(trail)


def _log(
    cloud: GoogleCloud,
    request: Request,
    verb: str,
    account: ServiceAccount,
    principal: Principal,
    now: float,
    status: int = 0,
) -> None:
    cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(now),
            service_name=SERVICE,
            method_name=verb[0].upper() + verb[1:],
            resource_name=f"projects/-/serviceAccounts/{account.unique_id}",
            status=status,
            authentication_info=audit.authentication_info(principal),
            metadata={"principal": subject_name(principal)},
            labels={"email_id": account.email, "unique_id": account.unique_id},
            request_reason=request.headers.get("X-Goog-Request-Reason"),
        )
    )
