"""Bearer tokens of OpenID Connect issuers, and what is refused in any JWT before it is verified."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.issuing import (
    NOW,
    Clock,
    Recorder,
    by_name,
    deadline,
    ec_key,
    key_set,
    page,
    rsa_key,
    segment,
)
from tokenvend.audit.record import AuditRecord, render
from tokenvend.caller import Authenticator
from tokenvend.caller.jwks import KeySets
from tokenvend.caller.oidc import OidcIssuer
from tokenvend.caller.signed_jwt import MAX_TOKEN
from tokenvend.errors import Unauthenticated
from tokenvend.model import Caller, HttpRequest, OidcCaller, Secret

GITHUB = "https://token.actions.githubusercontent.com"
CLUSTER = "https://oidc.eks.us-east-1.amazonaws.com/id/ABC"
CLAIMS: dict[str, Any] = {
    "iss": GITHUB,
    "aud": "tokenvend",
    "sub": "repo:acme/etl:ref:refs/heads/main",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + 300,
}
OURS = frozenset({"tokenvend"})
GOOD = rsa_key().sign(CLAIMS)


class Bench:
    """An authenticator for two issuers, and what it sent."""

    def __init__(self) -> None:
        clock = Clock()
        self.sender = Recorder(
            {
                f"{GITHUB}/.well-known/openid-configuration": page(
                    {"issuer": GITHUB, "jwks_uri": f"{GITHUB}/.well-known/jwks"}
                ),
                f"{GITHUB}/.well-known/jwks": key_set(rsa_key().jwk(), ec_key().jwk()),
                f"{CLUSTER}/keys": key_set(rsa_key("cluster").jwk()),
            }
        )
        self.authenticator = Authenticator(
            KeySets(self.sender, clock),
            "Send `Authorization: Bearer TOKEN`.",
            by_name(OidcIssuer(GITHUB, OURS), OidcIssuer(CLUSTER, OURS, f"{CLUSTER}/keys")),
        )

    def ask(self, authorization: str) -> Caller:
        """The caller of a request with this Authorization header."""
        request = HttpRequest("POST", "/v1/access-token", {"authorization": authorization})
        return self.authenticator.authenticate(request, NOW, deadline())

    def who(self, claims: dict[str, Any], **header: Any) -> Caller:
        """The caller of GitHub's token with these claims; None leaves a claim out."""
        present = {name: value for name, value in claims.items() if value is not None}
        return self.ask(f"Bearer {rsa_key().sign(present, **header)}")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_token_makes_a_caller_with_its_plain_claims_as_text(bench: Bench) -> None:
    caller = bench.who(
        {**CLAIMS, "repository": "acme/etl", "run": 17, "fork": False, "nested": {"a": 1}, "l": []}
    )
    assert isinstance(caller, OidcCaller)
    assert caller.id == f"oidc:{GITHUB}#repo:acme/etl:ref:refs/heads/main"
    claims = dict(caller.claims)
    assert claims["repository"] == "acme/etl"
    assert claims["run"] == "17"
    assert claims["fork"] == "false"
    assert not {"nested", "l"} & claims.keys()


@pytest.mark.parametrize(
    "claims",
    [{"big": "x" * 513}, {"big": "é" * 200}, {"big": 10**1100}, {"n" * 201: "x"}, {"a b": "x"}],
    ids=range(5),
)
def test_a_claim_that_a_record_cannot_hold_whole_never_decides(
    bench: Bench, claims: dict[str, Any]
) -> None:
    caller = bench.who({**CLAIMS, "repository": "acme/etl", **claims})
    assert isinstance(caller, OidcCaller)
    assert dict(caller.claims).keys() == {*CLAIMS, "repository"}


@pytest.mark.parametrize(
    "claims",
    [{f"claim-{n}": "x" * 512 for n in range(8)}, {f"claim-{n}": True for n in range(680)}],
    ids=["long ones", "many"],
)
def test_a_token_that_says_more_than_a_record_can_hold_is_refused(
    bench: Bench, claims: dict[str, Any]
) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        bench.who({**CLAIMS, **claims})
    assert "record" in refusal.value.cause


