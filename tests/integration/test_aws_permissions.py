"""The template's permissions, each by what becomes of the endpoint without it.

The function runs from the repository's own template and reads its policy from Parameter Store. No
test looks at the template: `tests/mutants` takes each permission away, and one of these must fail.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.aws.authorization import DeniedError, Question, authorize, authorize_service
from localcloud.aws.events import BadResultError
from localcloud.aws.integration import INVOKE, require_permission
from localcloud.cloud import POLICY, POLICY_ON_AWS, ROOT, Cloud, CloudError
from localcloud.wire.web import Headers, Request
from localcloud.world import World
from tests.callers import Caller, session
from tests.conformance.aws_lab import permit, signed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROLE = "arn:aws:iam::111122223333:role/tokenvend"
SETTING = "ssm:/tokenvend/policy"
PARAMETER = "arn:aws:ssm:us-east-1:111122223333:parameter/tokenvend/policy"


def world() -> World:
    """The default world, in which a caller became an administrator of STS."""
    made = permit(World.load(), "stranger", "sts:*", "*")
    etl = made.aws.role("etl")
    assert etl is not None
    # A role that trusts everybody in the account whose own policy lets him.
    etl.assume_role_policy_document["Statement"].append(
        {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:*"}
    )
    return made


@pytest.fixture(scope="module")
def cloud(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    made = Cloud(
        world(),
        tmp_path_factory.mktemp("permissions"),
        functions=("aws",),
        policy=SETTING,
        parameters={"PolicyArn": PARAMETER},
    )
    text = "\n".join((ROOT / name).read_text("utf-8") for name in (POLICY, POLICY_ON_AWS))
    made.parameters.put("/tokenvend/policy", text)
    with made as running:
        yield running


def sts(cloud: Cloud, role: str) -> Any:
    """A client of STS with the keys of a role's session."""
    key, network = cloud.accounts.session(role, "test"), cloud.network_environment
    proxies = Config(proxies={"https": network["HTTPS_PROXY"]}, retries={"total_max_attempts": 1})
    made: Any = boto3.session.Session(key.id, key.secret, key.token, "us-east-1").client
    return made("sts", config=proxies, verify=network["REQUESTS_CA_BUNDLE"])


def refusal(client: Any, role: str, **more: str) -> str:
    """What STS says to who may not take on a role."""
    with pytest.raises(ClientError) as refused:
        client.assume_role(RoleArn=role, RoleSessionName="test", **more)
    assert refused.value.response["Error"]["Code"] == "AccessDenied"
    return str(refused.value.response["Error"]["Message"])


def unsigned(cloud: Cloud, method: str, path: str) -> tuple[int, Any]:
    url = f"{cloud.endpoints['aws']}{path}"
    answer = session(cloud.network_environment).request(method, url, timeout=10)
    return answer.status_code, answer.json()


def test_the_api_may_call_the_function_and_lambda_may_take_on_its_role(cloud: Cloud) -> None:
    assert unsigned(cloud, "GET", "/readyz")[0] == 200


def test_what_the_function_writes_is_kept(cloud: Cloud) -> None:
    unsigned(cloud, "GET", "/healthz")
    assert cloud.lambdas is not None
    assert cloud.lambdas.log(cloud.lambdas.template.functions[0]).stat().st_size > 0


@pytest.mark.parametrize(
    "theirs",
    [
        "arn:aws:execute-api:us-east-1:444455556666:abcdefghij/$default/POST/v1/access-token",
        # Whoever may make an API in the account may not write the function's events with it.
        "arn:aws:execute-api:us-east-1:111122223333:abcdefghij/$default/POST/v1/access-token",
        "arn:aws:execute-api:us-east-1:111122223333:abcdefghij/prod/GET/",
    ],
)
def test_another_api_may_not_call_the_function(cloud: Cloud, theirs: str) -> None:
    assert cloud.lambdas is not None
    arn = cloud.lambdas.template.functions[0].arn
    with pytest.raises(BadResultError):
        require_permission(cloud.accounts, cloud.lambdas, arn, theirs)


def test_api_gateway_may_call_the_function_and_do_nothing_else_with_it(cloud: Cloud) -> None:
    assert cloud.lambdas is not None
    template = cloud.lambdas.template
    (function,), api = template.functions, template.apis[0].domain.partition(".")[0]
    source = f"arn:aws:execute-api:us-east-1:111122223333:{api}/$default/GET/healthz"
    for action, allowed in ((INVOKE, True), ("lambda:UpdateFunctionCode", False)):
        keys, policies = {"aws:SourceArn": (source,)}, function.policies[""]
        question = Question(action, function.arn, keys, policies)
        with nullcontext() if allowed else pytest.raises(DeniedError):
            authorize_service(cloud.accounts, "apigateway.amazonaws.com", question)


def test_the_functions_own_keys_open_no_door_to_the_function(cloud: Cloud) -> None:
    assert cloud.lambdas is not None
    key = cloud.accounts.session("tokenvend", "test")
    host = str(cloud.endpoints["aws"]).removeprefix("https://")
    by_gateway = signed(key, "/v1/grants", method="GET", host=host, service="execute-api")
    name = cloud.lambdas.template.functions[0].name
    target = f"/2015-03-31/functions/{name}/invocations"
    by_lambda = signed(key, target, host="lambda.us-east-1.amazonaws.com", service="lambda")
    assert [cloud.router(each).status for each in (by_gateway, by_lambda)] == [403, 403]


