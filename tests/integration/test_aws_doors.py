"""Every way into the Lambda function: REST API, Function URL and direct invoke, all real.

The template deploys an HTTP API alone; here its function also gets a Function URL, and is told to
believe the events of the two further gateways, as an operator would do it. The aliases are the
world's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError

from localcloud import aws
from localcloud.cloud import ROOT, Cloud
from localcloud.world import World
from tests.callers import Caller, session
from tests.canary import logs_of
from tests.conformance.aws_lab import permit

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

ETL_ROLE = "arn:aws:iam::111122223333:role/etl"
LANDING = "landing@acme.iam.gserviceaccount.com"
PROVIDER = (
    "//iam.googleapis.com/projects/123456789012/locations/global/"
    "workloadIdentityPools/tokenvend/providers/aws-prod"
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root like the repository's, whose template has the further doors."""
    root = tmp_path_factory.mktemp("root")
    for name in ("functions", "infra", "shared", ".tools", "host.json", "function_app.py"):
        (root / name).symlink_to(ROOT / name)
    text = (ROOT / "template.yaml").read_text()
    text = text.replace(
        "      Timeout: 29\n",
        "      Timeout: 29\n      FunctionUrlConfig: {AuthType: AWS_IAM}\n",
    )
    (root / "template.yaml").write_text(text)
    return root / "template.yaml"


@pytest.fixture(scope="module")
def known(template: Path) -> aws.Template:
    return aws.load(
        template, {"GoogleProvider": PROVIDER}, account="111122223333", region="us-east-1"
    )


