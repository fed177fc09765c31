"""Both composition roots, whole, over a simulated world: that what they are made of is wired."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.simulation import (
    AUDIENCE,
    AWS,
    AZURE,
    BLOB,
    FUNCTION,
    IAM,
    ISSUER,
    ISSUERS,
    TENANT,
    Deployment,
    World,
)
from tests.unit.issuing import rsa_key
from tests.unit.upstream import answer, container_keys, upstream
from tokenvend.app.azure import build_azure
from tokenvend.app.common import Machine
from tokenvend.deadline import Deadline
from tokenvend.model import HttpRequest, HttpResponse, LambdaInvocation, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

OBJECT = "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02"
SCOPES = 'scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]'
LANDING = f"""
version = 1
[[grant]]
name = "landing"
callers = [
  {{ lambda_alias = "etl" }},
  {{ entra_tenant = "{TENANT}", entra_object = "{OBJECT}" }},
]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
{SCOPES}
"""
ATTRIBUTED = f"""
[[grant]]
name = "attributed"
callers = [{{ issuer = "https://{ISSUER}", claims = {{ sub = "workload-*" }} }}]
service_account = "landing@acme.iam.gserviceaccount.com"
attribute = "caller"
[grant.access_token]
{SCOPES}
"""
PERSON = f"""
[[grant]]
name = "person"
callers = [{{ entra_tenant = "{TENANT}", entra_user = "{OBJECT}" }}]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
{SCOPES}
"""
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
VEND = HttpRequest("POST", "/v1/access-token")
INVOKED = replace(VEND, platform=LambdaInvocation(f"{FUNCTION}:etl"))
ENTRA = {name: text for name, text in ISSUERS.items() if name.startswith("ENTRA")}


@pytest.fixture
def world() -> World:
    return World(policy=LANDING)


@pytest.fixture
def on_aws(world: World, tmp_path: Path) -> Callable[..., Deployment]:
    """The function on AWS with the world's policy as its packaged file."""

    def build(*, environ: Mapping[str, str] = AWS, **settings: str) -> Deployment:
        path = tmp_path / "policy.toml"
        path.write_text(world.policy)
        return world.on_aws(path, environ, **settings)

    return build


def told(response: HttpResponse) -> str:
    """What an answer tells its caller."""
    detail: str = json.loads(response.body)["detail"]
    return detail


def bearer(world: World) -> HttpRequest:
    """A request of a workload of the simulated issuer."""
    now = int(world.clocks.wall)
    claims = {"iss": f"https://{ISSUER}", "aud": "tokenvend", "sub": "workload-1"}
    token = rsa_key().sign({**claims, "iat": now, "exp": now + 600})
    return replace(VEND, headers={"authorization": f"Bearer {token}"})


def forged_principal() -> str:
    """X-MS-CLIENT-PRINCIPAL as anybody can write it."""
    claims = {
        "iss": f"https://sts.windows.net/{TENANT}/",
        "aud": AUDIENCE,
        "ver": "1.0",
        "tid": TENANT,
        "oid": OBJECT,
        "sub": OBJECT,
        "appid": OBJECT,
    }
    entries = [{"typ": name, "val": value} for name, value in claims.items()]
    document = {"auth_typ": "aad", "claims": entries, "role_typ": "roles"}
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_row_30_a_client_principal_on_lambda_is_nobodys_whatever_the_settings_say(
    world: World, on_aws: Callable[..., Deployment]
) -> None:
    forged = replace(VEND, headers={"x-ms-client-principal": forged_principal()})
    assert world.on_azure(**ENTRA, EASY_AUTH="true").api.handle(forged).status == 200
    assert world.on_azure(**ENTRA).api.handle(forged).status == 401
    assert on_aws(**ENTRA).api.handle(forged).status == 401
    refusing = on_aws(**ENTRA, EASY_AUTH="true")
    assert refusing.api.handle(forged).status == 500
    assert "TOKENVEND_EASY_AUTH is for Azure only" in refusing.reported[-1]


