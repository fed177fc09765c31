"""Entra bearer tokens and App Service's client principal."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from localcloud.azure import Entra, sites
from localcloud.wire.web import Response, Router
from localcloud.world import World
from tests.unit.issuing import (
    NOW,
    Clock,
    Recorder,
    by_name,
    deadline,
    ec_key,
    key_set,
    rsa_key,
    tenant,
)
from tests.unit.sending import Embedded
from tokenvend.caller import Authenticator
from tokenvend.caller.jwks import KeySets
from tokenvend.errors import Unauthenticated, UpstreamUnavailable
from tokenvend.model import Caller, EntraCaller, HttpRequest

TENANT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OTHER_TENANT = "00000000-4f89-41d3-9a0c-0305e82c3301"
OBJECT = "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02"
APP = "1b1d3f60-7c2e-4c52-bb63-6e2f8a5d9c02"
CLIENT_ID = "6f1b7c1e-2a34-4e0e-9a51-9f3e5d7c0a11"
URI = "api://tokenvend"
LOGIN = "https://login.microsoftonline.com"
V1_KEYS = f"{LOGIN}/{TENANT}/discovery/keys"
V2_KEYS = f"{LOGIN}/{TENANT}/discovery/v2.0/keys"
V1: dict[str, Any] = {
    "iss": f"https://sts.windows.net/{TENANT}/",
    "aud": URI,
    "ver": "1.0",
    "tid": TENANT,
    "oid": OBJECT,
    "sub": OBJECT,
    "appid": APP,
    "iat": NOW - 300,
    "nbf": NOW - 300,
    "exp": NOW + 3600,
}
V2 = {key: value for key, value in V1.items() if key != "appid"} | {
    "iss": f"{LOGIN}/{TENANT}/v2.0",
    "aud": CLIENT_ID,
    "ver": "2.0",
    "azp": APP,
}
REPORTING = EntraCaller(TENANT, OBJECT, APP)
AUDIENCES = frozenset({URI, CLIENT_ID})


class Bench:
    """An authenticator for one tenant, and what it sent."""

    def __init__(self, *, easy_auth: bool = False, **settings: Any) -> None:
        self.clock = Clock()
        own = key_set(rsa_key().jwk())
        self.sender = Recorder({V1_KEYS: own, V2_KEYS: own})
        self.authenticator = Authenticator(
            KeySets(self.sender, self.clock),
            "Send a token.",
            by_name(*tenant(TENANT, AUDIENCES, **settings)),
            easy_auth=easy_auth,
        )

    def who(self, claims: dict[str, Any], **header: Any) -> Caller:
        """The caller of a token with these claims; a claim that is None is left out."""
        present = {name: value for name, value in claims.items() if value is not None}
        return self.ask({"authorization": f"Bearer {rsa_key().sign(present, **header)}"})

    def ask(self, headers: dict[str, str]) -> Caller:
        """The caller of a request with these headers."""
        request = HttpRequest("POST", "/v1/access-token", headers)
        return self.authenticator.authenticate(request, self.clock(), deadline())


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_v1_and_a_v2_token_make_the_same_caller(bench: Bench) -> None:
    assert bench.who(V1) == REPORTING
    assert bench.who(V2) == REPORTING
    assert bench.sender.urls == [V1_KEYS, V2_KEYS]


def test_roles_become_the_caller_s(bench: Bench) -> None:
    caller = bench.who({**V2, "roles": ["Tokens.Read"]})
    assert caller == EntraCaller(TENANT, OBJECT, APP, frozenset({"Tokens.Read"}))


def test_roles_that_no_record_could_hold_never_decide(bench: Bench) -> None:
    caller = bench.who({**V2, "roles": ["Tokens.Read", "x" * 121, "a b", "\u2028"]})
    assert caller == replace(REPORTING, roles=frozenset({"Tokens.Read"}))
    with pytest.raises(Unauthenticated) as refusal:
        bench.who({**V2, "roles": [f"{number:0>100}" for number in range(100)]})
    assert "record" in refusal.value.cause


def test_a_single_element_audience_list_is_that_audience(bench: Bench) -> None:
    assert bench.who({**V2, "aud": [CLIENT_ID]}) == REPORTING


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "api://tokenvend-federation"},
    "ours and another audience": {"aud": [CLIENT_ID, "api://other"]},
    "audience twice": {"aud": [CLIENT_ID, CLIENT_ID]},
    "empty audience list": {"aud": []},
    "audience in a list in a list": {"aud": [[CLIENT_ID]]},
    "audience case": {"aud": CLIENT_ID.upper()},
    "no audience": {"aud": None},
    "no expiry": {"exp": None},
    "no nbf": {"nbf": None},
    "no iat": {"iat": None},
    "no oid": {"oid": None},
    "no tid": {"tid": None},
    "no azp": {"azp": None},
    "no sub": {"sub": None},
    "tid of another tenant": {"tid": OTHER_TENANT},
    "version of the other issuer": {"ver": "1.0"},
    "no version": {"ver": None},
    "version is a number": {"ver": 2.0},
    "expired": {"exp": NOW - 60},
    "expiry as text": {"exp": str(NOW + 3600)},
    "expiry as a fraction": {"exp": NOW + 0.5},
    "expiry is infinite": {"exp": float("inf")},
    "expiry is true": {"exp": True},
    "expiry is absurd": {"exp": 10**30},
    "nbf in the future": {"nbf": NOW + 61},
    "iat in the future": {"iat": NOW + 61},
    "oid is no GUID": {"oid": "alice@acme.example", "sub": "alice@acme.example"},
    "oid is a list": {"oid": [OBJECT]},
    "a user by scope": {"scp": "user_impersonation"},
    "a user by type": {"idtyp": "user"},
    "a user by subject": {"sub": "pairwise-subject"},
    "roles as text": {"roles": "Tokens.Read"},
    "roles hold a number": {"roles": [1]},
}


def test_a_token_with_a_wrong_claim_is_refused_in_the_same_words_whatever_was_wrong(
    bench: Bench, subtests: pytest.Subtests
) -> None:
    texts = set()
    for name, changes in WRONG.items():
        with subtests.test(name), pytest.raises(Unauthenticated) as refusal:
            bench.who({**V2, **changes})
        assert refusal.value.cause, name
        texts.add(str(refusal.value))
    assert len(texts) == 1
    assert TENANT not in texts.pop()


def test_a_token_of_an_issuer_that_is_not_configured_starts_no_request(
    bench: Bench, subtests: pytest.Subtests
) -> None:
    for issuer in [
        f"https://sts.windows.net/{OTHER_TENANT}/",
        f"https://sts.windows.net/{TENANT}",
        f"https://sts.windows.net/{TENANT}/v2.0",
        f"http://sts.windows.net/{TENANT}/",
        f"{LOGIN}/common/v2.0",
        f"{LOGIN}/{{tenantid}}/v2.0",
        f"{LOGIN}/{TENANT}/v2.0/",
        f"{LOGIN}/{TENANT}",
        f"{LOGIN}/{TENANT.upper()}/v2.0",
        f"{LOGIN}.evil.example/{TENANT}/v2.0",
        f"https://evil.example/{TENANT}/v2.0",
        "https://169.254.169.254/latest/meta-data",
        "",
    ]:
        with subtests.test(issuer=issuer):
            with pytest.raises(Unauthenticated):
                bench.who({**V2, "iss": issuer})
            assert bench.sender.calls == []


def test_a_clock_a_minute_off_is_forgiven(bench: Bench) -> None:
    assert bench.who({**V2, "exp": NOW - 59}) == REPORTING
    assert bench.who({**V2, "nbf": NOW + 60, "iat": NOW + 60}) == REPORTING


def test_a_v1_key_does_not_verify_a_v2_token(bench: Bench) -> None:
    bench.sender.pages[V2_KEYS] = key_set(rsa_key("other").jwk())
    assert bench.who(V1) == REPORTING
    with pytest.raises(Unauthenticated):
        bench.who(V2)


def test_a_key_of_the_consumer_service_verifies_no_tenant_s_token(bench: Bench) -> None:
    """Storm-0558: enterprise tokens signed with a key published for consumers."""
    consumers = f"{LOGIN}/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0"
    bench.sender.pages[V2_KEYS] = key_set(
        rsa_key().jwk(issuer=consumers), rsa_key("own").jwk(issuer=f"{LOGIN}/{{tenantid}}/v2.0")
    )
    with pytest.raises(Unauthenticated):
        bench.who(V2)


def test_entra_signs_rs256_and_nothing_else(bench: Bench) -> None:
    bench.sender.pages[V2_KEYS] = key_set(ec_key().jwk())
    with pytest.raises(Unauthenticated):
        bench.ask({"authorization": f"Bearer {ec_key().sign(V2)}"})
    assert bench.sender.calls == []


def test_entra_being_down_is_not_the_caller_s_fault(bench: Bench) -> None:
    bench.sender.pages.clear()
    with pytest.raises(UpstreamUnavailable) as refusal:
        bench.who(V2)
    assert refusal.value.retry_after


@pytest.mark.parametrize(
    "changes",
    [
        {"scp": "user_impersonation", "sub": "pairwise"},
        {"scp": "user_impersonation"},
        {"idtyp": "user"},
        {"idtyp": "user", "sub": "pairwise"},
        {"sub": "pairwise"},
    ],
    ids=str,
)
def test_a_person_is_known_as_one_however_the_token_tells(changes: dict[str, Any]) -> None:
    """Else whoever signed in through an application would satisfy that application's grant."""
    bench = Bench(allow_users=True, easy_auth=True)
    person = replace(REPORTING, is_user=True)
    assert bench.who({**V2, **changes}) == person
    assert bench.ask({"x-ms-client-principal": principal({**V2, **changes})}) == person


