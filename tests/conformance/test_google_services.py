"""Service Usage and Resource Manager: what is not enabled is refused, what is nobody's is not told.

Run against Google's own client library, which is built from Google's discovery documents.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import googleapiclient.discovery_cache
import pytest
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest

from localcloud import google
from localcloud.google.core import services
from tests.conformance.google_lab import CLOUD_PLATFORM, INVOKER, LANDING, Lab, body

if TYPE_CHECKING:
    from collections.abc import Callable


ADMIN = "admin@acme.example"
IDENTITY = "projects/acme-identity"
SERVICES = f"https://serviceusage.googleapis.com/v1/{IDENTITY}/services"
PROJECTS = "https://cloudresourcemanager.googleapis.com/v1/projects"


@pytest.fixture
def admin(lab: Lab) -> str:
    return google.environment_of(lab.google, "admin")["CLOUDSDK_AUTH_ACCESS_TOKEN"]


def enabled(lab: Lab, project: str = "acme-identity") -> list[str]:
    found = lab.world.google.project(project)
    assert found is not None
    return found.enabled_services


def test_an_operation_is_at_work_and_then_done(lab: Lab, admin: str) -> None:
    begun = body(lab.call("POST", f"{SERVICES}/iam.googleapis.com:enable", {}, admin))
    assert "done" not in begun
    url = f"https://serviceusage.googleapis.com/v1/{begun['name']}"
    done = body(lab.call("GET", url, token=admin))
    assert done["done"] is True
    assert done["response"]["service"]["state"] == "ENABLED"
    assert (
        done["response"]["service"]["name"] == "projects/210987654321/services/iam.googleapis.com"
    )
    assert "iam.googleapis.com" in enabled(lab)
    again = body(lab.call("POST", f"{SERVICES}/iam.googleapis.com:enable", {}, admin))
    assert (again["name"], again["done"]) == ("operations/noop.DONE_OPERATION", True)
    assert lab.call("GET", f"{url}x", token=admin).status == 404


def test_every_api_that_has_a_document_can_be_enabled(lab: Lab, admin: str) -> None:
    documents = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
    read = [json.loads(each.read_text("utf-8")) for each in documents.glob("*.json")]
    roots = {document.get("rootUrl", "") for document in read}
    hosts = {url.removeprefix("https://").strip("/") for url in roots}
    named = {host for host in hosts if re.fullmatch(r"(?!www)[a-z0-9-]+\.googleapis\.com", host)}
    assert len(named) > 250
    assert named - services.known() == set()
    # A newer document may have dropped some; a list that was made up would have many.
    assert len(services.known() - named) < 30
    assert services.TITLES.keys() <= services.known()
    answer = lab.call("POST", f"{SERVICES}/compute.googleapis.com:enable", {}, admin)
    assert answer.status == 200


def test_one_unknown_service_enables_none_of_a_batch(lab: Lab, admin: str) -> None:
    names = ["iam.googleapis.com", "iam-credentials.googleapis.com"]
    answer = lab.call("POST", f"{SERVICES}:batchEnable", {"serviceIds": names}, admin)
    error = body(answer)["error"]
    text = "Not found or permission denied for service(s): iam-credentials.googleapis.com."
    assert (answer.status, error["message"]) == (403, text)
    assert error["details"][1]["reason"] == "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED"
    assert "iam.googleapis.com" not in enabled(lab)


@pytest.mark.parametrize("names", [[], ["iam.googleapis.com"] * 21])
def test_a_batch_of_none_or_of_too_many_is_refused(lab: Lab, admin: str, names: list[str]) -> None:
    answer = lab.call("POST", f"{SERVICES}:batchEnable", {"serviceIds": names}, admin)
    assert body(answer)["error"]["status"] == "INVALID_ARGUMENT"


def test_a_disabled_service_is_refused_until_it_is_enabled_again(lab: Lab, admin: str) -> None:
    token = lab.federated()
    scope = {"scope": [CLOUD_PLATFORM]}
    assert lab.credentials(LANDING, "generateAccessToken", scope, token).status == 200
    url = "https://serviceusage.googleapis.com/v1/projects/acme/services"
    off = lab.call("POST", f"{url}/iamcredentials.googleapis.com:disable", {}, admin)
    assert off.status == 200
    answer = lab.credentials(LANDING, "generateAccessToken", scope, token)
    error = body(answer)["error"]
    assert (answer.status, error["status"]) == (403, "PERMISSION_DENIED")
    # The pool's project pays, which only its number names here.
    link = (
        "https://console.developers.google.com/apis/api/iamcredentials.googleapis.com/overview"
        "?project=123456789012"
    )
    assert error["message"] == (
        "IAM Service Account Credentials API has not been used in project 123456789012 before or "
        f"it is disabled. Enable it by visiting {link} then retry. If you enabled this API "
        "recently, wait a few minutes for the action to propagate to our systems and retry."
    )
    info = error["details"][0]
    assert (info["reason"], info["metadata"]["activationUrl"]) == ("SERVICE_DISABLED", link)
    twice = lab.call("POST", f"{url}/iamcredentials.googleapis.com:disable", {}, admin)
    assert body(twice)["error"]["status"] == "FAILED_PRECONDITION"
    lab.call("POST", f"{url}/iamcredentials.googleapis.com:enable", {}, admin)
    assert lab.credentials(LANDING, "generateAccessToken", scope, token).status == 200


def test_an_exchange_needs_the_api_in_the_pools_project(lab: Lab) -> None:
    enabled(lab, "acme").remove("sts.googleapis.com")
    with pytest.raises(AssertionError, match="SERVICE_DISABLED"):
        lab.federated()


def test_a_buckets_project_may_switch_cloud_storage_off(lab: Lab) -> None:
    url = "https://storage.googleapis.com/storage/v1/b/acme-landing/o"
    token = lab.access_token()
    assert lab.call("GET", url, token=token).status == 200
    enabled(lab, "acme").remove("storage.googleapis.com")
    error = body(lab.call("GET", url, token=token))["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (403, "accessNotConfigured")
    assert error["message"].startswith(
        "Cloud Storage API has not been used in project 123456789012"
    )


def test_the_api_counts_in_the_project_that_a_client_names(lab: Lab, admin: str) -> None:
    url = f"{PROJECTS}/acme"
    assert lab.call("GET", url, token=admin).status == 200
    other = lab.call("GET", url, token=admin, X_Goog_User_Project="acme-identity")
    assert body(other)["error"]["details"][0]["metadata"]["consumer"] == IDENTITY
    enabled(lab).append("cloudresourcemanager.googleapis.com")
    again = lab.call("GET", url, token=admin, X_Goog_User_Project="acme-identity")
    assert again.status == 200


def test_service_accounts_ask_their_own_project_about_any(lab: Lab) -> None:
    token = lab.access_token(scope=CLOUD_PLATFORM)
    project = lab.world.google.project("acme-identity")
    assert project is not None
    project.iam_policy.grant("roles/browser", f"serviceAccount:{LANDING}")
    assert lab.call("GET", f"{PROJECTS}/acme-identity", token=token).status == 200
    enabled(lab, "acme").remove("cloudresourcemanager.googleapis.com")
    answer = lab.call("GET", f"{PROJECTS}/acme-identity", token=token)
    assert "123456789012" in body(answer)["error"]["message"]


@pytest.mark.parametrize(
    ("method", "url", "sent"),
    [
        ("POST", f"{SERVICES}:batchEnable", {"serviceIds": ["iam.googleapis.com"]}),
        ("POST", f"{SERVICES}/iam.googleapis.com:enable", {}),
        ("POST", f"{SERVICES}/storage.googleapis.com:disable", {}),
        ("GET", SERVICES, None),
        ("GET", f"{PROJECTS}/acme-identity", None),
        ("GET", f"{PROJECTS}/no-such-project", None),
        ("POST", f"{PROJECTS}/acme-identity:getIamPolicy", {}),
        ("POST", f"{PROJECTS}/acme-identity:setIamPolicy", {"policy": {}}),
    ],
)
def test_who_has_no_role_in_the_project_may_do_nothing_there(
    lab: Lab, method: str, url: str, sent: object
) -> None:
    before = lab.world.dump()
    answer = lab.call(method, url, sent, lab.access_token(scope=CLOUD_PLATFORM))
    assert (answer.status, body(answer)["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert lab.world.dump() == before


def test_a_list_shows_the_state_that_is_asked_for_page_by_page(lab: Lab, admin: str) -> None:
    url = f"{SERVICES}?filter=state:ENABLED&pageSize=2"
    seen, token = [], ""
    for _ in range(9):
        page = body(lab.call("GET", f"{url}&pageToken={token}", token=admin))
        seen += [service["config"]["name"] for service in page["services"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert sorted(seen) == sorted(enabled(lab))
    for wrong in ("filter=name:x", "pageSize=201", "pageToken=nothing"):
        assert lab.call("GET", f"{SERVICES}?{wrong}", token=admin).status == 400


def test_projects_are_found_by_those_who_may_see_them(lab: Lab, admin: str) -> None:
    url = "https://cloudresourcemanager.googleapis.com/v3/projects:search"
    mine = body(lab.call("GET", url, token=admin))["projects"]
    assert [each["projectId"] for each in mine] == ["acme", "acme-identity"]
    one = body(lab.call("GET", f"{url}?query=id:acme-id*", token=admin))["projects"]
    assert [each["name"] for each in one] == ["projects/210987654321"]
    asked = "(lifecycleState:ACTIVE) AND (projectId:acme-identity)"  # as gcloud words it
    two = body(lab.call("GET", f"{PROJECTS}?filter={quote(asked)}", token=admin))["projects"]
    assert [each["projectId"] for each in two] == ["acme-identity"]
    for wrong in ("id:acme OR id:x", "NOT id:acme", "labels.colour:red"):
        assert lab.call("GET", f"{PROJECTS}?filter={quote(wrong)}", token=admin).status == 400
    landing = body(lab.call("GET", url, token=lab.access_token(scope=CLOUD_PLATFORM)))
    assert landing["projects"] == []


def test_a_projects_policy_gives_what_it_says_on_everything_in_it(lab: Lab, admin: str) -> None:
    member = f"serviceAccount:{INVOKER}"
    url = f"{PROJECTS}/acme"
    policy = body(lab.call("POST", f"{url}:getIamPolicy", {}, admin))
    policy["bindings"].append({"role": "roles/storage.objectViewer", "members": [member]})
    assert lab.call("POST", f"{url}:setIamPolicy", {"policy": policy}, admin).status == 200
    token = lab.access_token(INVOKER, CLOUD_PLATFORM)
    vault = "https://storage.googleapis.com/storage/v1/b/acme-vault/o"
    assert lab.call("GET", vault, token=token).status == 200
    asked = {"permissions": ["storage.objects.list", "resourcemanager.projects.setIamPolicy"]}
    held = body(lab.call("POST", f"{url}:testIamPermissions", asked, token))
    assert held == {"permissions": ["storage.objects.list"]}


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_googles_client_library_reads_a_project_and_its_policy(
    lab: Lab, admin: str, version: str
) -> None:
    manager = build("cloudresourcemanager", version, requestBuilder=_through(lab, admin), http=0)
    named = {"projectId": "acme"} if version == "v1" else {"name": "projects/acme"}
    assert manager.projects().get(**named).execute()["projectId"] == "acme"
    resource = "acme" if version == "v1" else "projects/acme"
    policy = manager.projects().getIamPolicy(resource=resource, body={}).execute()
    assert policy["bindings"] == [{"role": "roles/owner", "members": [f"user:{ADMIN}"]}]
    with pytest.raises(HttpError, match="does not serve"):
        manager.projects().create(body={"projectId": "new"}).execute()


def test_googles_client_library_enables_and_reads(lab: Lab, admin: str) -> None:
    usage = build("serviceusage", "v1", requestBuilder=_through(lab, admin), http=0)
    names = ["iam.googleapis.com", "sts.googleapis.com"]
    operation = usage.services().batchEnable(parent=IDENTITY, body={"serviceIds": names}).execute()
    done = usage.operations().get(name=operation["name"]).execute()
    assert [each["state"] for each in done["response"]["services"]] == ["ENABLED", "ENABLED"]
    found = usage.services().batchGet(
        parent=IDENTITY, names=[f"{IDENTITY}/services/{name}" for name in names]
    )
    assert [each["state"] for each in found.execute()["services"]] == ["ENABLED", "ENABLED"]
    one = usage.services().get(name=f"{IDENTITY}/services/run.googleapis.com").execute()
    assert (one["state"], one["config"]["title"]) == ("DISABLED", "Cloud Run Admin API")


def _through(lab: Lab, token: str) -> Callable[..., HttpRequest]:
    """Requests of googleapiclient that go to the lab with a token."""

    class InProcess:
        def request(
            self, uri: str, method: str = "GET", body: Any = None, headers: Any = None, **_: Any
        ) -> tuple[Any, bytes]:
            import httplib2  # noqa: PLC0415 -- googleapiclient's own

            del headers
            sent = body.encode() if isinstance(body, str) else body
            kind = {"Content_Type": "application/json"} if sent else {}
            answer = lab.call(method, uri, sent, token, **kind)
            return httplib2.Response({"status": str(answer.status)}), answer.body

    def request(_http: Any, *arguments: Any, **more: Any) -> HttpRequest:
        return HttpRequest(InProcess(), *arguments, **more)

    return request
