"""The service accounts' policies.

Only what real clients of this project ask for; everything else answers 405.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.core import hierarchy
from localcloud.google.core.errors import (
    answering,
    invalid_argument,
    json_object,
    not_found,
    permission_denied,
)
from localcloud.google.core.iam import allows
from localcloud.google.core.tokens import (
    CLOUD_PLATFORM,
    IAM_SCOPE,
    authenticate,
    require_scope,
)
from localcloud.wire.web import Request, Response, Site
from localcloud.world import Policy, ServiceAccount
from localcloud.world.resources import WorldError, parse, unparse

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.google.core.cloud import GoogleCloud


def sites(cloud: GoogleCloud) -> dict[str, Site]:
    """The hosts of Google's small lookups."""
    bound: dict[str, Callable[[GoogleCloud, Request], Response]] = {
        "iam.googleapis.com": _service_account,
    }

    def bind(serve: Callable[[GoogleCloud, Request], Response]) -> Site:
        return answering(lambda request: serve(cloud, request))

    return {host: bind(serve) for host, serve in bound.items()}


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
    target = hierarchy.service_account(cloud.world.google, account)
    if not allows(cloud, token.principal, permission, target, now):
        raise permission_denied(permission)
    if verb == "setIamPolicy":
        _replace_policy(account, json_object(request.body))
    return Response.json(200, {"etag": "ACAB", "version": 1} | unparse(account.iam_policy))


def _replace_policy(account: ServiceAccount, message: dict[str, object]) -> None:
    try:
        account.iam_policy = parse(Policy, message.get("policy"), "policy")
    except WorldError as failure:
        raise invalid_argument(str(failure), "policy") from failure
