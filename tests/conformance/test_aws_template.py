"""What the local gateway reads from a template, and what it refuses to guess."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localcloud.aws import Accounts, Template, TemplateError, iam, load
from localcloud.aws.routes import find
from localcloud.aws.template import Route, permission
from localcloud.world import AwsPolicy, AwsRole, World, WorldError

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
        # https://github.com/localstack/localstack/issues/8170: on AWS this is the same route.
        ("GET", "//a", "GET /a", {}),
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


# --- what SAM generates --------------------------------------------------------------------------

GENERATED = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Alias: {Type: String, Default: live}
  Wanted: {Type: String, Default: "no"}
Conditions:
  Wanted: !Equals [!Ref Wanted, "yes"]
Globals:
  Function: {Runtime: python3.13, Timeout: 7, Environment: {Variables: {LEVEL: INFO}}}
  HttpApi: {Auth: {EnableIamAuthorizer: true, DefaultAuthorizer: AWS_IAM}}
Resources:
  Lab:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Handler: lab.handler
      AutoPublishAlias: !Ref Alias
      FunctionUrlConfig: {AuthType: NONE}
      Policies:
        - AWSXRayDaemonWriteAccess
        - SSMParameterReadPolicy: {ParameterName: settings}
      Events:
        Ask: {Type: HttpApi, Properties: {Path: /ask, Method: post}}
        Any:
          Type: HttpApi
          Properties: {Path: "/any/{rest+}", Method: any, Auth: {Authorizer: NONE}}
  Absent:
    Type: AWS::Serverless::Function
    Condition: Wanted
    Properties: {CodeUri: ., Handler: absent.handler}
"""


OTHER = (
    "Authorizers: {Other: {IdentitySource: $request.header.A, "
    "JwtConfiguration: {issuer: x, audience: [y]}}}"
)


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    path = tmp_path / "template.yaml"
    path.write_text(GENERATED)
    return path


def test_what_sam_generates_is_read_from_its_own_expansion(generated: Path) -> None:
    template = read(generated, Alias="prod")
    (function,), (api,), (role,) = template.functions, template.apis, template.roles
    arn = f"{function.arn}:prod"
    assert (function.timeout, function.environment) == (7, {"LEVEL": "INFO"})
    assert (function.aliases, function.url.auth, function.url.qualifier) == (
        ("prod",),
        "NONE",
        "prod",
    )
    assert {(route.key, route.authorization, route.function) for route in api.routes} == {
        ("POST /ask", "AWS_IAM", arn),
        ("ANY /any/{rest+}", "NONE", arn),
    }
    assert function.role == f"arn:aws:iam::{ACCOUNT}:role/{role.role_name}"
    (statements,) = [policy.policy_document["Statement"] for policy in role.policies]
    assert {"ssm:GetParameter", "ssm:DescribeParameters"} <= {
        a for s in statements for a in s["Action"]
    }
    assert len(role.managed_policy_arns) == 2


def test_the_permissions_that_sam_generates_let_its_own_api_in(generated: Path) -> None:
    template = read(generated)
    function, api = template.functions[0], template.apis[0].domain.partition(".")[0]
    gateway = iam.Requester(iam.Kind.SERVICE, ("apigateway.amazonaws.com",))
    source = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/$default/POST/ask"
    for given, allowed in ((source, True), (source.replace(api, "abcdefghij"), False)):
        asked = iam.Asked(
            gateway, "lambda:InvokeFunction", f"{function.arn}:live", {"aws:sourcearn": (given,)}
        )
        policies = function.policies["live"]
        assert iam.evaluate(asked, resource=policies, account=ACCOUNT).allowed is allowed


def test_a_resource_whose_condition_does_not_hold_is_not_there(generated: Path) -> None:
    assert len(read(generated).functions) == 1
    assert len(read(generated, Wanted="yes").functions) == 2


def test_what_sam_refuses_is_an_error_that_names_the_resource(generated: Path) -> None:
    generated.write_text(GENERATED.replace("Handler: lab.handler", "Handle: lab.handler"))
    with pytest.raises(TemplateError, match="Lab"):
        read(generated)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("AWSXRayDaemonWriteAccess", "arn:aws:iam::aws:policy/PowerUserAccess", "PowerUserAccess"),
        ("AWSXRayDaemonWriteAccess", "{Statement: [{Effect: Allow}]}", "LabRole"),
        ("DefaultAuthorizer: AWS_IAM", f"DefaultAuthorizer: Other, {OTHER}", "Other"),
    ],
)
def test_a_permission_that_is_not_understood_is_never_skipped(
    generated: Path, old: str, new: str, message: str
) -> None:
    assert old in GENERATED
    generated.write_text(GENERATED.replace(old, new))
    with pytest.raises(TemplateError, match=message):
        read(generated)


