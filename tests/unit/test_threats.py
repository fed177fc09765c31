"""Attacks on the service as a whole, each test named after its attack; docs/threat-model.md."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.unit.issuing import NOW, Clock, deadline
from tokenvend.app.aws import build_aws
from tokenvend.app.common import Machine
from tokenvend.audit.record import AuditRecord
from tokenvend.cache import Cache
from tokenvend.deadline import Deadline
from tokenvend.errors import DeadlineExceeded, UpstreamUnavailable
from tokenvend.google.refusals import FederatedTokenRejected
from tokenvend.http import Backend
from tokenvend.model import (
    AccessTokenRequest,
    AwsCaller,
    EntraCaller,
    FederatedToken,
    IdTokenRequest,
    LambdaCaller,
    OidcCaller,
    Secret,
    Session,
    SubjectToken,
    SubjectTokenType,
    TokenSpec,
    VendedToken,
)
from tokenvend.service import owner_of_vended

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest
    from tokenvend.service import Vending

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
POLICY = "version = 1" + "".join(
    [
        *(GRANT.format(name=name, tenant=TENANT, app=APP, read=READ, query=QUERY) for name in "ab"),
        *(BRANCHES.format(name=name) for name in ("app", "web")),
    ]
)


def branch(repository: str, name: str) -> OidcCaller:
    """A workflow on one branch: whoever may push makes as many of them as it likes."""
    claims = (("repository", f"acme/{repository}"),)
    return OidcCaller(ISSUER, f"repo:acme/{repository}:ref:refs/heads/{name}", claims)


@dataclass
class Google:
    """Mints a token of its own for every call; `gate` holds a mint until a test opens it."""

    minted: list[TokenSpec] = field(default_factory=list)
    exchanges: int = 0
    bridged: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    numbers: count[int] = field(default_factory=count)

    def exchange(
        self, subject: SubjectToken, scopes: tuple[str, ...], deadline: Deadline
    ) -> FederatedToken:
        self.exchanges += 1
        return FederatedToken(Secret(f"federated-{next(self.numbers)}"), NOW, NOW + 3600)

    def generate(
        self, federated: FederatedToken, grant: TokenSpec, deadline: Deadline, reason: str
    ) -> VendedToken:
        self.gate.wait(deadline.remaining())
        self.minted.append(grant)
        return VendedToken(Secret(f"token-{next(self.numbers)}"), grant, NOW, NOW + 3600)

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        return SubjectToken(Secret("proof"), SubjectTokenType.JWT, NOW + 300, self.bridged)


SETTINGS = {
    "TOKENVEND_GOOGLE_PROVIDER": (
        "//iam.googleapis.com/projects/123456789012/locations/global/"
        "workloadIdentityPools/tokenvend/providers/aws-prod"
    ),
    "TOKENVEND_AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/tokenvend",
    "AWS_REGION": "eu-west-1",
}


def vending(google: Google, tmp_path: Path, size: int = 1024) -> Vending:
    """What `build_aws` wires, with another Google and another AWS behind it."""
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY)
    settings = {"TOKENVEND_POLICY": str(policy), "TOKENVEND_CACHE_ENTRIES": str(size)}
    api = build_aws(SETTINGS | settings, Machine(lambda *_: None, pytest.fail))
    assert isinstance(api.state, Backend)
    wired = api.state.vending
    mint = replace(
        wired.mint,
        identity=google.subject_token,
        session_identity=lambda _, deadline: google.subject_token(deadline),
        exchange=google.exchange,
        impersonate=google.generate,
    )
    return replace(wired, mint=mint)


def recorded(service: Vending, caller: Caller, request: TokenRequest) -> AuditRecord:
    record = AuditRecord("r", "t")
    service.vend(caller, request, NOW, deadline(), record)
    return record


def vend(service: Vending, caller: Caller, request: TokenRequest) -> str:
    record = AuditRecord("r", "t")
    return service.vend(caller, request, NOW, deadline(), record).value.reveal()


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
    tmp_path: Path,
) -> None:
    google = Google()
    google.gate.set()
    service = vending(google, tmp_path)
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
def test_a_crowd_costs_one_mint_for_id_tokens_too(request_: TokenRequest, tmp_path: Path) -> None:
    google = Google()
    service = vending(google, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(vend, service, CALLERS[0], request_) for _ in range(8)]
        google.gate.set()
        tokens = {each.result() for each in waiting}
    assert len(tokens) == 1
    assert len(google.minted) == 1


def test_a_caller_who_varies_its_session_name_pushes_nobody_out_of_the_cache(
    tmp_path: Path,
) -> None:
    google = Google()
    google.gate.set()
    service = vending(google, tmp_path, size=2)
    victim, request = role("victim"), AccessTokenRequest(service_account=A)
    before = vend(service, victim, request)
    for number in range(50):
        vend(service, role("attacker", f"session-{number}"), request)
    assert vend(service, victim, request) == before
    assert len(google.minted) == 2


def test_a_caller_who_asks_for_many_lifetimes_pushes_out_its_own_tokens_alone(
    tmp_path: Path,
) -> None:
    google = Google()
    google.gate.set()
    service = vending(google, tmp_path, size=4)
    victims = [role("victim"), role("other")]
    before = [vend(service, each, AccessTokenRequest(service_account=A)) for each in victims]
    for lifetime in range(60, 90):
        vend(service, role("attacker"), AccessTokenRequest(service_account=A, lifetime=lifetime))
    after = [vend(service, each, AccessTokenRequest(service_account=A)) for each in victims]
    assert after == before


def test_whoever_makes_branches_pushes_nobody_out_of_any_cache(tmp_path: Path) -> None:
    google = Google()
    google.gate.set()
    service = vending(google, tmp_path, size=6)
    main, etl = branch("app", "main"), role("etl")
    request = AccessTokenRequest()
    ours = AccessTokenRequest(grant_name="a")
    before = vend(service, main, request), vend(service, etl, ours)
    for number in range(50):
        vend(service, branch("web", f"made-up-{number}"), request)
    assert (vend(service, main, request), vend(service, etl, ours)) == before
    # Nor did it lose the federated tokens that they were minted with.
    exchanges = google.exchanges
    vend(service, main, AccessTokenRequest(lifetime=901))
    vend(service, etl, AccessTokenRequest(grant_name="a", lifetime=901))
    assert google.exchanges == exchanges


# --- an upstream that hangs ----------------------------------------------------------------------


def timed(service: Vending, clock: Clock) -> Vending:
    """The same with caches that go by a clock to move."""

    def life(token: FederatedToken | VendedToken) -> tuple[int, int]:
        return token.issued_at, token.expires_at

    federated = Cache[Session, FederatedToken](
        life=life, now=clock, owner=lambda each: each, size=64
    )
    vended = Cache[tuple[str, TokenSpec], VendedToken](
        life=life, now=clock, owner=owner_of_vended, size=64
    )
    return replace(
        service, vended_tokens=vended, mint=replace(service.mint, federated_tokens=federated)
    )


@dataclass
class Hung(Google):
    """From `hangs` on the exchange takes all the time it is given; `waited` is that clock."""

    hangs: bool = False
    waited: float = 0.0

    def exchange(
        self, subject: SubjectToken, scopes: tuple[str, ...], deadline: Deadline
    ) -> FederatedToken:
        if self.hangs:
            self.waited += deadline.remaining()
            raise DeadlineExceeded(cause="sts.googleapis.com had not answered")
        return super().exchange(subject, scopes, deadline)

    def generate(
        self, federated: FederatedToken, grant: TokenSpec, deadline: Deadline, reason: str
    ) -> VendedToken:
        if deadline.remaining() <= 0:
            raise DeadlineExceeded(cause="nothing was left to impersonate in")
        return super().generate(federated, grant, deadline, reason)


def test_a_hung_exchange_costs_its_share_and_shows(tmp_path: Path) -> None:
    google, clock = Hung(), Clock()
    google.gate.set()
    service = timed(vending(google, tmp_path), clock)

    def record(request: TokenRequest, seconds: float = 9) -> AuditRecord:
        made = AuditRecord("r", "t")
        request_deadline = Deadline.after(seconds, lambda: google.waited)
        service.vend(role("etl"), request, NOW, request_deadline, made)
        return made

    assert record(AccessTokenRequest(grant_name="a")).bridged == ""
    google.hangs = True
    clock.now += 3000
    fresh = record(AccessTokenRequest(grant_name="a", lifetime=901))
    assert (fresh.cache, fresh.bridged) == ("miss", "sts.googleapis.com had not answered")
    assert google.waited == pytest.approx(3)
    # Both are at hand: each level keeps the most of what it was lent for its own work.
    clock.now += 200
    google.waited = 0
    both = record(AccessTokenRequest(grant_name="a"))
    assert (both.cache, both.bridged) == ("miss", "sts.googleapis.com had not answered")
    assert google.waited == pytest.approx(1)
    clock.now += 390
    with pytest.raises(DeadlineExceeded):
        record(AccessTokenRequest(grant_name="a", lifetime=902))


def test_an_identity_that_had_to_be_bridged_shows_in_the_record(tmp_path: Path) -> None:
    google = Google(bridged="managed identity endpoint: status 500")
    google.gate.set()
    told = recorded(vending(google, tmp_path), role("etl"), AccessTokenRequest(grant_name="a"))
    assert (told.cache, told.bridged) == ("miss", "managed identity endpoint: status 500")


def test_a_bridged_token_is_not_told_as_a_hit(tmp_path: Path) -> None:
    class Down(Google):
        def generate(
            self, federated: FederatedToken, grant: TokenSpec, deadline: Deadline, reason: str
        ) -> VendedToken:
            if self.minted:
                raise UpstreamUnavailable(cause="iamcredentials: status 503")
            return super().generate(federated, grant, deadline, reason)

    google, clock = Down(), Clock()
    google.gate.set()
    service = timed(vending(google, tmp_path), clock)
    request = AccessTokenRequest(service_account=A)
    assert recorded(service, role("etl"), request).cache == "miss"
    assert recorded(service, role("etl"), request).cache == "hit"
    clock.now += 3000
    told = recorded(service, role("etl"), request)
    assert (told.cache, told.bridged) == ("bridged", "iamcredentials: status 503")


def test_a_rejected_federated_token_costs_one_exchange_whoever_else_held_it(
    tmp_path: Path,
) -> None:
    class Remade(Google):
        """Its provider was made anew: the first federated token counts no more."""

        def generate(
            self, federated: FederatedToken, grant: TokenSpec, deadline: Deadline, reason: str
        ) -> VendedToken:
            if federated.value == Secret("federated-0"):
                # While the first is being refused, another is refused too and exchanges anew.
                if grant.service_account == A:
                    vend(service, role("etl"), AccessTokenRequest(service_account=B))
                raise FederatedTokenRejected("no")
            return super().generate(federated, grant, deadline, reason)

    google = Remade()
    google.gate.set()
    service = vending(google, tmp_path)
    vend(service, role("etl"), AccessTokenRequest(service_account=A))
    assert google.exchanges == 2


def test_a_leaked_federated_token_can_do_nothing_but_impersonate(
    tmp_path: Path,
) -> None:
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
        vend(vending(google, tmp_path), CALLERS[0], request)
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
