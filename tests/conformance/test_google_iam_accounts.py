"""Service accounts, by Google's own client as the owner of the project."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from localcloud import google
from localcloud.google.core.principals import ServiceAccountPrincipal, UserPrincipal
from localcloud.world import User, World
from tests.conformance.google_admin import client, refused, token_of
from tests.conformance.google_lab import INVOKER, LANDING, ORDERS, Lab

HOME = "projects/acme"
FRESH = "fresh-account@acme.iam.gserviceaccount.com"
NAME = f"{HOME}/serviceAccounts/{FRESH}"
MONTH = 30 * 24 * 3600
INVALID = "INVALID_ARGUMENT"


@pytest.fixture
def accounts(lab: Lab) -> Any:
    return accounts_of(lab)


def accounts_of(lab: Lab) -> Any:
    """The resource of a client whose token is as fresh as the lab's clock."""
    return client(lab, "iam.v1").projects().serviceAccounts()


def make(accounts: Any, name: str = "fresh-account", **fields: Any) -> dict[str, Any]:
    body = {"accountId": name, "serviceAccount": fields}
    made: dict[str, Any] = accounts.create(name=HOME, body=body).execute()
    return made


def test_an_account_is_made_changed_and_stopped(lab: Lab, accounts: Any) -> None:
    made = make(accounts, displayName="Fresh", description="new")
    unique = made["uniqueId"]
    assert unique.isdigit()
    assert len(unique) == 21
    assert made == {
        "name": NAME,
        "projectId": "acme",
        "uniqueId": unique,
        "email": FRESH,
        "displayName": "Fresh",
        "description": "new",
        "etag": "MDEwMjE5MjA=",
        "oauth2ClientId": unique,
    }
    number = f"projects/123456789012/serviceAccounts/{unique}"
    for name in (NAME, f"projects/-/serviceAccounts/{unique}", number):
        assert accounts.get(name=name).execute() == made
    body = {"serviceAccount": {"displayName": "x", "description": "y"}, "updateMask": "description"}
    changed = made | {"description": "y"}
    assert accounts.patch(name=NAME, body=body).execute() == changed
    assert accounts.disable(name=NAME, body={}).execute() == {}
    assert accounts.get(name=NAME).execute() == changed | {"disabled": True}
    assert accounts.enable(name=NAME, body={}).execute() == {}
    assert accounts.get(name=NAME).execute() == changed
    assert World.parse(lab.world.dump()) == lab.world


def test_accounts_are_listed_in_pages(lab: Lab, accounts: Any) -> None:
    for number in range(3):
        make(accounts, f"fresh-{number}")
    found: list[str] = []
    request = accounts.list(name=HOME, pageSize=4)
    while request is not None:
        answer = request.execute()
        found += [account["email"] for account in answer["accounts"]]
        request = accounts.list_next(request, answer)
    assert found == sorted(set(found))
    assert sum(email.startswith("fresh-") for email in found) == 3
    assert LANDING in found
    empty = lab.world.google.projects[1]
    empty.enabled_services.append("iam.googleapis.com")
    assert accounts.list(name=f"projects/{empty.project_id}").execute() == {}


