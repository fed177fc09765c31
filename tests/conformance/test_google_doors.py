"""Every route of every Google API, tried without a token, without a scope and without a grant."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from localcloud import google
from localcloud.google.core.principals import FederatedPrincipal, UserPrincipal
from localcloud.world import User
from tests.conformance.google_admin import token_of
from tests.conformance.google_lab import LANDING, POOL, Lab

if TYPE_CHECKING:
    from localcloud.google.core.api import Handler
    from localcloud.wire.routes import Route, Service

STRANGERS = (FederatedPrincipal(POOL, "stranger"), UserPrincipal("stranger@acme.example"))
NAMES = {
    "project": "acme",
    "account": LANDING,
    "pool": "tokenvend",
    "provider": "aws-prod",
    "service": "orders",
    "bucket": "acme-landing",
}
NO_GRANT_NEEDED = (
    # What anybody who is somebody may ask, at Google too: Google's own roles, which permissions
    # they have themselves, which projects they see, an operation whose name they were told.
    r"/v1/roles(/\{role\})?",
    r".*:testIamPermissions",
    "/v1/projects|/v3/projects:search",
    r"/v1/operations/\{operation\}",
)

ROUTES = [
    pytest.param(service, route, id=f"{route.method} {service.hosts[0]}{route.path}")
    for service in google.SERVICES
    if not service.hosts[0].startswith("storage.")
    for route in service.routes
    if service.scopes
    if route.scopes != ()
]


@pytest.fixture
def lab() -> Lab:
    made = Lab()
    made.world.google.users.append(User("stranger@acme.example"))
    return made


def knock(
    lab: Lab, service: Service[Handler], route: Route[Handler], token: str | None
) -> tuple[int, dict[str, Any]]:
    host = service.hosts[0]
    places = {"location": "us-central1" if host.startswith("run.") else "global"}
    # The one API whose callers must not say which project.
    places |= {"project": "-"} if host.startswith("iamcredentials.") else {}
    names = NAMES | places
    path = re.sub(r"\{([A-Za-z]+)\+?\}", lambda name: names.get(name[1], "x"), route.path)
    answer = lab.call(route.method, f"https://{host}{path}", {}, token)
    return answer.status, json.loads(answer.body)["error"] if answer.status >= 400 else {}


@pytest.mark.parametrize(("service", "route"), ROUTES)
def test_nobody_is_let_in_without_a_token_a_scope_and_a_grant(
    lab: Lab, service: Service[Handler], route: Route[Handler]
) -> None:
    status, error = knock(lab, service, route, None)
    assert (status, error["status"]) == (401, "UNAUTHENTICATED")
    status, error = knock(lab, service, route, token_of(lab, scope="openid"))
    assert (status, error["status"]) == (403, "PERMISSION_DENIED")
    assert error["details"][0]["reason"] == "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    if any(re.fullmatch(pattern, route.path) for pattern in NO_GRANT_NEEDED):
        assert not route.permission
        return
    for stranger in STRANGERS:
        before = lab.world.dump()
        status, error = knock(lab, service, route, token_of(lab, stranger))
        assert (status, error["status"]) == (403, "PERMISSION_DENIED")
        assert lab.world.dump() == before


@pytest.mark.parametrize(
    ("service", "route"), [entry for entry in ROUTES if entry.values[1].permission]
)
def test_no_token_of_a_boundary_opens_anything_but_storage(
    lab: Lab, service: Service[Handler], route: Route[Handler]
) -> None:
    text = token_of(lab)
    token = lab.google.tokens.find(text)
    assert token is not None
    narrowed = lab.google.tokens.issue(replace(token, boundary=()), lab.clock.now)
    status, error = knock(lab, service, route, narrowed)
    assert (status, error["status"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(("service", "route"), ROUTES)
def test_a_scope_of_reading_changes_nothing(
    service: Service[Handler], route: Route[Handler]
) -> None:
    scopes = service.scopes if route.scopes is None else route.scopes
    reads = [scope for scope in scopes if re.search("read.?only$", scope)]
    verb = (route.permission or route.asks).rpartition(".")[2]
    assert not reads or verb in ("", "get", "list", "getIamPolicy")
    assert not reads or route.method == "GET" or re.search(":(get|test|search)", route.path)
