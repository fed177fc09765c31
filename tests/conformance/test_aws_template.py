"""What the local gateway reads from a template, and what it refuses to guess."""

from __future__ import annotations

from pathlib import Path

import pytest
from samtranslator.yaml_helper import yaml_parse

from localcloud.aws import Template, TemplateError, load
from localcloud.aws.routes import find
from localcloud.aws.template import Route

ROOT = Path(__file__).parents[2]
PROVIDER = (
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws-p"
)
ACCOUNT, REGION = "111122223333", "us-east-1"
APP = Path(__file__).with_name("aws_app") / "template.yaml"


def read(path: Path, **parameters: str) -> Template:
    return load(path, parameters, account=ACCOUNT, region=REGION)


def test_the_repositorys_own_template_is_understood() -> None:
    template = read(ROOT / "template.yaml", GoogleProvider=PROVIDER)
    function = template.functions[0]
    api = template.apis[0]
    assert function.handler == "functions.aws.api.handler"
    assert function.environment["TOKENVEND_GOOGLE_PROVIDER"] == PROVIDER
    assert function.environment["TOKENVEND_AWS_ACCOUNT"] == ACCOUNT
    assert api.domain.partition(".")[0] in function.environment["TOKENVEND_AWS_API_IDS"].split(",")
    routes = {route.key: route.authorization for route in api.routes}
    assert routes["POST /v1/access-token"] == "AWS_IAM"
    assert routes["GET /healthz"] == "NONE"
    assert {route.function for route in api.routes} == {function.arn}


def test_a_named_role_may_be_assumed_in_a_callers_name() -> None:
    named = read(ROOT / "template.yaml", GoogleProvider=PROVIDER, RoleName="vend")
    nameless = read(ROOT / "template.yaml", GoogleProvider=PROVIDER)
    arn = f"arn:aws:iam::{ACCOUNT}:role/vend"
    assert named.functions[0].environment["TOKENVEND_AWS_ROLE_ARN"] == arn
    assert nameless.functions[0].environment["TOKENVEND_AWS_ROLE_ARN"] == ""


def test_the_role_is_trusted_by_lambda_and_where_it_is_named_by_itself() -> None:
    document = yaml_parse((ROOT / "template.yaml").read_text())
    assert document["Conditions"]["Attributed"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "RoleName"}, ""]}]
    }
    role = document["Resources"]["VendFunctionRole"]["Properties"]
    function, itself = role["AssumeRolePolicyDocument"]["Statement"]
    assert function["Principal"] == {"Service": "lambda.amazonaws.com"}
    condition, statement, otherwise = itself["Fn::If"]
    assert (condition, otherwise) == ("Attributed", {"Ref": "AWS::NoValue"})
    assert statement["Action"] == ["sts:AssumeRole", "sts:SetSourceIdentity"]
    own = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${RoleName}"}
    # The principal is the whole account, so everything hangs on the condition.
    assert statement["Condition"] == {
        "ArnEquals": {"aws:PrincipalArn": own},
        "StringLike": {"sts:SourceIdentity": "caller.*"},
    }
    condition, permission, otherwise = role["Policies"][0]["Fn::If"]
    assert (condition, otherwise) == ("Attributed", {"Ref": "AWS::NoValue"})
    assert permission["PolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"], "Resource": own}
    ]


def test_the_role_may_read_the_one_policy_it_is_told_of_and_nothing_else() -> None:
    document = yaml_parse((ROOT / "template.yaml").read_text())
    role = document["Resources"]["VendFunctionRole"]["Properties"]
    condition, permission, otherwise = role["Policies"][1]["Fn::If"]
    assert (condition, otherwise) == ("PolicyElsewhere", {"Ref": "AWS::NoValue"})
    (statement,) = permission["PolicyDocument"]["Statement"]
    assert statement["Resource"] == {"Ref": "PolicyArn"}
    assert all(action.split(":")[1].startswith(("Get", "Start")) for action in statement["Action"])
    assert len(role["Policies"]) == 2


def test_ids_are_the_same_at_every_start() -> None:
    given = {"GoogleProvider": "x", "Policy": "y"}
    assert read(APP, **given) == read(APP, **given)


