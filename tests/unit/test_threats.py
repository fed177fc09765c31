"""Attacks on the service as a whole, each test named after its attack; docs/threat-model.md."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.simulation import IAM, IDENTITY, ISSUERS, LATENCY, STS, TENANT, World
from tokenvend.audit.record import AuditRecord
from tokenvend.deadline import Deadline
from tokenvend.errors import DeadlineExceeded
from tokenvend.model import (
    AccessTokenRequest,
    AwsCaller,
    EntraCaller,
    IdTokenRequest,
    LambdaCaller,
    OidcCaller,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.model import Caller, TokenRequest
    from tokenvend.service import Vending
    from tokenvend.transport import Call

APP = "5b2b7c5e-8f7b-4d53-a0a4-4d6f3c2e1b0a"
A, B = "a@acme.iam.gserviceaccount.com", "b@acme.iam.gserviceaccount.com"
READ = "https://www.googleapis.com/auth/devstorage.read_only"
QUERY = "https://www.googleapis.com/auth/bigquery"
GRANT = """
[[grant]]
name = "{name}"
callers = [
  {{ aws_account = "111122223333" }},
  {{ entra_tenant = "{tenant}", entra_app = "{app}" }},
  {{ lambda_alias = "etl" }},
]
service_account = "{name}@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["{read}", "{query}"]
[grant.id_token]
audiences = ["https://a.example", "https://a.example/b"]
"""
ISSUER = "https://token.actions.githubusercontent.com"
BRANCHES = f"""
[[grant]]
name = "{{name}}"
callers = [{{{{ issuer = "{ISSUER}", claims = {{{{ repository = "acme/{{name}}" }}}} }}}}]
service_account = "ci@acme.iam.gserviceaccount.com"
attribute = "caller"
[grant.access_token]
scopes = ["{READ}"]
"""
PLAIN = "version = 1" + "".join(
    GRANT.format(name=name, tenant=TENANT, app=APP, read=READ, query=QUERY) for name in "ab"
)
POLICY = PLAIN + "".join(BRANCHES.format(name=name) for name in ("app", "web"))


def branch(repository: str, name: str) -> OidcCaller:
    """A workflow on one branch: whoever may push makes as many of them as it likes."""
    claims = (("repository", f"acme/{repository}"),)
    return OidcCaller(ISSUER, f"repo:acme/{repository}:ref:refs/heads/{name}", claims)


@pytest.fixture
def world() -> World:
    return World(policy=PLAIN)


@pytest.fixture
def opened(world: World, tmp_path: Path) -> Callable[..., Vending]:
    """What `build_aws` wires, on a simulated world."""
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)

    def build(entries: int = 1024) -> Vending:
        return world.on_aws(path, CACHE_ENTRIES=str(entries)).vending

    return build


def recorded(
    world: World, service: Vending, caller: Caller, request: TokenRequest
) -> tuple[str, AuditRecord, float]:
    """The token, its record and the seconds that it took of nine."""
    record, clocks = AuditRecord("r", "t"), world.clocks
    began = clocks.steady
    deadline = Deadline.after(9, clocks.monotonic)
    token = service.vend(caller, request, int(clocks.wall), deadline, record)
    return token.value.reveal(), record, clocks.steady - began


def vend(world: World, service: Vending, caller: Caller, request: TokenRequest) -> str:
    return recorded(world, service, caller, request)[0]


def role(name: str, session: str = "s") -> AwsCaller:
    return AwsCaller(f"arn:aws:iam::111122223333:role/{name}", "111122223333", name, session)


CALLERS: tuple[Caller, ...] = (
    role("etl"),
    role("etl:s"),
    role("etl/s"),
    AwsCaller("arn:aws:iam::111122223333:user/etl", "111122223333"),
    LambdaCaller("etl", "111122223333"),
    LambdaCaller("etl", "444455556666"),
    EntraCaller(TENANT, "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02", APP),
    EntraCaller(TENANT, "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b03", APP),
)
REQUESTS: tuple[TokenRequest, ...] = (
    AccessTokenRequest(service_account=A),
    AccessTokenRequest(service_account=B),
    AccessTokenRequest(service_account=A, scopes=(READ,)),
    AccessTokenRequest(service_account=A, scopes=(QUERY,)),
    AccessTokenRequest(service_account=A, lifetime=900),
    AccessTokenRequest(service_account=A, lifetime=901),
    IdTokenRequest("https://a.example", service_account=A),
    IdTokenRequest("https://a.example", service_account=B),
    IdTokenRequest("https://a.example/b", service_account=A),
    IdTokenRequest("https://a.example", service_account=A, include_email=False),
)


def test_row_21_no_two_callers_and_no_two_requests_share_a_token(
    world: World, opened: Callable[..., Vending]
) -> None:
    service = opened()
    asked = [(caller, request) for caller in CALLERS for request in REQUESTS]
    first = [vend(world, service, caller, request) for caller, request in asked]
    assert len(set(first)) == len(asked)
    again = [vend(world, service, caller, request) for caller, request in asked]
    assert again == first
    assert world.asked.count(IAM) == len(asked)


@pytest.mark.parametrize(
    "request_",
    [AccessTokenRequest(service_account=A), IdTokenRequest("https://a.example", service_account=A)],
    ids=["access token", "ID token"],
)
def test_a_crowd_costs_one_mint_for_id_tokens_too(
    world: World, opened: Callable[..., Vending], request_: TokenRequest
) -> None:
    service, gate = opened(), threading.Event()
    world.before = lambda *_: assert_opens(gate)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(vend, world, service, CALLERS[0], request_) for _ in range(8)]
        gate.set()
        tokens = {each.result() for each in waiting}
    assert len(tokens) == 1
    assert world.asked.count(IAM) == 1


def assert_opens(gate: threading.Event) -> None:
    assert gate.wait(10)


def test_a_caller_who_varies_its_session_name_pushes_nobody_out_of_the_cache(
    world: World, opened: Callable[..., Vending]
) -> None:
    service = opened(2)
    victim, request = role("victim"), AccessTokenRequest(service_account=A)
    before = vend(world, service, victim, request)
    for number in range(50):
        vend(world, service, role("attacker", f"session-{number}"), request)
    assert vend(world, service, victim, request) == before
    assert world.asked.count(IAM) == 2


def test_a_caller_who_asks_for_many_lifetimes_pushes_out_its_own_tokens_alone(
    world: World, opened: Callable[..., Vending]
) -> None:
    service, request = opened(4), AccessTokenRequest(service_account=A)
    victims = [role("victim"), role("other")]
    before = [vend(world, service, each, request) for each in victims]
    for lifetime in range(60, 90):
        wish = AccessTokenRequest(service_account=A, lifetime=lifetime)
        vend(world, service, role("attacker"), wish)
    assert [vend(world, service, each, request) for each in victims] == before


def test_whoever_makes_branches_pushes_nobody_out_of_any_cache(
    world: World, opened: Callable[..., Vending]
) -> None:
    service = opened(6)
    ours = (
        (branch("app", "main"), AccessTokenRequest()),
        (role("etl"), AccessTokenRequest(grant_name="a")),
    )
    before = [vend(world, service, *each) for each in ours]
    for number in range(50):
        vend(world, service, branch("web", f"made-up-{number}"), AccessTokenRequest())
    assert [vend(world, service, *each) for each in ours] == before
    # Nor did it lose the sessions and federated tokens that they were minted with.
    world.asked.clear()
    for caller, request in ours:
        vend(world, service, caller, replace(request, lifetime=901))
    assert set(world.asked) == {IAM}


def test_whoever_makes_branches_pushes_out_no_other_entry_of_its_grant(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(
        PLAIN.replace(
            "callers = [",
            f"""callers = [
  {{ issuer = "{ISSUER}", claims = {{ repository = "acme/web" }} }},""",
            1,
        )
    )
    service = world.on_aws(path, CACHE_ENTRIES="6").vending
    asked = AccessTokenRequest(grant_name="a")
    before = vend(world, service, role("etl"), asked)
    for number in range(50):
        vend(world, service, branch("web", f"made-up-{number}"), asked)
    assert vend(world, service, role("etl"), asked) == before


# --- an upstream that hangs ----------------------------------------------------------------------


def test_a_hung_exchange_costs_its_share_and_shows(
    world: World, opened: Callable[..., Vending]
) -> None:
    service, late = opened(), f"{STS} had not answered when the time was up"

    def ask(**more: int) -> tuple[str, str, float]:
        request = AccessTokenRequest(grant_name="a", **more)
        _, record, took = recorded(world, service, role("etl"), request)
        return record.cache, record.bridged, took

    assert ask()[:2] == ("miss", "")
    world.sick = (STS, "drip")
    world.clocks.pass_(3000)
    assert ask(lifetime=901) == ("miss", late, pytest.approx(3 + LATENCY))
    # Both are at hand: each level keeps the most of what it was lent for its own work.
    world.clocks.pass_(200)
    assert ask() == ("miss", late, pytest.approx(1 + LATENCY))
    world.clocks.pass_(390)
    with pytest.raises(DeadlineExceeded):
        ask(lifetime=902)


def test_an_identity_that_had_to_be_bridged_shows_in_the_record(world: World) -> None:
    service = world.on_azure(**ISSUERS).vending
    caller = EntraCaller(TENANT, "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02", APP)
    vend(world, service, caller, AccessTokenRequest(grant_name="a"))
    world.clocks.pass_(50_000)
    world.sick = (IDENTITY, "500")
    _, told, _ = recorded(world, service, caller, AccessTokenRequest(grant_name="a"))
    assert (told.cache, told.bridged) == ("miss", "managed identity endpoint: status 500")


def test_a_bridged_token_is_not_told_as_a_hit(world: World, opened: Callable[..., Vending]) -> None:
    service, request = opened(), AccessTokenRequest(service_account=A)
    told = []
    for sick, seconds in ((None, 0), (None, 0), ((IAM, "500"), 3000)):
        world.sick = sick
        world.clocks.pass_(seconds)
        record = recorded(world, service, role("etl"), request)[1]
        told.append((record.cache, record.bridged))
    assert told == [("miss", ""), ("hit", ""), ("bridged", "impersonation: status 500")]


def test_a_rejected_federated_token_costs_one_exchange_whoever_else_held_it(
    world: World, opened: Callable[..., Vending]
) -> None:
    """The provider was made anew. While one is refused, another is too, and exchanges anew."""
    service, remade = opened(), threading.Event()

    def refuse_what_was_held(host: str, call: Call, _: Deadline) -> None:
        if host == IAM and A in call.url and not remade.is_set():
            remade.set()
            world.expire("federated")
            vend(world, service, role("etl"), AccessTokenRequest(service_account=B))

    world.before = refuse_what_was_held
    vend(world, service, role("etl"), AccessTokenRequest(service_account=A))
    assert remade.is_set()
    assert world.asked.count(STS) == 2


def test_a_leaked_federated_token_can_do_nothing_but_impersonate(
    world: World, opened: Callable[..., Vending]
) -> None:
    for request in REQUESTS:
        vend(world, opened(), CALLERS[0], request)
    assert set(world.scopes) == {"https://www.googleapis.com/auth/iam"}


class Template(yaml.SafeLoader):
    """CloudFormation's tags are data here: `!Ref X` is {"!Ref": "X"}."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> dict[str, object]:
    value: object
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {f"!{tag}": value}


Template.add_multi_constructor("!", _tagged)


def resources(kind: str) -> dict[str, dict[str, object]]:
    text = (Path(__file__).parents[2] / "template.yaml").read_text()
    found = yaml.load(text, Template)["Resources"]  # noqa: S506 -- a safe loader with tags as data
    return {name: each["Properties"] for name, each in found.items() if each["Type"] == kind}


def test_the_template_lets_its_own_api_alone_invoke_the_function() -> None:
    permissions = resources("AWS::Lambda::Permission")
    assert permissions
    for permission in permissions.values():
        assert permission["Principal"] == "apigateway.amazonaws.com"
        assert "${HttpApi}" in str(permission["SourceArn"])
    function = resources("AWS::Serverless::Function")["VendFunction"]
    assert not {"Events", "FunctionUrlConfig"} & function.keys()


def test_the_template_leaves_no_route_open_but_those_that_need_no_platform() -> None:
    routes = resources("AWS::ApiGatewayV2::Route").values()
    assert {route["RouteKey"] for route in routes if route["AuthorizationType"] != "AWS_IAM"} == {
        "POST /v1/token",
        "GET /healthz",
        "GET /readyz",
        "GET /openapi.json",
    }
