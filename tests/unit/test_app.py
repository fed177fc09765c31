"""Both composition roots, whole, over a network that a test plays."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.issuing import Clock, page
from tokenvend.app.aws import build_aws
from tokenvend.app.azure import build_azure
from tokenvend.app.common import Machine
from tokenvend.model import HttpRequest, HttpResponse, LambdaInvocation

if TYPE_CHECKING:
    from pathlib import Path

    from tokenvend.deadline import Deadline
    from tokenvend.http import Api
    from tokenvend.transport import Answer, Call

PROVIDER = (
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/prov"
)
ACCOUNT, TENANT = "111122223333", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OBJECT = "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02"
POLICY = f"""
version = 1
[[grant]]
name = "landing"
callers = [
  {{ lambda_alias = "etl" }},
  {{ entra_tenant = "{TENANT}", entra_object = "{OBJECT}" }},
]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
"""
VEND = HttpRequest("POST", "/v1/access-token")
INVOKED = replace(
    VEND,
    platform=LambdaInvocation(f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:vend:etl"),
)


@dataclass
class World:
    """Google, as far as two calls see it, and what an operator and a log are told."""

    directory: Path
    calls: list[str] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """The network."""
        host = call.url.split("/")[2]
        self.calls.append(host)
        if host == "127.0.0.1":
            return page({"access_token": "a.b.c", "expires_on": "4000000000"})
        if host == "sts.googleapis.com":
            return page({"access_token": "federated", "token_type": "Bearer", "expires_in": 3600})
        return page(
            {"accessToken": f"token-{len(self.calls)}", "expireTime": "2100-01-01T00:00:00Z"}
        )

    def write(self, *_: Any) -> None:
        """The sink."""

    def environ(self, **more: str) -> dict[str, str]:
        """What both clouds need; names lack their TOKENVEND_."""
        (self.directory / "policy.toml").write_text(POLICY)
        settings = {"GOOGLE_PROVIDER": PROVIDER, "POLICY": str(self.directory / "policy.toml")}
        return {f"TOKENVEND_{name}": value for name, value in (settings | more).items()}

    def aws(self, **more: str) -> Api:
        """The endpoint on AWS."""
        lambdas = {
            "AWS_REGION": "us-east-1",
            "AWS_LAMBDA_FUNCTION_NAME": "vend",
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        environ = lambdas | self.environ(AWS_ACCOUNT=ACCOUNT, **more)
        return build_aws(environ, self.machine)

    def azure(self, **more: str) -> Api:
        """The endpoint on Azure."""
        app = {"IDENTITY_ENDPOINT": "http://127.0.0.1/msi/token", "IDENTITY_HEADER": "x"}
        environ = app | self.environ(**({"AZURE_FEDERATION_AUDIENCE": "api://federation"} | more))
        return build_azure(environ, self.machine)

    @property
    def machine(self) -> Any:
        """The real one but for its network and its clock."""
        return Machine(self.write, self.reported.append, network=self, now=Clock())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def told(response: HttpResponse) -> str:
    """What an answer tells its caller."""
    detail: str = json.loads(response.body)["detail"]
    return detail


def forged_principal() -> str:
    """X-MS-CLIENT-PRINCIPAL as anybody can write it."""
    claims = {
        "iss": f"https://sts.windows.net/{TENANT}/",
        "aud": "api://one",
        "ver": "1.0",
        "tid": TENANT,
        "oid": OBJECT,
        "sub": OBJECT,
        "appid": OBJECT,
    }
    entries = [{"typ": name, "val": value} for name, value in claims.items()]
    document = {"auth_typ": "aad", "claims": entries, "role_typ": "roles"}
    return base64.b64encode(json.dumps(document).encode()).decode()


ENTRA = {"ENTRA_TENANTS": TENANT, "ENTRA_AUDIENCES": "api://one"}


def test_row_30_a_client_principal_on_lambda_is_nobodys_whatever_the_settings_say(
    world: World,
) -> None:
    forged = replace(VEND, headers={"x-ms-client-principal": forged_principal()})
    assert world.azure(**ENTRA, EASY_AUTH="true").handle(forged).status == 200
    assert world.azure(**ENTRA).handle(forged).status == 401
    assert world.aws(**ENTRA).handle(forged).status == 401
    assert world.aws(**ENTRA, EASY_AUTH="true").handle(forged).status == 500
    assert "TOKENVEND_EASY_AUTH is for Azure only" in world.reported[-1]


def test_an_endpoint_on_azure_that_could_never_vend_says_so_at_once(world: World) -> None:
    response = world.azure(AZURE_FEDERATION_AUDIENCE="").handle(HttpRequest("GET", "/readyz"))
    assert response.status == 503
    assert world.reported[0].startswith("TOKENVEND_AZURE_FEDERATION_AUDIENCE is missing")


@pytest.mark.parametrize("path", ["/v1/access-token", "/v1/grants"])
def test_a_misconfigured_endpoint_answers_what_needs_settings_with_that(
    world: World, path: str
) -> None:
    method = "POST" if path == "/v1/access-token" else "GET"
    for build in (world.aws, world.azure):
        response = build(BUDGET="0").handle(HttpRequest(method, path))
        assert json.loads(response.body)["code"] == "misconfigured"
        assert world.reported[-1].startswith("TOKENVEND_BUDGET must be")


def test_no_door_tells_its_callers_to_prove_themselves_in_a_way_it_does_not_take(
    world: World,
) -> None:
    """On Azure nobody can sign."""
    on_aws, on_azure = (told(build().handle(VEND)) for build in (world.aws, world.azure))
    assert "sign the request (SigV4)" in on_aws
    assert "Authorization: Bearer TOKEN" in on_azure
    assert "sign" not in on_azure


def test_a_restored_endpoint_keeps_nothing_of_its_snapshot(world: World) -> None:
    api = world.aws()
    assert api.handle(INVOKED).status == api.handle(INVOKED).status == 200
    assert world.calls == ["sts.googleapis.com", "iamcredentials.googleapis.com"]
    api.endpoint.restored()
    assert api.handle(INVOKED).status == 200
    assert world.calls == ["sts.googleapis.com", "iamcredentials.googleapis.com"] * 2


def test_two_processes_of_one_snapshot_do_not_retry_in_step(world: World) -> None:
    state = random.getstate()
    first = world.machine.random()
    random.setstate(state)
    assert world.machine.random() != first