def test_an_alias_is_the_routes_target() -> None:
    template = read(APP, GoogleProvider="x", Policy="y")
    hurried = next(r for r in template.apis[0].routes if r.key == "POST /hurried")
    assert hurried.function == f"{template.functions[0].arn}:live"
    assert hurried.timeout == 0.1
    assert template.functions[0].aliases == ("live",)
    assert template.target(hurried.function) == (template.functions[0], "live")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "GoogleProvider has no value"),
        ({"GoogleProvider": "//elsewhere"}, "does not match AllowedPattern"),
        ({"GoogleProvider": PROVIDER, "LogLevel": "LOUD"}, "not an allowed value"),
        ({"GoogleProvider": PROVIDER, "Colour": "red"}, "no parameter Colour"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        read(ROOT / "template.yaml", **parameters)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("!Ref Api\n          LAB", "!Ref Nobody\n          LAB", "Ref Nobody"),
        ("LAB_API: !Ref Api", "LAB_API: !ImportValue Api", "Fn::ImportValue"),
        ("LAB_API: !Ref Api", "LAB_API: !If [Nobody, a, b]", "no such condition"),
        ("LAB_API: !Ref Api", "LAB_API: !GetAtt Stage.Name", "GetAtt Stage.Name"),
        ("StageName: $default", "StageName: prod", "no stage"),
        ("ProtocolType: HTTP", "ProtocolType: WEBSOCKET", "ProtocolType"),
        ("AuthorizationType: AWS_IAM", "AuthorizationType: JWT", "AuthorizationType JWT"),
        ("!Sub integrations/${HurriedIntegration}", "integrations/Gone", "Target"),
        ('PayloadFormatVersion: "2.0"', 'PayloadFormatVersion: "1.0"', "payload 2.0"),
    ],
)
def test_what_the_gateway_does_not_understand_is_an_error(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    text = APP.read_text()
    assert old in text
    path = tmp_path / "template.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(TemplateError, match=message):
        read(path, GoogleProvider="x", Policy="y")


ROUTES = [
    Route(key, "NONE", "f", 1)
    for key in (
        "GET /a",
        "ANY /a",
        "GET /a/{id}",
        "GET /a/fixed",
        "ANY /a/{rest+}",
        "GET /{all+}",
        "POST /b",
    )
]


@pytest.mark.parametrize(
    ("method", "path", "key", "parameters"),
    [
        ("GET", "/a", "GET /a", {}),
        ("PUT", "/a", "ANY /a", {}),
        ("GET", "/a/", "GET /a", {}),
        ("GET", "/a/fixed", "GET /a/fixed", {}),
        ("GET", "/a/x%2Fy", "GET /a/{id}", {"id": "x/y"}),
        ("PUT", "/a/x", "ANY /a/{rest+}", {"rest": "x"}),
        ("GET", "/a/x/y", "ANY /a/{rest+}", {"rest": "x/y"}),
        ("GET", "/b/c", "GET /{all+}", {"all": "b/c"}),
    ],
)
def test_the_most_specific_route_is_taken(
    method: str, path: str, key: str, parameters: dict[str, str]
) -> None:
    match = find(ROUTES, method, path)
    assert match is not None
    assert (match.route.key, match.parameters) == (key, parameters)


def test_the_default_route_takes_what_no_other_does() -> None:
    default = Route("$default", "AWS_IAM", "f", 1)
    assert find(ROUTES, "PUT", "/nowhere") is None
    match = find([*ROUTES, default], "PUT", "/nowhere")
    assert match is not None
    assert match.route is default


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("!Equals [!Ref Policy, y]", "yes"),
        ("!Equals [!Ref Policy, z]", "no"),
        ("!Not [!Equals [!Ref Policy, z]]", "yes"),
        ("!And [!Equals [!Ref Policy, y], !Equals [a, b]]", "no"),
        ("!Or [!Equals [!Ref Policy, y], !Equals [a, b]]", "yes"),
    ],
)
def test_a_condition_decides_between_two_values(tmp_path: Path, condition: str, value: str) -> None:
    text = APP.read_text().replace("LAB_API: !Ref Api", 'LAB_API: !If [Asked, "yes", "no"]')
    path = tmp_path / "template.yaml"
    path.write_text(f"Conditions:\n  Asked: {condition}\n{text}")
    template = read(path, GoogleProvider="x", Policy="y")
    assert template.functions[0].environment["LAB_API"] == value


def test_a_condition_of_another_form_is_an_error(tmp_path: Path) -> None:
    text = APP.read_text().replace("LAB_API: !Ref Api", "LAB_API: !If [Asked, a, b]")
    path = tmp_path / "template.yaml"
    path.write_text(f"Conditions:\n  Asked: !Contains [[a], a]\n{text}")
    with pytest.raises(TemplateError, match="condition Asked"):
        read(path, GoogleProvider="x", Policy="y")
