"""Whichever single upstream hangs, drips, refuses or is reset, at whatever moment of a token's
life: a caller whose value is at hand is answered within the budget, and no token leaves that is
dead, another's or unrecorded.

The application is the one that deploys, built by `tokenvend.app` on a simulated world. What must be
answered is worked out beside it, from what the world has given and to whom.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from tests.simulation import (
    ACCOUNT,
    ALIAS,
    API,
    AUDIENCE,
    AWS_STS,
    BLOB,
    ENTRA,
    FAULTS,
    FUNCTION,
    IAM,
    IDENTITY,
    ISSUER,
    ISSUERS,
    STS,
    TENANT,
    Deployment,
    World,
)
from tests.unit.issuing import rsa_key
from tokenvend.model import AwsIamIdentity, HttpRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

BUDGET = 3.0
DAY = 86_400
COOLDOWN = 60
PEOPLE = ("9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b01", "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02")
READ = "https://www.googleapis.com/auth/devstorage.read_only"
CALLERS = f"""callers = [
  {{ aws_account = "{ACCOUNT}" }},
  {{ entra_tenant = "{TENANT}", entra_role = "Vend" }},
  {{ issuer = "https://{ISSUER}", claims = {{ sub = "workload-*" }} }},
]"""
POLICY = f"""version = 1
[[grant]]
name = "plain"
{CALLERS}
service_account = "plain@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["{READ}"]
[grant.id_token]
audiences = ["https://orders.example"]