def test_a_deleted_account_ends_its_tokens_and_loses_what_it_had(lab: Lab, accounts: Any) -> None:
    landing = ServiceAccountPrincipal(LANDING, "101010101010101010101")
    token = token_of(lab, landing)
    url = "https://storage.googleapis.com/storage/v1/b/acme-landing/o"
    assert lab.call("GET", url, token=token).status == 200
    name = f"{HOME}/serviceAccounts/{LANDING}"
    assert accounts.delete(name=name).execute() == {}
    assert lab.call("GET", url, token=token).status == 401
    refused(accounts.get(name=name), 404, "NOT_FOUND", "Unknown service account")
    refused(accounts.delete(name=name), 404, "NOT_FOUND", "Unknown service account")
    bucket = lab.world.google.bucket("acme-landing")
    assert bucket is not None
    gone = f"deleted:serviceAccount:{LANDING}?uid={landing.unique_id}"
    held = [set(binding.members) for binding in bucket.iam_policy.bindings]
    assert {gone} in held
    assert not any(f"serviceAccount:{LANDING}" in members for members in held)
    # One of the same name has nothing of it.
    unique = make(accounts, "landing")["uniqueId"]
    other = ServiceAccountPrincipal(LANDING, unique)
    assert lab.call("GET", url, token=token_of(lab, other)).status == 403
    # And while it stands, the old one stays away.
    gone_name = f"{HOME}/serviceAccounts/{landing.unique_id}"
    undelete = accounts.undelete(name=gone_name, body={})
    refused(undelete, 400, "FAILED_PRECONDITION", "Precondition check failed.")
    accounts.delete(name=name).execute()
    # gcloud knows no project of a deleted account, and a stranger knows its id.
    anywhere = f"projects/-/serviceAccounts/{landing.unique_id}"
    lab.world.google.users.append(User("dev@acme.example"))
    stranger = client(lab, "iam.v1", UserPrincipal("dev@acme.example")).projects().serviceAccounts()
    refused(stranger.undelete(name=anywhere, body={}), 403, "PERMISSION_DENIED", "undelete")
    refused(accounts.get(name=anywhere), 404, "NOT_FOUND", "Unknown service account")
    undelete = accounts.undelete(name=anywhere, body={})
    assert undelete.execute()["restoredAccount"]["uniqueId"] == landing.unique_id
    assert lab.call("GET", url, token=token).status == 200
    held = [set(binding.members) for binding in bucket.iam_policy.bindings]
    assert {f"serviceAccount:{LANDING}"} in held
    assert not any(gone in members for members in held)
    assert World.parse(lab.world.dump()) == lab.world


def test_what_still_acts_by_propagation_is_not_for_an_account_of_the_same_name(lab: Lab) -> None:
    lab.router.add(google.sites(replace(lab.google, propagation=70)))
    services = client(lab, "run.v2").projects().locations().services()
    place = "projects/acme/locations/us-central1/services/orders"
    services.setIamPolicy(resource=place, body={"policy": {}}).execute()
    accounts, name = accounts_of(lab), f"{HOME}/serviceAccounts/{INVOKER}"
    assert lab.call("GET", ORDERS, token=lab.id_token()).status == 200
    accounts.delete(name=name).execute()
    make(accounts, "orders-invoker")
    policy = {"bindings": [{"role": "roles/iam.workloadIdentityUser", "members": [subject(lab)]}]}
    accounts.setIamPolicy(resource=name, body={"policy": policy}).execute()
    lab.world.google.service_accounts[-1].iam_policy.earlier = ()
    assert lab.call("GET", ORDERS, token=lab.id_token()).status == 403


def subject(lab: Lab) -> str:
    """The member name of the AWS function's role."""
    lab.federated()
    found: str = lab.log.entries[-1].metadata["mapped_principal"]
    return found


def test_a_deleted_account_cannot_come_back_after_a_month(lab: Lab, accounts: Any) -> None:
    unique = make(accounts)["uniqueId"]
    accounts.delete(name=NAME).execute()
    lab.clock.now += MONTH + 60
    late = accounts_of(lab).undelete(name=f"{HOME}/serviceAccounts/{unique}", body={})
    refused(late, 404, "NOT_FOUND", "Unknown service account")


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("short", {}, "does not have a length between 6 and 30"),
        ("x" * 31, {}, "does not have a length between 6 and 30"),
        ("Fresh-account", {}, "does not match"),
        ("1fresh-account", {}, "does not match"),
        ("fresh-account-", {}, "does not match"),
        ("fresh_account", {}, "does not match"),
        ("fresh-account", {"displayName": "ü" * 51}, "display name exceeds the 100 bytes"),
        ("fresh-account", {"description": "x" * 257}, "description exceeds the 256 bytes"),
        ("fresh-account", {"colour": "red"}, "Unknown name \"colour\" at 'service_account'"),
    ],
)
def test_an_account_out_of_form_is_refused(
    accounts: Any, name: str, fields: dict[str, Any], text: str
) -> None:
    body = {"accountId": name, "serviceAccount": fields}
    refused(accounts.create(name=HOME, body=body), 400, INVALID, text)


def test_an_account_is_made_once_and_a_project_has_a_hundred(accounts: Any) -> None:
    body = {"accountId": "landing", "serviceAccount": {}}
    text = "Service account landing already exists within project projects/acme."
    error = refused(accounts.create(name=HOME, body=body), 409, "ALREADY_EXISTS", text)
    assert error["details"][0]["resourceName"] == f"{HOME}/serviceAccounts/{LANDING}"
    left = 100 - len(accounts.list(name=HOME, pageSize=100).execute()["accounts"])
    for number in range(left):
        make(accounts, f"fresh-{number}")
    body = {"accountId": "one-too-many"}
    text = "Maximum number of service accounts on project reached."
    refused(accounts.create(name=HOME, body=body), 429, "RESOURCE_EXHAUSTED", text)


