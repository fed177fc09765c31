"""Cloud Run's Admin API: services are found and their invokers set, by Google's own client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.google.core.principals import ServiceAccountPrincipal, UserPrincipal
from localcloud.world import RunService, User, World
from tests.conformance.google_admin import client, conforms, refused, token_of
from tests.conformance.google_lab import INVOKER, LANDING, ORDERS, Lab

PLACE = "projects/acme/locations/us-central1"
NAME = f"{PLACE}/services/orders"
INVALID = "INVALID_ARGUMENT"
REGIONAL = "https://us-central1-run.googleapis.com"
KNATIVE = "apis/serving.knative.dev/v1/namespaces/acme/services"


def services(lab: Lab, api: str = "run.v2", **who: Any) -> Any:
    return client(lab, api, **who).projects().locations().services()


def test_a_service_is_read_in_both_versions(lab: Lab) -> None:
    second = services(lab).get(name=NAME).execute()
    assert (second["name"], second["uri"]) == (NAME, ORDERS)
    assert second["customAudiences"] == ["orders.acme.example"]
    first = services(lab, "run.v1").get(name=NAME).execute()
    assert first["status"]["url"] == ORDERS
    assert first["metadata"]["namespace"] == "123456789012"
    # gcloud's way: the regional host says where.
    answer = lab.call("GET", f"{REGIONAL}/{KNATIVE}/orders", token=token_of(lab))
    assert json.loads(answer.body) == first


def test_services_are_listed_by_region_and_in_all(lab: Lab) -> None:
    more = [
        "projects/acme/locations/us-central1/services/more",
        "projects/acme/locations/europe-west1/services/x",
    ]
    lab.world.google.services += [RunService(name, "https://x.a.run.app") for name in more]
    names = [
        [service["name"] for service in services(lab).list(parent=parent).execute()["services"]]
        for parent in (PLACE, "projects/acme/locations/-", "projects/123456789012/locations/-")
    ]
    assert names == [[more[0], NAME], [more[1], more[0], NAME], [more[1], more[0], NAME]]
    page = services(lab).list(parent=PLACE, pageSize=1).execute()
    assert [service["name"] for service in page["services"]] == [more[0]]
    page = services(lab).list(parent=PLACE, pageSize=1, pageToken=page["nextPageToken"]).execute()
    assert [service["name"] for service in page["services"]] == [NAME]
    everywhere, endpoint = (
        "https://run.googleapis.com",
        "https://run.us-central1.rep.googleapis.com",
    )
    for host, count in ((REGIONAL, 2), (endpoint, 2), (everywhere, 3)):
        answer = lab.call("GET", f"{host}/{KNATIVE}", token=token_of(lab))
        listed = json.loads(answer.body)
        conforms("run.v1", "ListServicesResponse", listed)
        assert len(listed["items"]) == count
    places = client(lab, "run.v1").projects().locations().list(name="projects/acme").execute()
    assert [place["locationId"] for place in places["locations"]] == ["europe-west1", "us-central1"]


def test_an_invoker_is_bound_and_unbound(lab: Lab) -> None:
    token = lab.id_token(account=LANDING)
    assert lab.call("GET", f"{ORDERS}/x", token=token).status == 403
    for api in ("run.v1", "run.v2"):
        resource = services(lab, api)
        policy = resource.getIamPolicy(resource=NAME, options_requestedPolicyVersion=3).execute()
        (binding,) = policy["bindings"]
        assert binding["members"] == [f"serviceAccount:{INVOKER}"]
        binding["members"].append(f"serviceAccount:{LANDING}")
        etag = policy["etag"]
        policy = resource.setIamPolicy(resource=NAME, body={"policy": policy}).execute()
        assert lab.call("GET", f"{ORDERS}/x", token=token).status == 200
        stale = {"policy": policy | {"etag": etag}}
        refused(resource.setIamPolicy(resource=NAME, body=stale), 409, "ABORTED", "concurrent")
        policy["bindings"][0]["members"].pop()
        resource.setIamPolicy(resource=NAME, body={"policy": policy}).execute()
        assert lab.call("GET", f"{ORDERS}/x", token=token).status == 403
    assert World.parse(lab.world.dump()) == lab.world


def test_a_service_may_be_opened_to_all_and_to_no_wrong_role(lab: Lab) -> None:
    resource = services(lab)

    def bind(role: str) -> Any:
        policy = {"bindings": [{"role": role, "members": ["allUsers"]}]}
        return resource.setIamPolicy(resource=NAME, body={"policy": policy})

    assert lab.call("GET", f"{ORDERS}/x").status == 403
    bind("roles/run.invoker").execute()
    assert lab.call("GET", f"{ORDERS}/x").status == 200
    for role in ("roles/storage.objectViewer", "roles/iam.workloadIdentityUser"):
        refused(bind(role), 400, INVALID, f"Role {role} is not supported for this resource.")


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [
        ("roles/run.admin", True, True),
        ("roles/run.developer", True, False),
        ("roles/run.viewer", True, False),
        ("roles/editor", True, False),
        ("roles/run.invoker", False, False),
        ("roles/iam.serviceAccountAdmin", False, False),
    ],
)
def test_services_need_their_permissions(lab: Lab, role: str, *, reads: bool, writes: bool) -> None:
    lab.world.google.users.append(User("dev@acme.example"))
    lab.world.google.projects[0].iam_policy.grant(role, "user:dev@acme.example")
    resource = services(lab, who=UserPrincipal("dev@acme.example"))
    for permitted, request in (
        (reads, resource.get(name=NAME)),
        (reads, resource.list(parent=PLACE)),
        (reads, resource.getIamPolicy(resource=NAME)),
        (writes, resource.setIamPolicy(resource=NAME, body={"policy": {}})),
    ):
        if permitted:
            assert request.execute()
        else:
            refused(request, 403, "PERMISSION_DENIED", "Permission 'run.services.")


def test_the_refusal_names_the_service_as_cloud_run_does(lab: Lab) -> None:
    landing = ServiceAccountPrincipal(LANDING, "101010101010101010101")
    resource = services(lab, who=landing)
    text = f"Permission 'run.services.get' denied on resource '{NAME}' (or resource may not exist)."
    refused(resource.get(name=NAME), 403, "PERMISSION_DENIED", text)
    absent = f"{PLACE}/services/absent"
    refused(resource.get(name=absent), 403, "PERMISSION_DENIED", f"'{absent}'")
    found = services(lab)
    refused(found.get(name=absent), 404, "NOT_FOUND", "does not exist")
    elsewhere = NAME.replace("us-central1", "europe-west1")
    refused(found.get(name=elsewhere), 404, "NOT_FOUND", "does not exist")
    refused(found.delete(name=NAME), 405, "UNIMPLEMENTED", "does not serve DELETE")


def test_reading_is_a_scope_of_its_own(lab: Lab) -> None:
    token = token_of(lab, scope="https://www.googleapis.com/auth/run.readonly")
    url = f"https://run.googleapis.com/v2/{NAME}"
    assert lab.call("GET", f"{url}:getIamPolicy", token=token).status == 200
    answer = lab.call("POST", f"{url}:setIamPolicy", {"policy": {}}, token)
    assert answer.status == 403
    assert json.loads(answer.body)["error"]["details"][0]["reason"] == (
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT"
    )