def test_the_longest_caller_stands_in_its_record_whole(bench: Bench) -> None:
    claims = {f"c{n}": "\U0001f600" * 42 for n in range(6)}
    caller = bench.who({**CLAIMS, **claims, "sub": "é" * 85})
    assert isinstance(caller, OidcCaller)
    told = render(AuditRecord("", "", caller=caller))["caller"]
    assert told["claims"] == list(caller.claims)
    assert told["subject"] == caller.subject


def test_both_algorithms_verify(bench: Bench) -> None:
    for key in (rsa_key(), ec_key()):
        assert bench.ask(f"Bearer {key.sign(CLAIMS)}").id.startswith(f"oidc:{GITHUB}#")


def test_a_token_without_nbf_is_accepted_as_google_and_gitlab_s_vary(bench: Bench) -> None:
    assert bench.who({**CLAIMS, "nbf": None})


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_the_scheme_s_case_does_not_matter(bench: Bench, scheme: str) -> None:
    assert bench.ask(scheme + rsa_key().sign(CLAIMS))


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://github.com/acme"},
    "ours and another audience": {"aud": ["tokenvend", "other"]},
    "no audience": {"aud": None},
    "audience is a number": {"aud": 1},
    "no expiry": {"exp": None},
    "no iat": {"iat": None},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "subject too long": {"sub": "x" * 1025},
    "subject too long in a record": {"sub": "é" * 171},
    "expired": {"exp": NOW - 60},
    "expiry as text": {"exp": "9999999999"},
    "nbf as text": {"nbf": "0"},
    "nbf in the future": {"nbf": NOW + 61},
    "iat in the future": {"iat": NOW + 61},
    "iat is true": {"iat": True},
    "iat negative": {"iat": -1},
}


def test_a_token_with_a_wrong_claim_is_refused(bench: Bench, subtests: pytest.Subtests) -> None:
    for changes in WRONG.values():
        with subtests.test(changes=changes):
            with pytest.raises(Unauthenticated) as refusal:
                bench.who({**CLAIMS, **changes})
            assert refusal.value.cause


HEADERS: dict[str, dict[str, Any]] = {
    "jku": {"jku": "https://evil.example/keys"},
    "x5u": {"x5u": "https://evil.example/cert"},
    "jwk": {"jwk": rsa_key().jwk()},
    "crit": {"crit": ["exp"]},
    "crit b64": {"crit": ["b64"], "b64": True},
    "zip": {"zip": "DEF"},
    "no kid": {"kid": ""},
    "a logout token": {"typ": "logout+jwt"},
    "a DPoP proof": {"typ": "dpop+jwt"},
}


def test_a_header_that_carries_points_to_or_changes_a_key_is_refused_without_a_request(
    bench: Bench, subtests: pytest.Subtests
) -> None:
    for header in HEADERS.values():
        with subtests.test(header=header):
            with pytest.raises(Unauthenticated):
                bench.who(CLAIMS, **header)
            assert bench.sender.calls == []


def forged(header: dict[str, Any], secret: bytes | None = None) -> str:
    """A token no library would make: HMAC under any secret, or an empty-looking signature."""
    signed = f"{segment(header)}.{segment(CLAIMS)}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest() if secret else b"\0"
    return f"{signed}.{segment(mac)}"


def test_alg_none_and_others_are_refused_without_a_request(
    bench: Bench, subtests: pytest.Subtests
) -> None:
    for algorithm in ["none", "None", "nOnE", "", None, "RS512", "PS256", 1, []]:
        with subtests.test(algorithm=algorithm):
            with pytest.raises(Unauthenticated):
                bench.ask(f"Bearer {forged({'alg': algorithm, 'kid': 'rsa-1'})}")
            assert bench.sender.calls == []


