"""Buckets and their policies by Google's own client, which holds each answer to the document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from googleapiclient.errors import HttpError

from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.storage.json_api import SERVICE
from localcloud.world import World
from tests.conformance.google_admin import client
from tests.conformance.google_lab import LANDING, LONGHAUL, Lab
from tests.conformance.storage_lab import API, HOST, bucket, fields, put, refusal, whole_token

if TYPE_CHECKING:
    from googleapiclient.http import HttpRequest

LANDING_MEMBER = f"serviceAccount:{LANDING}"


@pytest.fixture
def admin(lab: Lab) -> Any:
    """Google's client as the person who owns the project."""
    return client(lab, "storage.v1")


def refused(request: HttpRequest) -> tuple[int, str]:
    """The status and reason of a call that must be refused."""
    with pytest.raises(HttpError) as refusal_:
        request.execute()
    error = json.loads(refusal_.value.content)["error"]
    return error["code"], error["errors"][0]["reason"]


def test_bucket_is_made_read_listed_and_deleted(lab: Lab, admin: Any) -> None:
    body = {
        "name": "acme-fresh",
        "location": "europe-west1",
        "labels": {"team": "data"},
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}},
    }
    made = admin.buckets().insert(project="acme", body=body).execute()
    assert (made["location"], made["locationType"]) == ("EUROPE-WEST1", "region")
    assert made["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert (made["labels"], made["metageneration"]) == ({"team": "data"}, "1")
    assert admin.buckets().get(bucket="acme-fresh").execute() == made
    listed = admin.buckets().list(project="acme", maxResults=1).execute()
    names = [item["name"] for item in listed["items"]]
    while "nextPageToken" in listed:
        listed = (
            admin.buckets()
            .list(project="acme", maxResults=1, pageToken=listed["nextPageToken"])
            .execute()
        )
        names += [item["name"] for item in listed["items"]]
    assert names == sorted({*names, "acme-fresh", "acme-landing", "acme-vault"})
    found = admin.buckets().list(project="123456789012", prefix="acme-f").execute()["items"]
    assert [item["name"] for item in found] == ["acme-fresh"]
    assert admin.buckets().delete(bucket="acme-fresh").execute() == ""
    assert refused(admin.buckets().get(bucket="acme-fresh")) == (404, "notFound")
    assert lab.world.google.bucket("acme-fresh") is None


def test_new_bucket_is_its_projects_by_the_legacy_roles_alone(lab: Lab, admin: Any) -> None:
    """Basic roles hold no permission on objects: Google binds them on each new bucket."""
    admin.buckets().insert(project="acme", body={"name": "acme-fresh"}).execute()
    policy = admin.buckets().getIamPolicy(bucket="acme-fresh").execute()
    roles = {entry["role"]: entry["members"] for entry in policy["bindings"]}
    assert roles == {
        "roles/storage.legacyBucketOwner": ["projectEditor:acme", "projectOwner:acme"],
        "roles/storage.legacyBucketReader": ["projectViewer:acme"],
        "roles/storage.legacyObjectOwner": ["projectEditor:acme", "projectOwner:acme"],
        "roles/storage.legacyObjectReader": ["projectViewer:acme"],
    }
    made = admin.objects().insert(bucket="acme-fresh", body={"name": "d/"}).execute()
    assert made["size"] == "0"
    policy["bindings"] = []
    admin.buckets().setIamPolicy(bucket="acme-fresh", body=policy).execute()
    assert refused(admin.objects().get(bucket="acme-fresh", object="d/")) == (403, "forbidden")


def test_made_bucket_is_part_of_the_world_that_is_saved(lab: Lab, admin: Any) -> None:
    body = {"name": "acme-fresh", "versioning": {"enabled": True}, "labels": {"a": "b"}}
    admin.buckets().insert(project="acme", body=body).execute()
    again = World.parse(lab.world.dump()).google.bucket("acme-fresh")
    assert again == bucket(lab, "acme-fresh")


@pytest.mark.parametrize(
    "name",
    [
        *("a", "ab", "Acme", "acme_", "-acme", "acme-", "a" * 64, "goog-x", "my-google-x"),
        *("g00gle", "192.168.1.1", "a..b", "acme/x", "acme x", "", ".acme"),
    ],
)
def test_name_that_no_bucket_may_have(admin: Any, name: str) -> None:
    body = {"name": name}
    assert refused(admin.buckets().insert(project="acme", body=body)) == (400, "invalid")


def test_name_that_is_taken(lab: Lab, admin: Any) -> None:
    again = admin.buckets().insert(project="acme", body={"name": "acme-landing"})
    assert refused(again) == (409, "conflict")
    bucket(lab).project_number = "5"
    with pytest.raises(HttpError, match="bucket name is not available"):
        again.execute()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"storageClass": "FAST"}, 400),
        ({"location": "../x"}, 400),
        ({"location": "nowhere"}, 400),
        ({"labels": {"Team": "x"}}, 400),
        ({"labels": {"team": 5}}, 400),
        ({"iamConfiguration": {"publicAccessPrevention": "maybe"}}, 400),
        ({"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": "yes"}}}, 400),
        ({"lifecycle": {"rule": [{"action": {"type": "Delete"}}]}}, 405),
        ({"retentionPolicy": {"retentionPeriod": "60"}}, 405),
        ({"softDeletePolicy": {"retentionDurationSeconds": "604800"}}, 405),
        ({"encryption": {"defaultKmsKeyName": "k"}}, 405),
        ({"hierarchicalNamespace": {"enabled": True}}, 405),
    ],
)
def test_what_the_bucket_could_not_keep_is_refused_and_not_forgotten(
    lab: Lab, admin: Any, body: dict[str, Any], code: int
) -> None:
    fresh = admin.buckets().insert(project="acme", body={"name": "acme-fresh", **body})
    assert refused(fresh)[0] == code
    assert lab.world.google.bucket("acme-fresh") is None


