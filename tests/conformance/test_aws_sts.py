"""AssumeRole of AWS's stand-in: who gets a session, of which role, for how long."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.conformance.aws_lab import ACCOUNT, Lab, code, element, new_lab, signed

if TYPE_CHECKING:
    from localcloud.aws import AccessKey
    from localcloud.wire.web import Response


@pytest.fixture
def lab() -> Lab:
    return new_lab()


def assume(lab: Lab, key: AccessKey, role: str = "etl", **parameters: str) -> Response:
    values = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
        "RoleSessionName": "session",
        **parameters,
    }
    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    return lab.fetch(signed(key, "/", headers=form, body=urlencode(values).encode()))


def key_of(answer: Response, like: AccessKey) -> AccessKey:
    return replace(
        like,
        id=element(answer, "AccessKeyId"),
        secret=element(answer, "SecretAccessKey"),
        token=element(answer, "SessionToken"),
    )


def test_the_new_session_signs_as_the_role(lab: Lab) -> None:
    operator = lab.accounts.user("operator")
    answer = assume(lab, operator, RoleSessionName="nightly@acme", SourceIdentity="alice")
    assert answer.status == 200
    assert element(answer, "AccessKeyId").startswith("ASIA")
    assert element(answer, "SourceIdentity") == "alice"
    identity = lab.fetch(signed(key_of(answer, operator)))
    assert element(identity, "Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/nightly@acme"
    assert element(identity, "UserId") == element(answer, "AssumedRoleId")


def test_the_session_ends_when_its_duration_is_over(lab: Lab) -> None:
    operator = lab.accounts.user("operator")
    lab.clock.skew = -900
    session = key_of(assume(lab, operator, DurationSeconds="900"), operator)
    assert lab.fetch(signed(session)).status == 200
    lab.clock.skew = 0
    assert code(lab.fetch(signed(session))) == "ExpiredToken"


def test_the_function_may_assume_its_own_role_in_a_callers_name_and_nobody_elses(lab: Lab) -> None:
    function = lab.accounts.session("tokenvend", "fn")
    answer = assume(lab, function, "tokenvend", SourceIdentity="caller.etl")
    assert element(answer, "Arn").endswith("assumed-role/tokenvend/session")
    for source in ({}, {"SourceIdentity": "etl"}, {"SourceIdentity": "Xcaller.etl"}):
        assert code(assume(lab, function, "tokenvend", **source)) == "AccessDenied"
    assert code(assume(lab, function, "etl", SourceIdentity="caller.etl")) == "AccessDenied"


def test_the_operator_cannot_assume_the_functions_role(lab: Lab) -> None:
    answer = assume(lab, lab.accounts.user("operator"), "tokenvend", SourceIdentity="caller.etl")
    assert (answer.status, code(answer)) == (403, "AccessDenied")
    text = (
        f"User: arn:aws:iam::{ACCOUNT}:user/operator is not authorized to perform: sts:AssumeRole "
        f"on resource: arn:aws:iam::{ACCOUNT}:role/tokenvend"
    )
    assert element(answer, "Message") == text


@pytest.mark.parametrize("role", ["etl", "stranger", "tokenvend"])
def test_a_callers_session_may_assume_no_role(lab: Lab, role: str) -> None:
    answer = assume(lab, lab.accounts.session("etl", "s1"), role)
    assert (answer.status, code(answer)) == (403, "AccessDenied")


def test_an_unknown_role_is_not_told_from_a_forbidden_one(lab: Lab) -> None:
    operator = lab.accounts.user("operator")
    assert code(assume(lab, operator, "nobody")) == "AccessDenied"
    assert code(assume(lab, operator, "some/path/etl")) == "AccessDenied"


def test_a_foreign_accounts_identity_may_assume_no_role_here(lab: Lab) -> None:
    foreign = lab.accounts.issue("arn:aws:iam::444455556666:role/tokenvend", "s1")
    assert element(lab.fetch(signed(foreign)), "Account") == "444455556666"
    assert code(assume(lab, foreign, "tokenvend")) == "AccessDenied"


WRONG = [
    {"RoleSessionName": "a"},
    {"RoleSessionName": "a" * 65},
    {"RoleSessionName": "with space"},
    {"RoleSessionName": "slash/ed"},
    {"RoleSessionName": "ümlaut"},
    {"RoleArn": "etl"},
    {"RoleArn": f"arn:aws:iam::{ACCOUNT}:user/operator"},
    {"DurationSeconds": "899"},
    {"DurationSeconds": "43201"},
    {"DurationSeconds": "-900"},
    {"DurationSeconds": "1e3"},
    {"DurationSeconds": "٩٠٠"},
    {"DurationSeconds": "3601"},
    {"SourceIdentity": "x"},
    {"Policy": "{}"},
]


@pytest.mark.parametrize("parameters", WRONG, ids=str)
def test_a_wrong_parameter_is_a_validation_error(lab: Lab, parameters: dict[str, str]) -> None:
    answer = assume(lab, lab.accounts.user("operator"), "etl", **parameters)
    assert (answer.status, code(answer)) == (400, "ValidationError")


def test_a_chained_session_lives_an_hour_at_most(lab: Lab) -> None:
    for name in ("tokenvend", "etl"):
        role = lab.accounts.role(name)
        assert role is not None
        role.max_session_duration = 43200
    function = lab.accounts.session("tokenvend", "fn")
    longer = {"DurationSeconds": "3601", "SourceIdentity": "caller.etl"}
    assert code(assume(lab, function, "tokenvend", **longer)) == "ValidationError"
    assert assume(lab, lab.accounts.user("operator"), "etl", **longer).status == 200


def test_a_source_identity_stays_for_the_chain(lab: Lab) -> None:
    function = lab.accounts.session("tokenvend", "fn")
    named = {"SourceIdentity": "caller.etl"}
    first = key_of(assume(lab, function, "tokenvend", **named), function)
    assert element(assume(lab, first, "tokenvend", **named), "SourceIdentity") == "caller.etl"
    other = assume(lab, first, "tokenvend", SourceIdentity="caller.mallory")
    assert code(other) == "AccessDenied"
    assert "sts:SetSourceIdentity" in element(other, "Message")


def test_a_source_identity_needs_a_permission_of_its_own(lab: Lab) -> None:
    role = lab.accounts.role("etl")
    assert role is not None
    for statement in role.assume_role_policy_document["Statement"]:
        statement["Action"] = "sts:AssumeRole"
    operator = lab.accounts.user("operator")
    assert assume(lab, operator).status == 200
    refused = assume(lab, operator, SourceIdentity="alice")
    assert "sts:SetSourceIdentity" in element(refused, "Message")
    tagged = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "data"}
    assert "sts:TagSession" in element(assume(lab, operator, **tagged), "Message")


def trusting(lab: Lab, condition: dict[str, dict[str, str]]) -> None:
    """Let the role etl trust the account under one more condition."""
    role = lab.accounts.role("etl")
    assert role is not None
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": ACCOUNT},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": condition,
    }
    role.assume_role_policy_document["Statement"] = [statement]


TAG = {"Tags.member.1.Key": "team", "Tags.member.1.Value": "data"}
CONDITIONS: list[tuple[dict[str, dict[str, str]], dict[str, str]]] = [
    ({"StringEquals": {"sts:ExternalId": "12345"}}, {"ExternalId": "12345"}),
    ({"StringLike": {"sts:RoleSessionName": "night*"}}, {"RoleSessionName": "nightly"}),
    (
        {"StringLike": {"sts:RoleSessionName": "${aws:username}-*"}},
        {"RoleSessionName": "operator-x"},
    ),
    ({"StringEquals": {"aws:RequestTag/team": "data"}}, TAG),
    ({"ForAnyValue:StringEquals": {"aws:TagKeys": "team"}}, TAG),
]


@pytest.mark.parametrize(("condition", "parameters"), CONDITIONS, ids=str)
def test_a_trust_policys_condition_is_held_against_the_request(
    lab: Lab, condition: dict[str, dict[str, str]], parameters: dict[str, str]
) -> None:
    trusting(lab, condition)
    operator = lab.accounts.user("operator")
    assert assume(lab, operator, **parameters).status == 200
    assert code(assume(lab, operator)) == "AccessDenied"


def test_a_condition_on_the_region_is_about_the_endpoint_that_was_asked(lab: Lab) -> None:
    trusting(lab, {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}})
    operator = lab.accounts.user("operator")
    query = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/etl", "RoleSessionName": "here"}
    target = f"/?Action=AssumeRole&Version=2011-06-15&{urlencode(query)}"
    host = "sts.eu-west-1.amazonaws.com"
    assert lab.fetch(signed(operator, target, host=host, region="eu-west-1")).status == 200
    assert code(lab.fetch(signed(operator, target))) == "AccessDenied"


def test_transitive_tags_go_on_and_cannot_be_overwritten(lab: Lab) -> None:
    operator = lab.accounts.user("operator")
    transitive = {**TAG, "TransitiveTagKeys.member.1": "team"}
    session = key_of(assume(lab, operator, **transitive), operator)
    held = lab.accounts.find(session.id)
    assert held is not None
    assert (held.principal.tags, held.principal.transitive) == ({"team": "data"}, ("team",))
    trusting(lab, {"StringEquals": {"aws:PrincipalTag/team": "data"}})
    role = lab.accounts.role("etl")
    assert role is not None
    allow = {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}
    role.policies[0].policy_document["Statement"].append(allow)
    assert assume(lab, session).status == 200
    assert code(assume(lab, session, **TAG)) == "InvalidParameterValue"
    assert code(assume(lab, lab.accounts.session("etl", "untagged"))) == "AccessDenied"


@pytest.mark.parametrize("key", ["aws:PrincipalTag", "AWS:x"])
def test_no_session_tag_imitates_one_of_awss_own(lab: Lab, key: str) -> None:
    tags = {"Tags.member.1.Key": key, "Tags.member.1.Value": "data"}
    answer = assume(lab, lab.accounts.user("operator"), **tags)
    assert (answer.status, code(answer)) == (400, "InvalidParameterValue")


def test_an_identitys_own_tags_count_until_the_session_brings_another_value(lab: Lab) -> None:
    operator, role = lab.accounts.user("operator"), lab.accounts.role("etl")
    user = lab.accounts.aws.user("operator")
    assert role is not None
    assert user is not None
    trusting(lab, {"StringEquals": {"aws:PrincipalTag/team": "data"}})
    allow = {"Effect": "Allow", "Action": "sts:*", "Resource": "*"}
    role.policies[0].policy_document["Statement"].append(allow)
    assert code(assume(lab, operator)) == "AccessDenied"
    user.tags = {"Team": "data"}
    assert assume(lab, operator).status == 200
    role.tags = {"team": "data"}
    assert assume(lab, lab.accounts.session("etl", "s")).status == 200
    arn = f"arn:aws:iam::{ACCOUNT}:role/etl"
    other = lab.accounts.issue(arn, "s", tags={"TEAM": "other"})
    assert code(assume(lab, other)) == "AccessDenied"


def test_a_user_gets_a_session_token_that_signs_as_the_user(lab: Lab) -> None:
    operator = lab.accounts.user("operator")
    target = "/?Action=GetSessionToken&Version=2011-06-15&DurationSeconds=900"
    session = key_of(lab.fetch(signed(operator, target)), operator)
    identity = lab.fetch(signed(session))
    assert element(identity, "Arn") == f"arn:aws:iam::{ACCOUNT}:user/operator"
    assert assume(lab, session).status == 200
    again = lab.fetch(signed(session, target))
    assert (again.status, code(again)) == (403, "AccessDenied")


def test_outbound_federation_is_off_as_in_a_new_account(lab: Lab) -> None:
    target = "/?Action=GetWebIdentityToken&Version=2011-06-15"
    answer = lab.fetch(signed(lab.accounts.user("operator"), target))
    expected = "OutboundWebIdentityFederationDisabledException"
    assert (answer.status, code(answer)) == (403, expected)


def test_every_answer_carries_its_request_id(lab: Lab) -> None:
    for answer in (
        assume(lab, lab.accounts.user("operator")),
        assume(lab, lab.accounts.session("etl", "s1")),
    ):
        named = dict(answer.headers)["x-amzn-RequestId"]
        assert re.search(f"<RequestId>{named}</RequestId>", answer.body.decode())