def test_an_account_is_found_in_its_own_project_only(lab: Lab, accounts: Any) -> None:
    lab.world.google.projects[1].enabled_services.append("iam.googleapis.com")
    name = f"projects/acme-identity/serviceAccounts/{LANDING}"
    refused(accounts.get(name=name), 404, "NOT_FOUND", "Unknown service account")
    refused(accounts.disable(name=name, body={}), 404, "NOT_FOUND", "Unknown service account")
    unique = make(accounts)["uniqueId"]
    accounts.delete(name=NAME).execute()
    undelete = accounts.undelete(name=f"projects/acme-identity/serviceAccounts/{unique}", body={})
    refused(undelete, 404, "NOT_FOUND", "Unknown service account")
    refused(
        accounts.get(name="projects/-/serviceAccounts/absent@acme.iam.gserviceaccount.com"),
        403,
        "PERMISSION_DENIED",
        "Permission 'iam.serviceAccounts.get' denied on resource (or it may not exist).",
    )


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("roles/iam.serviceAccountAdmin", {"get", "create", "patch", "disable", "delete"}),
        ("roles/iam.serviceAccountCreator", {"get", "create"}),
        ("roles/iam.serviceAccountDeleter", {"get", "delete"}),
        ("roles/iam.serviceAccountUser", {"get"}),
        ("roles/editor", {"get", "create", "patch", "disable", "delete"}),
        ("roles/viewer", {"get"}),
        ("roles/storage.admin", set()),
    ],
)
def test_accounts_need_their_permissions(lab: Lab, role: str, allowed: set[str]) -> None:
    lab.world.google.users.append(User("dev@acme.example"))
    lab.world.google.projects[0].iam_policy.grant(role, "user:dev@acme.example")
    accounts = client(lab, "iam.v1", UserPrincipal("dev@acme.example")).projects().serviceAccounts()
    name = f"{HOME}/serviceAccounts/{LANDING}"
    body = {"serviceAccount": {"displayName": "x"}, "updateMask": "displayName"}
    calls = {
        "get": accounts.get(name=name),
        "create": accounts.create(name=HOME, body={"accountId": "fresh-account"}),
        "patch": accounts.patch(name=name, body=body),
        "disable": accounts.disable(name=name, body={}),
        "delete": accounts.delete(name=name),
    }
    for verb, request in calls.items():
        if verb in allowed:
            assert request.execute() is not None
        else:
            refused(request, 403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.")


def test_a_role_on_one_account_is_a_role_on_that_account(lab: Lab) -> None:
    lab.world.google.users.append(User("dev@acme.example"))
    account = lab.world.google.service_account(LANDING)
    assert account is not None
    account.iam_policy.grant("roles/iam.serviceAccountAdmin", "user:dev@acme.example")
    accounts = client(lab, "iam.v1", UserPrincipal("dev@acme.example")).projects().serviceAccounts()
    assert accounts.get(name=f"{HOME}/serviceAccounts/{LANDING}").execute()["email"] == LANDING
    for request in (
        accounts.get(name=f"{HOME}/serviceAccounts/unbound@acme.iam.gserviceaccount.com"),
        accounts.list(name=HOME),
    ):
        refused(request, 403, "PERMISSION_DENIED", "denied on resource")


def test_keys_and_the_deprecated_signing_are_not_served(accounts: Any) -> None:
    name = f"{HOME}/serviceAccounts/{LANDING}"
    refused(accounts.keys().create(name=name, body={}), 405, "UNIMPLEMENTED", "does not serve")
    refused(accounts.signBlob(name=name, body={}), 405, "UNIMPLEMENTED", "does not serve")


def test_roles_are_listed_and_read(lab: Lab) -> None:
    roles = client(lab, "iam.v1").roles()
    listed = roles.list(pageSize=1000).execute()["roles"]
    assert {"name", "title", "stage", "etag"} == listed[0].keys()
    assert "roles/iam.workloadIdentityUser" in {role["name"] for role in listed}
    role = roles.get(name="roles/iam.workloadIdentityUser").execute()
    assert "iam.serviceAccounts.getAccessToken" in role["includedPermissions"]
    text = "The role named roles/nothing was not found."
    refused(roles.get(name="roles/nothing"), 404, "NOT_FOUND", text)
