"""IAM of the embedded cloud against what AWS documents: matching, conditions, evaluation.

Tables are from the IAM User Guide: "Policy evaluation logic", "Condition operators", "Multivalued
context keys", "Variables and tags", "Principal".
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.aws import iam
from localcloud.aws.iam import Asked, Kind, Requester

ACCOUNT, OTHER = "111122223333", "444455556666"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/etl"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/nightly"
WHO = Requester(Kind.AWS, (ROLE, SESSION), ACCOUNT)
FOREIGN = Requester(Kind.AWS, (f"arn:aws:iam::{OTHER}:role/etl",), OTHER)
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:vend"
INVOKE = "lambda:InvokeFunction"


def policy(*statements: dict[str, Any], resource: bool = False, trust: bool = False) -> iam.Policy:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    return iam.read(document, "policy", resource=resource, trust=trust)


def allow(action: Any = INVOKE, resource: Any = FUNCTION, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any = INVOKE, resource: Any = FUNCTION, **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def asked(
    action: str = INVOKE, resource: str = FUNCTION, who: Requester = WHO, **context: Any
) -> Asked:
    keys = {k.replace("__", ":").replace("_", "/").lower(): v for k, v in context.items()}
    return Asked(who, action, resource, keys)


def decide(question: Asked, *statements: dict[str, Any]) -> bool:
    """By the identity's policy alone."""
    return iam.evaluate(question, identity=[policy(*statements)], account=ACCOUNT).allowed


# --- actions and resources ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (INVOKE, True),
        ("lambda:invokefunction", True),
        ("lambda:Invoke*", True),
        ("lambda:InvokeFunctio?", True),
        ("*", True),
        ("lambda:*", True),
        ("lambda:InvokeFunctionUrl", False),
        ("lambda:InvokeFunctio", False),
        ("lambda:?nvokeFunctio", False),
        ("s3:*", False),
        (["s3:*", INVOKE], True),
    ],
)
def test_an_action_is_matched_whole_and_in_any_case(action: Any, allowed: bool) -> None:
    assert decide(asked(), allow(action)) is allowed


@pytest.mark.parametrize(
    ("resource", "given", "allowed"),
    [
        (FUNCTION, FUNCTION, True),
        (FUNCTION, f"{FUNCTION}:etl", False),
        (f"{FUNCTION}:etl", FUNCTION, False),
        (f"{FUNCTION}:*", f"{FUNCTION}:etl", True),
        (f"{FUNCTION}:*", FUNCTION, False),
        (FUNCTION.replace("vend", "Vend"), FUNCTION, False),
        ("arn:aws:lambda:*:*:function:vend", FUNCTION, True),
        # A wildcard that ends its segment reaches beyond it, one inside does not.
        ("arn:aws:lambda:*", FUNCTION, True),
        ("arn:aws:lambda:u*3:function:vend", FUNCTION, False),
        (
            "arn:aws:execute-api:*:*:abc/*/POST/v1/*",
            "arn:aws:execute-api:r:1:abc/p/POST/v1/x",
            True,
        ),
        (
            "arn:aws:execute-api:*:*:abc/*/POST/v1/*",
            "arn:aws:execute-api:r:1:abc/p/GET/v1/x",
            False,
        ),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a/b", True),
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket", False),
        ("*", "anything", True),
    ],
)
def test_a_resource_is_matched_by_its_segments(resource: str, given: str, allowed: bool) -> None:
    assert decide(asked(resource=given), allow(resource=resource)) is allowed


def test_negated_elements_turn_the_match_round() -> None:
    statement = {"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{FUNCTION}:secret"}
    assert decide(asked(), statement)
    assert not decide(asked("iam:PassRole"), statement)
    assert not decide(asked(resource=f"{FUNCTION}:secret"), statement)


# --- variables ----------------------------------------------------------------------------------


def test_a_variable_stands_for_the_request_and_never_for_a_wildcard() -> None:
    home = allow("s3:GetObject", "arn:aws:s3:::home/${aws:username}/*")
    mine = "arn:aws:s3:::home/ann/a"
    assert decide(asked("s3:GetObject", mine, aws__username=("ann",)), home)
    assert not decide(asked("s3:GetObject", mine, aws__username=("bob",)), home)
    # Somebody who is named * must not read everybody's.
    assert not decide(asked("s3:GetObject", mine, aws__username=("*",)), home)
    # A role has no user name: the statement says nothing of it.
    assert not decide(asked("s3:GetObject", mine), home)