ARN = "arn:aws:execute-api:us-east-1:111122223333:api"
PERMISSIONS: list[dict[str, object]] = [
    {"Action": ["lambda:InvokeFunction"]},
    {"Action": "lambda:Invoke*"},
    {"Action": "execute-api:Invoke"},
    {"Principal": ["apigateway.amazonaws.com"]},
    {"Principal": ""},
    {"SourceArn": ARN.replace("111122223333", "*")},
    {"SourceArn": ARN.replace("us-east-1", "*")},
    {"SourceArn": "*"},
    {"SourceAccount": "*"},
    {"PrincipalOrgID": "o-*"},
    {"FunctionUrlAuthType": "ANY"},
]


@pytest.mark.parametrize("wrong", PERMISSIONS, ids=str)
def test_a_permission_that_lambda_would_not_add_does_not_deploy(wrong: dict[str, object]) -> None:
    right = {"Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com"}
    assert permission("Given", "arn:aws:lambda:::function:f", {**right, "SourceArn": ARN + "/*"})
    with pytest.raises(TemplateError, match=f"Given: {next(iter(wrong))}"):
        permission("Given", "arn:aws:lambda:::function:f", {**right, **wrong})


UNPLAYED: list[tuple[str, str, str]] = [
    ("AutoDeploy: true", "AutoDeploy: false", "Stage: nothing is ever deployed"),
    (
        "ProtocolType: HTTP",
        "ProtocolType: HTTP\n      DisableExecuteApiEndpoint: true",
        "HttpApi: its only endpoint is disabled",
    ),
    (
        "ProtocolType: HTTP",
        "ProtocolType: HTTP\n      CorsConfiguration: {AllowOrigins: ['*']}",
        "HttpApi: CorsConfiguration",
    ),
    ("TimeoutInMillis: 29000", "TimeoutInMillis: 31000", "Integration: TimeoutInMillis is 50 to"),
    (
        "TimeoutInMillis: 29000",
        "TimeoutInMillis: 29000\n      RequestParameters: {'overwrite:header.x-goog': a}",
        "Integration: RequestParameters",
    ),
    (
        "RouteKey: GET /healthz",
        "RouteKey: GET /healthz\n      ApiKeyRequired: true",
        "HealthRoute: ApiKeyRequired",
    ),
    ("Runtime: python3.13", "Runtime: python3.9", "VendFunction: functions run on python3.13"),
    (
        "MemorySize: 512",
        "MemorySize: 512\n      ReservedConcurrentExecutions: 0",
        "VendFunction: nobody can invoke it",
    ),
    ("Timeout: 29\n", "Timeout: 901\n", "VendFunction: Timeout is 1 to 900"),
    ("MemorySize: 512", "MemorySize: 64", "VendFunction: MemorySize is 128 to"),
    (
        "TOKENVEND_POLICY: !Ref Policy\n",
        "TOKENVEND_POLICY: !Ref Policy\n          AWS_SESSION_TOKEN: a\n",
        "AWS_SESSION_TOKEN is reserved",
    ),
    ("FunctionName: !Ref VendFunction", "FunctionName: VendFunktion", "Function not found"),
    (
        "Resources:\n",
        "Resources:\n  More: {Type: AWS::IAM::User, Properties: {UserName: spare}}\n",
        "More: AWS::IAM::User",
    ),
    (
        "Resources:\n",
        "Resources:\n  More: {Type: AWS::Lambda::EventSourceMapping, Properties: {}}\n",
        "More: AWS::Lambda::EventSourceMapping",
    ),
]