def test_an_endpoint_on_azure_that_could_never_vend_says_so_at_once(world: World) -> None:
    lacking = world.on_azure(AZURE_FEDERATION_AUDIENCE="")
    assert lacking.api.handle(HttpRequest("GET", "/readyz")).status == 503
    assert lacking.reported[0].startswith("TOKENVEND_AZURE_FEDERATION_AUDIENCE is missing")


def test_a_misconfigured_endpoint_answers_what_needs_settings_with_that(
    world: World, on_aws: Callable[..., Deployment]
) -> None:
    for build in (on_aws, world.on_azure):
        wrong = build(BUDGET="0")
        for request in (VEND, HttpRequest("GET", "/v1/grants")):
            assert json.loads(wrong.api.handle(request).body)["code"] == "misconfigured"
        assert wrong.reported[-1].startswith("TOKENVEND_BUDGET must be")


def test_no_door_tells_its_callers_to_prove_themselves_in_a_way_it_does_not_take(
    world: World, on_aws: Callable[..., Deployment]
) -> None:
    """On Azure nobody can sign."""
    aws, azure = (told(build().api.handle(VEND)) for build in (on_aws, world.on_azure))
    assert "sign the request (SigV4)" in aws
    assert "Authorization: Bearer TOKEN" in azure
    assert "sign" not in azure


def test_a_policy_that_this_platform_cannot_hold_is_refused(
    world: World, on_aws: Callable[..., Deployment]
) -> None:
    for more, settings, takes in (
        (PERSON, {}, False),
        (PERSON, {"ENTRA_ALLOW_USERS": "true"}, True),
        (ATTRIBUTED, {"AWS_ROLE_ARN": ""}, False),
        (ATTRIBUTED, {}, True),
    ):
        world.policy = LANDING + more
        assert (on_aws(**ISSUERS, **settings).api.handle(INVOKED).status == 200) is takes
    ready = HttpRequest("GET", "/readyz")
    assert world.on_azure(**ISSUERS).api.handle(ready).status == 503
    world.policy = LANDING
    assert world.on_azure(**ISSUERS).api.handle(ready).status == 200


def test_tokens_are_fingerprinted_under_the_operators_key(
    on_aws: Callable[..., Deployment],
) -> None:
    key = "0123456789abcdef0123456789abcdef"
    function = on_aws(AUDIT_KEY=key)
    token = json.loads(function.api.handle(INVOKED).body)["access_token"]
    fingerprint = Secret(token).fingerprint(key.encode())
    assert function.records[-1]["token_fingerprint"] == fingerprint


def test_no_token_leaves_unrecorded_where_the_operator_asks_for_that(
    on_aws: Callable[..., Deployment],
) -> None:
    for required, status in (("true", 500), ("false", 200)):
        function = on_aws(AUDIT_REQUIRED=required)
        function.sink_fails = True
        assert function.api.handle(INVOKED).status == status
        assert "was not taken: OSError" in function.reported[-1]


def test_a_restored_endpoint_keeps_nothing_of_its_snapshot(
    world: World, on_aws: Callable[..., Deployment], tmp_path: Path
) -> None:
    world.policy = LANDING + ATTRIBUTED
    function = on_aws(**ISSUERS)
    requests = INVOKED, bearer(world)
    for request in (*requests, *requests):
        assert function.api.handle(request).status == 200
    snapshot = list(world.asked)
    assert snapshot.count(IAM) == 2
    world.asked.clear()
    function.api.endpoint.restored()
    for request in requests:
        assert function.api.handle(request).status == 200
    assert sorted(world.asked) == sorted(snapshot)
    # A policy as old as the snapshot decides nothing.
    (tmp_path / "policy.toml").write_text(LANDING.replace("etl", "reporting"))
    assert function.api.handle(INVOKED).status == 200
    function.api.endpoint.restored()
    assert function.api.handle(INVOKED).status == 403


def test_a_restored_endpoint_on_aws_asks_for_its_own_keys_anew(
    on_aws: Callable[..., Deployment], bare: pytest.MonkeyPatch
) -> None:
    with upstream(container_keys("ASIACONTAINER", 3600)) as site:
        bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{site.http}/creds")
        function = on_aws(environ={name: text for name, text in AWS.items() if name not in KEYS})
        for asked in (1, 2):
            assert function.api.handle(INVOKED).status == 200
            assert len(site.requests) == asked
            function.api.endpoint.restored()


