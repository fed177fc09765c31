"""Attacks on the service as a whole, each test named after its attack; docs/threat-model.md."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.unit.issuing import NOW, deadline
from tokenvend.audit.record import AuditRecord
from tokenvend.cache import Cache
from tokenvend.google.refusals import FederatedTokenRejected
from tokenvend.mint import Mint
from tokenvend.model import (
    AccessTokenRequest,
    AwsCaller,
    EntraCaller,
    FederatedToken,
    IdTokenRequest,
    LambdaCaller,
    Secret,
    SubjectToken,
    SubjectTokenType,
    VendedToken,
)
from tokenvend.policy import compile_policy
from tokenvend.policy_source import PolicyInForce
from tokenvend.service import Vending

if TYPE_CHECKING:
    from tokenvend.deadline import Deadline
    from tokenvend.model import Caller, TokenRequest, TokenSpec

TENANT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
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
POLICY = compile_policy(
    "version = 1"
    + "".join(
        GRANT.format(name=name, tenant=TENANT, app=APP, read=READ, query=QUERY) for name in "ab"
    )
)


@dataclass
class Google:
    """Mints a token of its own for every call; `gate` holds a mint until a test opens it."""

    minted: list[TokenSpec] = field(default_factory=list)
    exchanges: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    numbers: count[int] = field(default_factory=count)

    def exchange(
        self, subject: SubjectToken, scopes: tuple[str, ...], deadline: Deadline
    ) -> FederatedToken:
        self.exchanges += 1
        return FederatedToken(Secret(f"federated-{next(self.numbers)}"), NOW, NOW + 3600)

    def generate_access_token(
        self, federated: FederatedToken, grant: TokenSpec, deadline: Deadline, reason: str
    ) -> VendedToken:
        self.gate.wait(deadline.remaining())
        self.minted.append(grant)
        return VendedToken(Secret(f"token-{next(self.numbers)}"), grant, NOW, NOW + 3600)

    generate_id_token = generate_access_token

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        return SubjectToken(Secret("proof"), SubjectTokenType.JWT, NOW + 300)


def vending(google: Google, size: int = 1024) -> Vending:
    def cache[K: tuple[object, ...], V: (FederatedToken, VendedToken)]() -> Cache[K, V]:
        return Cache(
            life=lambda token: (token.issued_at, token.expires_at),
            now=lambda: NOW,
            size=size,
            owner=lambda key: key[0],
        )

    return Vending(
        policy=lambda: PolicyInForce(POLICY, loaded_at=NOW, checked_at=NOW),
        mint=Mint(
            identity=google,
            exchange=google,  # type: ignore[arg-type]
            iam_credentials=google,  # type: ignore[arg-type]
            federated_tokens=cache(),
        ),
        vended_tokens=cache(),
        now=lambda: NOW,
    )


def vend(service: Vending, caller: Caller, request: TokenRequest) -> str:
    record = AuditRecord("r", "t")
    return service.vend(caller, request, deadline(), record).value.reveal()


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


def test_row_21_no_two_callers_and_no_two_requests_share_a_token() -> None:
    google = Google()
    google.gate.set()
    service = vending(google)
    asked = [(caller, request) for caller in CALLERS for request in REQUESTS]
    first = [vend(service, caller, request) for caller, request in asked]
    assert len(set(first)) == len(asked)
    again = [vend(service, caller, request) for caller, request in asked]
    assert again == first
    assert len(google.minted) == len(asked)


@pytest.mark.parametrize(
    "request_",
    [AccessTokenRequest(service_account=A), IdTokenRequest("https://a.example", service_account=A)],
    ids=["access token", "ID token"],
)
def test_a_crowd_costs_one_mint_for_id_tokens_too(request_: TokenRequest) -> None:
    google = Google()
    service = vending(google)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(vend, service, CALLERS[0], request_) for _ in range(8)]
        google.gate.set()
        tokens = {each.result() for each in waiting}
    assert len(tokens) == 1
    assert len(google.minted) == 1


def test_a_caller_who_varies_its_session_name_pushes_nobody_out_of_the_cache() -> None:
    google = Google()
    google.gate.set()
    service = vending(google, size=2)
    victim, request = role("victim"), AccessTokenRequest(service_account=A)
    before = vend(service, victim, request)
    for number in range(50):
        vend(service, role("attacker", f"session-{number}"), request)
    assert vend(service, victim, request) == before
    assert len(google.minted) == 2


def test_a_caller_who_asks_for_many_lifetimes_pushes_out_its_own_tokens_alone() -> None:
    google = Google()
    google.gate.set()
    service = vending(google, size=4)
    victims = [role("victim"), role("other")]
    before = [vend(service, each, AccessTokenRequest(service_account=A)) for each in victims]
    for lifetime in range(60, 90):
        vend(service, role("attacker"), AccessTokenRequest(service_account=A, lifetime=lifetime))
    after = [vend(service, each, AccessTokenRequest(service_account=A)) for each in victims]
    assert after == before


def test_a_rejected_federated_token_costs_one_exchange_whoever_else_held_it() -> None:
    class Remade(Google):
        """Its provider was made anew: the first federated token counts no more."""

        def generate_access_token(
            self, federated: FederatedToken, grant: TokenSpec, deadline: Deadline, reason: str
        ) -> VendedToken:
            if federated.value == Secret("federated-0"):
                # While the first is being refused, another is refused too and exchanges anew.
                if grant.service_account == A:
                    vend(service, role("etl"), AccessTokenRequest(service_account=B))
                raise FederatedTokenRejected("no")
            return super().generate_access_token(federated, grant, deadline, reason)

    google = Remade()
    google.gate.set()
    service = vending(google)
    vend(service, role("etl"), AccessTokenRequest(service_account=A))
    assert google.exchanges == 2


def test_a_leaked_federated_token_can_do_nothing_but_impersonate() -> None:
    asked: list[tuple[str, ...]] = []

    class Recording(Google):
        def exchange(
            self, subject: SubjectToken, scopes: tuple[str, ...], deadline: Deadline
        ) -> FederatedToken:
            asked.append(scopes)
            return super().exchange(subject, scopes, deadline)

    google = Recording()
    google.gate.set()
    for request in REQUESTS:
        vend(vending(google), CALLERS[0], request)
    assert set(asked) == {("https://www.googleapis.com/auth/iam",)}


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
