"""Both doors answer the same bytes for the same request: one table drives AWS and Azure.

What differs by nature is masked before the bytes are compared: request ids, tokens and times.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from http.client import HTTPConnection
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jsonschema
import pytest

from tests.callers import Caller, managed_identity_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from localcloud.cloud import Cloud

OURS = (
    "Content-Type",
    "Cache-Control",
    "X-Content-Type-Options",
    "Retry-After",
    "Allow",
    "WWW-Authenticate",
)
LANDING = "landing@acme.iam.gserviceaccount.com"
READ = "https://www.googleapis.com/auth/devstorage.read_only"
ORDERS = "https://orders-4x7k2q9d1a-uc.a.run.app"
OPENAPI: dict[str, Any] = json.loads(
    resources.files("tokenvend").joinpath("openapi.json").read_text()
)


@dataclass(frozen=True)
class Row:
    name: str
    status: int
    method: str = "POST"
    path: str = "/v1/access-token"
    body: Any = None
    raw: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""

    def __str__(self) -> str:
        return self.name


def sa(name: str) -> dict[str, str]:
    return {"service_account": name}


ROWS = [
    Row("an access token, nothing asked", 200),
    Row("an access token of a named account", 200, body=sa(LANDING)),
    Row("an access token for 15 minutes", 200, body=sa(LANDING) | {"lifetime": "900s"}),
    Row("a direct federated token", 200, body={"grant": "landing-reader-direct"}),
    Row("a token for 12 hours", 200, body={"grant": "longhaul", "lifetime": "43200s"}),
    Row("through a delegate", 200, body={"grant": "audited-through-landing"}),
    Row("an ID token", 200, path="/v1/id-token", body={"audience": ORDERS}),
    Row("for a custom audience", 200, path="/v1/id-token", body={"audience": "orders.acme.example"}),
    Row(
        "an ID token without email",
        200,
        path="/v1/id-token",
        body={"audience": ORDERS, "include_email": False},
    ),
    Row("health", 200, "GET", "/healthz"),
    Row("readiness", 200, "GET", "/readyz"),
    Row("a path encoded twice", 404, path="/v1/%2561ccess-token", code="not_found"),
    Row("a path encoded three times", 404, path="/v1/%252561ccess-token", code="not_found"),
    Row("the OpenAPI document", 200, "GET", "/openapi.json"),
    Row("not JSON", 400, raw=b"{", code="invalid_request"),
    Row("a list", 400, body=[], code="invalid_request"),
    Row("an unknown field", 400, body={"scope": "x"}, code="invalid_request"),
    Row("scopes of the wrong type", 400, body={"scopes": "x"}, code="invalid_request"),
    Row("a path in the account", 400, body=sa("../x@a.iam.gserviceaccount.com"), code="invalid_request"),
    Row("a lifetime without unit", 400, body={"lifetime": "3600"}, code="invalid_request"),
    Row("a fractional lifetime", 400, body={"lifetime": "3600.5s"}, code="invalid_request"),
    Row("a lifetime in the billions", 400, body={"lifetime": f"{10**12}s"}, code="invalid_request"),
    Row("a negative lifetime", 400, body={"lifetime": "-1s"}, code="invalid_request"),
    Row("an ID token for nobody", 400, path="/v1/id-token", body={}, code="invalid_request"),
    Row("a boundary", 400, body={"boundary": [{"bucket": "b"}]}, code="invalid_request"),
    Row("an empty boundary", 400, body={"boundary": {}}, code="invalid_request"),
    Row("a megabyte", 413, raw=b" " * 1_000_000, code="payload_too_large"),
    Row("a form", 415, raw=b"a=b", headers={"Content-Type": "application/x-www-form-urlencoded"}, code="unsupported_media_type"),
    Row("an account without grant", 403, body=sa("x@acme.iam.gserviceaccount.com"), code="denied"),
    Row("a grant that is not", 403, body={"grant": "nope"}, code="denied"),
    Row("a scope too many", 403, body=sa(LANDING) | {"scopes": [READ, "https://www.googleapis.com/auth/cloud-platform"]}, code="denied"),
    Row("a lifetime too long", 403, body=sa(LANDING) | {"lifetime": "3601s"}, code="denied"),
    Row("another audience", 403, path="/v1/id-token", body={"audience": ORDERS + "/x"}, code="denied"),
    Row("what Google refuses", 502, body={"grant": "unbound"}, code="upstream_refused"),
    Row("no such route", 404, "GET", "/v1/nothing", code="not_found"),
    Row("another method", 405, "DELETE", "/v1/access-token", code="method_not_allowed"),
]  # fmt: skip


def ask(caller: Caller, row: Row) -> requests.Response:
    body = row.raw if row.body is None else json.dumps(row.body).encode()
    return caller.ask(row.method, row.path, body, row.headers)


def masked(text: str) -> str:
    text = re.sub(r'"(access_token|id_token)":"[^"]+"', r'"\1":"TOKEN"', text)
    text = re.sub(r'"expires_at":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', '"expires_at":"WHEN"', text)
    text = re.sub(r'"expires_in":\d+', '"expires_in":0', text)
    return re.sub(r'"request_id":"[0-9a-f-]{36}"', '"request_id":"ID"', text)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_both_doors_answer_the_same_bytes(cloud: Cloud, row: Row) -> None:
    answers = [ask(Caller(cloud.environment_for(name)), row) for name in ("etl", "reporting")]
    aws, azure = answers
    for answer in answers:
        assert answer.status_code == row.status, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["X-Request-Id"])
        assert conforms(answer, row)
        if row.code:
            problem = answer.json()
            assert problem["code"] == row.code
            assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert masked(aws.text) == masked(azure.text)
    assert [aws.headers.get(name) for name in OURS] == [azure.headers.get(name) for name in OURS]


def test_azure_decodes_a_path_once_and_no_more(cloud: Cloud) -> None:
    # By hand: requests decodes what needs no encoding. At AWS the gateway wants a signature.
    address = urlsplit(str(cloud.endpoints["azure_http"])).netloc
    for path, status in (("/%68ealthz", 200), ("/%2568ealthz", 404), ("/%252568ealthz", 404)):
        connection = HTTPConnection(address, timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == status
        connection.close()


def test_row_31_azure_shows_two_spellings_of_one_header_as_one_that_names_nobody(
    cloud: Cloud,
) -> None:
    address = urlsplit(str(cloud.endpoints["azure_http"])).netloc
    token = managed_identity_token(cloud.environment_for("reporting"))
    for names, status in ((["Authorization"], 200), (["Authorization", "authorization"], 401)):
        connection = HTTPConnection(address, timeout=10)
        connection.putrequest("GET", "/v1/grants")
        for name in names:
            connection.putheader(name, f"Bearer {token}")
        connection.endheaders()
        assert connection.getresponse().status == status
        connection.close()


def conforms(answer: requests.Response, row: Row) -> bool:
    """Whether the body is what openapi.json promises for this route and status."""
    operation = OPENAPI["paths"].get(row.path, {}).get(row.method.lower())
    if operation is None:
        return answer.status_code in {404, 405}
    promised = operation["responses"][str(answer.status_code)]
    if "$ref" in promised:
        promised = OPENAPI["components"]["responses"][promised["$ref"].rpartition("/")[2]]
    schema = promised["content"][answer.headers["Content-Type"]]["schema"]
    jsonschema.validate(
        answer.json(),
        schema | {"components": OPENAPI["components"]},
        jsonschema.Draft202012Validator,
    )
    return True


@pytest.mark.parametrize("name", ["etl", "reporting"])
def test_a_caller_sees_itself_and_its_grants(cloud: Cloud, name: str) -> None:
    answer = Caller(cloud.environment_for(name)).ask("GET", "/v1/grants").json()
    assert [grant["name"] for grant in answer["grants"]][:3] == [
        "landing-writer",
        "landing-reader-direct",
        "orders-invoker",
    ]
    assert answer["caller"]["kind"] == ("aws" if name == "etl" else "entra")


@pytest.mark.parametrize("name", ["stranger", "outsider"])
@pytest.mark.parametrize("path", ["/v1/access-token", "/v1/id-token"])
def test_a_caller_without_a_grant_is_denied_and_learns_no_policy(
    cloud: Cloud, name: str, path: str
) -> None:
    body = b"{}" if path == "/v1/access-token" else json.dumps({"audience": ORDERS}).encode()
    answer = Caller(cloud.environment_for(name)).ask("POST", path, body)
    assert answer.status_code == 403
    assert answer.json()["code"] == "denied"
    assert "landing" not in answer.text
    grants = Caller(cloud.environment_for(name)).ask("GET", "/v1/grants").json()
    assert grants.keys() == {"caller", "grants"}
    assert grants["grants"] == []