def test_alg_none_with_an_empty_signature_is_refused(bench: Bench) -> None:
    token = f"{segment({'alg': 'none', 'kid': 'rsa-1'})}.{segment(CLAIMS)}."
    with pytest.raises(Unauthenticated):
        bench.ask(f"Bearer {token}")
    assert bench.sender.calls == []


def test_hs256_with_the_public_key_is_refused_without_a_request(bench: Bench) -> None:
    public = rsa_key().private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for secret in (pem, pem.strip(), json.dumps(rsa_key().jwk()).encode()):
        with pytest.raises(Unauthenticated):
            bench.ask(f"Bearer {forged({'alg': 'HS256', 'kid': 'rsa-1'}, secret)}")
    assert bench.sender.calls == []


def test_an_algorithm_that_does_not_fit_the_key_is_refused(bench: Bench) -> None:
    header, claims, signature = ec_key("rsa-1").sign(CLAIMS).split(".")
    assert json.loads(jwt.utils.base64url_decode(header))["alg"] == "ES256"
    with pytest.raises(Unauthenticated):
        bench.ask(f"Bearer {header}.{claims}.{signature}")


def test_a_key_of_one_issuer_does_not_verify_another_s_token(bench: Bench) -> None:
    assert bench.ask(f"Bearer {rsa_key('cluster').sign({**CLAIMS, 'iss': CLUSTER})}")
    for key, issuer in ((rsa_key(), CLUSTER), (rsa_key("cluster"), GITHUB)):
        with pytest.raises(Unauthenticated):
            bench.ask(f"Bearer {key.sign({**CLAIMS, 'iss': issuer})}")


def test_a_tampered_token_is_refused(bench: Bench) -> None:
    header, claims, signature = rsa_key().sign(CLAIMS).split(".")
    other = segment({**CLAIMS, "sub": "repo:evil/evil"})
    for token in (f"{header}.{other}.{signature}", f"{header}.{claims}.{segment(b'x' * 256)}"):
        with pytest.raises(Unauthenticated):
            bench.ask(f"Bearer {token}")


def test_the_issuer_of_an_unverified_token_never_starts_discovery(
    bench: Bench, subtests: pytest.Subtests
) -> None:
    for issuer in [
        "https://evil.example",
        "http://169.254.169.254/latest/meta-data",
        GITHUB + "/",
        GITHUB + ".evil.example",
        GITHUB.upper(),
        GITHUB.replace("https://", "https://user@"),
        "",
        None,
        17,
        [GITHUB],
    ]:
        with subtests.test(issuer=issuer):
            token = (
                f"{segment({'alg': 'RS256', 'kid': 'k'})}.{segment({**CLAIMS, 'iss': issuer})}.AA"
            )
            with pytest.raises(Unauthenticated):
                bench.ask(f"Bearer {token}")
            assert bench.sender.calls == []


def test_what_is_not_exactly_one_jwt_is_refused_without_a_request(
    bench: Bench, subtests: pytest.Subtests
) -> None:
    for authorization in [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "AWS4-HMAC-SHA256 Credential=AKIA/20270115/us-east-1/execute-api/aws4_request",
        f"Bearer {GOOD}, Bearer {GOOD}",
        f"Bearer {GOOD},Bearer {GOOD}",
        f"Bearer {GOOD} Bearer {GOOD}",
        f"Bearer {GOOD}\n",
        f"Bearer {rsa_key().sign({**CLAIMS, 'pad': 'x' * MAX_TOKEN})}",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer a..c",
        "Bearer é.b.c",
        "Bearer " + "A" * MAX_TOKEN,
        f"Bearer {segment(b'[' * 9000)}.{segment(CLAIMS)}.AA",
        f"Bearer {segment(b'{' * 10)}.{segment(CLAIMS)}.AA",
        f"Bearer {segment([1])}.{segment(CLAIMS)}.AA",
        f"Bearer {segment({'alg': 'RS256', 'kid': 'k'})}.{segment([1])}.AA",
        f"Bearer {segment({'alg': 'RS256', 'kid': 'k'})}.{segment(b'1' * 5000)}.AA",
    ]:
        with subtests.test(authorization=authorization):
            with pytest.raises(Unauthenticated) as refusal:
                bench.ask(authorization)
            assert bench.sender.calls == []
            assert "Bearer" in str(refusal.value) or "bearer" in str(refusal.value)


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(CLAIMS)[:-1] + ', "aud": "other"}',
        json.dumps(CLAIMS)[:-1] + ', "x": NaN}',
        json.dumps(CLAIMS)[:-1] + ', "x": "\\ud800"}',
    ],
    ids=["claim twice", "NaN", "lone surrogate"],
)
def test_a_signed_token_whose_claims_two_readers_could_read_differently_is_refused(
    bench: Bench, payload: str
) -> None:
    token = jwt.PyJWS().encode(payload.encode(), rsa_key().private, "RS256", {"kid": "rsa-1"})
    with pytest.raises(Unauthenticated):
        bench.ask(f"Bearer {token}")


