"""Credential Access Boundaries: what the exchange refuses, and how narrow a narrowed token is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from localcloud import google
from tests.conformance.google_lab import (
    ACCESS,
    AUDITED,
    CLOUD_PLATFORM,
    LANDING,
    LONGHAUL,
    READ_WRITE,
    Lab,
)

if TYPE_CHECKING:
    from localcloud.wire.web import Response

API = "https://storage.googleapis.com/storage/v1/b/acme-landing"
BUCKET = "//storage.googleapis.com/projects/_/buckets/acme-landing"
NAMED = "resource.name.startsWith('projects/_/buckets/acme-landing/objects/in/')"
LISTED = "api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('in/')"


def boundary(*rules: Any) -> str:
    return json.dumps({"accessBoundary": {"accessBoundaryRules": list(rules)}})


def rule(role: str = "roles/storage.objectAdmin", condition: str | None = None) -> Any:
    made: dict[str, Any] = {
        "availableResource": BUCKET,
        "availablePermissions": [f"inRole:{role}"],
    }
    return made | ({"availabilityCondition": {"expression": condition}} if condition else {})


def within(prefixes: str = f"{NAMED} || {LISTED}") -> str:
    return boundary(rule(condition=prefixes))


def downscope(lab: Lab, token: str, options: str, **fields: str | None) -> Response:
    given = {"scope": None, "subject_token": token, "subject_token_type": ACCESS} | fields
    return lab.exchange(options=options, **given)


def narrowed(lab: Lab, options: str, account: str = LANDING) -> str:
    answer = downscope(lab, lab.access_token(account, CLOUD_PLATFORM), options)
    assert answer.status == 200, answer.body
    token: str = json.loads(answer.body)["access_token"]
    return token


def put(lab: Lab, name: str, token: str) -> int:
    url = f"https://storage.googleapis.com/upload/storage/v1/b/acme-landing/o?name={name}"
    return lab.call("POST", f"{url}&uploadType=media", b"x", token, Content_Type="text/x").status


def test_downscoped_token_stays_within_its_prefix(lab: Lab) -> None:
    token = narrowed(lab, within())
    assert put(lab, "in%2Fx", token) == 200
    assert put(lab, "inner", token) == 403
    assert lab.call("GET", f"{API}/o/in%2Fx?alt=media", token=token).body == b"x"
    assert lab.call("GET", f"{API}/o?prefix=in/", token=token).status == 200
    assert lab.call("GET", f"{API}/o", token=token).status == 403
    assert lab.call("GET", f"{API}/o?prefix=i", token=token).status == 403


def test_downscoped_token_is_good_for_nothing_but_storage_and_cannot_be_cut_again(lab: Lab) -> None:
    whole, token = lab.access_token(scope=CLOUD_PLATFORM), narrowed(lab, within())
    message = {"scope": [READ_WRITE]}
    for held, status in ((whole, 200), (token, 403)):
        assert lab.credentials(AUDITED, "generateAccessToken", message, held).status == status
    assert downscope(lab, token, within()).status == 400


def test_boundary_never_widens_a_role(lab: Lab) -> None:
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.iam_policy.grant("roles/storage.objectViewer", f"serviceAccount:{LONGHAUL}")
    token = narrowed(lab, boundary(rule()), LONGHAUL)
    assert put(lab, "x", token) == 403
    assert lab.call("GET", f"{API}/o", token=token).status == 200


@pytest.mark.parametrize(
    "role", ["projects/acme/roles/reader", "organizations/123456789/roles/storage.reader"]
)
def test_a_custom_role_that_nobody_made_lets_nothing_through(lab: Lab, role: str) -> None:
    token = narrowed(lab, boundary(rule(role)))
    assert lab.call("GET", f"{API}/o", token=token).status == 403


@pytest.mark.parametrize(
    "options",
    [
        "",
        "{}",
        "[]",
        "{",
        boundary(),
        boundary(*[rule()] * 11),
        within("'" + "x" * 2048 + "' == ''"),
        boundary({**rule(), "nope": 1}),
        boundary({**rule(), "availableResource": "//storage.googleapis.com/projects/_/buckets/*"}),
        boundary({**rule(), "availableResource": "//iam.googleapis.com/projects/acme"}),
        boundary({**rule(), "availablePermissions": []}),
        boundary({**rule(), "availablePermissions": ["storage.objects.get"]}),
        boundary(rule("storage.objectViewer")),
        boundary(rule("organizations/acme/roles/x")),
        boundary(rule("roles/")),
        boundary({**rule(), "availabilityCondition": "true"}),
        boundary({**rule(), "availabilityCondition": {"title": "x"}}),
        boundary({**rule(), "availabilityCondition": {"expression": "true", "title": 1}}),
    ],
)
def test_malformed_boundary_is_refused(lab: Lab, options: str) -> None:
    answer = downscope(lab, lab.access_token(scope=CLOUD_PLATFORM), options)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("resource.name.matches('x')", "matches()"),
        ("resource.name ==", "Syntax error"),
        ("resource.nme == 'x' &&", "Syntax error"),
        ("resorce.name == 'x'", "undeclared reference to 'resorce.name'"),
        ("resource.nme == 'x'", "undeclared reference"),
        ("resource.name == 1", "no matching overload"),
        # Seven of them make a text of 100 MB, ten one of 100 GB, at every call of the token.
        ("resource.name.replace('a', 'aaaaaaaaaa') == ''", "undeclared reference to 'replace'"),
        ("1 + 1", "expected a boolean"),
        ("'true'", "expected a boolean"),
    ],
)
def test_a_condition_is_compiled_at_the_exchange(lab: Lab, expression: str, problem: str) -> None:
    answer = downscope(lab, lab.access_token(scope=CLOUD_PLATFORM), within(expression))
    refusal = json.loads(answer.body)
    assert (answer.status, refusal["error"]) == (400, "invalid_request")
    assert problem in refusal["error_description"]


@pytest.mark.parametrize("scope", [READ_WRITE, "https://www.googleapis.com/auth/iam"])
def test_source_of_a_narrower_scope_is_refused(lab: Lab, scope: str) -> None:
    answer = downscope(lab, lab.access_token(scope=scope), within())
    assert json.loads(answer.body)["error"] == "invalid_scope"


def test_scope_beyond_the_sources_is_refused(lab: Lab) -> None:
    source = lab.access_token(scope=CLOUD_PLATFORM)
    answer = downscope(lab, source, within(), scope=f"{CLOUD_PLATFORM} openid")
    assert json.loads(answer.body)["error"] == "invalid_scope"


@pytest.mark.parametrize("token", ["x", "expired"])
def test_downscoping_needs_a_live_token(lab: Lab, token: str) -> None:
    source = lab.access_token(scope=CLOUD_PLATFORM)
    lab.clock.now += 3600
    answer = downscope(lab, source if token == "expired" else token, within())
    assert json.loads(answer.body)["error"] == "invalid_grant"


def test_downscoped_token_ends_with_its_source(lab: Lab) -> None:
    source = lab.access_token(scope=CLOUD_PLATFORM, lifetime="600s")
    lab.clock.now += 100
    assert json.loads(downscope(lab, source, within()).body)["expires_in"] == 500
    person = google.environment_of(lab.google, "admin")["CLOUDSDK_AUTH_ACCESS_TOKEN"]
    answer = json.loads(downscope(lab, person, within()).body)
    assert "expires_in" not in answer
    assert answer["token_type"] == "Bearer"