def test_a_variable_may_have_a_default_and_wildcards_can_be_literal() -> None:
    team = allow("s3:GetObject", "arn:aws:s3:::${aws:PrincipalTag/team, 'any'}/x")
    assert decide(asked("s3:GetObject", "arn:aws:s3:::any/x"), team)
    star = allow("s3:GetObject", "arn:aws:s3:::b/${*}")
    assert decide(asked("s3:GetObject", "arn:aws:s3:::b/*"), star)
    assert not decide(asked("s3:GetObject", "arn:aws:s3:::b/a"), star)


def test_before_version_2012_10_17_a_variable_is_plain_text() -> None:
    document = {"Statement": allow("s3:GetObject", "arn:aws:s3:::home/${aws:username}")}
    old = iam.read(document, "old")
    given = asked("s3:GetObject", "arn:aws:s3:::home/ann", aws__username=("ann",))
    assert not iam.evaluate(given, identity=[old], account=ACCOUNT).allowed


# --- conditions ---------------------------------------------------------------------------------

ARN = "arn:aws:sns:us-east-1:123:topic"
HOLDS: list[tuple[str, Any, tuple[str, ...] | None, bool]] = [
    ("StringEquals", "a", ("a",), True),
    ("StringEquals", ["b", "a"], ("a",), True),
    ("StringEquals", "A", ("a",), False),
    ("StringEquals", "*", ("a",), False),
    ("StringEquals", "a", None, False),
    ("StringEqualsIfExists", "a", None, True),
    ("StringNotEquals", "a", ("a",), False),
    ("StringNotEquals", ["a", "b"], ("a",), False),
    ("StringNotEquals", "a", None, True),
    ("StringEqualsIgnoreCase", "A", ("a",), True),
    ("StringNotEqualsIgnoreCase", "A", ("a",), False),
    ("StringLike", "caller.*", ("caller.etl",), True),
    ("StringLike", "caller.*", ("callerXetl",), False),
    ("StringLike", "caller.*", None, False),
    ("StringNotLike", "c*", ("caller",), False),
    ("StringNotLike", "c*", None, True),
    ("ArnEquals", "arn:aws:sns:*:123:*", (ARN,), True),
    ("ArnLike", "arn:aws:sns:*:123:top?c", (ARN,), True),
    ("ArnLike", "arn:aws:sns:*", (ARN,), False),
    ("ArnLike", "arn:aws:sns:us-east-1:123*:topic", ("arn:aws:sns:us-east-1:123:x:topic",), False),
    ("ArnNotEquals", ARN, (ARN,), False),
    ("ArnNotLike", "arn:aws:sns:*:9:*", (ARN,), True),
    ("Bool", "true", ("true",), True),
    ("Bool", True, ("true",), True),
    ("Bool", "true", ("false",), False),
    ("Bool", "false", None, False),
    ("BoolIfExists", "true", None, True),
    ("Null", "true", None, True),
    ("Null", "true", ("a",), False),
    ("Null", "false", ("a",), True),
    ("Null", False, None, False),
    ("NumericEquals", "10", ("10.0",), True),
    ("NumericLessThan", 10, ("9",), True),
    ("NumericLessThanEquals", "10", ("11",), False),
    ("NumericGreaterThan", "10", ("x",), False),
    ("NumericNotEquals", "10", ("9",), True),
    ("DateLessThan", "2026-01-01T00:00:00Z", ("2025-12-31T23:59:59Z",), True),
    ("DateGreaterThan", "2026-01-01T00:00:00Z", ("2025-12-31T23:59:59Z",), False),
    ("DateGreaterThanEquals", "1767225600", ("2026-01-01T00:00:00Z",), True),
    ("IpAddress", "203.0.113.0/24", ("203.0.113.7",), True),
    ("IpAddress", "203.0.113.0/24", ("2001:db8::1",), False),
    ("NotIpAddress", ["203.0.113.0/24", "::1"], ("::1",), False),
    ("BinaryEquals", "QmluYXJ5", ("QmluYXJ5",), True),
    ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
    ("ForAllValues:StringEquals", ["a", "b"], ("a", "c"), False),
    ("ForAllValues:StringEquals", ["a"], None, True),
    ("ForAnyValue:StringEquals", ["a", "b"], ("c", "b"), True),
    ("ForAnyValue:StringEquals", ["a"], ("c",), False),
    ("ForAnyValue:StringEquals", ["a"], None, False),
    ("ForAnyValue:StringNotEquals", ["a"], None, False),
]


