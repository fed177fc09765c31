"""Objects changed, copied, composed and moved; and that a boundary cuts each of these off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken
from tests.conformance.google_lab import LANDING, LONGHAUL, Lab
from tests.conformance.storage_lab import (
    API,
    HOST,
    bucket,
    put,
    refusal,
    resource,
    start,
    whole_token,
)

if TYPE_CHECKING:
    from localcloud.wire.web import Response

VAULT = f"{HOST}/storage/v1/b/acme-vault"


@pytest.fixture
def token(lab: Lab) -> str:
    made = whole_token(lab)
    assert put(lab, "x", made, b"one").status == 200
    return made


def get(lab: Lab, token: str, name: str = "x") -> dict[str, Any]:
    return resource(lab.call("GET", f"{API}/o/{name}", token=token))


def content(lab: Lab, token: str, name: str, base: str = API) -> bytes:
    answer = lab.call("GET", f"{base}/o/{name}?alt=media", token=token)
    assert answer.status == 200, answer.body
    return answer.body


# --- changes -------------------------------------------------------------------------------


def test_patch_changes_what_it_names_and_null_removes(lab: Lab, token: str) -> None:
    url = f"{API}/o/x"
    first = {"metadata": {"a": "1", "b": "2"}, "cacheControl": "no-store"}
    assert resource(lab.call("PATCH", url, first, token))["metadata"] == {"a": "1", "b": "2"}
    found = resource(lab.call("PATCH", url, {"metadata": {"a": None, "c": "3"}}, token))
    assert (found["metadata"], found["cacheControl"]) == ({"b": "2", "c": "3"}, "no-store")
    assert (found["metageneration"], found["contentType"]) == ("3", "text/plain")
    found = resource(lab.call("PATCH", url, {"metadata": None, "cacheControl": None}, token))
    assert found.keys().isdisjoint({"metadata", "cacheControl"})
    assert content(lab, token, "x") == b"one"


def test_update_leaves_only_what_it_says(lab: Lab, token: str) -> None:
    url = f"{API}/o/x"
    lab.call("PATCH", url, {"metadata": {"a": "1"}, "cacheControl": "no-store"}, token)
    found = resource(lab.call("PUT", url, {"contentType": "text/csv"}, token))
    assert found.keys().isdisjoint({"metadata", "cacheControl"})
    assert (found["contentType"], found["metageneration"]) == ("text/csv", "3")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"metadata": {"a": 1}}, 400),
        ({"metadata": {"a": "b\r\nSet-Cookie: c"}}, 400),
        ({"metadata": {"a\n": "b"}}, 400),
        ({"metadata": {"a": "x" * 9000}}, 400),
        ({"metadata": []}, 400),
        ({"contentType": 5}, 400),
        ({"customTime": "yesterday"}, 400),
        ({"customTime": "2026-01-01T00:00:00"}, 400),
        ({"storageClass": "NEARLINE"}, 400),
        ({"acl": [{"entity": "allUsers"}]}, 400),
        ({"temporaryHold": True}, 405),
        ({"retention": {"mode": "Locked"}}, 405),
        ([], 400),
    ],
)
def test_change_that_google_refuses_changes_nothing(
    lab: Lab, token: str, change: Any, code: int
) -> None:
    before = get(lab, token)
    for method in ("PATCH", "PUT"):
        assert refusal(lab.call(method, f"{API}/o/x", change, token))[0] == code
    assert get(lab, token) == before


def test_change_obeys_generation_and_preconditions(lab: Lab, token: str) -> None:
    generation = get(lab, token)["generation"]
    for query, status in {
        f"ifMetagenerationMatch=1&generation={generation}": 200,
        "ifMetagenerationMatch=1": 412,
        f"ifGenerationMatch={generation}": 200,
        "ifGenerationMatch=1": 412,
        "ifGenerationMatch=0": 412,
        "generation=1": 404,
    }.items():
        answer = lab.call("PATCH", f"{API}/o/x?{query}", {"contentLanguage": "de"}, token)
        assert answer.status == status, query


def test_delete_obeys_generation_and_preconditions(lab: Lab, token: str) -> None:
    generation = get(lab, token)["generation"]
    for query, status in {
        "ifGenerationMatch=1": 412,
        "ifMetagenerationMatch=2": 412,
        "generation=1": 404,
        f"generation={generation}": 204,
        "": 404,
    }.items():
        assert lab.call("DELETE", f"{API}/o/x?{query}", token=token).status == status, query


def test_versions_are_kept_where_the_bucket_keeps_them(lab: Lab, token: str) -> None:
    bucket(lab).versioning.enabled = True
    old = get(lab, token)["generation"]
    assert put(lab, "x", token, b"two").status == 200
    url = f"{API}/o/x?alt=media"
    assert lab.call("GET", f"{url}&generation={old}", token=token).body == b"one"
    listed = resource(lab.call("GET", f"{API}/o?versions=true", token=token))["items"]
    assert [("timeDeleted" in item) for item in listed] == [True, False]
    assert lab.call("DELETE", f"{API}/o/x?generation={old}", token=token).status == 204
    assert lab.call("GET", f"{url}&generation={old}", token=token).status == 404
    assert lab.call("GET", url, token=token).body == b"two"


# --- compositions --------------------------------------------------------------------------


def compose(
    lab: Lab, token: str, names: list[str], name: str = "made", query: str = "", **body: Any
) -> Response:
    sources = {"sourceObjects": [{"name": source} for source in names]}
    return lab.call("POST", f"{API}/o/{name}/compose?{query}", {**sources, **body}, token)


def test_composition_has_all_parts_in_order_and_no_md5(lab: Lab, token: str) -> None:
    assert put(lab, "y", token, b"two").status == 200
    destination = {"contentType": "text/csv", "metadata": {"a": "1"}}
    made = resource(compose(lab, token, ["x", "y", "x"], destination=destination))
    assert content(lab, token, "made") == b"onetwoone"
    assert (made["componentCount"], "md5Hash" in made) == (3, False)
    assert (made["contentType"], made["metadata"]) == ("text/csv", {"a": "1"})
    whole = resource(put(lab, "whole", token, b"onetwoone"))
    assert made["crc32c"] == whole["crc32c"]
    assert resource(compose(lab, token, ["made", "y"], "again"))["componentCount"] == 4
    # Onto one of its own sources, as appending is done.
    assert resource(compose(lab, token, ["x", "y"], "x"))["size"] == "6"
    assert content(lab, token, "x") == b"onetwo"


@pytest.mark.parametrize(
    ("names", "query", "code", "text"),
    [
        ([], "", 400, "You must provide at least one source component."),
        (["x"] * 33, "", 400, "The number of source components provided (33 > 32)"),
        (["absent"], "", 404, "No such object: acme-landing/absent"),
        (["x"], "ifGenerationMatch=5", 412, "pre-conditions"),
        (["x"], "destinationPredefinedAcl=private", 400, "Cannot insert legacy ACL"),
        (["x"], "kmsKeyName=k", 400, "Cloud KMS"),
    ],
)
def test_composition_that_google_refuses(
    lab: Lab, token: str, names: list[str], query: str, code: int, text: str
) -> None:
    got, message = refusal(compose(lab, token, names, query=query))
    assert (got, text in message) == (code, True)
    assert lab.call("GET", f"{API}/o/made", token=token).status == 404


def test_composition_pins_its_sources(lab: Lab, token: str) -> None:
    generation = get(lab, token)["generation"]
    for source, status in (
        ({"generation": generation}, 200),
        ({"generation": "1"}, 404),
        ({"objectPreconditions": {"ifGenerationMatch": generation}}, 200),
        ({"objectPreconditions": {"ifGenerationMatch": "1"}}, 412),
    ):
        body = {"sourceObjects": [{"name": "x", **source}]}
        assert lab.call("POST", f"{API}/o/made/compose", body, token).status == status, source


# --- copies --------------------------------------------------------------------------------


def grant_vault(lab: Lab, role: str = "roles/storage.objectAdmin") -> None:
    bucket(lab, "acme-vault").iam_policy.grant(role, f"serviceAccount:{LANDING}")


@pytest.mark.parametrize("verb", ["copyTo", "rewriteTo"])
def test_copy_keeps_content_and_metadata_unless_it_is_given_others(
    lab: Lab, token: str, verb: str
) -> None:
    grant_vault(lab)
    lab.call("PATCH", f"{API}/o/x", {"metadata": {"a": "1"}}, token)
    url = f"{API}/o/x/{verb}/b/acme-vault/o/d%2Fy"
    answer = resource(lab.call("POST", url, {}, token))
    made = answer["resource"] if verb == "rewriteTo" else answer
    assert (made["bucket"], made["name"], made["metadata"]) == ("acme-vault", "d/y", {"a": "1"})
    assert (made["metageneration"], made["contentType"]) == ("1", "text/plain")
    if verb == "rewriteTo":
        told = {name: answer[name] for name in ("done", "objectSize", "totalBytesRewritten")}
        assert told == {"done": True, "objectSize": "3", "totalBytesRewritten": "3"}
    assert content(lab, token, "d%2Fy", VAULT) == b"one"
    answer = resource(lab.call("POST", url, {"contentType": "text/csv"}, token))
    made = answer["resource"] if verb == "rewriteTo" else answer
    assert (made["contentType"], "metadata" in made) == ("text/csv", False)
    # The copy outlives its source.
    assert lab.call("DELETE", f"{API}/o/x", token=token).status == 204
    assert content(lab, token, "d%2Fy", VAULT) == b"one"


def test_copy_obeys_conditions_on_both_sides(lab: Lab, token: str) -> None:
    generation = get(lab, token)["generation"]
    for query, status in {
        f"ifSourceGenerationMatch={generation}&ifGenerationMatch=0": 200,
        "ifGenerationMatch=0": 412,
        "ifSourceGenerationMatch=1": 412,
        "ifSourceMetagenerationMatch=2": 412,
        f"sourceGeneration={generation}": 200,
        "sourceGeneration=1": 404,
        "rewriteToken=stale": 400,
        "maxBytesRewrittenPerCall=1048576": 200,
        "maxBytesRewrittenPerCall=5": 400,
        "destinationPredefinedAcl=private": 400,
        "destinationKmsKeyName=k": 400,
    }.items():
        url = f"{API}/o/x/rewriteTo/b/acme-landing/o/y?{query}"
        assert lab.call("POST", url, {}, token).status == status, query


def test_move_renames_in_one_step(lab: Lab, token: str) -> None:
    made = resource(lab.call("POST", f"{API}/o/x/moveTo/o/d%2Fy", {}, token))
    assert (made["name"], made["size"]) == ("d/y", "3")
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404
    assert content(lab, token, "d%2Fy") == b"one"
    assert lab.call("POST", f"{API}/o/x/moveTo/o/z", {}, token).status == 404
    for query, status in (("ifSourceGenerationMatch=1", 412), ("ifGenerationMatch=1", 412)):
        url = f"{API}/o/d%2Fy/moveTo/o/z?{query}"
        assert lab.call("POST", url, {}, token).status == status


def test_each_operation_asks_for_every_permission_it_uses(lab: Lab, token: str) -> None:
    """A creator reads no source and replaces nothing; a reader writes nothing."""
    assert token
    member = f"serviceAccount:{LONGHAUL}"
    other = whole_token(lab, LONGHAUL)
    calls = {
        "compose": ("POST", f"{API}/o/new/compose", {"sourceObjects": [{"name": "x"}]}),
        "copy": ("POST", f"{API}/o/x/copyTo/b/acme-landing/o/new", {}),
        "rewrite": ("POST", f"{API}/o/x/rewriteTo/b/acme-landing/o/new", {}),
        "move": ("POST", f"{API}/o/x/moveTo/o/new", {}),
    }
    for roles in (["objectCreator"], ["objectViewer"], ["legacyBucketReader"]):
        for role in roles:
            bucket(lab).iam_policy.grant(f"roles/storage.{role}", member)
        for name, (method, url, body) in calls.items():
            answer = lab.call(method, url, body, other)
            assert answer.status == 403, (roles, name)
        bucket(lab).iam_policy.revoke(member)
    for role in ("objectCreator", "objectViewer"):
        bucket(lab).iam_policy.grant(f"roles/storage.{role}", member)
    assert lab.call("POST", f"{API}/o/x/copyTo/b/acme-landing/o/new", {}, other).status == 200
    # Once more would replace what may not be deleted.
    for name, (method, url, body) in calls.items():
        code, text = refusal(lab.call(method, url, body, other))
        assert code == 403, name
        wanted = "storage.objects.move" if name == "move" else "storage.objects.delete"
        assert wanted in text, name


# --- boundaries ----------------------------------------------------------------------------


def narrowed(lab: Lab, condition: str, role: str = "objectAdmin") -> str:
    """A token of `landing` that is cut down to one prefix of its bucket."""
    rule = {
        "availableResource": "//storage.googleapis.com/projects/_/buckets/acme-landing",
        "availablePermissions": [f"inRole:roles/storage.{role}"],
        "availabilityCondition": {"expression": condition},
    }
    account = lab.world.google.service_account(LANDING)
    assert account is not None
    token = IssuedToken(
        ServiceAccountPrincipal(account.email, account.unique_id),
        frozenset({CLOUD_PLATFORM}),
        int(lab.clock.now) + 3600,
        (rule,),
    )
    return lab.google.tokens.issue(token, lab.clock.now)


OBJECTS = "projects/_/buckets/acme-landing/objects/"
INSIDE = (
    f"resource.name.startsWith('{OBJECTS}in/') || "
    "api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('in/')"
)


@pytest.mark.parametrize(
    ("method", "url", "body"),
    [
        ("GET", f"{API}/o/out", None),
        ("GET", f"{API}/o/out?alt=media", None),
        ("GET", f"{HOST}/download/storage/v1/b/acme-landing/o/out", None),
        ("PATCH", f"{API}/o/out", {}),
        ("PUT", f"{API}/o/out", {}),
        ("DELETE", f"{API}/o/out", None),
        ("POST", f"{API}/o", {"name": "out2"}),
        ("POST", f"{HOST}/upload/storage/v1/b/acme-landing/o?uploadType=media&name=out", {}),
        ("POST", f"{HOST}/upload/storage/v1/b/acme-landing/o?uploadType=resumable&name=out", {}),
        (
            "POST",
            f"{HOST}/upload/storage/v1/b/acme-landing/o?uploadType=resumable",
            {"name": "out"},
        ),
        ("POST", f"{API}/o/out/copyTo/b/acme-landing/o/in%2Fy", {}),
        ("POST", f"{API}/o/in%2Fx/copyTo/b/acme-landing/o/out2", {}),
        ("POST", f"{API}/o/out/rewriteTo/b/acme-landing/o/in%2Fy", {}),
        ("POST", f"{API}/o/in%2Fx/rewriteTo/b/acme-landing/o/out2", {}),
        ("POST", f"{API}/o/in%2Fx/rewriteTo/b/acme-vault/o/in%2Fx", {}),
        ("POST", f"{API}/o/out/moveTo/o/in%2Fy", {}),
        ("POST", f"{API}/o/in%2Fx/moveTo/o/out2", {}),
        ("POST", f"{API}/o/in%2Fy/compose", {"sourceObjects": [{"name": "out"}]}),
        (
            "POST",
            f"{API}/o/in%2Fy/compose",
            {"sourceObjects": [{"name": "in/x"}, {"name": "out"}]},
        ),
        ("POST", f"{API}/o/out2/compose", {"sourceObjects": [{"name": "in/x"}]}),
        ("GET", f"{API}/o", None),
        ("GET", f"{API}/o?prefix=i", None),
        ("GET", f"{API}/o?prefix=in", None),
        ("GET", f"{API}/o?startOffset=in/&endOffset=in0", None),
        ("GET", f"{API}/o?matchGlob=in/**", None),
        ("GET", f"{API}/o?prefix=out&prefix=in%2Fx&prefix=out", None),
        ("GET", f"{API}/storageLayout", None),
        ("GET", f"{API}/storageLayout?prefix=out", None),
        ("GET", API, None),
        ("PATCH", API, {}),
        ("DELETE", API, None),
        ("GET", f"{API}/iam", None),
        ("PUT", f"{API}/iam", {"bindings": []}),
        ("GET", f"{API}/managedFolders", None),
        ("GET", f"{HOST}/storage/v1/b?project=acme", None),
        ("POST", f"{HOST}/storage/v1/b?project=acme", {"name": "acme-new"}),
        ("GET", f"{HOST}/storage/v1/projects/acme/serviceAccount", None),
        ("GET", f"{VAULT}/o/x", None),
    ],
)
def test_boundary_cuts_off_every_operation_outside(
    lab: Lab, token: str, method: str, url: str, body: Any
) -> None:
    grant_vault(lab, "roles/storage.admin")
    bucket(lab).iam_policy.grant("roles/storage.admin", f"serviceAccount:{LANDING}")
    for name in ("out", "in%2Fx"):
        assert put(lab, name, token, name.encode()).status == 200
    before = resource(lab.call("GET", f"{API}/o", token=token))
    answer = lab.call(method, url, body, narrowed(lab, INSIDE))
    assert answer.status == 403
    assert resource(lab.call("GET", f"{API}/o", token=token)) == before


def test_boundary_lets_through_what_lies_inside(lab: Lab, token: str) -> None:
    bucket(lab).iam_policy.grant("roles/storage.admin", f"serviceAccount:{LANDING}")
    cut = narrowed(lab, INSIDE)
    assert put(lab, "in%2Fx", cut).status == 200
    assert lab.call("PUT", start(lab, cut, "in%2Fr"), b"r").status == 200
    sources = {"sourceObjects": [{"name": "in/x"}, {"name": "in/r"}]}
    for method, url, body in (
        ("GET", f"{API}/o/in%2Fx?alt=media", None),
        ("GET", f"{API}/o?prefix=in/", None),
        ("GET", f"{API}/storageLayout?prefix=in/", None),
        ("PATCH", f"{API}/o/in%2Fx", {"contentLanguage": "de"}),
        ("POST", f"{API}/o/in%2Fc/compose", sources),
        ("POST", f"{API}/o/in%2Fx/copyTo/b/acme-landing/o/in%2Fy", {}),
        ("POST", f"{API}/o/in%2Fx/rewriteTo/b/acme-landing/o/in%2Fz", {}),
        ("POST", f"{API}/o/in%2Fx/moveTo/o/in%2Fm", {}),
        ("DELETE", f"{API}/o/in%2Fm", None),
    ):
        assert lab.call(method, url, body, cut).status in (200, 204), (method, url)
    assert token


def test_boundary_of_a_creator_replaces_nothing(lab: Lab, token: str) -> None:
    """The token's owner may delete; the boundary's role may not."""
    cut = narrowed(lab, "true", role="objectCreator")
    code, text = refusal(put(lab, "x", cut, b"two"))
    assert (code, "storage.objects.delete" in text) == (403, True)
    assert put(lab, "new", cut).status == 200
    location = start(lab, cut)
    assert refusal(lab.call("PUT", location, b"two"))[0] == 403
    assert content(lab, token, "x") == b"one"


def test_boundary_cuts_what_is_open_to_everybody(lab: Lab, token: str) -> None:
    assert token
    bucket(lab).iam_policy.grant("roles/storage.objectViewer", "allUsers")
    assert lab.call("GET", f"{API}/o/x").status == 200
    assert lab.call("GET", f"{API}/o/x", token=narrowed(lab, INSIDE)).status == 403


def test_boundary_is_no_way_to_bill_a_project(lab: Lab, token: str) -> None:
    assert token
    project = lab.world.google.project("acme")
    assert project is not None
    project.iam_policy.grant("roles/owner", f"serviceAccount:{LANDING}")
    whole, cut = whole_token(lab), narrowed(lab, "true")
    for caller, status in ((whole, 200), (cut, 403)):
        answer = lab.call("GET", f"{API}/o/x", token=caller, X_Goog_User_Project="acme")
        assert answer.status == status


def test_every_denial_is_in_the_audit_log_with_its_permission(lab: Lab, token: str) -> None:
    assert token
    lab.call("GET", f"{API}/o/x", token=whole_token(lab, LONGHAUL))
    entry = lab.log.entries[-1].as_dict()["protoPayload"]
    assert (entry["methodName"], entry["status"]) == ("storage.objects.get", {"code": 403})
    assert entry["resourceName"] == f"{OBJECTS}x"
    assert entry["authenticationInfo"]["principalEmail"] == LONGHAUL
    assert json.dumps(entry).count("ya29") == 0