def test_a_request_without_any_header_is_told_what_to_send(bench: Bench) -> None:
    with pytest.raises(Unauthenticated, match="Authorization: Bearer"):
        bench.authenticator.authenticate(HttpRequest("GET", "/v1/grants"), NOW, deadline())


def test_a_subject_token_that_is_a_jwt_is_verified_like_a_bearer_token(bench: Bench) -> None:
    token = Secret(rsa_key().sign(CLAIMS))
    assert bench.authenticator.verify_jwt(token, NOW, deadline()) == bench.who(CLAIMS)


def test_no_error_shows_the_token(bench: Bench) -> None:
    secret = rsa_key().sign({**CLAIMS, "aud": "canary-audience", "sub": "canary-subject"})
    with pytest.raises(Unauthenticated) as refusal:
        bench.ask(f"Bearer {secret}")
    error: BaseException | None = refusal.value
    while error is not None:
        shown = f"{error!r} {error} {vars(error)}"
        assert "canary" not in shown
        assert not any(part in shown for part in secret.split("."))
        error = error.__cause__


@given(st.text(max_size=200) | st.binary(max_size=200).map(segment))
def test_any_text_for_a_token_is_refused_and_never_crashes(text: str) -> None:
    bench = Bench()
    with pytest.raises(Unauthenticated):
        bench.authenticator.verify_jwt(Secret(text), NOW, deadline())
    assert bench.sender.calls == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "x"]) | st.text(), JSON),
    st.dictionaries(st.sampled_from(["iss", "aud", "exp"]) | st.text(), JSON),
)
def test_any_header_and_claims_are_refused_and_never_crash(header: Any, claims: Any) -> None:
    bench = Bench()
    token = f"{segment({'alg': 'RS256', 'kid': 'k', **header})}.{segment(claims)}.AA"
    with pytest.raises(Unauthenticated):
        bench.authenticator.verify_jwt(Secret(token), NOW, deadline())
    assert bench.sender.calls == []


@given(st.dictionaries(st.sampled_from([*CLAIMS, "x"]), JSON))
def test_any_signed_claims_make_a_caller_or_a_refusal(changes: dict[str, Any]) -> None:
    bench = Bench()
    token = jwt.PyJWS().encode(
        json.dumps({**CLAIMS, **changes, "iss": GITHUB}).encode(),
        rsa_key().private,
        "RS256",
        {"kid": "rsa-1"},
    )
    try:
        caller = bench.authenticator.verify_jwt(Secret(token), NOW, deadline())
    except Unauthenticated:
        return
    assert caller.id.startswith(f"oidc:{GITHUB}#")


def test_an_issuer_s_hosts_are_those_its_keys_may_come_from() -> None:
    google = OidcIssuer(
        "https://accounts.google.com", OURS, jwks_hosts=frozenset({"www.googleapis.com"})
    )
    assert google.source.hosts == {"accounts.google.com", "www.googleapis.com"}
    assert OidcIssuer(CLUSTER, OURS, "https://keys.example/k").source.hosts == {"keys.example"}