@pytest.mark.parametrize(("old", "new", "said"), UNPLAYED, ids=[new for _, new, _ in UNPLAYED])
def test_what_would_be_dead_or_act_unseen_in_a_deployment_does_not_start_here(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = (ROOT / "template.yaml").read_text()
    assert text.count(old) == 1
    path = tmp_path / "template.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(TemplateError, match=said):
        read(path, GoogleProvider=PROVIDER)


def test_an_environment_that_lambda_would_not_take_does_not_start_here() -> None:
    """A list of issuers is what makes it long."""
    with pytest.raises(TemplateError, match=r"bytes of environment, of 4096 at most"):
        read(ROOT / "template.yaml", GoogleProvider=PROVIDER, OidcIssuers="[" + "x" * 4000 + "]")


def test_what_has_no_say_in_who_reaches_the_function_is_left_alone(tmp_path: Path) -> None:
    more = "  Alarm: {Type: AWS::CloudWatch::Alarm, Properties: {MetricName: !Ref Elsewhere}}\n"
    path = tmp_path / "template.yaml"
    path.write_text(
        (ROOT / "template.yaml").read_text().replace("Resources:\n", f"Resources:\n{more}")
    )
    assert read(path, GoogleProvider=PROVIDER).functions


def trusting(**principal: str) -> dict[str, Any]:
    """A trust policy for one principal."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


SERVICE = trusting(Service="lambda.amazonaws.com")
ALLOWED = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
LONG = {**SERVICE, "Id": "x" * 2000}
TRUST = "AWS: !Sub arn:${AWS::Partition}:iam::${AWS::AccountId}:"


def test_a_role_that_trusts_itself_by_name_does_not_deploy(tmp_path: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    assert text.count(f"{TRUST}root") == 1
    path = tmp_path / "template.yaml"
    path.write_text(text.replace(f"{TRUST}root", f"{TRUST}role/${{RoleName}}"))
    roles = read(path, GoogleProvider=PROVIDER, RoleName="vend").roles
    accounts = Accounts(World.load().aws, time.time)
    said = 'vend: Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:role/vend"'
    with pytest.raises(TemplateError, match=said):
        accounts.deploy(roles)
    # Whom it trusts may be of the same stack.
    other = AwsRole("other", {**roles[0].assume_role_policy_document})
    accounts = Accounts(World.load().aws, time.time)
    with pytest.raises(TemplateError, match="vend: Invalid principal"):
        accounts.deploy([other, *roles])
    accounts.deploy([other, replace(roles[0], role_name="else"), AwsRole("vend", SERVICE)])
    assert accounts.role("other")


WORLDS: list[tuple[dict[str, object], str]] = [
    ({"role_name": "ETL"}, "EntityAlreadyExists"),
    ({"role_name": "etl/x"}, "no user or role has such a path or name"),
    ({"path": "team"}, "no user or role has such a path or name"),
    ({"max_session_duration": 900}, "MaxSessionDuration is 3600 to 43200"),
    ({"assume_role_policy_document": LONG}, "Maximum policy size of 2048 bytes"),
    ({"policies": [AwsPolicy("a", {**ALLOWED, "Id": "x" * 10240})]}, "size of 10240 bytes"),
    (
        {"assume_role_policy_document": trusting(AWS="arn:aws:iam::111122223333:user/nobody")},
        "Invalid principal in policy",
    ),
]


@pytest.mark.parametrize(("change", "said"), WORLDS, ids=[said for _, said in WORLDS])
def test_a_world_whose_roles_iam_would_not_make_is_refused(
    change: dict[str, object], said: str
) -> None:
    aws = World.load().aws
    aws.roles.append(replace(AwsRole("new", SERVICE), **change))  # type: ignore[arg-type]
    with pytest.raises(WorldError, match=said):
        Accounts(aws, time.time)


@pytest.mark.parametrize("kind", ["AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"])
def test_a_policy_of_a_kind_that_is_not_read_is_an_error(generated: Path, kind: str) -> None:
    generated.write_text(f"{GENERATED}  More: {{Type: {kind}, Properties: {{}}}}\n")
    with pytest.raises(TemplateError, match=f"More: {kind}"):
        read(generated)


def test_an_expansion_is_kept_for_the_next_start_and_for_the_same_text_alone(
    generated: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "expanded.json"
    place = {"account": ACCOUNT, "region": REGION}
    first = load(generated, {"Alias": "prod"}, **place, kept=kept)
    assert kept.stat().st_mode & 0o777 == 0o600
    held = kept.read_text()
    assert load(generated, {"Alias": "prod"}, **place, kept=kept) == first
    assert kept.read_text() == held
    generated.write_text(GENERATED.replace("Timeout: 7", "Timeout: 8"))
    assert load(generated, {"Alias": "prod"}, **place, kept=kept).functions[0].timeout == 8
    kept.write_text("{")
    assert load(generated, {"Alias": "prod"}, **place, kept=kept).functions[0].timeout == 8