def test_settings_that_ask_for_nothing_are_passed_over(admin: Any) -> None:
    body = {
        "name": "acme-fresh",
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
        "hierarchicalNamespace": {"enabled": False},
        "acl": [],
    }
    admin.buckets().insert(project="acme", body=body).execute()


def test_patch_changes_labels_versioning_and_access(lab: Lab, admin: Any) -> None:
    bucket(lab).iam_policy.grant("roles/storage.admin", "user:admin@acme.example")
    body: dict[str, Any] = {"labels": {"a": "1"}, "versioning": {"enabled": True}}
    changed = admin.buckets().patch(bucket="acme-landing", body=body).execute()
    assert (changed["labels"], changed["versioning"]) == ({"a": "1"}, {"enabled": True})
    assert changed["metageneration"] == "2"
    body = {"labels": {"a": None, "b": "2"}, "versioning": {"enabled": False}}
    changed = admin.buckets().patch(bucket="acme-landing", body=body).execute()
    assert (changed["labels"], "versioning" in changed) == ({"b": "2"}, False)
    stale = admin.buckets().patch(bucket="acme-landing", body={}, ifMetagenerationMatch="1")
    assert refused(stale) == (412, "conditionNotMet")
    moved = admin.buckets().patch(bucket="acme-landing", body={"location": "EU"})
    assert refused(moved) == (400, "invalid")


