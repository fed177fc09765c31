"""The front of Google's APIs: what every call of every service meets before its handler.

A service is one `Service` table of wire/routes.py whose handlers take a `Call`. In this order a
call is refused: a route that no table has (405, in Google's shape: clients retry a 501); no live
token, where the service has scopes (401); none of the scopes (403); a project in
`X-Goog-User-Project`, or in the token, without the right to use it (403); an API that the project
has not enabled (403; see `services`); the route's permission, asked on the resource that its path
names (403; see `hierarchy`). Answers are compressed for whoever accepts gzip, as Google's are.
https://cloud.google.com/apis/docs/system-parameters
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from localcloud.google.core import hierarchy, services
from localcloud.google.core.compression import compressed
from localcloud.google.core.errors import (
    GoogleError,
    OAuthError,
    error_info,
    invalid_argument,
    not_served,
    permission_denied,
)
from localcloud.google.core.fields import selected
from localcloud.google.core.iam import allows
from localcloud.google.core.messages import BOOL, Field, read_message, read_query
from localcloud.google.core.overriding import meant
from localcloud.google.core.tokens import authenticate, require_scope
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.google.core.principals import Principal
    from localcloud.google.core.tokens import IssuedToken
    from localcloud.wire.routes import Route, Service
    from localcloud.world import Google

type Answer = Mapping[str, Any] | Response
"""A JSON message for a 200, or a whole response."""
type Handler = Callable[[Call], Answer]

_REGIONAL = re.compile(
    r"(?:[a-z]+\.)?(?P<location>[a-z]+-[a-z]+[0-9]+)(?:-[a-z]+|\.rep)\.googleapis\.com"
)
# How the refusal of these services differs from IAM's.
_PROJECTS = "cloudresourcemanager.googleapis.com"
_RUN = "run.googleapis.com"


@dataclass(frozen=True, slots=True)
class Call:
    """One admitted call; `now` is epoch seconds, `parameters` are the path's, decoded."""

    cloud: GoogleCloud
    service: Service[Handler]
    route: Route[Handler]
    request: Request
    parameters: Mapping[str, str]
    now: float
    token: IssuedToken | None = None

    @property
    def google(self) -> Google:
        """What exists in Google Cloud."""
        return self.cloud.world.google

    @property
    def principal(self) -> Principal:
        """Who calls; only of a service that wants a token."""
        if self.token is None:
            raise TypeError("this service asks nobody who they are")
        return self.token.principal

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters, decoded; of a repeated name, the last."""
        return self.request.params

    def arguments(self, **fields: Field) -> dict[str, Any]:
        """The query as the method's own fields, by their snake_case names.

        Raises the 400 of Google's parser for a name that is neither one of them nor a system
        parameter, and for a value of another type.
        """
        return read_query(self.request.query, fields)

    def message(self, fields: Mapping[str, Field], at: str = "") -> dict[str, Any]:
        """The JSON body as a message of `fields`, by snake_case names; `at` names it in errors.

        Absent and null fields are left out. Raises the 400 of Google's parser for a field that is
        not one of them, and for a value of another type.
        """
        return read_message(self.request.body, fields, at)

    def allows(self, permission: str, target: hierarchy.Target) -> bool:
        """Whether the caller has another permission than the route's."""
        return _may(self.cloud, self.token, permission, target, self.now)


def api_sites(cloud: GoogleCloud, *services: Service[Handler]) -> dict[str, Site]:
    """The hosts of the services, each with a site that serves what the tables have for it."""
    hosts = {host: [s for s in services if host in s.hosts] for s in services for host in s.hosts}
    return {host: api_site(cloud, *served) for host, served in hosts.items()}


def api_site(cloud: GoogleCloud, *services: Service[Handler]) -> Site:
    """One site for services that share a hostname."""

    def serve(request: Request) -> Response:
        try:
            answer = _serve(cloud, services, request)
        except (GoogleError, OAuthError) as refusal:
            answer = refusal.response()
        return compressed(request, answer)

    return serve


def _serve(
    cloud: GoogleCloud, services: tuple[Service[Handler], ...], request: Request
) -> Response:
    request = meant(request)
    for service in services:
        found = service.find(request.method, request.path)
        if found is not None:
            route, parameters = found
            # A regional host says where: us-central1-run.googleapis.com.
            if place := _REGIONAL.fullmatch(request.host.lower()):
                parameters = place.groupdict() | parameters
            call = _admit(Call(cloud, service, route, request, parameters, cloud.clock()))
            return _on_the_wire(request, route.handler(call))
    raise not_served(request)