def test_an_application_stays_one_where_people_may_call() -> None:
    bench = Bench(allow_users=True)
    assert bench.who(V2) == bench.who({**V2, "idtyp": "app", "sub": "x"}) == REPORTING


def test_an_id_token_is_no_access_token_even_where_users_are_allowed() -> None:
    with pytest.raises(Unauthenticated):
        Bench(allow_users=True).who({**V2, "azp": None, "sub": "pairwise"})


def test_every_required_role_is_needed() -> None:
    bench = Bench(required_roles=frozenset({"Tokens.Read", "Tokens.Write"}))
    both = {"roles": ["Tokens.Read", "Tokens.Write", "More"]}
    assert bench.who({**V2, **both}).id == REPORTING.id
    for roles in ([], ["Tokens.Read"], None):
        with pytest.raises(Unauthenticated):
            bench.who({**V2, "roles": roles})


def test_the_embedded_entra_s_tokens_are_accepted_in_both_versions_and_across_a_rotation() -> None:
    clock = Clock()
    azure = World.load().azure
    entra = Entra(azure, clock)
    authenticator = Authenticator(
        KeySets(Embedded(Router(sites(entra, lambda _: Response(404)))), clock),
        "Send a token.",
        by_name(*tenant(TENANT, AUDIENCES | {"api://tokenvend-federation"})),
    )
    for resource in ("api://tokenvend", "api://tokenvend-federation"):
        for _ in range(2):
            bearer = entra.mint(entra.identity("reporting"), resource)
            request = HttpRequest("GET", "/v1/grants", {"authorization": f"Bearer {bearer}"})
            assert authenticator.authenticate(request, clock(), deadline()).id == REPORTING.id
            entra.rotate(retire=True)
            clock.now += 60