@pytest.mark.parametrize(("operator", "wanted", "value", "holds"), HOLDS, ids=str)
def test_an_operator_compares_as_aws_documents_it(
    operator: str, wanted: Any, value: tuple[str, ...] | None, holds: bool
) -> None:
    context = {} if value is None else {"aws:PrincipalTag/x".lower(): value}
    question = Asked(WHO, INVOKE, FUNCTION, context)
    condition = {operator: {"aws:PrincipalTag/x": wanted}}
    assert decide(question, allow(Condition=condition)) is holds


def test_all_operators_and_all_keys_must_hold() -> None:
    texts = {"aws:userid": "a", "aws:username": "b"}
    condition = {"StringEquals": texts, "Bool": {"aws:SecureTransport": "true"}}
    full = {"aws__userid": ("a",), "aws__username": ("b",), "aws__securetransport": ("true",)}
    assert decide(asked(**full), allow(Condition=condition))
    for missing in full:
        rest = {key: value for key, value in full.items() if key != missing}
        assert not decide(asked(**rest), allow(Condition=condition))


@pytest.mark.parametrize("operator", ["StringNotEquals", "StringEqualsIfExists", "Null"])
def test_nothing_is_allowed_by_a_key_that_nobody_fills_in(
    operator: str, caplog: pytest.LogCaptureFixture
) -> None:
    condition = {operator: {"aws:NobodyKnows": "true"}}
    assert not decide(asked(), allow(Condition=condition))
    assert "aws:NobodyKnows" in caplog.text
    # A Deny under the same condition stands.
    assert not decide(asked(), allow(), deny(Condition=condition))


def test_a_key_that_nobody_fills_in_does_not_hide_a_condition_that_fails() -> None:
    over_http = {"Bool": {"aws:SecureTransport": "false"}}
    unknown = {"StringEquals": {"aws:NobodyKnows": "true"}}
    for condition in ({**over_http, **unknown}, {**unknown, **over_http}):
        question = asked(aws__securetransport=("true",))
        assert decide(question, allow(), deny(Condition=condition))


@pytest.mark.parametrize(
    "statement",
    [
        {"Condition": {"StringNotEquals": {"aws:userid": "${aws:username}"}}},
        {"Condition": {"StringNotLike": {"aws:userid": ["b", "${aws:username}*"]}}},
        {"Condition": {"ArnNotLike": {"aws:PrincipalArn": "role/other"}}},
    ],
    ids=str,
)
def test_nothing_is_allowed_for_being_unlike_what_nothing_is_like(
    statement: dict[str, Any],
) -> None:
    question = asked(aws__userid=("a",), aws__principalarn=(ROLE,))
    assert not decide(question, allow(**statement))
    assert not decide(question, allow(), deny(**statement))
    # Nor for not being what a variable without a value leaves out.
    rest = {"Action": "*", "NotResource": f"{FUNCTION}:${{aws:username}}"}
    assert not decide(question, {"Effect": "Allow", **rest})
    assert not decide(question, allow(), {"Effect": "Deny", **rest})
    ann = asked(aws__userid=("a",), aws__username=("ann",))
    assert decide(ann, {"Effect": "Allow", **rest})


def test_a_value_that_is_equal_ends_a_negation_whatever_stands_beside_it() -> None:
    unlike = {"StringNotEquals": {"aws:userid": ["a", "${aws:username}"]}}
    assert decide(asked(aws__userid=("a",)), allow(), deny(Condition=unlike))


# --- evaluation ---------------------------------------------------------------------------------


def by_resource(principal: Any, who: Requester = WHO, *, identity: bool = False) -> bool:
    statement = allow(Principal=principal)
    own = [policy(allow())] if identity else []
    resource = [policy(statement, resource=True)]
    question = asked(who=who)
    return iam.evaluate(question, identity=own, resource=resource, account=ACCOUNT).allowed


def test_without_an_allow_the_answer_is_no_and_a_deny_wins() -> None:
    assert not iam.evaluate(asked(), account=ACCOUNT).allowed
    assert decide(asked(), allow())
    assert not decide(asked(), allow(), deny())
    assert not decide(asked(), deny(), allow("*", "*"))