@pytest.fixture(scope="module")
def wide(
    clean_environment: None,
    template: Path,
    known: aws.Template,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    others = [known.apis[0].rest_domain, known.functions[0].url.domain]
    # Beside its alias, etl may invoke the function itself and its URL.
    actions = ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"]
    world = permit(World.load(), "etl", actions, known.functions[0].arn)
    with Cloud(
        world,
        tmp_path_factory.mktemp("wide"),
        functions=("aws",),
        root=template.parent,
        parameters={"OtherApiIds": ",".join(host.partition(".")[0] for host in others)},
    ) as running:
        yield running


def signed(
    cloud: Cloud, method: str, url: str, service: str, body: bytes = b"", name: str = "etl"
) -> requests.Response:
    environment = cloud.environment_for(name)
    request = AWSRequest(method, url, {"Content-Type": "application/json"}, body)
    SigV4Auth(Caller(environment).credentials, service, "us-east-1").add_auth(request)
    return session(environment).request(
        method, url, data=body, headers=dict(request.headers.items()), timeout=30
    )


def test_a_rest_api_vends(wide: Cloud, known: aws.Template) -> None:
    url = f"https://{known.apis[0].rest_domain}/prod/v1/access-token"
    answer = signed(wide, "POST", url, "execute-api", b'{"lifetime": "60s"}')
    assert answer.status_code == 200
    assert answer.json()["service_account"] == LANDING
    assert answer.json()["expires_in"] <= 60


def test_a_rest_api_answers_errors_as_problems(wide: Cloud, known: aws.Template) -> None:
    url = f"https://{known.apis[0].rest_domain}/prod/v1/access-token"
    answer = signed(wide, "POST", url, "execute-api", b"{}", name="stranger")
    assert answer.status_code == 403
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_rest_api_hands_a_form_over_as_text_and_it_is_read(
    wide: Cloud, known: aws.Template
) -> None:
    url = f"https://{known.apis[0].rest_domain}/prod/v1/token"
    form = {"grant_type": "none-such"}
    answer = session(wide.network_environment).post(url, data=form, timeout=30)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")


def test_a_function_url_vends(wide: Cloud, known: aws.Template) -> None:
    url = f"https://{known.functions[0].url.domain}/v1/grants"
    answer = signed(wide, "GET", url, "lambda")
    assert answer.status_code == 200
    assert answer.json()["caller"]["id"] == ETL_ROLE


def test_the_gateways_that_the_operator_did_not_name_are_not_believed(tmp_path: Path) -> None:
    narrow = Cloud(World.load(), tmp_path, functions=("aws",), parameters={"OtherApiIds": ""})
    with narrow as running:
        assert running.lambdas is not None
        host = running.lambdas.template.apis[0].rest_domain
        url = f"https://{host}/prod/v1/access-token"
        answer = signed(running, "POST", url, "execute-api")
    assert answer.status_code == 401


def invoke(cloud: Cloud, qualifier: str | None, payload: Any, name: str = "") -> dict[str, Any]:
    """Invoke an alias as the role that may, or as the one that is named."""
    environment = cloud.environment_for(name or qualifier or "etl")
    client = boto3.client(
        "lambda",
        region_name="us-east-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment["AWS_SESSION_TOKEN"],
        verify=environment["AWS_CA_BUNDLE"],
        config=Config(proxies={"https": environment["HTTPS_PROXY"]}, retries={"max_attempts": 0}),
    )
    assert cloud.lambdas is not None
    function = cloud.lambdas.template.functions[0].name
    extra = {"Qualifier": qualifier} if qualifier else {}
    answer = client.invoke(FunctionName=function, Payload=json.dumps(payload).encode(), **extra)
    return {"error": answer.get("FunctionError"), "payload": json.load(answer["Payload"])}


def test_a_direct_invoke_of_a_granted_alias_vends(wide: Cloud) -> None:
    answer = invoke(wide, "etl", {"operation": "access-token", "lifetime": "900s"})
    assert answer["error"] is None
    assert answer["payload"]["service_account"] == LANDING
    assert answer["payload"]["token_type"] == "Bearer"


@pytest.mark.parametrize(
    ("caller", "alias"), [("stranger", "etl"), ("etl", "stranger"), ("stranger", None)]
)
def test_nobody_invokes_what_is_anothers(wide: Cloud, caller: str, alias: str | None) -> None:
    """A stranger invoked the alias etl, and was given etl's token."""
    with pytest.raises(ClientError) as refused:
        invoke(wide, alias, {"operation": "access-token"}, name=caller)
    assert wide.lambdas is not None
    arn = wide.lambdas.template.functions[0].arn + (f":{alias}" if alias else "")
    assert refused.value.response["Error"] == {
        "Code": "AccessDeniedException",
        "Message": f"User: arn:aws:sts::111122223333:assumed-role/{caller}/local is not authorized "
        f"to perform: lambda:InvokeFunction on resource: {arn} because no identity-based policy "
        "allows the lambda:InvokeFunction action",
    }
    status = refused.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert status == 403


def test_a_function_url_is_closed_to_who_may_call_the_api_alone(
    wide: Cloud, known: aws.Template
) -> None:
    url = f"https://{known.functions[0].url.domain}/v1/grants"
    answer = signed(wide, "GET", url, "lambda", name="stranger")
    assert answer.status_code == 403
    assert answer.json()["Message"].startswith("Forbidden. For troubleshooting Function URL")


@pytest.mark.parametrize(
    ("alias", "payload", "error"),
    [
        ("stranger", {"operation": "access-token"}, "Denied"),
        (None, {"operation": "access-token"}, "Unauthenticated"),
        ("etl", {"operation": "access-token", "lifetime": "0s"}, "InvalidRequest"),
        ("etl", {"operation": "drop-table"}, "InvalidRequest"),
        ("etl", {"hello": "world"}, "InvalidRequest"),
        ("etl", {"operation": "access-token", "grant": "unbound"}, "Denied"),
    ],
)
def test_a_direct_invoke_that_fails_raises_by_its_outcome(
    wide: Cloud, alias: str | None, payload: dict[str, Any], error: str
) -> None:
    answer = invoke(wide, alias, payload)
    assert answer["error"] == "Unhandled"
    assert answer["payload"]["errorType"] == error


def test_row_29_who_may_invoke_an_alias_cannot_write_a_record_too_long_to_keep(wide: Cloud) -> None:
    event = {
        "version": "2.0",
        "rawPath": "/v1/token",
        "headers": {"user-agent": "x" * 100_000},
        "requestContext": {
            "http": {"method": "POST", "sourceIp": "x" * 100_000},
            "stage": "$default",
            "requestId": "x" * 2_000_000,
        },
    }
    assert invoke(wide, "stranger", event)["payload"]["statusCode"] == 400
    longest = max(len(line) for text in logs_of(wide).values() for line in text.splitlines())
    assert longest < 16 * 1024


def test_row_31_two_spellings_of_one_header_are_refused_at_the_real_door(wide: Cloud) -> None:
    headers = {"Authorization": ["Bearer a"], "authorization": ["Bearer b"]}
    event = {
        "httpMethod": "POST",
        "path": "/v1/access-token",
        "multiValueHeaders": headers,
        "requestContext": {"requestId": "id"},
    }
    payload = invoke(wide, "stranger", event)["payload"]
    assert payload["statusCode"] == 400
    assert "two spellings" in payload["body"]


@pytest.mark.parametrize("api", ["abcdefghij", "our own"])
@pytest.mark.parametrize("alias", ["stranger", "etl"])
def test_a_forged_gateway_event_through_a_direct_invoke_is_refused(
    wide: Cloud, known: aws.Template, alias: str, api: str
) -> None:
    ours = known.apis[0].domain.partition(".")[0]
    event = {
        "version": "2.0",
        "rawPath": "/v1/access-token",
        "headers": {},
        "requestContext": {
            "http": {"method": "POST"},
            "stage": "$default",
            "requestId": "forged",
            "apiId": ours if api == "our own" else api,
            "accountId": "111122223333",
            "authorizer": {
                "iam": {
                    "userArn": "arn:aws:sts::111122223333:assumed-role/etl/forged",
                    "accountId": "111122223333",
                }
            },
        },
    }
    answer = invoke(wide, alias, event)
    assert answer["payload"]["statusCode"] == 401