def principal(claims: dict[str, Any], /, **changes: Any) -> str:
    """The header as App Service writes it."""
    long_names = {
        "oid": "http://schemas.microsoft.com/identity/claims/objectidentifier",
        "tid": "http://schemas.microsoft.com/identity/claims/tenantid",
        "sub": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
    }
    entries = [{"typ": long_names.get(k, k), "val": str(v)} for k, v in claims.items()]
    document = {"auth_typ": "aad", "claims": entries, "name_typ": "x", "role_typ": "r", **changes}
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_a_client_principal_header_is_ignored_where_nothing_enforces_it(bench: Bench) -> None:
    with pytest.raises(Unauthenticated):
        bench.ask({"x-ms-client-principal": principal(V2)})


def test_an_unenforced_client_principal_does_not_hide_the_bearer_token(bench: Bench) -> None:
    other = principal({**V2, "oid": APP, "sub": APP})
    headers = {"x-ms-client-principal": other, "authorization": f"Bearer {rsa_key().sign(V2)}"}
    assert bench.ask(headers) == REPORTING


def test_a_client_principal_counts_where_app_service_enforces_it() -> None:
    bench = Bench(easy_auth=True)
    roles = [{"typ": "r", "val": "A"}, {"typ": "roles", "val": "B"}]
    header = principal(V2)
    document = json.loads(base64.b64decode(header))
    document["claims"] += roles
    header = base64.b64encode(json.dumps(document).encode()).decode()
    caller = bench.ask({"x-ms-client-principal": header, "authorization": "Bearer junk"})
    assert caller == EntraCaller(TENANT, OBJECT, APP, frozenset({"A", "B"}))
    assert bench.sender.calls == []


def test_a_bearer_token_counts_where_app_service_let_a_request_through_unauthenticated() -> None:
    assert Bench(easy_auth=True).who(V2) == REPORTING


def test_a_wrong_client_principal_is_refused_even_with_a_good_bearer_token(
    subtests: pytest.Subtests,
) -> None:
    for header in [
        "",
        "not base64!",
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"auth_typ":"aad","auth_typ":"aad","claims":[]}').decode(),
        base64.b64encode(b"[" * 20_000).decode(),
        principal(V2, auth_typ="google"),
        principal(V2, claims=None),
        principal(V2, claims=[1]),
        principal(V2, claims=[{"typ": "oid", "val": 1}]),
        principal({**V2, "tid": OTHER_TENANT}),
        principal({**V2, "iss": "https://evil.example"}),
        principal({**V2, "aud": "api://other"}),
        principal({**V2, "scp": "user_impersonation"}),
        principal({**V2, "http://schemas.microsoft.com/identity/claims/scope": "x"}),
        principal({"http://schemas.microsoft.com/identity/claims/objectidentifier": APP, **V2}),
        principal({**V2, "http://schemas.microsoft.com/identity/claims/objectidentifier": APP}),
        "A" * 32_772,
    ]:
        with subtests.test(header=header):
            bearer = rsa_key().sign(V2)
            headers = {"x-ms-client-principal": header, "authorization": f"Bearer {bearer}"}
            with pytest.raises(Unauthenticated):
                Bench(easy_auth=True).ask(headers)
