"""Allow policies: etags, versions, conditions, members and roles, by Google's own client."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from localcloud import google
from localcloud.google.core import hierarchy, policies
from localcloud.google.core.bindings import Kind
from localcloud.google.core.errors import GoogleError
from localcloud.google.core.iam import allows
from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken
from localcloud.world import Binding, Expr, Group, Policy, User, World
from tests.conformance.google_admin import ADMIN, client, refused, token_of
from tests.conformance.google_lab import (
    LANDING,
    POOL,
    READ_WRITE,
    UNBOUND,
    Lab,
)

NAME = f"projects/acme/serviceAccounts/{UNBOUND}"
SUBJECT = f"principal://iam.googleapis.com/{POOL}/subject/s"
USER = "roles/iam.workloadIdentityUser"
INVALID = "INVALID_ARGUMENT"
SOON = {"title": "soon", "expression": "request.time < timestamp('2099-01-01T00:00:00Z')"}


@pytest.fixture
def accounts(lab: Lab) -> Any:
    return client(lab, "iam.v1").projects().serviceAccounts()


def get(accounts: Any, version: int = 3) -> dict[str, Any]:
    request = accounts.getIamPolicy(resource=NAME, options_requestedPolicyVersion=version)
    policy: dict[str, Any] = request.execute()
    return policy


def put(accounts: Any, policy: dict[str, Any]) -> Any:
    return accounts.setIamPolicy(resource=NAME, body={"policy": policy})


def bound(*members: str, role: str = USER, **more: Any) -> dict[str, Any]:
    return {"bindings": [{"role": role, "members": list(members)}], **more}


def test_a_policy_is_read_changed_and_read_again(lab: Lab, accounts: Any) -> None:
    assert get(accounts) == {"etag": "ACAB"}
    written = put(accounts, bound(SUBJECT, etag="ACAB", version=3)).execute()
    assert written["bindings"] == [{"role": USER, "members": [SUBJECT]}]
    assert written["version"] == 1
    assert get(accounts) == written
    assert len(base64.b64decode(written["etag"])) == 8
    again = put(accounts, {"bindings": [], "etag": written["etag"]}).execute()
    assert again.keys() == {"etag"}
    assert again["etag"] != "ACAB"
    assert World.parse(lab.world.dump()) == lab.world


@pytest.mark.parametrize("etag", ["ACAB", "BwYAAAAAAAA="])
def test_a_policy_that_changed_meanwhile_is_not_overwritten(
    lab: Lab, accounts: Any, etag: str
) -> None:
    put(accounts, bound(SUBJECT)).execute()
    text = "There were concurrent policy changes. Please retry the whole read-modify-write"
    error = refused(put(accounts, bound(etag=etag)), 409, "ABORTED", text)
    octets = "".join(f"\\{octet:03o}" for octet in base64.b64decode(etag))
    assert f"The request's ETag '{octets}' did not match" in error["message"]
    assert get(accounts)["bindings"][0]["members"] == [SUBJECT]


def test_a_change_of_the_world_counts_as_a_change(lab: Lab, accounts: Any) -> None:
    policy = put(accounts, bound(SUBJECT)).execute()
    account = lab.world.google.service_account(UNBOUND)
    assert account is not None
    account.iam_policy.grant(USER, f"serviceAccount:{LANDING}")
    refused(put(accounts, bound(etag=policy["etag"])), 409, "ABORTED", "concurrent")
    assert put(accounts, bound(etag=get(accounts)["etag"])).execute()


def test_the_same_bindings_set_twice_have_two_etags(accounts: Any) -> None:
    first = put(accounts, bound(SUBJECT)).execute()
    second = put(accounts, bound(SUBJECT)).execute()
    assert first["etag"] != second["etag"]


def test_without_an_etag_the_last_writer_wins(accounts: Any) -> None:
    put(accounts, bound(SUBJECT)).execute()
    put(accounts, bound(f"serviceAccount:{LANDING}")).execute()
    assert get(accounts)["bindings"][0]["members"] == [f"serviceAccount:{LANDING}"]


def test_a_condition_needs_version_3_to_be_written_and_to_be_read(accounts: Any) -> None:
    conditional = {"bindings": [{"role": USER, "members": [SUBJECT], "condition": SOON}]}
    for version in (0, 1):
        request = put(accounts, conditional | {"version": version})
        refused(request, 400, INVALID, "need policy version 3")
    written = put(accounts, conditional | {"version": 3}).execute()
    assert written["version"] == 3
    assert get(accounts) == written
    old = get(accounts, 1)
    assert old["version"] == 1
    assert old["etag"] == written["etag"]
    (binding,) = old["bindings"]
    assert binding.keys() == {"role", "members"}
    assert binding["role"].startswith(f"{USER}_withcond_")
    text = "Specified policy version (1) cannot be less than the existing policy version (3)."
    refused(put(accounts, bound(SUBJECT, etag=old["etag"], version=1)), 400, INVALID, text)
    # What was read below version 3 cannot be written back by mistake.
    refused(put(accounts, {"bindings": old["bindings"]}), 400, INVALID, "is not supported")
    assert get(accounts) == written


@pytest.mark.parametrize("version", [2, 4, -1])
def test_a_version_that_there_is_not_is_refused(accounts: Any, version: int) -> None:
    request = accounts.getIamPolicy(resource=NAME, options_requestedPolicyVersion=version)
    refused(request, 400, INVALID, "Invalid policy version")
    refused(put(accounts, bound(SUBJECT, version=version)), 400, INVALID, "Invalid policy version")


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        ({"expression": "true"}, "title is required"),
        ({"title": "t", "expression": ""}, "expression is empty"),
        ({"title": "t", "expression": "resource.name =="}, "Syntax error"),
        ({"title": "t", "expression": "nothing == 1"}, "undeclared reference"),
        ({"title": "t", "expression": "resource.nme == 'x'"}, "undeclared reference"),
        ({"title": "t", "expression": "'yes'"}, "expected a boolean"),
        ({"title": "t", "expression": "true", "x": 1}, 'Unknown name "x" at \'policy.bindings[0]'),
    ],
)
def test_a_condition_out_of_form_is_refused(
    accounts: Any, condition: dict[str, Any], text: str
) -> None:
    policy = {
        "version": 3,
        "bindings": [{"role": USER, "members": [SUBJECT], "condition": condition}],
    }
    refused(put(accounts, policy), 400, INVALID, text)


def test_a_basic_role_takes_no_condition(accounts: Any) -> None:
    entry = {"role": "roles/owner", "members": [f"serviceAccount:{LANDING}"], "condition": SOON}
    request = put(accounts, {"version": 3, "bindings": [entry]})
    refused(request, 400, INVALID, "Conditions can't be set on primitive roles")


MEMBERS = [
    SUBJECT,
    f"principalSet://iam.googleapis.com/{POOL}/*",
    f"principalSet://iam.googleapis.com/{POOL}/group/g/h",
    f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/etl",
    f"serviceAccount:{LANDING}",
    "user:admin@acme.example",
    "group:ops@acme.example",
    "domain:acme.example",
]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_that_exists_is_taken(lab: Lab, accounts: Any, member: str) -> None:
    lab.world.google.groups.append(Group("ops@acme.example"))
    assert put(accounts, bound(member)).execute()["bindings"][0]["members"] == [member]


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("landing", "The member landing is of an unknown type. Please set a valid type prefix"),
        ("robot:x@acme.example", "is of an unknown type"),
        ("user:", "is of an unknown type"),
        ("user:admin", "is of an unknown type"),
        ("", "is of an unknown type"),
        ("projectOwner:acme", "is of an unknown type"),
        ("deleted:serviceAccount:x@acme.example?uid=1", "is of an unknown type"),
        (
            "serviceAccount:absent@acme.example",
            "Service account absent@acme.example does not exist.",
        ),
        ("user:absent@acme.example", "User absent@acme.example does not exist."),
        ("group:absent@acme.example", "Group absent@acme.example does not exist."),
        (
            "serviceAccount:acme.svc.id.goog[n/k]",
            "Identity Pool does not exist (acme.svc.id.",
        ),
        ("allUsers", "Principals of type allUsers and allAuthenticatedUsers cannot be added"),
        ("allAuthenticatedUsers", "cannot be added to this resource."),
        # The project's id where its number belongs, the first mistake of every guide's reader.
        (
            SUBJECT.replace("123456789012", "acme"),
            "Identity Pool does not exist (projects/acme/locations/global/workloadIdentityPools/",
        ),
        (SUBJECT.replace("tokenvend", "absent"), "Identity Pool does not exist"),
        (f"principal://iam.googleapis.com/{POOL}", "Invalid principal member"),
        (f"principal://iam.googleapis.com/{POOL}/*", "Invalid principal member"),
        (f"principalSet://iam.googleapis.com/{POOL}/subject/s", "Invalid principalSet member"),
        (f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role", "Invalid principalSet"),
        (f"principalSet://iam.googleapis.com/{POOL}/etl", "Invalid principalSet member"),
        (f"principalSet://example.com/{POOL}/*", "Invalid principalSet member"),
    ],
)
def test_a_member_that_there_is_not_is_refused(accounts: Any, member: str, text: str) -> None:
    refused(put(accounts, bound(member)), 400, INVALID, text)
    assert get(accounts) == {"etag": "ACAB"}


def test_an_email_counts_in_any_case(accounts: Any) -> None:
    written = put(accounts, bound(f"serviceAccount:{LANDING.upper()}")).execute()
    assert written["bindings"][0]["members"] == [f"serviceAccount:{LANDING}"]


@pytest.mark.parametrize(
    ("role", "text"),
    [
        (
            "roles/iam.workloadIdentityUsers",
            "Role roles/iam.workloadIdentityUsers is not supported",
        ),
        ("roles/storage.objectViewer", "is not supported for this resource."),
        ("roles/run.invoker", "is not supported for this resource."),
        ("roles/iam.workloadIdentityPoolAdmin", "is not supported for this resource."),
        ("iam.workloadIdentityUser", "is not supported for this resource."),
        ("", "is not supported for this resource."),
        (
            "projects/acme/roles/mine",
            "Role (projects/acme/roles/mine) does not exist in the resource's hierarchy.",
        ),
    ],
)
def test_a_role_that_google_does_not_grant_there_is_refused(
    accounts: Any, role: str, text: str
) -> None:
    refused(put(accounts, bound(SUBJECT, role=role)), 400, INVALID, text)


def test_a_policy_has_at_most_1500_members(accounts: Any) -> None:
    many = [f"{SUBJECT}{number}" for number in range(1501)]
    text = "The number of members in the policy (1,501) is larger than the maximum allowed size"
    refused(put(accounts, bound(*many)), 400, INVALID, text)
    assert len(put(accounts, bound(*many[1:])).execute()["bindings"][0]["members"]) == 1500


def test_a_member_twice_counts_once_and_an_empty_binding_goes(accounts: Any) -> None:
    entries = [
        {"role": USER, "members": [SUBJECT, SUBJECT]},
        {"role": "roles/iam.serviceAccountUser", "members": []},
    ]
    written = put(accounts, {"bindings": entries}).execute()
    assert written["bindings"] == [{"role": USER, "members": [SUBJECT]}]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Policy is required."),
        ({"policy": {"x": 1}}, "Unknown name \"x\" at 'policy'"),
        ({"policy": {"etag": "?"}}, "TYPE_BYTES"),
        ({"policy": {"bindings": [{"role": 1}]}}, "'policy.bindings[0].role' (TYPE_STRING)"),
    ],
)
def test_a_policy_out_of_form_is_refused(accounts: Any, body: Any, text: str) -> None:
    refused(accounts.setIamPolicy(resource=NAME, body=body), 400, INVALID, text)


def test_permissions_are_tested_for_the_caller(lab: Lab, accounts: Any) -> None:
    wanted = ["iam.serviceAccounts.get", "iam.serviceAccounts.getAccessToken"]
    mine = accounts.testIamPermissions(resource=NAME, body={"permissions": wanted}).execute()
    # An owner may set the policy, not use the account.
    assert mine == {"permissions": ["iam.serviceAccounts.get"]}
    landing = ServiceAccountPrincipal(LANDING, "101010101010101010101")
    theirs = client(lab, "iam.v1", landing).projects().serviceAccounts()
    request = theirs.testIamPermissions(resource=NAME, body={"permissions": wanted})
    assert request.execute() == {}
    put(accounts, bound(f"serviceAccount:{LANDING}")).execute()
    assert request.execute() == {"permissions": wanted}
    for permission, text in (
        ("iam.serviceAccounts.*", "wildcards"),
        ("storage.objects.get", "Permission storage.objects.get is not valid for this resource."),
    ):
        request = accounts.testIamPermissions(resource=NAME, body={"permissions": [permission]})
        refused(request, 400, INVALID, text)


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [
        ("roles/iam.serviceAccountAdmin", True, True),
        ("roles/iam.securityAdmin", True, True),
        ("roles/iam.securityReviewer", True, False),
        ("roles/editor", True, False),
        ("roles/iam.serviceAccountTokenCreator", False, False),
    ],
)
def test_policies_need_their_permissions(lab: Lab, role: str, *, reads: bool, writes: bool) -> None:
    lab.world.google.users.append(User("dev@acme.example"))
    lab.world.google.projects[0].iam_policy.grant(role, f"serviceAccount:{LANDING}")
    landing = ServiceAccountPrincipal(LANDING, "101010101010101010101")
    accounts = client(lab, "iam.v1", landing).projects().serviceAccounts()
    read = accounts.getIamPolicy(resource=NAME)
    for permitted, request in ((reads, read), (writes, put(accounts, bound(SUBJECT)))):
        if permitted:
            assert request.execute()["etag"]
        else:
            refused(request, 403, "PERMISSION_DENIED", "IamPolicy' denied on resource")


def impersonate(lab: Lab, email: str = UNBOUND) -> int:
    body = {"scope": [READ_WRITE], "lifetime": "600s"}
    return lab.credentials(email, "generateAccessToken", body, lab.federated()).status


def subject_of(lab: Lab) -> str:
    lab.federated()
    found: str = lab.log.entries[-1].metadata["mapped_principal"]
    return found


def test_what_is_bound_works_at_once_and_what_is_unbound_does_not(lab: Lab, accounts: Any) -> None:
    assert impersonate(lab) == 403
    put(accounts, bound(subject_of(lab))).execute()
    assert impersonate(lab) == 200
    put(accounts, {"bindings": []}).execute()
    assert impersonate(lab) == 403


def test_a_role_on_the_project_reaches_its_accounts(lab: Lab) -> None:
    member = subject_of(lab)
    policy = lab.world.google.projects[0].iam_policy
    policy.bindings.append(Binding(USER, [member], Expr(f"resource.name.endsWith('{UNBOUND}')")))
    assert impersonate(lab) == 200
    assert impersonate(lab, "ledger@acme.iam.gserviceaccount.com") == 403


def test_a_new_binding_takes_its_time_where_the_cloud_is_told_so(lab: Lab) -> None:
    slow = replace(lab.google, propagation=70)
    lab.router.add(google.sites(slow))
    accounts = client(lab, "iam.v1").projects().serviceAccounts()
    member = subject_of(lab)
    put(accounts, bound(member)).execute()
    assert impersonate(lab) == 403
    lab.clock.now += 69
    # Another change does not start the clock anew for what was there.
    put(accounts, bound(member, f"serviceAccount:{LANDING}")).execute()
    assert impersonate(lab) == 403
    lab.clock.now += 1
    assert impersonate(lab) == 200
    assert impersonate(lab, LANDING) == 200
    assert "since" not in json.dumps(lab.world.dump())


def test_a_token_of_a_boundary_reads_no_policy(lab: Lab) -> None:
    now = lab.clock.now
    narrowed = IssuedToken(ADMIN, frozenset({CLOUD_PLATFORM}), int(now) + 60, ())
    token = lab.google.tokens.issue(narrowed, now)
    url = f"https://iam.googleapis.com/v1/{NAME}:getIamPolicy"
    assert lab.call("POST", url, {}, token).status == 403
    assert lab.call("POST", url, {}, token_of(lab)).status == 200


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_project_s_policy_is_the_same_in_both_versions(lab: Lab, version: str) -> None:
    projects = client(lab, f"cloudresourcemanager.{version}").projects()
    name = "acme" if version == "v1" else "projects/acme"
    options = {"options": {"requestedPolicyVersion": 3}}
    policy = projects.getIamPolicy(resource=name, body=options).execute()
    assert policy["bindings"][0]["role"] == "roles/owner"
    audits = [
        {"service": service, "auditLogConfigs": [{"logType": "ADMIN_READ"}]}
        for service in ("sts.googleapis.com", "iam.googleapis.com")
    ]
    body = {"policy": policy | {"auditConfigs": audits}, "updateMask": "auditConfigs,etag"}
    written = projects.setIamPolicy(resource=name, body=body).execute()
    assert written["auditConfigs"] == audits
    assert written["bindings"] == policy["bindings"]
    # Unless it is named, a change of the bindings leaves the logs alone.
    body = {"policy": {"bindings": policy["bindings"], "etag": written["etag"]}}
    again = projects.setIamPolicy(resource=name, body=body).execute()
    assert again["auditConfigs"] == audits
    refused(projects.setIamPolicy(resource=name, body=body), 409, "ABORTED", "concurrent")
    assert World.parse(lab.world.dump()) == lab.world


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        # Facts of the field: its calls are logged by IAM.
        ({"service": "iamcredentials.googleapis.com"}, "are not supported"),
        ({"service": "nothing.googleapis.com"}, "are not supported"),
        ({"service": "allServices"}, "needs a log type"),
        ({"service": "allServices", "auditLogConfigs": [{}]}, "needs a log type"),
        ({"auditLogConfigs": [{"logType": "ALL"}]}, "LogType"),
    ],
)
def test_an_audit_config_out_of_form_is_refused(lab: Lab, entry: dict[str, Any], text: str) -> None:
    projects = client(lab, "cloudresourcemanager.v1").projects()
    body = {"policy": {"auditConfigs": [entry]}, "updateMask": "auditConfigs"}
    refused(projects.setIamPolicy(resource="acme", body=body), 400, INVALID, text)


@pytest.mark.parametrize(
    "role", ["roles/storage.legacyBucketReader", "roles/storage.legacyObjectOwner", "roles/nothing"]
)
def test_a_project_grants_every_role_but_a_bucket_s_own(lab: Lab, role: str) -> None:
    projects = client(lab, "cloudresourcemanager.v1").projects()

    def bind(wanted: str) -> Any:
        bindings = [
            {"role": "roles/owner", "members": ["user:admin@acme.example"]},
            {"role": wanted, "members": [SUBJECT]},
        ]
        return projects.setIamPolicy(resource="acme", body={"policy": {"bindings": bindings}})

    refused(bind(role), 400, INVALID, f"Role {role} is not supported for this resource.")
    for granted in ("roles/iam.workloadIdentityUser", "roles/storage.objectViewer", "roles/viewer"):
        assert bind(granted).execute()["bindings"][1]["role"] == granted


def test_the_last_owner_of_a_project_stays(lab: Lab) -> None:
    projects = client(lab, "cloudresourcemanager.v1").projects()
    entries = [{"role": "roles/viewer", "members": ["user:admin@acme.example"]}]
    body = {"policy": {"bindings": entries}}
    request = projects.setIamPolicy(resource="acme", body=body)
    error = refused(request, 400, "FAILED_PRECONDITION", "last owner")
    assert error["details"][0]["type"] == "SOLO_REQUIRE_TOS_ACCEPTOR"


@pytest.mark.parametrize(
    ("role", "member", "text"),
    [
        ("roles/storage.objectViewer", "allUsers", ""),
        ("roles/storage.legacyBucketOwner", "projectOwner:acme", ""),
        ("roles/owner", SUBJECT, "Role roles/owner is not supported for this resource."),
        ("roles/run.invoker", SUBJECT, "Role roles/run.invoker is not supported"),
        ("roles/storage.objectViewer", "projectOwner:nothing", "is of an unknown type"),
    ],
)
def test_a_bucket_has_roles_and_members_of_its_own(
    lab: Lab, role: str, member: str, text: str
) -> None:
    bucket = lab.world.google.buckets[0]

    def put() -> Policy:
        kind, given = Kind.BUCKET, bound(member, role=role)
        return policies.replace(lab.google, bucket, kind, given, lab.clock.now)

    if text:
        with pytest.raises(GoogleError, match=re.escape(text)):
            put()
    else:
        assert put().bindings == [Binding(role, [member])]


def test_an_owner_of_the_project_has_what_its_buckets_give_owners(lab: Lab) -> None:
    bucket = lab.world.google.buckets[0]
    target = hierarchy.bucket(lab.world.google, bucket, "o")
    wanted = ("storage.objects.get", lab.clock.now)
    assert not allows(lab.google, ADMIN, wanted[0], target, wanted[1])
    bucket.iam_policy.grant("roles/storage.legacyObjectOwner", "projectOwner:acme")
    target = hierarchy.bucket(lab.world.google, bucket, "o")
    assert allows(lab.google, ADMIN, wanted[0], target, wanted[1])
    landing = ServiceAccountPrincipal(UNBOUND, "505050505050505050505")
    assert not allows(lab.google, landing, wanted[0], target, wanted[1])