[[grant]]
name = "direct"
{CALLERS}
direct = true
[grant.access_token]
scopes = ["{READ}"]
"""
ATTRIBUTED = f"""
[[grant]]
name = "attributed"
{CALLERS}
service_account = "attributed@acme.iam.gserviceaccount.com"
attribute = "caller"
[grant.access_token]
scopes = ["{READ}"]
"""
# Route, body; the lifetimes put the moments of renewal and of death in reach of short sleeps.
WISHES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/access-token", {"grant": "plain"}),
    ("/v1/access-token", {"grant": "plain", "lifetime": "60s"}),
    ("/v1/access-token", {"grant": "plain", "lifetime": "300s"}),
    ("/v1/id-token", {"grant": "plain", "audience": "https://orders.example"}),
    ("/v1/access-token", {"grant": "direct"}),
    ("/v1/access-token", {"grant": "attributed"}),
)


@dataclass(frozen=True)
class Held:
    """A token that a caller was given, and when."""

    value: str
    at: float
    expires_at: float

    def serves(self, now: float) -> bool:
        """Whether it is certain to be good enough for a whole budget from now."""
        life = self.expires_at - self.at
        return self.expires_at - now > min(30.0, life / 8) + BUDGET + 1


@dataclass
class Trial:
    """The application on a world, and the reckoning beside it."""

    on_aws: bool
    folder: Path
    audit_required: bool
    world: World = field(default_factory=World)
    function: Deployment = field(init=False)
    held: dict[tuple[int, int], Held] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    sessions: dict[int, str] = field(default_factory=dict)
    restored_with: int = 0

    def __post_init__(self) -> None:
        self.world.policy = POLICY + (ATTRIBUTED if self.on_aws else "")
        settings = {
            "BUDGET": f"{BUDGET:g}",
            "AUDIT_REQUIRED": "true" if self.audit_required else "false",
        }
        if self.on_aws:
            path = self.folder / "policy.toml"
            path.write_text(self.world.policy)
            self.function = self.world.on_aws(path, **ISSUERS, **settings)
        else:
            self.function = self.world.on_azure(**ISSUERS, **settings)

    # --- what happens ----------------------------------------------------------------------------

    def ask(self, caller: int, wish: int) -> None:
        """One request, and everything that must hold of its answer."""
        must = self._must_be_answered(caller, wish)
        before, recorded = self.world.clocks.steady, len(self.function.records)
        response = self.function.api.handle(self._request(caller, wish))
        took = self.world.clocks.steady - before
        assert took <= BUDGET + 0.001, f"{took} s"
        assert len(self.function.records) - recorded == (0 if self.function.sink_fails else 1)
        body = json.loads(response.body)
        value = body.get("access_token") or body.get("id_token")
        if response.status != 200:
            assert not value
            assert not must or (self.function.sink_fails and self.audit_required), body
            return
        self._check_token(caller, wish, value, body)

    def _check_token(self, caller: int, wish: int, value: str, body: Mapping[str, Any]) -> None:
        now, route_body = self.world.clocks.wall, WISHES[wish][1]
        given = self.world.given[value]
        assert given.expires_at > now, "a dead token left"
        assert body["expires_in"] <= given.expires_at - now + 1
        assert self.owners.setdefault(value, caller) == caller, "another's token left"
        grant = route_body["grant"]
        assert given.account == (
            "" if grant == "direct" else f"{grant}@acme.iam.gserviceaccount.com"
        )
        assert bool(given.session) == (grant == "attributed")
        if given.session:
            assert self.sessions.setdefault(caller, given.session) == given.session
            assert len(set(self.sessions.values())) == len(self.sessions)
        if not self.function.sink_fails:
            record = self.function.records[-1]
            assert record["outcome"] == "vended"
            assert record["token_fingerprint"] == hashlib.sha256(value.encode()).hexdigest()
        else:
            assert not self.audit_required, "an unrecorded token left"
        known = self.held.get((caller, wish))
        if known is None or known.value != value:
            self.held[caller, wish] = Held(value, now, given.expires_at)

    def _must_be_answered(self, caller: int, wish: int) -> bool:
        """Whether nothing that this request needs, beyond what is at hand, is with the sick one."""
        grant = WISHES[wish][1]["grant"]
        if self.world.sick is None or (grant == "attributed" and not self.on_aws):
            return False
        now, need = self.world.clocks.wall, set[str]()
        key_host = self._key_host(caller)
        # A key set serves for a day after its issuer last gave it.
        if key_host and now - self.world.answered_at.get(key_host, -1e9) > DAY - BUDGET:
            need.add(key_host)
        held = self.held.get((caller, wish))
        if held is None or not held.serves(now):
            need |= self._to_mint(caller, grant, now)
        # What failed a moment ago may be left alone for another moment.
        failed = {host for host, at in self.world.failed_at.items() if now - at < COOLDOWN}
        return not need & {self.world.sick[0], *failed}

    def _to_mint(self, caller: int, grant: str, now: float) -> set[str]:
        session = self.sessions.get(caller, "?") if grant == "attributed" else ""
        need = set() if grant == "direct" else {IAM}
        if grant == "direct" or not self._at_hand("federated", session, now):
            need |= {STS} if self.on_aws else {STS, IDENTITY}
            if grant == "attributed" and not self._at_hand("session", session, now):
                need.add(AWS_STS)
        return need

    def _at_hand(self, kind: str, session: str, now: float) -> bool:
        since_restore = list(self.world.given.values())[self.restored_with :]
        ends = [
            each.expires_at
            for each in since_restore
            if (each.kind, each.session) == (kind, session)
        ]
        # Sixty: more than what is kept from serving, and than a whole budget.
        return bool(ends) and ends[-1] - now > 60 + BUDGET

    def restore(self) -> None:
        """A snapshot is restored: nothing that was cached may serve any more."""
        self.function.api.endpoint.restored()
        self.held.clear()
        self.restored_with = len(self.world.given)

    # --- callers ---------------------------------------------------------------------------------

    def _key_host(self, caller: int) -> str:
        return {0: "", 1: "", 2: ENTRA, 3: ENTRA}.get(caller if self.on_aws else caller + 2, ISSUER)

    def _request(self, caller: int, wish: int) -> HttpRequest:
        path, body = WISHES[wish]
        headers = {"content-type": "application/json"}
        platform = None
        if not self._key_host(caller):
            arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/role-{caller}/session"
            platform = AwsIamIdentity(arn, ACCOUNT, API, ACCOUNT, "", f"{FUNCTION}:{ALIAS}")
        else:
            headers["authorization"] = f"Bearer {self._bearer(caller)}"
        return HttpRequest("POST", path, headers, json.dumps(body).encode(), platform)

    def _bearer(self, caller: int) -> str:
        now = int(self.world.clocks.wall)
        times = {"iat": now, "nbf": now, "exp": now + 600}
        if self._key_host(caller) == ISSUER:
            claims = {"iss": f"https://{ISSUER}", "aud": "tokenvend", "sub": f"workload-{caller}"}
            return rsa_key().sign(claims | times)
        person = PEOPLE[caller % 2]
        claims = {
            "iss": f"https://{ENTRA}/{TENANT}/v2.0",
            "aud": AUDIENCE,
            "tid": TENANT,
            "ver": "2.0",
            "azp": AUDIENCE,
            "oid": person,
            "sub": person,
        }
        return rsa_key().sign({**claims, **times, "roles": ["Vend"]})


# Seconds, and fractions of a federated token's life: about renewal, bridging, cooldowns, death.
_moments = st.one_of(
    st.sampled_from([0.5, 9, 11, 29, 31, 52, 59, 61, 224, 270, 299, 301, 2_699, 3_599, 3_601]),
    st.sampled_from([7_000, 43_300, 65_000, 85_000, 90_000]),
    st.integers(1, 4_000),
)
_waits = st.one_of(
    st.tuples(st.sampled_from(["pass", "freeze"]), _moments),
    st.tuples(st.just("age"), st.floats(0.4, 1.05)),
)
_hosts = st.sampled_from([STS, IAM, AWS_STS, ENTRA, ISSUER, IDENTITY, BLOB])
_asks = st.tuples(st.just("ask"), st.integers(0, 4), st.integers(0, len(WISHES) - 1))
_rest = st.one_of(
    st.just(("heal",)), st.just(("restore",)), st.tuples(st.just("sink"), st.booleans())
)
# Somebody is served, time goes by, an upstream falls ill, and they come again.
_scenes = st.tuples(
    st.lists(_asks, min_size=1, max_size=3),
    st.lists(_waits, max_size=2),
    st.lists(st.tuples(st.just("sicken"), _hosts, st.sampled_from(FAULTS)), max_size=1),
    st.lists(st.one_of(_asks, _asks, _waits), max_size=4),
    st.lists(_rest, max_size=1),
).map(lambda parts: [step for part in parts for step in part])


@given(
    on_aws=st.booleans(),
    audit_required=st.booleans(),
    federated_life=st.sampled_from([60, 300, 900, 3_600]),
    scenes=st.lists(_scenes, min_size=1, max_size=3),
)
def test_whatever_upstream_fails_who_holds_a_value_is_answered(
    tmp_path_factory: pytest.TempPathFactory,
    on_aws: bool,
    audit_required: bool,
    federated_life: int,
    scenes: list[list[tuple[Any, ...]]],
) -> None:
    world = World(federated_life=federated_life)
    trial = Trial(on_aws, tmp_path_factory.getbasetemp(), audit_required, world)
    for step in chain.from_iterable(scenes):
        match step:
            case ("ask", caller, wish):
                trial.ask(caller, wish)
            case ("pass", seconds):
                world.clocks.pass_(seconds)
            case ("age", part):
                world.clocks.pass_(part * federated_life)
            case ("freeze", seconds):
                world.clocks.freeze(seconds)
            case ("sicken", host, fault):
                world.sick = (host, fault)
            case ("heal",):
                world.sick = None
            case ("restore",):
                trial.restore()
            case ("sink", fails):
                trial.function.sink_fails = fails