@pytest.mark.parametrize("policy", ["packaged", "azure-blob"])
def test_a_restored_endpoint_opens_its_connections_anew(
    world: World, tmp_path: Path, policy: str
) -> None:
    """Our identity is asked over the one way out, or over that to a remote policy's source."""
    (tmp_path / "policy.toml").write_text(LANDING)
    clock = world.clocks
    token = {"access_token": "a.b.c", "expires_on": str(int(clock.wall) + 40)}
    said = answer(200, json.dumps(token).encode())
    with upstream(said) as identity, upstream(answer(502)) as proxy:
        sources = {
            "packaged": str(tmp_path / "policy.toml"),
            "azure-blob": f"azure-blob:https://{BLOB}/policies/policy.toml",
        }
        environ = {
            **AZURE,
            **{f"TOKENVEND_{name}": text for name, text in ENTRA.items()},
            "TOKENVEND_EASY_AUTH": "true",
            "TOKENVEND_POLICY": sources[policy],
            "IDENTITY_ENDPOINT": f"{identity.http}/msi/token",
            "HTTPS_PROXY": proxy.http,
        }
        machine = Machine(lambda *_: None, lambda _: None, now=clock.now, sleep=clock.pass_)
        api = build_azure(environ, machine)
        request = replace(VEND, headers={"x-ms-client-principal": forged_principal()})
        assert api.handle(request).status >= 500
        assert identity.connections == 1
        for restored, connections in ((False, 1), (True, 2)):
            clock.pass_(25)
            if restored:
                api.endpoint.restored()
            token["expires_on"] = str(int(clock.wall) + 40)
            identity.steps[:] = [answer(200, json.dumps(token).encode())]
            api.handle(request)
            assert identity.connections == connections
        assert len(identity.requests) == 3


def test_an_upstream_that_hangs_is_asked_again_and_cut_off_at_the_deadline(
    world: World, on_aws: Callable[..., Deployment]
) -> None:
    """By the budget that the operator set; once a hang is over, the second try is the answer."""
    function = on_aws(BUDGET="10")
    for hangs, status in ((1, 200), (9, 504)):
        left = [hangs]

        def hang(host: str, *_: object, left: list[int] = left) -> None:
            world.sick = (IAM, "hang") if host == IAM and left[0] else None
            left[0] -= host == IAM

        world.before = hang
        began = world.clocks.steady
        body = json.dumps({"lifetime": f"{900 + hangs}s"}).encode()
        request = replace(INVOKED, headers={"content-type": "application/json"}, body=body)
        assert function.api.handle(request).status == status
        took = world.clocks.steady - began
        assert took < 5 if status == 200 else took == pytest.approx(10)


def age_of_policy(world: World, function: Deployment) -> float:
    """Seconds since its source last held the policy, as the next request would decide by it."""
    in_force = function.vending.policy(Deadline.after(10, world.clocks.monotonic))
    return world.clocks.wall - in_force.checked_at


def test_nobody_keeps_a_policy_from_being_renewed_by_asking_whether_we_are_ready(
    world: World,
) -> None:
    function = world.on_azure()
    # A source that answers within a request's share, and within no probe's.
    world.before = lambda *_: world.clocks.pass_(0.4)
    for _ in range(300):
        world.clocks.pass_(1)
        assert function.api.handle(HttpRequest("GET", "/readyz")).status == 200
    assert age_of_policy(world, function) < 2


def test_a_check_that_had_no_chance_is_made_again_soon(world: World) -> None:
    function = world.on_azure(BUDGET="0.5")
    world.clocks.pass_(61)
    world.before = lambda *_: world.clocks.pass_(0.4)
    world.clocks.pass_(0)
    deadline = Deadline.after(0.5, world.clocks.monotonic)
    function.vending.policy(deadline)
    world.before = lambda *_: None
    world.clocks.pass_(6)
    assert age_of_policy(world, function) < 2


def test_two_processes_of_one_snapshot_do_not_retry_in_step() -> None:
    machine = Machine(lambda *_: None, lambda _: None)
    state = random.getstate()
    first = machine.random()
    random.setstate(state)
    assert machine.random() != first
