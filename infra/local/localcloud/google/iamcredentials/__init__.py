"""IAM Service Account Credentials: short-lived tokens, ID tokens and signatures.

Checks the caller's token and scope, the request message field by field, the delegation chain and
the binding on each account of it, as https://cloud.google.com/iam/docs/reference/credentials/rest
describes. Field names and answers are those of the iamcredentials.v1 discovery document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.google.core import audit, hierarchy
from localcloud.google.core.errors import GoogleError, invalid_argument, permission_denied
from localcloud.google.core.iam import allows
from localcloud.google.core.messages import BOOL, STRING, Field, repeated
from localcloud.google.core.principals import ServiceAccountPrincipal, subject_name
from localcloud.google.core.tokens import CLOUD_PLATFORM, IAM_SCOPE, authenticate
from localcloud.google.iamcredentials import minting
from localcloud.wire.routes import Route, Service, Unserved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.google.core.api import Call, Handler
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import ServiceAccount

    type Mint = Callable[[GoogleCloud, minting.Target, Mapping[str, Any], float], dict[str, Any]]

SERVICE_NAME = "iamcredentials.googleapis.com"
MAX_CHAIN = 10
_DELEGATE = "projects/-/serviceAccounts/"


def _method(verb: str, permission: str, mint: Mint, **fields: Field) -> Route[Handler]:
    """One RPC: `permission` on the account that it speaks for, and its message's fields."""

    def serve(call: Call) -> dict[str, Any]:
        message = call.message({**fields, "delegates": repeated(STRING)})
        if call.parameters["project"] != "-":
            text = "The project in the resource name must be the wildcard character '-'."
            raise invalid_argument(text, "name")
        delegates = _delegates(message)
        account = _account(call.cloud, call.parameters["account"])
        if call.token is None or call.token.boundary is not None:
            # A boundary names Cloud Storage buckets only, so nothing of IAM lies within it.
            raise permission_denied(permission)
        try:
            chain = _walk(call, [*delegates, account], permission)
            answer = mint(call.cloud, minting.Target(account, chain), message, call.now)
        except GoogleError as refusal:
            _log(call, verb, account, refusal.code)
            raise
        _log(call, verb, account)
        return answer

    path = f"/v1/projects/{{project}}/serviceAccounts/{{account}}:{verb}"
    return Route("POST", path, serve, asks=permission)


def _account_locations(call: Call) -> dict[str, Any]:
    _account(call.cloud, call.parameters["account"])
    return _locations(call)


def _pool_locations(call: Call) -> dict[str, Any]:
    parts = call.parameters
    path = f"projects/{parts['project']}/locations/{parts['location']}"
    if call.google.pool(f"{path}/workloadIdentityPools/{parts['pool']}") is None:
        raise GoogleError("NOT_FOUND", "Requested entity was not found.")
    return _locations(call)


def _locations(call: Call) -> dict[str, Any]:
    """Nothing here is bound to a region: 0x0, as Google answers for what is not."""
    # A token of any scope will do.
    authenticate(call.request, call.cloud.tokens, call.cloud.world, call.now)
    return {"encodedLocations": "0x0"}


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


def _walk(call: Call, steps: list[str | ServiceAccount], permission: str) -> tuple[str, ...]:
    """Check every link of the chain; the last needs `permission`, the others delegation.

    Returns who acted, origin first, as the minted token's audit trail.
    """
    actor = origin = call.principal
    trail = list(origin.delegation) if isinstance(origin, ServiceAccountPrincipal) else []
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        account = _account(call.cloud, step) if isinstance(step, str) else step
        needed = permission if last else "iam.serviceAccounts.implicitDelegation"
        target = hierarchy.service_account(call.google, account)
        if not allows(call.cloud, actor, needed, target, call.now):
            raise permission_denied(needed)
        if account.disabled:
            raise GoogleError("FAILED_PRECONDITION", "Service account is disabled.")
        trail.append(actor.identifier)
        actor = ServiceAccountPrincipal(account.email, account.unique_id)
    return tuple(trail)


def _log(call: Call, verb: str, account: ServiceAccount, status: int = 0) -> None:
    call.cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(call.now),
            service_name=SERVICE_NAME,
            method_name=verb[0].upper() + verb[1:],
            resource_name=f"projects/-/serviceAccounts/{account.unique_id}",
            status=status,
            authentication_info=audit.authentication_info(call.principal),
            metadata={"principal": subject_name(call.principal)},
            labels={"email_id": account.email, "unique_id": account.unique_id},
            request_reason=call.request.headers.get("X-Goog-Request-Reason"),
        )
    )


_ACCOUNTS = "/v1/projects/{project}/serviceAccounts"
_POOLS = "/v1/projects/{project}/locations/{location}/workloadIdentityPools"

SERVICE: Service[Handler] = Service(
    "IAM Service Account Credentials",
    (SERVICE_NAME, "iamcredentials.mtls.googleapis.com"),
    (
        _method(
            "generateAccessToken",
            "iam.serviceAccounts.getAccessToken",
            minting.access_token,
            scope=repeated(STRING),
            lifetime=STRING,
        ),
        _method(
            "generateIdToken",
            "iam.serviceAccounts.getOpenIdToken",
            minting.id_token,
            audience=STRING,
            include_email=BOOL,
            organization_number_included=BOOL,
            # Not in the discovery document, but google-auth-library for Node sends it.
            use_email_azp=BOOL,
        ),
        _method("signBlob", "iam.serviceAccounts.signBlob", minting.sign_blob, payload=STRING),
        _method("signJwt", "iam.serviceAccounts.signJwt", minting.sign_jwt, payload=STRING),
        Route("GET", f"{_ACCOUNTS}/{{account}}/allowedLocations", _account_locations, scopes=()),
        Route("GET", f"{_POOLS}/{{pool}}/allowedLocations", _pool_locations, scopes=()),
    ),
    document="iamcredentials.v1",
    unserved=(
        Unserved(
            "iamcredentials.locations.workforcePools.getAllowedLocations",
            "workforce pools are for people; no world has one",
        ),
    ),
    scopes=(CLOUD_PLATFORM, IAM_SCOPE),
)