@pytest.mark.parametrize(
    ("principal", "alone", "with_identity"),
    [
        ("*", True, True),
        ({"AWS": "*"}, True, True),
        ({"AWS": ROLE}, True, True),
        ({"AWS": SESSION}, True, True),
        # The account as a whole hands the decision to its own policies.
        ({"AWS": ACCOUNT}, False, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, False, True),
        ({"AWS": f"arn:aws:iam::{OTHER}:root"}, False, True),
        ({"Service": "apigateway.amazonaws.com"}, False, True),
    ],
    ids=str,
)
def test_in_one_account_either_policy_is_enough(
    principal: Any, alone: bool, with_identity: bool
) -> None:
    assert by_resource(principal) is alone
    assert by_resource(principal, identity=True) is with_identity


@pytest.mark.parametrize(
    ("principal", "allowed"),
    [
        ({"AWS": OTHER}, True),
        ({"AWS": FOREIGN.names[0]}, True),
        ({"AWS": ACCOUNT}, False),
        ({"AWS": ROLE}, False),
    ],
    ids=str,
)
def test_another_account_needs_the_resources_policy(principal: Any, allowed: bool) -> None:
    assert by_resource(principal, FOREIGN) is allowed
    refused = iam.evaluate(asked(who=FOREIGN), account=ACCOUNT)
    assert refused.reason == f" because no resource-based policy allows the {INVOKE} action"


def trusted(principal: Any, *, identity: bool, **more: Any) -> bool:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}
    own = [policy(allow("sts:AssumeRole", ROLE))] if identity else []
    trust = [policy(statement, resource=True, trust=True)]
    question = asked("sts:AssumeRole", ROLE)
    given = iam.evaluate(question, identity=own, resource=trust, account=ACCOUNT, trust=True)
    return given.allowed


def test_a_role_must_trust_whoever_takes_it_on() -> None:
    account = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    assert trusted(account, identity=True)
    assert not trusted(account, identity=False)
    # Named in person, the identity needs no policy of its own.
    assert trusted({"AWS": ROLE}, identity=False)
    # Its own policy alone never opens a role.
    assert not trusted({"AWS": OTHER}, identity=True)
    assert not trusted({"Service": "lambda.amazonaws.com"}, identity=True)
    only_me = {"ArnEquals": {"aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:role/else"}}
    assert not trusted(account, identity=True, Condition=only_me)


def test_a_service_is_let_in_by_name_alone() -> None:
    gateway = Requester(Kind.SERVICE, ("apigateway.amazonaws.com",))
    assert by_resource({"Service": "apigateway.amazonaws.com"}, gateway)
    assert not by_resource({"Service": "events.amazonaws.com"}, gateway)
    assert not by_resource({"AWS": ACCOUNT}, gateway)
    # Nobody's own policy speaks for a service.
    assert not by_resource({"AWS": ACCOUNT}, gateway, identity=True)


def test_a_refusal_says_in_awss_words_which_policy_it_was() -> None:
    none = iam.evaluate(asked(), account=ACCOUNT)
    assert none.reason == f" because no identity-based policy allows the {INVOKE} action"
    denied = iam.evaluate(asked(), identity=[policy(allow(), deny())], account=ACCOUNT)
    assert denied.reason == " with an explicit deny in an identity-based policy"
    resource = [policy(deny(Principal="*"), resource=True)]
    by_it = iam.evaluate(asked(), identity=[policy(allow())], resource=resource, account=ACCOUNT)
    assert by_it.reason == " with an explicit deny in a resource-based policy"


@given(
    st.lists(st.sampled_from([allow(), allow("*", "*"), deny(), allow("s3:*")]), max_size=5),
    st.booleans(),
)
def test_a_deny_wins_wherever_it_stands(statements: list[dict[str, Any]], first: bool) -> None:
    given_ = [deny(), *statements] if first else [*statements, deny()]
    assert not decide(asked(), *given_)


# --- what IAM refuses to store ------------------------------------------------------------------

