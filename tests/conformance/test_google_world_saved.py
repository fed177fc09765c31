"""A world that Google's APIs have changed is saved, and another cloud starts from it as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud import google
from localcloud.world import World
from tests.conformance.google_lab import CLOUD_PLATFORM, LANDING, Lab

IAM = "https://iam.googleapis.com/v1/projects/acme"
POOLS = f"{IAM}/locations/global/workloadIdentityPools"
ACCOUNTS = f"{IAM}/serviceAccounts"
MANAGER = "https://cloudresourcemanager.googleapis.com/v1/projects/acme"
USAGE = "https://serviceusage.googleapis.com/v1/projects/acme-identity/services"
STORAGE = "https://storage.googleapis.com/storage/v1/b"
RUN = "https://run.googleapis.com/v2/projects/acme/locations/us-central1/services/orders"
UNTIL = {"title": "until", "expression": "request.time < timestamp('2100-01-01T00:00:00Z')"}

CHANGES: list[tuple[str, str, Any]] = [
    ("POST", f"{POOLS}?workloadIdentityPoolId=saved", {"displayName": "Saved"}),
    ("POST", f"{POOLS}?workloadIdentityPoolId=gone", {"description": "soon deleted"}),
    (
        "POST",
        f"{POOLS}/saved/providers?workloadIdentityPoolProviderId=aws-one",
        {
            "aws": {"accountId": "111122223333"},
            "attributeMapping": {"google.subject": "assertion.arn"},
            "attributeCondition": "assertion.arn.startsWith('arn:aws:sts::111122223333:')",
        },
    ),
    ("PATCH", f"{POOLS}/saved/providers/aws-one?updateMask=disabled", {"disabled": True}),
    ("DELETE", f"{POOLS}/gone", None),
    ("POST", ACCOUNTS, {"accountId": "saved1", "serviceAccount": {"displayName": "Saved"}}),
    ("POST", ACCOUNTS, {"accountId": "deleted", "serviceAccount": {}}),
    ("POST", f"{ACCOUNTS}/saved1@acme.iam.gserviceaccount.com:disable", {}),
    ("DELETE", f"{ACCOUNTS}/deleted@acme.iam.gserviceaccount.com", None),
    ("POST", f"{USAGE}/iam.googleapis.com:enable", {}),
    ("POST", f"{STORAGE}?project=acme", {"name": "acme-saved", "location": "EU"}),
    (
        "POST",
        f"{ACCOUNTS}/{LANDING}:setIamPolicy",
        {
            "policy": {
                "version": 3,
                "bindings": [
                    {
                        "role": "roles/iam.serviceAccountTokenCreator",
                        "members": ["user:admin@acme.example"],
                        "condition": UNTIL,
                    }
                ],
            }
        },
    ),
]

READS: list[tuple[str, str, Any]] = [
    ("GET", f"{POOLS}?showDeleted=true", None),
    ("GET", f"{POOLS}/saved/providers/aws-one", None),
    ("GET", f"{POOLS}/gone", None),
    ("GET", f"{ACCOUNTS}?pageSize=100", None),
    ("POST", f"{ACCOUNTS}/{LANDING}:getIamPolicy?options.requestedPolicyVersion=3", {}),
    ("POST", f"{MANAGER}:getIamPolicy", {}),
    ("GET", f"{USAGE}?filter=state:ENABLED", None),
    ("GET", f"{STORAGE}?project=acme", None),
    ("GET", f"{STORAGE}/acme-saved/iam", None),
    ("GET", f"{STORAGE}/acme-landing/iam?optionsRequestedPolicyVersion=3", None),
    ("GET", f"{RUN}:getIamPolicy", None),
]


def as_admin(lab: Lab, method: str, url: str, sent: Any) -> dict[str, Any]:
    token = google.environment_of(lab.google, "admin")["CLOUDSDK_AUTH_ACCESS_TOKEN"]
    answer = lab.call(method, url, sent, token)
    assert answer.status in (200, 204), (url, answer.body)
    return dict(json.loads(answer.body)) if answer.body else {}


@pytest.fixture
def changed() -> Lab:
    lab = Lab()
    for method, url, sent in CHANGES:
        as_admin(lab, method, url, sent)
    return lab


def test_a_world_that_its_apis_have_changed_starts_again_as_it_was(changed: Lab) -> None:
    again = Lab(world=World.parse(changed.world.dump()))
    for read in READS:
        seen = as_admin(changed, *read)
        assert as_admin(again, *read) == seen, read
        assert seen
    assert again.world == changed.world


def test_what_was_granted_and_taken_before_holds_after(changed: Lab) -> None:
    again = Lab(world=World.parse(changed.world.dump()))
    token = google.environment_of(again.google, "admin")["CLOUDSDK_AUTH_ACCESS_TOKEN"]
    scope = {"scope": [CLOUD_PLATFORM]}
    assert again.credentials(LANDING, "generateAccessToken", scope, token).status == 200
    refused = again.credentials(LANDING, "generateAccessToken", scope, again.federated())
    assert refused.status == 403
    taken = again.call("POST", f"{POOLS}?workloadIdentityPoolId=gone", {}, token)
    assert taken.status == 409
    back = as_admin(again, "POST", f"{POOLS}/gone:undelete", {})
    assert "error" not in back


def test_no_key_and_no_token_is_saved(changed: Lab) -> None:
    token = changed.access_token("orders-invoker@acme.iam.gserviceaccount.com")
    key = changed.key()
    text = changed.world.dump()
    assert [s for s in (token, key.id, key.secret, key.token, "PRIVATE KEY") if s in text] == []