@pytest.mark.parametrize("action", ["ssm:PutParameter", "ssm:DeleteParameter"])
def test_the_function_cannot_write_its_own_policy(cloud: Cloud, action: str) -> None:
    key = cloud.accounts.session("tokenvend", "test")
    authorize(cloud.accounts, key, Question("ssm:GetParameter", PARAMETER))
    with pytest.raises(DeniedError):
        authorize(cloud.accounts, key, Question(action, PARAMETER))


def test_the_function_reads_its_policy_and_vends_by_it(cloud: Cloud) -> None:
    caller = Caller(cloud.environment_for("etl"))
    assert caller.token("/v1/access-token", grant="landing-writer")["access_token"]


def test_a_caller_is_vended_for_in_its_own_name(cloud: Cloud) -> None:
    caller = Caller(cloud.environment_for("etl"))
    assert caller.token("/v1/access-token", grant="ledger")["access_token"]


@pytest.mark.parametrize("source", ["etl", "callers.etl", "caller"])
def test_the_function_takes_on_its_role_in_a_callers_name_alone(cloud: Cloud, source: str) -> None:
    function = sts(cloud, "tokenvend")
    refusal(function, ROLE, SourceIdentity=source)
    refusal(function, ROLE)
    assert function.assume_role(
        RoleArn=ROLE, RoleSessionName="caller.etl", SourceIdentity="caller.etl"
    )


def test_an_administrator_of_sts_cannot_take_on_the_functions_role(cloud: Cloud) -> None:
    said = refusal(sts(cloud, "stranger"), ROLE, SourceIdentity="caller.etl")
    assert said.endswith(f"is not authorized to perform: sts:AssumeRole on resource: {ROLE}")


def test_the_function_can_take_on_no_other_role(cloud: Cloud) -> None:
    other = "arn:aws:iam::111122223333:role/etl"
    assert sts(cloud, "stranger").assume_role(RoleArn=other, RoleSessionName="test")
    refusal(sts(cloud, "tokenvend"), other, SourceIdentity="caller.etl")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/access-token"),
        ("POST", "/v1/id-token"),
        ("GET", "/v1/grants"),
        ("GET", "/nowhere"),
    ],
)
def test_who_signs_nothing_gets_the_gateways_refusal(cloud: Cloud, method: str, path: str) -> None:
    assert unsigned(cloud, method, path) == (403, {"message": "Forbidden"})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_who_asks_for_no_token_need_sign_nothing(cloud: Cloud, path: str) -> None:
    assert unsigned(cloud, "GET", path)[0] == 200


def test_a_route_lets_through_its_burst_and_no_more(cloud: Cloud) -> None:
    host = str(cloud.endpoints["aws"]).removeprefix("https://")
    request = Request("GET", host, "/v1/grants", Headers([("Host", host)]))
    answers = [cloud.router(request) for _ in range(200)]
    statuses = [answer.status for answer in answers]
    assert statuses[:90] == [403] * 90
    assert statuses.count(429) > 50
    late = next(answer for answer in answers if answer.status == 429)
    assert json.loads(late.body) == {"message": "Too Many Requests"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root like the repository's, whose template a test may write."""
    made = tmp_path / "root"
    made.mkdir()
    for name in ("functions", "infra", "shared", ".tools", "host.json", "function_app.py"):
        (made / name).symlink_to(ROOT / name)
    return made


def deploy(root: Path, text: str) -> Cloud:
    (root / "template.yaml").write_text(text)
    return Cloud(World.load(), root.parent / "cloud", functions=("aws",), root=root)


def test_without_its_permission_the_api_answers_500_to_everybody(root: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    text = text.replace("Principal: apigateway.amazonaws.com", "Principal: events.amazonaws.com")
    with pytest.raises(CloudError, match="status 500"), deploy(root, text):
        pass


def test_a_role_that_lambda_may_not_take_on_does_not_deploy(root: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    text = text.replace("{Service: lambda.amazonaws.com}", "{Service: ec2.amazonaws.com}")
    expected = "VendFunction: The role defined for the function cannot be assumed by Lambda"
    with pytest.raises(CloudError, match=expected), deploy(root, text):
        pass


# IAM's names differ by more than their case.
@pytest.mark.parametrize("name", ["etl", "ETL"])
def test_a_stack_does_not_take_over_a_role_of_somebody_else(tmp_path: Path, name: str) -> None:
    made = Cloud(World.load(), tmp_path, functions=("aws",), parameters={"RoleName": name})
    with (
        pytest.raises(CloudError, match=f"'AWS::IAM::Role' with identifier '{name}' already exist"),
        made,
    ):
        pass


def test_without_its_log_permissions_what_a_function_writes_is_lost(root: Path) -> None:
    text = (ROOT / "template.yaml").read_text()
    text = text.replace("service-role/AWSLambdaBasicExecutionRole", "AWSXRayDaemonWriteAccess")
    with deploy(root, text) as running:
        assert Caller(running.environment_for("etl")).token("/v1/access-token")["access_token"]
        assert running.lambdas is not None
        log = running.lambdas.log(running.lambdas.template.functions[0])
        assert not log.exists()
