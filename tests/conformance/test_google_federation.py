"""Attribute mappings, principals and the audit trail; the vectors of Google's own pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.google.core.cel import Resource, condition_holds, evaluate_string, extract, holds
from localcloud.google.core.errors import OAuthError
from localcloud.google.sts.aws_identity import verify
from localcloud.wire.web import Request, Response
from localcloud.world import Expr
from tests.conformance.google_lab import (
    AWS_PROVIDER,
    INVOKER,
    LANDING,
    POOL,
    READ_WRITE,
    UNBOUND,
    Lab,
    as_token,
    aws_token,
)

OBJECT = (
    "projects/_/buckets/acme-orders-aaa/objects/data_lake/orders/order_date=2019-11-03/aef87g87"
)
ARN = "arn:aws:sts::123456789012:assumed-role/ec2-my-role/i-00000000000000000"
VALUES: dict[str, Any] = {
    "assertion": {"arn": ARN, "account": "123456789012", "sub": "x", "email": "a@b.c", "n": 3},
    "google": {"subject": "s", "groups": ["devs", "admins"]},
    "attribute": {"aws_role": "ec2-my-role"},
}


# https://cloud.google.com/iam/docs/conditions-attribute-reference#extract
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("/order_date={date}/", "2019-11-03"),
        ("buckets/{name}/", "acme-orders-aaa"),
        ("/orders/{empty}order_date", ""),
        ("{start}/objects/data_lake", "projects/_/buckets/acme-orders-aaa"),
        ("orders/{end}", "order_date=2019-11-03/aef87g87"),
        ("{all}", OBJECT),
        ("/orders/{none}/order_date=", ""),
        ("absent/{none}", ""),
    ],
)
def test_extract_answers_as_google_documents(template: str, expected: str) -> None:
    assert extract(OBJECT, template) == expected


@pytest.mark.parametrize("template", ["", "no name", "{a}{b}", "{}", "{a", "a}"])
def test_extract_refuses_a_template_without_exactly_one_name(template: str) -> None:
    with pytest.raises(ValueError, match="template"):
        extract(OBJECT, template)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("assertion.arn.extract('assumed-role/{role}/')", "ec2-my-role"),
        ("assertion.arn.extract('role/{rest}').extract('/{s}')", "i-00000000000000000"),
        ("assertion.email.split('@')[0]", "a"),
        ("{'x': 'Workload1'}[assertion.sub]", "Workload1"),
        ("assertion.absent", None),
        ("assertion.n", None),
        ("assertion.arn +", None),
        ("assertion.arn.nope()", None),
    ],
)
def test_mapping_gives_a_string_or_nothing(expression: str, expected: str | None) -> None:
    assert evaluate_string(expression, VALUES) == expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("'admins' in google.groups", True),
        ("attribute.aws_role == 'ec2-my-role'", True),
        ("assertion.absent == 'x' || true", True),
        ("has(assertion.email) && !has(assertion.absent)", True),
        ("false", False),
        # Errors and other types are truthy in Python, and must not be true here.
        ("assertion.absent", False),
        ("assertion.absent == 'x'", False),
        ("assertion.arn", False),
        ("'true'", False),
        ("1", False),
        ("true ||", False),
        ("assertion.arn.extract('bad') == ''", False),
    ],
)
def test_condition_holds_only_when_it_is_the_boolean_true(
    condition: str, *, expected: bool
) -> None:
    assert holds(condition, VALUES) is expected


def test_conditions_see_resource_time_and_api_attributes() -> None:
    resource = Resource(OBJECT, "storage.googleapis.com/Object", "storage.googleapis.com")
    key = "storage.googleapis.com/objectListPrefix"
    listing = f"api.getAttribute('{key}', '').startsWith('data/')"
    assert condition_holds(f"resource.name == '{OBJECT}'", resource, 0)
    assert condition_holds("request.time < timestamp('1970-01-02T00:00:00Z')", resource, 0)
    assert not condition_holds("request.time < timestamp('1970-01-02T00:00:00Z')", resource, 1e6)
    assert condition_holds(listing, resource, 0, {key: "data/x"})
    assert not condition_holds(listing, resource, 0)


def test_default_aws_mapping_names_the_role_without_its_session(lab: Lab) -> None:
    lab.aws_provider.attribute_mapping = {}
    role = "arn:aws:sts::111122223333:assumed-role/tokenvend"
    account = lab.world.google.service_account(UNBOUND)
    assert account is not None
    member = f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/{role}"
    account.iam_policy.grant("roles/iam.workloadIdentityUser", member)
    answer = lab.credentials(
        UNBOUND, "generateAccessToken", {"scope": [READ_WRITE]}, lab.federated()
    )
    assert answer.status == 200


def test_mapped_groups_are_bindable(lab: Lab) -> None:
    lab.azure_provider.attribute_mapping["google.groups"] = "assertion.groups"
    account = lab.world.google.service_account(UNBOUND)
    assert account is not None
    member = f"principalSet://iam.googleapis.com/{POOL}/group/admins"
    account.iam_policy.grant("roles/iam.workloadIdentityUser", member)
    token = json.loads(lab.exchange_jwt(lab.jwt(groups=["devs", "admins"])).body)["access_token"]
    message = {"scope": [READ_WRITE]}
    assert lab.credentials(UNBOUND, "generateAccessToken", message, token).status == 200


@pytest.mark.parametrize(
    ("mapping", "condition"),
    [
        ({"google.subject": "assertion.arn" + " " * 2048}, ""),
        ({"google.subject": "'s'"}, "true || " + "true || " * 600 + "true"),
        ({"google.subject": "'s'"} | {f"attribute.a{n}": "'x'" for n in range(51)}, ""),
        ({"google.subject": "'s'", "attribute.UPPER": "'x'"}, ""),
        ({"google.subject": "'s'", "attribute.big": f"'{'x' * 2000}'.replace('x', 'xxxxx')"}, ""),
    ],
)
def test_mapping_beyond_the_documented_limits_is_refused(
    lab: Lab, mapping: dict[str, str], condition: str
) -> None:
    lab.aws_provider.attribute_mapping = mapping
    lab.aws_provider.attribute_condition = condition
    assert json.loads(lab.exchange_aws(aws_token(lab.key())).body)["error"] == "invalid_request"


def test_binding_with_a_condition_holds_only_while_the_condition_does(lab: Lab) -> None:
    account = lab.world.google.service_account(INVOKER)
    assert account is not None
    binding, message = account.iam_policy.bindings[0], {"scope": [READ_WRITE]}
    for expression, status in (("true", 200), ("false", 403), ("nonsense(", 403)):
        binding.condition = Expr(expression)
        answer = lab.credentials(INVOKER, "generateAccessToken", message, lab.federated())
        assert answer.status == status


AWS_OK = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{arn}</Arn><UserId>u</UserId>"
    "<Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)


@pytest.mark.parametrize(
    "answer",
    [
        Response(302, b"", (("Location", "https://evil.example"),)),
        Response(200, b""),
        Response(200, b"{}"),
        Response(200, b"junk" + AWS_OK.format(arn="a").encode()),
        Response(200, AWS_OK.format(arn="").encode()),
        Response(200, AWS_OK.format(arn="a</Arn><Arn>b").encode()),
        Response(200, b'<!DOCTYPE x [<!ENTITY a "b">]>' + AWS_OK.format(arn="&a;").encode()),
        Response(200, AWS_OK.format(arn="a").encode() + b" " * 70_000),
        Response(500, b"<html>"),
    ],
)
def test_answer_of_aws_that_cannot_be_trusted_is_refused(lab: Lab, answer: Response) -> None:
    asked: list[Request] = []

    def fetch(request: Request) -> Response:
        asked.append(request)
        return answer

    with pytest.raises(OAuthError) as refusal:
        verify(aws_token(lab.key()), AWS_PROVIDER, "1", fetch)
    assert refusal.value.error == "invalid_grant"
    assert refusal.value.description.startswith("Received invalid AWS response")
    assert [request.host for request in asked] == ["sts.us-east-1.amazonaws.com"]


def test_oversized_or_nested_subject_token_is_refused_before_any_call(lab: Lab) -> None:
    for token in ("x" * 70_000, "[" * 60_000, as_token({"url": "x"})):
        answer = lab.exchange_aws(token)
        assert json.loads(answer.body)["error"] == "invalid_request"


def test_audit_entries_lead_from_the_storage_call_to_the_caller(lab: Lab) -> None:
    federated = lab.federated()
    answer = lab.credentials(LANDING, "generateAccessToken", {"scope": [READ_WRITE]}, federated)
    token = json.loads(answer.body)["accessToken"]
    url = "https://storage.googleapis.com/storage/v1/b/acme-landing/o"
    lab.call("GET", url, token=token)
    subject = f"principal://iam.googleapis.com/{POOL}/subject/aws::111122223333::tokenvend"
    exchange, minted, listed = (entry.as_dict()["protoPayload"] for entry in lab.log.entries)
    assert exchange["methodName"].endswith(".ExchangeToken")
    assert exchange["authenticationInfo"]["principalSubject"].endswith(":assumed-role/tokenvend/f")
    assert exchange["metadata"]["mapped_principal"] == subject
    assert minted["methodName"] == "GenerateAccessToken"
    assert minted["authenticationInfo"] == {"principalSubject": subject}
    assert lab.log.entries[1].labels["email_id"] == LANDING
    assert listed["authenticationInfo"]["principalEmail"] == LANDING
    assert listed["authenticationInfo"]["serviceAccountDelegationInfo"] == [
        {"principalSubject": subject}
    ]
    written = json.dumps([entry.as_dict() for entry in lab.log.entries])
    assert federated not in written
    assert token not in written


def test_request_reason_reaches_the_audit_entry_of_a_denial(lab: Lab) -> None:
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{UNBOUND}"
    fields = {"X_Goog_Request_Reason": "request 42"}
    lab.call("POST", f"{url}:generateIdToken", {"audience": "x"}, lab.federated(), **fields)
    entry = lab.log.entries[-1]
    assert (entry.method_name, entry.status) == ("GenerateIdToken", 403)
    assert entry.request_reason == "request 42"
