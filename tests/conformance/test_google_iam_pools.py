"""Workload identity pools and providers, by Google's own client as the owner of the project."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.google.core.principals import FederatedPrincipal, UserPrincipal
from localcloud.world import User, World
from tests.conformance.google_admin import client, refused, token_of
from tests.conformance.google_lab import AWS_PROVIDER, POOL, Lab, aws_token

HOME = "projects/123456789012/locations/global"
DAY = 24 * 3600
AWS = {"aws": {"accountId": "111122223333"}}
OIDC = {
    "oidc": {"issuerUri": "https://issuer.example"},
    "attributeMapping": {"google.subject": "assertion.sub"},
}
JWK = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k", "e": "AQAB"}
INVALID = "INVALID_ARGUMENT"


@pytest.fixture
def pools(lab: Lab) -> Any:
    return client(lab, "iam.v1").projects().locations().workloadIdentityPools()


def make(pools: Any, name: str = "fresh", **body: Any) -> dict[str, Any]:
    parent = "projects/acme/locations/global"
    request = pools.create(parent=parent, workloadIdentityPoolId=name, body=body)
    operation: dict[str, Any] = request.execute()
    return operation


def add(pools: Any, body: dict[str, Any], name: str = "other", pool: str = POOL) -> Any:
    return pools.providers().create(parent=pool, workloadIdentityPoolProviderId=name, body=body)


def test_a_pool_is_made_changed_deleted_and_brought_back(lab: Lab, pools: Any) -> None:
    operation = make(pools, displayName="Fresh", description="new", disabled=False)
    kind = "type.googleapis.com/google.iam.v1.WorkloadIdentityPool"
    name = f"{HOME}/workloadIdentityPools/fresh"
    fresh = {"name": name, "displayName": "Fresh", "description": "new", "state": "ACTIVE"}
    assert operation["done"] is True
    assert operation["response"] == {"@type": kind, **fresh}
    assert pools.operations().get(name=operation["name"]).execute() == operation
    by_id = operation["name"].replace("123456789012", "acme")
    assert pools.operations().get(name=by_id).execute() == operation
    # gcloud sends the whole pool with a mask: what is not masked stays.
    changes = {"displayName": "Changed", "disabled": True, "description": "other"}
    pools.patch(name=name, updateMask="displayName,description", body=changes).execute()
    changed = fresh | {"displayName": "Changed", "description": "other"}
    assert pools.get(name=name).execute() == changed
    pools.patch(name=name, updateMask="description,disabled", body={"disabled": True}).execute()
    changed = {"name": name, "displayName": "Changed", "state": "ACTIVE", "disabled": True}
    assert pools.get(name=name).execute() == changed
    pools.delete(name=name).execute()
    deleted = pools.get(name=name).execute()
    assert deleted["state"] == "DELETED"
    pools.undelete(name=name, body={}).execute()
    assert pools.get(name=name).execute() == changed
    assert World.parse(lab.world.dump()) == lab.world


def test_pools_are_listed_in_pages(lab: Lab, pools: Any) -> None:
    for number in range(5):
        make(pools, f"pool-{number}")
    pools.delete(name=f"{HOME}/workloadIdentityPools/pool-3").execute()
    names, token = [], None
    while True:
        arguments: dict[str, Any] = {"parent": HOME, "pageSize": 2, "pageToken": token}
        page = pools.list(**arguments).execute()
        assert len(page["workloadIdentityPools"]) <= 2
        names += [pool["name"].rpartition("/")[2] for pool in page["workloadIdentityPools"]]
        token = page.get("nextPageToken")
        if token is None:
            break
    assert names == ["pool-0", "pool-1", "pool-2", "pool-4", "tokenvend"]
    every = pools.list(parent=HOME, showDeleted=True).execute()["workloadIdentityPools"]
    assert [pool["state"] for pool in every].count("DELETED") == 1
    # gcloud's spelling.
    url = f"https://iam.googleapis.com/v1/{HOME}/workloadIdentityPools"
    for shown, count in (("False", 5), ("True", 6)):
        answer = lab.call("GET", f"{url}?showDeleted={shown}", token=token_of(lab))
        assert len(json.loads(answer.body)["workloadIdentityPools"]) == count
    token = pools.list(parent=HOME, pageSize=1).execute()["nextPageToken"]
    other = pools.list(parent=HOME, pageSize=1, pageToken=token, showDeleted=True)
    refused(other, 400, INVALID, "Request contains an invalid argument.")
    # The second is too long for a line: the client sends it in the body of a POST.
    for nonsense in ("x", "x" * 3000):
        refused(pools.list(parent=HOME, pageToken=nonsense), 400, INVALID, "invalid argument")
    refused(pools.list(parent=HOME, pageSize=-1), 400, INVALID, "non-negative")


def test_a_deleted_name_is_taken_for_thirty_days_and_then_free(lab: Lab, pools: Any) -> None:
    name = f"{HOME}/workloadIdentityPools/fresh"
    make(pools)
    pools.delete(name=name).execute()
    lab.clock.now += 30 * DAY - 60
    again = client(lab, "iam.v1").projects().locations().workloadIdentityPools()
    request = again.create(parent=HOME, workloadIdentityPoolId="fresh", body={})
    refused(request, 409, "ALREADY_EXISTS", "Requested entity already exists")
    lab.clock.now += 120
    assert make(again)["response"]["state"] == "ACTIVE"
    again.delete(name=name).execute()
    lab.clock.now += 30 * DAY
    gone = client(lab, "iam.v1").projects().locations().workloadIdentityPools()
    refused(gone.get(name=name), 404, "NOT_FOUND", "Requested entity was not found.")


def test_a_deleted_pool_ends_its_tokens_and_a_deleted_provider_new_exchanges(
    lab: Lab, pools: Any
) -> None:
    token = lab.federated()
    pools.providers().delete(name=AWS_PROVIDER).execute()
    answer = lab.exchange_aws(aws_token(lab.key()))
    assert json.loads(answer.body)["error"] == "invalid_target"
    assert live(lab, token)
    pools.providers().undelete(name=AWS_PROVIDER, body={}).execute()
    assert lab.exchange_aws(aws_token(lab.key())).status == 200
    pools.delete(name=POOL).execute()
    assert not live(lab, token)
    assert lab.exchange_aws(aws_token(lab.key())).status == 400
    pools.undelete(name=POOL, body={}).execute()
    assert live(lab, token)


def live(lab: Lab, token: str) -> bool:
    form, kind = f"token={token}".encode(), "application/x-www-form-urlencoded"
    url = "https://sts.googleapis.com/v1/introspect"
    answer = lab.call("POST", url, form, token, Content_Type=kind)
    active: bool = json.loads(answer.body)["active"]
    return active


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        ("abc", {}, "4-32 characters"),
        ("a" * 33, {}, "4-32 characters"),
        ("Fresh", {}, "[a-z0-9-]"),
        ("gcp-fresh", {}, "reserved"),
        ("", {}, "4-32 characters"),
        ("fresh", {"displayName": "x" * 33}, "display name must be less than or equal to 32"),
        ("fresh", {"description": "x" * 257}, "description must be less than or equal to 256"),
        ("fresh", {"disabled": "maybe"}, "Invalid value at 'workload_identity_pool.disabled'"),
        ("fresh", {"colour": "red"}, "Unknown name \"colour\" at 'workload_identity_pool'"),
    ],
)
def test_a_pool_out_of_form_is_refused(pools: Any, name: str, body: Any, text: str) -> None:
    request = pools.create(parent=HOME, workloadIdentityPoolId=name, body=body)
    refused(request, 400, INVALID, text)


def test_a_pool_is_refused_where_it_cannot_be(lab: Lab, pools: Any) -> None:
    request = pools.create(parent=HOME, workloadIdentityPoolId="tokenvend", body={})
    refused(request, 409, "ALREADY_EXISTS", "Requested entity already exists")
    elsewhere = HOME.replace("global", "europe-west1")
    request = pools.create(parent=elsewhere, workloadIdentityPoolId="fresh", body={})
    refused(request, 400, INVALID, "")
    request = pools.create(
        parent="projects/nowhere/locations/global", workloadIdentityPoolId="fresh", body={}
    )
    text = (
        "Permission 'iam.workloadIdentityPools.create' denied on resource "
        "'//iam.googleapis.com/projects/nowhere/locations/global' (or it may not exist)."
    )
    refused(request, 403, "PERMISSION_DENIED", text)
    absent = f"{HOME}/workloadIdentityPools/absent"
    refused(pools.get(name=absent), 404, "NOT_FOUND", "Requested entity was not found.")
    refused(pools.delete(name=absent), 404, "NOT_FOUND", "not found")
    refused(pools.undelete(name=POOL, body={}), 400, "FAILED_PRECONDITION", "Precondition check")
    refused(pools.patch(name=POOL, updateMask="", body={}), 400, INVALID, "")
    refused(pools.patch(name=POOL, updateMask="state", body={}), 400, INVALID, "mask path: state")
    inside = pools.patch(name=POOL, updateMask="displayName.x", body={"displayName": "y"})
    refused(inside, 400, INVALID, "mask path: display_name.x")
    pools.delete(name=POOL).execute()
    refused(pools.delete(name=POOL), 404, "NOT_FOUND", "")
    patch = pools.patch(name=POOL, updateMask="disabled", body={"disabled": True})
    refused(patch, 404, "NOT_FOUND", "")
    refused(add(pools, AWS), 404, "NOT_FOUND", "")
    body = {"mode": "TRUST_DOMAIN"}
    request = pools.create(parent=HOME, workloadIdentityPoolId="fresh", body=body)
    refused(request, 405, "UNIMPLEMENTED", "FEDERATION_ONLY")


@pytest.mark.parametrize(
    "body",
    [
        AWS,
        OIDC,
        AWS | {"attributeMapping": {"google.subject": "assertion.arn"}},
        OIDC | {"displayName": "x" * 32, "description": "x" * 256, "disabled": True},
        OIDC | {"attributeCondition": "assertion.sub != '' && attribute.a == google.subject"},
        OIDC | {"attributeMapping": {"google.subject": "assertion.sub", "google.groups": "['a']"}},
        {**OIDC, "oidc": {"issuerUri": "https://i.example/x/", "allowedAudiences": ["a"] * 10}},
    ],
)
def test_a_provider_is_made_and_read_back(pools: Any, body: dict[str, Any]) -> None:
    made = add(pools, body).execute()
    name = f"{POOL}/providers/other"
    kind = "type.googleapis.com/google.iam.v1.WorkloadIdentityPoolProvider"
    assert made["response"] == {"@type": kind, "name": name, "state": "ACTIVE", **body}
    assert pools.providers().operations().get(name=made["name"]).execute() == made
    assert pools.providers().get(name=name).execute() == {"name": name, "state": "ACTIVE", **body}
    listed = pools.providers().list(parent=POOL).execute()["workloadIdentityPoolProviders"]
    assert [entry["name"].rpartition("/")[2] for entry in listed] == [
        "aws-prod",
        "azure-prod",
        "other",
    ]


def test_a_provider_s_mask_reaches_single_fields(pools: Any) -> None:
    body = {**OIDC, "oidc": {"issuerUri": "https://i.example", "allowedAudiences": ["a", "b"]}}
    add(pools, body).execute()
    name = f"{POOL}/providers/other"

    def patched(mask: str, **changes: Any) -> dict[str, Any]:
        pools.providers().patch(name=name, updateMask=mask, body=changes).execute()
        found: dict[str, Any] = pools.providers().get(name=name).execute()
        return found

    found = patched("oidc.allowedAudiences", oidc={"allowedAudiences": ["c"]}, disabled=True)
    assert found["oidc"] == {"issuerUri": "https://i.example", "allowedAudiences": ["c"]}
    assert "disabled" not in found
    found = patched("oidc.allowed_audiences", oidc={"issuerUri": "https://other.example"})
    assert found["oidc"] == {"issuerUri": "https://i.example"}
    mapping = {"google.subject": "assertion.sub", "attribute.a": "assertion.a"}
    assert patched("attributeMapping", attributeMapping=mapping)["attributeMapping"] == mapping
    one = {"attribute.a": "assertion.b"}
    found = patched("attributeMapping.attribute.a", attributeMapping=one)
    assert found["attributeMapping"] == mapping | one
    patch = pools.providers().patch
    refused(patch(name=name, updateMask="attributeMapping", body={}), 400, INVALID, "subject")
    refused(patch(name=name, updateMask="oidc.issuerUri", body={}), 400, INVALID, "issuer_uri")
    refused(patch(name=name, updateMask="aws,oidc", body=AWS), 400, INVALID, "type of a provider")
    refused(patch(name=name, updateMask="aws", body=AWS), 400, INVALID, "Exactly one of")
    for mask in ("oidc.nothing", "oidc.issuerUri.x", "attributeCondition.x"):
        refused(patch(name=name, updateMask=mask, body=body), 400, INVALID, "mask path")


def mapped(**mapping: str) -> dict[str, Any]:
    """The provider with more attributes; two underscores stand for the dot."""
    more = {name.replace("__", "."): expression for name, expression in mapping.items()}
    return OIDC | {"attributeMapping": {"google.subject": "assertion.sub"} | more}


def issued(**oidc: Any) -> dict[str, Any]:
    return {**OIDC, "oidc": {**OIDC["oidc"], **oidc}}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Exactly one of"),
        (AWS | OIDC, "Exactly one of"),
        ({"aws": {"accountId": "1234"}}, "12-digit"),
        ({"aws": {}}, "12-digit"),
        (OIDC | {"oidc": {}}, "issuer_uri is required"),
        (AWS | {"attributeMapping": {"attribute.a": "assertion.arn"}}, "google.subject"),
        ({"oidc": OIDC["oidc"]}, "google.subject"),
        (issued(issuerUri=""), "issuer_uri is required"),
        (issued(issuerUri="http://i.example"), "HTTPS"),
        (issued(issuerUri="https://"), "HTTPS"),
        (issued(issuerUri="https://i.example?a=b"), "query"),
        (issued(issuerUri="https://u@i.example"), "user"),
        (issued(allowedAudiences=["a"] * 11), "At most 10"),
        (issued(allowedAudiences=["a" * 257]), "256"),
        (issued(allowedAudiences=[""]), "1 to 256"),
        (issued(jwksJson="{"), "JWKS is not valid"),
        (issued(jwksJson="{}"), "JWKS is not valid"),
        (issued(jwksJson='{"keys": []}'), "'keys'"),
        (issued(jwksJson=json.dumps({"keys": [JWK | {"n": "AQAB", "x5c": []}]})), "x5c"),
        (issued(jwksJson=json.dumps({"keys": [JWK | {"kty": "oct"}]})), "RSA or EC"),
        (issued(jwksJson=json.dumps({"keys": [JWK | {"kid": ""}]})), "kid"),
        (issued(jwksJson=json.dumps({"keys": [JWK]})), "JWKS is not valid"),
        (mapped(assertion__aud="assertion.aud"), "Invalid mapped attribute key: assertion.aud."),
        (mapped(attribute__A="assertion.a"), "must be in format 'attribute.{custom_attribute}'"),
        (mapped(attribute__a="assertion."), "Could not compile the attribute mapping of attribute"),
        (mapped(attribute__a="claims.a"), "undeclared reference to 'claims.a'"),
        (mapped(attribute__a="google.subject"), "undeclared reference to 'google"),
        (mapped(attribute__a="1 + 1"), "expected a string, found INT"),
        (mapped(attribute__a="'" + "a" * 2047 + "'"), "2048 characters"),
        (mapped(google__groups="1"), "expected a string or a list of strings"),
        (mapped(**{f"attribute__a{n}": "assertion.a" for n in range(51)}), "At most 50"),
        (OIDC | {"attributeCondition": "assertion.sub"[:-3] + "=="}, "Could not compile"),
        (OIDC | {"attributeCondition": "'yes'"}, "expected a boolean, found STRING"),
        (OIDC | {"attributeCondition": "true || " * 512 + "true"}, "4096 characters"),
        (OIDC | {"displayName": "x" * 33}, "display name"),
        (
            issued(issuerUri="https://token.actions.githubusercontent.com"),
            "The attribute condition must reference one of the provider's claims.",
        ),
    ],
)
def test_a_provider_out_of_form_is_refused(pools: Any, body: dict[str, Any], text: str) -> None:
    refused(add(pools, body), 400, INVALID, text)
    listed = pools.providers().list(parent=POOL).execute()["workloadIdentityPoolProviders"]
    assert len(listed) == 2


@pytest.mark.parametrize("body", [{"saml": {}}, {"x509": {}}, issued(discoveryUri="https://x/y")])
def test_providers_that_are_not_served_are_said_so(pools: Any, body: dict[str, Any]) -> None:
    refused(add(pools, body), 405, "UNIMPLEMENTED", "The embedded cloud serves no")


def test_a_new_provider_takes_part_at_once(lab: Lab, pools: Any) -> None:
    make(pools)
    pool = f"{HOME}/workloadIdentityPools/fresh"
    add(pools, AWS, "aws-other", pool).execute()
    name = f"{pool}/providers/aws-other"
    credential = aws_token(lab.key(), name)
    answer = lab.exchange_aws(credential, audience=f"//iam.googleapis.com/{name}")
    assert answer.status == 200
    found = lab.log.entries[-1].metadata["mapped_principal"]
    assert found.startswith(f"principal://iam.googleapis.com/{pool}/subject/arn:aws:sts::")


@pytest.mark.parametrize(
    ("role", "reads", "writes"),
    [
        ("roles/iam.workloadIdentityPoolAdmin", True, True),
        ("roles/iam.workloadIdentityPoolViewer", True, False),
        ("roles/viewer", True, False),
        ("roles/editor", True, False),
        ("roles/iam.serviceAccountAdmin", False, False),
        (None, False, False),
    ],
)
def test_pools_need_their_permissions(
    lab: Lab, role: str | None, *, reads: bool, writes: bool
) -> None:
    lab.world.google.users.append(User("dev@acme.example"))
    if role is not None:
        lab.world.google.projects[0].iam_policy.grant(role, "user:dev@acme.example")
    api = client(lab, "iam.v1", UserPrincipal("dev@acme.example"))
    pools = api.projects().locations().workloadIdentityPools()
    providers = pools.providers()
    for permitted, requests in (
        (reads, [pools.list(parent=HOME), pools.get(name=POOL), providers.get(name=AWS_PROVIDER)]),
        (
            writes,
            [
                pools.create(parent=HOME, workloadIdentityPoolId="fresh", body={}),
                pools.patch(name=POOL, updateMask="description", body={"description": "x"}),
                add(pools, OIDC),
                providers.patch(name=AWS_PROVIDER, updateMask="description", body={}),
                providers.delete(name=AWS_PROVIDER),
                providers.undelete(name=AWS_PROVIDER, body={}),
                pools.delete(name=POOL),
                pools.undelete(name=POOL, body={}),
            ],
        ),
    ):
        for request in requests:
            if permitted:
                assert request.execute()
            else:
                error = refused(request, 403, "PERMISSION_DENIED", "denied on resource '//iam.")
                assert error["details"][0]["reason"] == "IAM_PERMISSION_DENIED"


def test_a_federated_identity_manages_nothing_unless_it_was_bound(lab: Lab) -> None:
    who = FederatedPrincipal(POOL, "s")
    api = client(lab, "iam.v1", who)
    request = api.projects().locations().workloadIdentityPools().get(name=POOL)
    refused(request, 403, "PERMISSION_DENIED", "iam.workloadIdentityPools.get")
    policy = lab.world.google.projects[0].iam_policy
    policy.grant("roles/iam.workloadIdentityPoolViewer", who.identifier)
    assert request.execute()["name"] == POOL