MALFORMED: list[tuple[str, Any]] = [
    ("no object", []),
    ("an unknown element", {**allow(), "Resouce": "*"}),
    ("an element in lower case", {**allow(), "condition": {}}),
    ("no effect", {"Action": INVOKE, "Resource": "*"}),
    ("another effect", {**allow(), "Effect": "allow"}),
    ("no action", {"Effect": "Allow", "Resource": "*"}),
    ("an action and its negation", {**allow(), "NotAction": "s3:*"}),
    ("no resource", {"Effect": "Allow", "Action": INVOKE}),
    ("an action without a service", allow("InvokeFunction")),
    ("no texts", allow([])),
    ("a principal", allow(Principal="*")),
    ("an operator that there is not", allow(Condition={"StringIs": {"aws:userid": "a"}})),
    ("a quantified Null", allow(Condition={"ForAnyValue:Null": {"aws:userid": "true"}})),
    ("a condition without keys", allow(Condition={"StringEquals": "a"})),
    ("a resource that is no ARN", allow(resource="function/vend")),
    ("a resource of any service", allow(resource="arn:aws:*:us-east-1:*:function:vend")),
    ("a resource of some services", allow(resource="arn:aws:lam*vend")),
    ("a Sid of other characters", allow(Sid="call-it")),
    ("a truth that is none", allow(Condition={"Bool": {"aws:SecureTransport": "yes"}})),
    ("a Null that is none", allow(Condition={"Null": {"aws:userid": "yes"}})),
    ("a network that is none", allow(Condition={"NotIpAddress": {"aws:SourceIp": "10.0.0.0/99"}})),
    ("a number that is none", allow(Condition={"NumericNotEquals": {"aws:EpochTime": "soon"}})),
    ("a date that is none", allow(Condition={"DateNotEqualsIfExists": {"aws:CurrentTime": "x"}})),
]


@pytest.mark.parametrize("statement", [s for _, s in MALFORMED], ids=[n for n, _ in MALFORMED])
def test_a_malformed_policy_is_refused_and_named(statement: Any) -> None:
    with pytest.raises(iam.PolicyError, match="etl's policy"):
        iam.read({"Version": "2012-10-17", "Statement": [statement]}, "etl's policy")


@pytest.mark.parametrize(
    "document",
    [
        None,
        {"Version": "2012-10-17"},
        {"Version": "2020-01-01", "Statement": [allow()]},
        {"Version": "2012-10-17", "Statement": []},
        {"Version": "2012-10-17", "Statement": [allow()], "Extra": 1},
        {"Version": "2012-10-17", "Statement": [allow(Sid="a"), allow(Sid="a")]},
    ],
    ids=str,
)
def test_a_malformed_document_is_refused(document: Any) -> None:
    with pytest.raises(iam.PolicyError):
        iam.read(document, "policy")


def test_a_trust_policy_has_principals_and_no_resource() -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    assert policy(statement, resource=True, trust=True).statements
    for wrong in (
        {**statement, "Resource": "*"},
        {"Effect": "Allow", "Action": "sts:AssumeRole"},
        {**statement, "Principal": {"AWS": "arn:aws:iam::1:role/*"}},
        {**statement, "Principal": {"Aws": ACCOUNT}},
        {**statement, "Action": ["sts:AssumeRole", INVOKE]},
    ):
        with pytest.raises(iam.PolicyError):
            policy(wrong, resource=True, trust=True)


def test_everybody_but_somebody_is_never_whom_a_role_trusts() -> None:
    """NotPrincipal with Allow lets in the whole world; IAM takes it in no trust policy."""
    for effect in ("Allow", "Deny"):
        statement = {"Effect": effect, "NotPrincipal": {"AWS": OTHER}, "Action": "sts:AssumeRole"}
        with pytest.raises(iam.PolicyError, match="never NotPrincipal"):
            policy(statement, resource=True, trust=True)


@pytest.mark.parametrize(
    ("name", "action", "resource"),
    [
        ("AmazonAPIGatewayInvokeFullAccess", "execute-api:Invoke", "arn:aws:execute-api:r:1:a/b/c"),
        ("service-role/AWSLambdaRole", INVOKE, FUNCTION),
        ("service-role/AWSLambdaVPCAccessExecutionRole", "logs:PutLogEvents", "arn:aws:logs:r:1:x"),
        ("AmazonSSMManagedInstanceCore", "ssm:GetParameter", "arn:aws:ssm:r:1:parameter/x"),
        ("AmazonSSMReadOnlyAccess", "ssm:GetParameter", "arn:aws:ssm:r:1:parameter/x"),
    ],
)
def test_a_managed_policy_allows_what_awss_reference_lists(
    name: str, action: str, resource: str
) -> None:
    arn = f"arn:aws:iam::aws:policy/{name}"
    managed = [iam.read(iam.AWS_MANAGED[arn], arn)]
    for asked_for, allowed in ((action, True), ("iam:PassRole", False), ("s3:GetObject", False)):
        question = asked(asked_for, resource)
        assert iam.evaluate(question, identity=managed, account=ACCOUNT).allowed is allowed