def test_update_leaves_only_what_it_says(lab: Lab, admin: Any) -> None:
    bucket(lab).iam_policy.grant("roles/storage.admin", "user:admin@acme.example")
    body: dict[str, Any] = {"labels": {"a": "1"}, "versioning": {"enabled": True}}
    admin.buckets().patch(bucket="acme-landing", body=body).execute()
    changed = admin.buckets().update(bucket="acme-landing", body={"labels": {"b": "2"}}).execute()
    assert (changed["labels"], "versioning" in changed) == ({"b": "2"}, False)
    assert changed["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True


@pytest.mark.parametrize(
    ("acl", "uniform", "status"),
    [
        ("projectPrivate", False, 200),
        ("publicRead", False, 405),
        ("projectPrivate", True, 400),
    ],
)
def test_predefined_acl_of_a_bucket_opens_nothing(
    lab: Lab, admin: Any, acl: str, status: int, *, uniform: bool
) -> None:
    body = {
        "name": "acme-fresh",
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": uniform}},
    }
    request = admin.buckets().insert(project="acme", body=body, predefinedAcl=acl)
    if status == 200:
        request.execute()
    else:
        assert refused(request)[0] == status
    assert (lab.world.google.bucket("acme-fresh") is not None) is (status == 200)


def test_bucket_that_holds_objects_is_not_deleted(lab: Lab, admin: Any) -> None:
    bucket(lab).iam_policy.grant("roles/storage.admin", "user:admin@acme.example")
    assert put(lab, "x", whole_token(lab)).status == 200
    assert refused(admin.buckets().delete(bucket="acme-landing")) == (409, "conflict")
    assert lab.world.google.bucket("acme-landing") is not None


def test_objects_of_a_deleted_bucket_are_not_in_the_next_of_its_name(lab: Lab, admin: Any) -> None:
    admin.buckets().insert(project="acme", body={"name": "acme-fresh"}).execute()
    admin.objects().insert(bucket="acme-fresh", body={"name": "x"}).execute()
    admin.objects().delete(bucket="acme-fresh", object="x").execute()
    admin.buckets().delete(bucket="acme-fresh").execute()
    admin.buckets().insert(project="acme", body={"name": "acme-fresh"}).execute()
    assert "items" not in admin.objects().list(bucket="acme-fresh").execute()


def test_stranger_makes_lists_changes_and_deletes_no_bucket(lab: Lab) -> None:
    account = lab.world.google.service_account(LONGHAUL)
    assert account is not None
    stranger = client(lab, "storage.v1", ServiceAccountPrincipal(account.email, account.unique_id))
    for request in (
        stranger.buckets().insert(project="acme", body={"name": "acme-fresh"}),
        stranger.buckets().list(project="acme"),
        stranger.buckets().list(project="nobodys"),
        stranger.buckets().get(bucket="acme-landing"),
        stranger.buckets().patch(bucket="acme-landing", body={}),
        stranger.buckets().update(bucket="acme-landing", body={}),
        stranger.buckets().delete(bucket="acme-landing"),
        stranger.buckets().getIamPolicy(bucket="acme-landing"),
        stranger.buckets().setIamPolicy(bucket="acme-landing", body={"bindings": []}),
        stranger.buckets().getStorageLayout(bucket="acme-landing"),
        stranger.managedFolders().list(bucket="acme-landing"),
        stranger.projects().serviceAccount().get(projectId="acme"),
    ):
        assert refused(request) == (403, "forbidden"), request.uri


def test_shapes_of_objects_are_the_documents(lab: Lab, admin: Any) -> None:
    admin.buckets().insert(project="acme", body={"name": "acme-fresh"}).execute()
    objects = admin.objects()
    place = {"bucket": "acme-fresh", "object": "x"}
    objects.insert(bucket="acme-fresh", body={"name": "x", "metadata": {"a": "b"}}).execute()
    objects.patch(**place, body={"customTime": "2026-01-01T00:00:00Z"}).execute()
    objects.update(**place, body={"contentType": "text/plain"}).execute()
    sources = {"sourceObjects": [{"name": "x"}, {"name": "x"}]}
    to = {"destinationBucket": "acme-fresh", "destinationObject": "y"}
    objects.compose(**to, body=sources).execute()
    source = {"sourceBucket": "acme-fresh", "sourceObject": "x"}
    assert objects.rewrite(**source, **to, body={}).execute()["done"] is True
    objects.copy(**source, **to, body={}).execute()
    moved = objects.list(bucket="acme-fresh", delimiter="/", versions=True).execute()
    assert [item["name"] for item in moved["items"]] == ["x", "y"]
    objects.delete(**place).execute()
    layout = admin.buckets().getStorageLayout(bucket="acme-fresh").execute()
    assert (layout["bucket"], layout["hierarchicalNamespace"]) == ("acme-fresh", {"enabled": False})
    assert "items" not in admin.managedFolders().list(bucket="acme-fresh").execute()


# --- policies ------------------------------------------------------------------------------


def owned(lab: Lab, admin: Any) -> Any:
    bucket(lab).iam_policy.grant("roles/storage.admin", "user:admin@acme.example")
    return admin.buckets()


def test_policy_is_read_changed_and_acts(lab: Lab, admin: Any) -> None:
    buckets = owned(lab, admin)
    other = whole_token(lab, LONGHAUL)
    assert put(lab, "x", whole_token(lab)).status == 200
    assert lab.call("GET", f"{API}/o/x", token=other).status == 403
    policy = buckets.getIamPolicy(bucket="acme-landing", optionsRequestedPolicyVersion=3).execute()
    assert (policy["kind"], policy["resourceId"]) == (
        "storage#policy",
        "projects/_/buckets/acme-landing",
    )
    added = {"role": "roles/storage.objectViewer", "members": [f"serviceAccount:{LONGHAUL}"]}
    policy["bindings"].append(added)
    changed = buckets.setIamPolicy(bucket="acme-landing", body=policy).execute()
    assert changed["etag"] != policy["etag"]
    assert lab.call("GET", f"{API}/o/x", token=other).status == 200
    # The second of two who read the same policy is told, and nothing is lost.
    policy["bindings"] = []
    stale = buckets.setIamPolicy(bucket="acme-landing", body=policy)
    assert refused(stale) == (412, "conditionNotMet")
    assert lab.call("GET", f"{API}/o/x", token=other).status == 200


@pytest.mark.parametrize(
    "binding",
    [
        {"role": "roles/nope", "members": [LANDING_MEMBER]},
        {"role": "roles/owner", "members": [LANDING_MEMBER]},
        {"role": "roles/storage.objectViewer", "members": ["nobody"]},
        {"role": "roles/storage.objectViewer", "members": ["serviceAccount:no@acme.example"]},
        {
            "role": "roles/storage.objectViewer",
            "members": [LANDING_MEMBER],
            "condition": {"title": "t", "expression": "resource.name.startsWith("},
        },
    ],
)
def test_policy_that_google_refuses_is_refused(
    lab: Lab, admin: Any, binding: dict[str, Any]
) -> None:
    buckets = owned(lab, admin)
    before = buckets.getIamPolicy(bucket="acme-landing").execute()
    body = {"version": 3, "bindings": [binding]}
    assert refused(buckets.setIamPolicy(bucket="acme-landing", body=body)) == (400, "invalid")
    assert buckets.getIamPolicy(bucket="acme-landing").execute() == before


def test_bucket_is_not_opened_where_public_access_is_prevented(lab: Lab, admin: Any) -> None:
    buckets = owned(lab, admin)
    body = {"iamConfiguration": {"publicAccessPrevention": "enforced"}}
    buckets.patch(bucket="acme-landing", body=body).execute()
    policy = buckets.getIamPolicy(bucket="acme-landing").execute()
    for member in ("allUsers", "allAuthenticatedUsers"):
        binding = {"role": "roles/storage.objectViewer", "members": [member]}
        opened = {**policy, "bindings": [*policy["bindings"], binding]}
        assert refused(buckets.setIamPolicy(bucket="acme-landing", body=opened))[0] == 412


def test_conditions_need_uniform_access(lab: Lab, admin: Any) -> None:
    buckets = owned(lab, admin)
    condition = {"title": "t", "expression": "resource.name.endsWith('/x')"}
    entry = {"role": "roles/storage.objectViewer", "members": [LANDING_MEMBER]}
    policy = {"version": 3, "bindings": [entry | {"condition": condition}]}
    request = buckets.setIamPolicy(bucket="acme-landing", body=policy)
    bucket(lab).iam_configuration.uniform_bucket_level_access.enabled = False
    assert refused(request) == (412, "conditionNotMet")
    bucket(lab).iam_configuration.uniform_bucket_level_access.enabled = True
    assert request.execute()["bindings"] == policy["bindings"]


def test_permissions_are_tested(lab: Lab) -> None:
    token = whole_token(lab)
    url = f"{API}/iam/testPermissions?permissions=storage.objects.get"
    answer = lab.call("GET", f"{url}&permissions=storage.buckets.delete", token=token)
    assert json.loads(answer.body) == {
        "kind": "storage#testIamPermissionsResponse",
        "permissions": ["storage.objects.get"],
    }
    nothing = lab.call("GET", url, token=whole_token(lab, LONGHAUL))
    assert json.loads(nothing.body) == {"kind": "storage#testIamPermissionsResponse"}
    assert refusal(lab.call("GET", f"{url}&permissions=iam.roles.get", token=token))[0] == 400


# --- the rest ------------------------------------------------------------------------------


def test_project_must_be_named(lab: Lab) -> None:
    code, text = refusal(lab.call("GET", f"{HOST}/storage/v1/b", token=whole_token(lab)))
    assert (code, text) == (400, "Required parameter: project")


def test_service_agent_of_a_project(admin: Any) -> None:
    found = admin.projects().serviceAccount().get(projectId="acme").execute()
    assert found["email_address"].startswith("service-123456789012@gs-project-accounts.")


def test_bucket_is_not_sent_again_to_who_has_it(lab: Lab) -> None:
    bucket(lab).iam_policy.grant("roles/storage.bucketViewer", LANDING_MEMBER)
    token = whole_token(lab)
    found = json.loads(lab.call("GET", API, token=token).body)
    for headers, query, status in (
        ({"If_None_Match": found["etag"]}, "", 304),
        ({"If_Match": "wrong"}, "", 412),
        ({}, "?ifMetagenerationNotMatch=1", 304),
        ({}, "?ifMetagenerationMatch=2", 412),
        ({}, "?ifMetagenerationMatch=1", 200),
    ):
        answer = lab.call("GET", f"{API}{query}", token=token, **headers)
        assert answer.status == status, (headers, query)
    assert fields(lab.call("GET", f"{API}?fields=name", token=token))["content-type"]


def test_no_route_is_open_by_a_narrower_scope_than_googles() -> None:
    """Each route's scopes are its method's (storage.v1), or none where a session's address is."""
    reads = {route.permission for route in SERVICE.routes if len(route.scopes or ()) == 5}
    assert reads <= {
        *("storage.buckets.get", "storage.buckets.list", "storage.objects.get"),
        *("storage.objects.list", "storage.managedFolders.list", ""),
        "resourcemanager.projects.get",
    }
    without = {(route.method, route.path) for route in SERVICE.routes if route.scopes == ()}
    assert without == {
        (method, f"{prefix}/storage/v1/b/{{bucket}}/o")
        for method in ("PUT", "DELETE")
        for prefix in ("/upload", "/resumable/upload")
    }