def _admit(call: Call) -> Call:
    """The call with its caller's token; raises the refusal."""
    cloud, service, route = call.cloud, call.service, call.route
    scopes = service.scopes if route.scopes is None else route.scopes
    if not scopes:
        if route.permission:
            raise TypeError(f"{route.path} has a permission, and no scope that a token could have")
        return call
    token = authenticate(call.request, cloud.tokens, cloud.world, call.now)
    require_scope(token, scopes, _api(call), route.path)
    _check_user_project(call, token)
    _check_enabled(call, token)
    if route.permission:
        _check_permission(call, token)
    return replace(call, token=token)


def _check_permission(call: Call, token: IssuedToken) -> None:
    target = hierarchy.of_route(call.google, call.parameters)
    permission = call.route.permission
    if target is not None and _may(call.cloud, token, permission, target, call.now):
        return
    if _api(call) == _PROJECTS:
        raise GoogleError("PERMISSION_DENIED", "The caller does not have permission")
    if _api(call) == _RUN and target is not None:
        name = target.resource.name
        text = f"Permission '{permission}' denied on resource '{name}' (or resource may not exist)."
        raise GoogleError("PERMISSION_DENIED", text)
    raise permission_denied(permission, target.shown if target else "")


def _may(
    cloud: GoogleCloud,
    token: IssuedToken | None,
    permission: str,
    target: hierarchy.Target,
    now: float,
) -> bool:
    # A Credential Access Boundary names Cloud Storage buckets only; nothing else lies within it.
    if token is None or token.boundary is not None:
        return False
    return allows(cloud, token.principal, permission, target, now)


def _check_enabled(call: Call, token: IssuedToken) -> None:
    google, api = call.google, _api(call)
    if name := call.request.headers.get("X-Goog-User-Project") or token.user_project:
        services.require_enabled(api, google.project(name), name)
    elif api in services.OF_THE_CLIENT:
        services.require_enabled(api, services.of_the_caller(google, token.principal))
    if api not in services.OF_THE_CLIENT:
        services.require_enabled(api, *services.of_the_resource(google, call.parameters))


def _check_user_project(call: Call, token: IssuedToken) -> None:
    name = call.request.headers.get("X-Goog-User-Project") or token.user_project
    if not name:
        return
    target = hierarchy.project(call.google, name)
    if _may(call.cloud, token, "serviceusage.services.use", target, call.now):
        return
    console = f"https://console.developers.google.com/iam-admin/iam/project?project={name}"
    text = (
        f"Caller does not have required permission to use project {name}. Grant the caller the "
        "roles/serviceusage.serviceUsageConsumer role, or a custom role with the "
        f"serviceusage.services.use permission, by visiting {console} and then retry. Propagation "
        "of the new permission may take a few minutes."
    )
    links = [{"description": "Google developer console IAM admin", "url": console}]
    raise GoogleError(
        "PERMISSION_DENIED",
        text,
        (
            {"@type": "type.googleapis.com/google.rpc.Help", "links": links},
            error_info(
                "USER_PROJECT_DENIED",
                "googleapis.com",
                consumer=f"projects/{name}",
                service=_api(call),
            ),
        ),
    )


def _api(call: Call) -> str:
    """The service's own name, whichever of its hosts was called."""
    return call.service.hosts[0]


def _on_the_wire(request: Request, answer: Answer) -> Response:
    if isinstance(answer, Response):
        return answer
    system = request.params
    if system.get("alt", "json") != "json":
        raise invalid_argument(f'Invalid value "{system["alt"]}" for parameter "alt".', "alt")
    if mask := system.get("fields"):
        answer = selected(answer, mask)
    pretty = read_query(request.query, {"pretty_print": BOOL}, lenient=True)
    indent = 2 if pretty.get("pretty_print", True) else None
    body = json.dumps(answer, indent=indent, ensure_ascii=False).encode()
    headers = (
        ("Content-Type", "application/json; charset=UTF-8"),
        ("Cache-Control", "private"),
        *(("Vary", name) for name in ("Origin", "X-Origin", "Referer")),
    )
    return Response(200, body, headers)
