"""Every door to a function, with a small function of our own in the real Lambda runtime."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aws_lambda_powertools.utilities.parser.models import (
    APIGatewayProxyEventModel,
    APIGatewayProxyEventV2Model,
)
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud.aws import runtime
from localcloud.cloud import Cloud
from localcloud.wire.web import Headers, Request, Response
from localcloud.world import AwsPolicy, World
from tests.conformance.aws_lab import ACCOUNT, REGION, permit, signed, with_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.aws import AccessKey

APP = Path(__file__).with_name("aws_app")
FUNCTION = "tokenvend-Lab"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{FUNCTION}"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    directory = tmp_path_factory.mktemp("aws-app")
    actions = ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"]
    world = permit(World.load(), "etl", actions, "arn:aws:lambda:*:*:function:*")
    with Cloud(world, directory, functions=("aws",), root=APP) as running:
        yield running


@pytest.fixture(scope="module")
def etl(cloud: Cloud) -> AccessKey:
    return cloud.accounts.session("etl", "nightly")


def http_host(cloud: Cloud) -> str:
    return str(cloud.endpoints["aws"]).removeprefix("https://")


def rest_host(cloud: Cloud) -> str:
    assert cloud.lambdas is not None
    return cloud.lambdas.template.apis[0].rest_domain


def url_host(cloud: Cloud) -> str:
    assert cloud.lambdas is not None
    return cloud.lambdas.template.functions[0].url.domain


def call(cloud: Cloud, key: AccessKey, target: str, **how: Any) -> Response:
    """A request to the HTTP API, signed for it."""
    return cloud.router(signed(key, target, host=http_host(cloud), service="execute-api", **how))


def bare(host: str, method: str, target: str, body: bytes = b"") -> Request:
    headers = Headers([("Host", host), ("Content-Type", "application/json")])
    return Request(method, host, target, headers, body)


def ordered(cloud: Cloud, order: dict[str, Any], path: str = "/open") -> Response:
    """Make the function do something, without a signature."""
    return cloud.router(bare(http_host(cloud), "POST", path, json.dumps(order).encode()))


def seen(answer: Response) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    value: dict[str, Any] = json.loads(answer.body)
    return value


def test_the_http_apis_event_is_what_powertools_expects(cloud: Cloud, etl: AccessKey) -> None:
    event = seen(call(cloud, etl, "/things/a?x=1&x=2", body=b"{}", headers=JSON))["event"]
    model = APIGatewayProxyEventV2Model.model_validate(event)
    assert model.routeKey == "POST /things/{name}"
    assert model.pathParameters == {"name": "a"}
    assert model.queryStringParameters == {"x": "1,2"}
    assert model.body == "{}"
    assert model.isBase64Encoded is False
    assert model.requestContext.accountId == ACCOUNT
    assert model.requestContext.apiId == http_host(cloud).partition(".")[0]
    assert model.requestContext.authorizer is not None
    iam = model.requestContext.authorizer.iam
    assert iam is not None
    assert iam.userArn == f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/nightly"
    assert iam.userId == iam.callerId == etl.principal.user_id
    assert iam.accessKey == etl.id
    assert iam.principalOrgId == "o-exampleorg1"


def test_the_rest_apis_event_is_what_powertools_expects(cloud: Cloud, etl: AccessKey) -> None:
    host = rest_host(cloud)
    request = signed(
        etl,
        "/prod/things/a%40b?x=1&x=2",
        host=host,
        service="execute-api",
        headers=JSON,
        body=b"{}",
    )
    event = seen(cloud.router(request))["event"]
    model = APIGatewayProxyEventModel.model_validate(event)
    assert model.resource == "/things/{name}"
    assert model.path == "/things/a%40b"
    assert model.multiValueQueryStringParameters == {"x": ["1", "2"]}
    assert model.requestContext.stage == "prod"
    assert model.requestContext.path == "/prod/things/a%40b"
    assert model.requestContext.identity.userArn == etl.principal.arn
    assert model.requestContext.identity.caller == etl.principal.user_id


def test_the_function_urls_event_is_what_powertools_expects(cloud: Cloud, etl: AccessKey) -> None:
    request = signed(etl, "/a%3Fb?x=1", host=url_host(cloud), service="lambda", body=b"")
    event = seen(cloud.router(request))["event"]
    model = APIGatewayProxyEventV2Model.model_validate(event)
    assert model.rawPath == "/a%3Fb"
    assert model.routeKey == "$default"
    assert model.requestContext.domainName == url_host(cloud)
    assert model.requestContext.authorizer is not None
    assert model.requestContext.authorizer.iam is not None
    assert model.requestContext.authorizer.iam.userArn == etl.principal.arn


def test_an_http_api_hands_the_path_on_decoded_and_cut_at_a_question_mark(
    cloud: Cloud, etl: AccessKey
) -> None:
    assert seen(call(cloud, etl, "/things/a%40b"))["event"]["rawPath"] == "/things/a@b"
    assert seen(call(cloud, etl, "/things/a%3Fadmin"))["event"]["rawPath"] == "/things/a"


def test_headers_that_imitate_the_gateway_stay_headers(cloud: Cloud) -> None:
    request = bare(http_host(cloud), "POST", "/open")
    for name, value in (
        ("X-Amzn-Iam-UserArn", "arn:aws:iam::1:user/root"),
        ("Authorizer", "iam"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Forwarded-Proto", "http"),
    ):
        request = with_header(request, name, value)
    event = seen(cloud.router(request))["event"]
    assert "authorizer" not in event["requestContext"]
    assert event["requestContext"]["http"]["sourceIp"] == "127.0.0.1"
    assert event["headers"]["x-amzn-iam-userarn"] == "arn:aws:iam::1:user/root"
    assert event["headers"]["x-forwarded-for"] == "10.0.0.1,127.0.0.1"
    assert event["headers"]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    ("kind", "body", "encoded"),
    [
        ("application/json", b'{"a": 1}', False),
        ("text/plain; charset=utf-8", "ä".encode(), False),
        ("application/problem+json", b"{}", False),
        ("application/octet-stream", b"abc", True),
        ("application/x-www-form-urlencoded", b"a=b", True),
        ("application/json", b"\xff\xfe", True),
    ],
)
def test_a_body_arrives_as_text_or_base64_by_its_type(
    cloud: Cloud, kind: str, body: bytes, encoded: bool
) -> None:
    request = with_header(bare(http_host(cloud), "POST", "/open", body), "Content-Type", kind)
    event = seen(cloud.router(request))["event"]
    assert event["isBase64Encoded"] is encoded
    arrived = base64.b64decode(event["body"]) if encoded else event["body"].encode()
    assert arrived == body


@pytest.mark.parametrize(
    ("kind", "body", "arrives"),
    [
        ("application/x-www-form-urlencoded", b"a=b", "a=b"),
        ("application/octet-stream", b"abc", "abc"),
        ("application/json", b"\xff", "\ufffd"),
        ("application/json", b"", None),
    ],
)
def test_a_rest_api_takes_every_body_for_text(
    cloud: Cloud, kind: str, body: bytes, arrives: str | None
) -> None:
    request = with_header(bare(rest_host(cloud), "POST", "/prod/open", body), "Content-Type", kind)
    event = seen(cloud.router(request))["event"]
    assert (event["body"], event["isBase64Encoded"]) == (arrives, False)


def test_a_rest_api_sends_base64_out_as_it_is(cloud: Cloud) -> None:
    text = base64.b64encode(b"\x00\xff").decode()
    result = {"statusCode": 200, "body": text, "isBase64Encoded": True}
    order = json.dumps({"do": "answer", "result": result}).encode()
    answer = cloud.router(bare(rest_host(cloud), "POST", "/prod/open", order))
    assert (answer.status, answer.body) == (200, text.encode())


def test_a_function_outlives_its_first_credentials(cloud: Cloud) -> None:
    def key() -> AccessKey:
        found = cloud.accounts.find(seen(ordered(cloud, {}))["environment"]["AWS_ACCESS_KEY_ID"])
        assert found is not None
        return found

    first = key()
    try:
        for hours, renewed in ((10, False), (11.5, True), (23, True)):
            cloud.clock.skew = hours * 3600
            now = key()
            assert (now.id != first.id) is renewed
            assert (now.expires or 0) > cloud.clock() + 3600
    finally:
        cloud.clock.skew = 0


def test_the_functions_environment_is_lambdas_and_the_templates_alone(cloud: Cloud) -> None:
    answer = ordered(cloud, {})
    found = seen(answer)["environment"]
    key = cloud.accounts.find(found["AWS_ACCESS_KEY_ID"])
    assert key is not None
    role = r"tokenvend-LabRole-\w{12}"
    assert re.fullmatch(f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{FUNCTION}", key.principal.arn)
    assert found["AWS_SESSION_TOKEN"] == key.token
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == REGION
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == FUNCTION
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert found["AWS_LAMBDA_FUNCTION_TIMEOUT"] == "1"
    assert found["LAB_API"] == http_host(cloud).partition(".")[0]
    assert found["LAB_ACCOUNT"] == f"{ACCOUNT}/{REGION}"
    assert found["HTTPS_PROXY"] == cloud.endpoints["proxy"]
    assert found["SSL_CERT_FILE"] == cloud.endpoints["ca_bundle"]
    assert not {"HOME", "USER", "VIRTUAL_ENV", "PYTHONPATH"} & found.keys()


def _foreign(cloud: Cloud) -> AccessKey:
    return cloud.accounts.issue("arn:aws:iam::444455556666:role/etl", "nightly")


def test_who_has_not_signed_for_this_door_never_reaches_the_function(
    cloud: Cloud, etl: AccessKey
) -> None:
    host = http_host(cloud)
    right = signed(etl, "/things/a", host=host, service="execute-api")
    assert cloud.router(right).status == 200
    wrong = [
        bare(host, "POST", "/things/a"),
        signed(etl, "/things/a", host=host, service="sts"),
        signed(etl, "/things/a", host=host, service="execute-api", region="eu-west-1"),
        signed(_foreign(cloud), "/things/a", host=host, service="execute-api"),
        with_header(right, "x-amz-extra", "1"),
    ]
    for request in wrong:
        answer = cloud.router(request)
        assert (answer.status, json.loads(answer.body)) == (403, {"message": "Forbidden"})
        assert dict(answer.headers)["apigw-requestid"]


def test_the_other_doors_refuse_in_words_of_their_own(cloud: Cloud, etl: AccessKey) -> None:
    rest = cloud.router(bare(rest_host(cloud), "POST", "/prod/things/a"))
    assert json.loads(rest.body) == {"message": "Request is missing Authentication Token"}
    assert rest.status == 403
    url = cloud.router(bare(url_host(cloud), "POST", "/"))
    assert url.status == 403
    assert json.loads(url.body)["Message"].startswith("Forbidden. For troubleshooting Function URL")
    assert dict(rest.headers)["x-amzn-RequestId"]
    assert dict(url.headers)["x-amzn-RequestId"]
    # A Function URL is signed for the service lambda, not for API Gateway.
    request = signed(etl, "/", host=url_host(cloud), service="execute-api")
    assert cloud.router(request).status == 403


def without_policies(cloud: Cloud, name: str) -> AccessKey:
    """A session of a role that was just made and may do nothing."""
    role = cloud.world.aws.role("stranger")
    assert role is not None
    made = replace(role, role_name=name, policies=[])
    cloud.accounts.deploy([made])
    return cloud.accounts.session(name, "nightly")


def test_who_may_not_call_the_api_is_refused_by_iam(cloud: Cloud) -> None:
    nobody = without_policies(cloud, "nobody")
    answer = call(cloud, nobody, "/things/a")
    assert (answer.status, json.loads(answer.body)) == (403, {"message": "Forbidden"})
    host = rest_host(cloud)
    rest = cloud.router(signed(nobody, "/prod/things/a", host=host, service="execute-api"))
    assert rest.status == 403
    api = host.partition(".")[0]
    assert json.loads(rest.body) == {
        "Message": f"User: {nobody.principal.arn} is not authorized to perform: execute-api:Invoke "
        f"on resource: arn:aws:execute-api:{REGION}:********3333:{api}/prod/POST/things/a because "
        "no identity-based policy allows the execute-api:Invoke action"
    }


def test_a_permission_for_one_route_is_none_for_another(cloud: Cloud) -> None:
    nobody = without_policies(cloud, "narrow")
    api = http_host(cloud).partition(".")[0]
    resource = f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api}/$default/POST/things/mine"
    statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": resource}
    role = cloud.accounts.role("narrow")
    assert role is not None
    document = {"Version": "2012-10-17", "Statement": [statement]}
    role.policies.append(AwsPolicy("one-route", document))
    assert call(cloud, nobody, "/things/mine").status == 200
    for other in ("/things/yours", "/things/mine%2F", "//things/mine", "/things/mine/"):
        assert call(cloud, nobody, other).status == 403


@pytest.mark.parametrize("action", ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"])
def test_a_function_url_needs_both_permissions(cloud: Cloud, action: str) -> None:
    nobody = without_policies(cloud, "caller")
    role = cloud.accounts.role("caller")
    assert role is not None
    both = ["lambda:InvokeFunctionUrl", "lambda:InvokeFunction"]
    for given, status in (([action], 403), (both, 200)):
        statement = {"Effect": "Allow", "Action": given, "Resource": ARN}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        role.policies = [AwsPolicy("url", document)]
        request = signed(nobody, "/a", host=url_host(cloud), service="lambda")
        assert cloud.router(request).status == status


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/nowhere"), ("GET", "/open"), ("POST", "/things/a/b")]
)
def test_an_unknown_route_is_not_found(cloud: Cloud, method: str, target: str) -> None:
    answer = cloud.router(bare(http_host(cloud), method, target))
    assert (answer.status, json.loads(answer.body)) == (404, {"message": "Not Found"})


def test_a_rest_api_without_the_resource_or_stage_asks_for_a_token(cloud: Cloud) -> None:
    for target in ("/prod/nowhere", "/test/open", "/"):
        answer = cloud.router(bare(rest_host(cloud), "POST", target))
        assert answer.status == 403
        assert json.loads(answer.body) == {"message": "Missing Authentication Token"}


@pytest.mark.parametrize(
    "order",
    [
        {"do": "raise"},
        {"do": "exit"},
        {"do": "sleep", "seconds": 5},
        {"do": "answer", "result": {"statusCode": "high"}},
        {"do": "answer", "result": {"statusCode": 200, "headers": "none"}},
        {"do": "answer", "result": {"statusCode": 200, "body": "§", "isBase64Encoded": True}},
    ],
    ids=str,
)
def test_a_failing_function_is_an_internal_error_and_the_next_call_works(
    cloud: Cloud, order: dict[str, Any]
) -> None:
    answer = ordered(cloud, order)
    assert (answer.status, json.loads(answer.body)) == (500, {"message": "Internal Server Error"})
    assert ordered(cloud, {}).status == 200


def test_an_integration_that_takes_too_long_is_unavailable(cloud: Cloud) -> None:
    answer = ordered(cloud, {"do": "sleep", "seconds": 0.5}, "/hurried")
    assert (answer.status, json.loads(answer.body)) == (503, {"message": "Service Unavailable"})


def test_what_the_function_answers_goes_out_as_it_says(cloud: Cloud) -> None:
    result = {
        "statusCode": 418,
        "headers": {"X-One": "1", "Content-Type": "application/octet-stream"},
        "cookies": ["a=1", "b=2"],
        "body": base64.b64encode(b"\x00\xff").decode(),
        "isBase64Encoded": True,
    }
    answer = ordered(cloud, {"do": "answer", "result": result})
    assert (answer.status, answer.body) == (418, b"\x00\xff")
    assert ("X-One", "1") in answer.headers
    assert [v for k, v in answer.headers if k == "Set-Cookie"] == ["a=1", "b=2"]


def test_a_result_without_a_status_is_the_body_of_a_success(cloud: Cloud) -> None:
    answer = ordered(cloud, {"do": "answer", "result": {"plain": True}})
    assert (answer.status, json.loads(answer.body)) == (200, {"plain": True})


def test_a_body_over_lambdas_limit_is_refused(cloud: Cloud) -> None:
    answer = cloud.router(bare(http_host(cloud), "POST", "/open", b"a" * (6 * 1024 * 1024)))
    assert answer.status == 413


def test_more_calls_than_workers_queue_and_all_come_back(cloud: Cloud) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: ordered(cloud, {"do": "sleep", "seconds": 0.05}), "12345678")
        )
    assert [a.status for a in answers] == [200] * 8
    assert len({seen(a)["pid"] for a in answers}) == 2


def client(cloud: Cloud, key: AccessKey, name: str) -> Any:
    """A boto3 client that reaches the embedded cloud as any program does."""
    environment = cloud.network_environment
    return boto3.client(  # type: ignore[call-overload]
        name,
        region_name=REGION,
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
        aws_session_token=key.token or None,
        verify=environment["AWS_CA_BUNDLE"],
        config=Config(
            proxies={"https": environment["HTTPS_PROXY"]}, retries={"total_max_attempts": 1}
        ),
    )


def test_boto3_assumes_a_role_and_asks_who_it_is(cloud: Cloud) -> None:
    sts = client(cloud, cloud.accounts.user("operator"), "sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/operator"
    answer = sts.assume_role(
        RoleArn=f"arn:aws:iam::{ACCOUNT}:role/etl", RoleSessionName="boto", DurationSeconds=900
    )
    key = cloud.accounts.find(answer["Credentials"]["AccessKeyId"])
    assert key is not None
    again = client(cloud, key, "sts").get_caller_identity()
    assert again["Arn"] == answer["AssumedRoleUser"]["Arn"]


@pytest.mark.parametrize(
    ("name", "qualifier", "arn"),
    [
        (FUNCTION, None, ARN),
        (FUNCTION, "live", f"{ARN}:live"),
        (f"{FUNCTION}:live", None, f"{ARN}:live"),
        (f"{ARN}:live", "live", f"{ARN}:live"),
    ],
)
def test_boto3_invokes_the_function_and_its_alias_shows_in_the_arn(
    cloud: Cloud, etl: AccessKey, name: str, qualifier: str | None, arn: str
) -> None:
    extra = {"Qualifier": qualifier} if qualifier else {}
    custom = base64.b64encode(json.dumps({"custom": {"a": "b"}}).encode()).decode()
    answer = client(cloud, etl, "lambda").invoke(
        FunctionName=name, Payload=b'{"operation": "x"}', ClientContext=custom, **extra
    )
    shown = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer
    assert shown["event"] == {"operation": "x"}
    assert shown["arn"] == arn
    assert shown["custom"] == {"a": "b"}


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ({"do": "raise"}, "ValueError"),
        ({"do": "sleep", "seconds": 5}, "Sandbox.Timedout"),
        ({"do": "exit"}, "Runtime.ExitError"),
    ],
)
def test_a_direct_invocation_names_the_functions_error(
    cloud: Cloud, etl: AccessKey, order: dict[str, Any], kind: str
) -> None:
    answer = client(cloud, etl, "lambda").invoke(
        FunctionName=FUNCTION, Payload=json.dumps(order).encode()
    )
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorType"] == kind


def test_a_result_that_looks_like_an_error_is_a_result(cloud: Cloud, etl: AccessKey) -> None:
    order = {"do": "answer", "result": {"errorType": "x", "errorMessage": "y"}}
    answer = client(cloud, etl, "lambda").invoke(
        FunctionName=FUNCTION, Payload=json.dumps(order).encode()
    )
    assert "FunctionError" not in answer


def test_boto3_meets_lambdas_own_errors(cloud: Cloud, etl: AccessKey) -> None:
    asked: list[tuple[AccessKey, dict[str, Any], str]] = [
        (etl, {"FunctionName": "nobody"}, "ResourceNotFoundException"),
        (etl, {"FunctionName": f"{FUNCTION}:dead"}, "ResourceNotFoundException"),
        (etl, {"FunctionName": f"{FUNCTION}%3Alive"}, "ValidationException"),
        (etl, {"FunctionName": FUNCTION, "Payload": b"{"}, "InvalidRequestContentException"),
        (_foreign(cloud), {"FunctionName": FUNCTION}, "AccessDeniedException"),
    ]
    for key, arguments, expected in asked:
        with pytest.raises(ClientError) as refused:
            client(cloud, key, "lambda").invoke(**arguments)
        assert refused.value.response["Error"]["Code"] == expected


def test_the_log_holds_what_the_function_wrote_and_no_credentials(cloud: Cloud) -> None:
    assert cloud.lambdas is not None
    ordered(cloud, {"do": "raise"})
    function = cloud.lambdas.template.functions[0]
    text = cloud.lambdas.log(function).read_text()
    assert "ValueError: as told" in text
    environment = seen(ordered(cloud, {}))["environment"]
    assert environment["AWS_SECRET_ACCESS_KEY"] not in text
    assert environment["AWS_SESSION_TOKEN"] not in text


def test_nothing_outlives_the_cloud(tmp_path: Path) -> None:
    with Cloud(World.load(), tmp_path, functions=("aws",), root=APP) as running:
        pid = seen(ordered(running, {}))["pid"]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (tmp_path / "endpoints.json").exists()


def test_a_port_that_is_kept_for_the_emulator_is_nobody_elses() -> None:
    """Freed ports were taken by others, and any listener there was believed to be the emulator."""
    with runtime.reserved_port() as held:
        port = held.getsockname()[1]
        others = [socket.create_server(("127.0.0.1", 0)) for _ in range(200)]
        taken = {other.getsockname()[1] for other in others}
        for other in others:
            other.close()
        assert port not in taken
        with pytest.raises(OSError, match="in use"), socket.socket() as greedy:
            greedy.bind(("127.0.0.1", port))
        # As Go's listener does, which the emulator has.
        with socket.create_server(("127.0.0.1", port)) as emulator:
            assert emulator.getsockname()[1] == port
