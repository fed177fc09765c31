"""Callers whom AWS authenticated: which principal an event names, and whose events count."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from tests.unit.issuing import NOW, Clock, Recorder, by_name, deadline, key_set, rsa_key, tenant
from tokenvend.caller import (
    Authenticator,
)
from tokenvend.caller.aws import OwnFunction
from tokenvend.caller.jwks import KeySets
from tokenvend.caller.oidc import OidcIssuer
from tokenvend.errors import Unauthenticated
from tokenvend.model import (
    AwsCaller,
    AwsIamIdentity,
    AwsJwtIdentity,
    Caller,
    EntraCaller,
    HttpRequest,
    LambdaCaller,
    LambdaInvocation,
    OidcCaller,
    PlatformIdentity,
)

ACCOUNT = "111122223333"
API = "a1b2c3d4e5"
ORGANIZATION = "o-a1b2c3d4e5"
ETL = f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/session-1"
FUNCTION = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:tokenvend"
TENANT = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
OBJECT = "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02"
APP = "1b1d3f60-7c2e-4c52-bb63-6e2f8a5d9c02"
GITHUB = "https://token.actions.githubusercontent.com"
SENDER = Recorder({f"{GITHUB}/keys": key_set(rsa_key().jwk())})

CONFIGURED = Authenticator(
    KeySets(SENDER, Clock()),
    "Sign the request.",
    function=OwnFunction(ACCOUNT, "tokenvend", frozenset({API})),
    issuers=by_name(
        *tenant(TENANT, frozenset({"api://tokenvend"})),
        OidcIssuer(GITHUB, frozenset({"tokenvend"}), f"{GITHUB}/keys"),
    ),
)
EMPTY = Authenticator(KeySets(SENDER, Clock()), "Nobody may call.")


def iam(arn: str = ETL, **changes: str) -> AwsIamIdentity:
    """An event of our own gateway."""
    return replace(AwsIamIdentity(arn, ACCOUNT, API, ACCOUNT), **changes)


def who(
    platform: PlatformIdentity, authenticator: Authenticator = CONFIGURED, bearer: str = ""
) -> Caller:
    """The caller that this platform identity makes."""
    headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
    request = HttpRequest("POST", "/v1/access-token", headers, platform=platform)
    return authenticator.authenticate(request, NOW, deadline())


def github_token() -> str:
    """A bearer token that would be accepted on its own."""
    return rsa_key().sign(
        {"iss": GITHUB, "aud": "tokenvend", "sub": "repo:a/b", "iat": NOW, "exp": NOW + 300}
    )


def test_an_assumed_role_is_its_role_and_the_session_only_a_note() -> None:
    expected = AwsCaller(
        f"arn:aws:iam::{ACCOUNT}:role/etl", ACCOUNT, "etl", "session-1", ORGANIZATION
    )
    caller = who(iam(organization=ORGANIZATION))
    assert caller == expected
    assert caller.id == who(iam(ETL.replace("session-1", "session-2"))).id


def test_every_partition_that_a_policy_can_name_is_known(subtests: pytest.Subtests) -> None:
    for partition in ["aws", "aws-cn", "aws-us-gov", "aws-iso-b"]:
        with subtests.test(partition=partition):
            caller = who(iam(ETL.replace("arn:aws:", f"arn:{partition}:")))
            assert caller.id == f"arn:{partition}:iam::{ACCOUNT}:role/etl"


def test_a_user_is_its_own_arn() -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:user/ops/operator"
    assert who(iam(arn)) == AwsCaller(arn, ACCOUNT)


def test_a_user_whose_path_imitates_an_assumed_role_stays_a_user(subtests: pytest.Subtests) -> None:
    for path in [
        "assumed-role/etl/",
        "x/assumed-role/etl/",
        "role/etl/",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/",
    ]:
        with subtests.test(path=path):
            arn = f"arn:aws:iam::{ACCOUNT}:user/{path}session-1"
            caller = who(iam(arn))
            assert caller == AwsCaller(arn, ACCOUNT)


def test_a_principal_that_is_neither_a_role_nor_a_user_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for arn in [
        "",
        f"arn:aws:iam::{ACCOUNT}:root",
        f"arn:aws:sts::{ACCOUNT}:federated-user/etl",
        f"arn:aws:iam::{ACCOUNT}:role/etl",
        f"arn:aws:iam::{ACCOUNT}:assumed-role/etl/session-1",
        f"arn:aws:sts::{ACCOUNT}:user/etl",
        f"arn:aws-evil:sts::{ACCOUNT}:assumed-role/etl/session-1",
        f"arn:aws:sts:us-east-1:{ACCOUNT}:assumed-role/etl/session-1",
        "arn:aws:sts::11112222333:assumed-role/etl/session-1",
        "arn:aws:sts::١١١١٢٢٢٢٣٣٣٣:assumed-role/etl/session-1",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/etl",
        f"arn:aws:sts::{ACCOUNT}:assumed-role//session-1",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/path/etl/session-1",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/session-1/more",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/etl*/session-1",
        f"arn:aws:sts::{ACCOUNT}:assumed-role/etl/session-1\n",
        f" {ETL}",
        ETL.upper(),
        f"arn:aws:iam::{ACCOUNT}:user/",
        f"arn:aws:iam::{ACCOUNT}:user/opérateur",
        f"arn:aws:iam::{ACCOUNT}:user/a b",
    ]:
        with subtests.test(arn=arn), pytest.raises(Unauthenticated):
            who(iam(arn))


def test_what_is_no_organisation_is_none() -> None:
    for organization in ("o-1", "o-" + "a" * 1_000_000, "*"):
        assert who(iam(organization=organization)) == who(iam())


def test_an_arn_of_another_account_than_the_event_tells_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        who(iam(account="444455556666"))


@pytest.mark.parametrize(
    "changes",
    [
        {"api_id": "evil000000"},
        {"api_id": ""},
        {"api_id": API.upper()},
        {"api_account": "444455556666"},
        {"api_account": ""},
    ],
    ids=str,
)
def test_a_forged_gateway_event_through_direct_invoke_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        who(iam(**changes))
    assert refusal.value.cause == "event not from our gateway"
    assert "SigV4" in refusal.value.detail


def test_a_gateways_event_through_an_alias_that_it_does_not_invoke_is_refused() -> None:
    for arn in (f"{FUNCTION}:etl", f"{FUNCTION}:7", f"{FUNCTION}:$LATEST"):
        with pytest.raises(Unauthenticated) as refusal:
            who(iam(function_arn=arn))
        assert "qualifier" in refusal.value.cause
    assert who(iam(function_arn=FUNCTION)).kind == "aws"


def test_a_forged_event_is_refused_whatever_bearer_token_comes_with_it() -> None:
    with pytest.raises(Unauthenticated):
        who(iam(api_id="evil000000"), bearer=github_token())


def test_a_verified_platform_identity_decides_and_the_bearer_token_is_not_looked_at() -> None:
    before = len(SENDER.calls)
    assert who(iam(), bearer=github_token()).id == f"arn:aws:iam::{ACCOUNT}:role/etl"
    assert len(SENDER.calls) == before


@pytest.mark.parametrize(
    "platform",
    [
        iam(),
        AwsJwtIdentity({"iss": GITHUB, "aud": "tokenvend", "sub": "repo:a/b"}, API, ACCOUNT),
        LambdaInvocation(f"{FUNCTION}:etl"),
    ],
    ids=lambda platform: type(platform).__name__,
)
def test_nothing_configured_accepts_nobody(platform: PlatformIdentity) -> None:
    with pytest.raises(Unauthenticated):
        who(platform, EMPTY)


def test_a_jwt_authorizer_s_claims_make_an_oidc_caller() -> None:
    claims = {"iss": GITHUB, "aud": "tokenvend", "sub": "repo:a/b", "repository": "a/b"}
    caller = who(AwsJwtIdentity(claims, API, ACCOUNT))
    assert caller == OidcCaller(GITHUB, "repo:a/b", tuple(sorted(claims.items())))


def test_a_list_in_a_jwt_authorizer_s_claims_is_no_text_to_match() -> None:
    """As in a bearer token: `*admin*` must not fit `[reader admin]`."""
    claims = {"iss": GITHUB, "aud": "tokenvend", "sub": "repo:a/b", "groups": "[reader admin]"}
    caller = who(AwsJwtIdentity(claims, API, ACCOUNT))
    assert isinstance(caller, OidcCaller)
    assert "groups" not in dict(caller.claims)


def test_a_jwt_authorizer_s_claims_make_an_entra_caller() -> None:
    claims = {
        "iss": f"https://sts.windows.net/{TENANT}/",
        "aud": "[api://tokenvend]",
        "ver": "1.0",
        "tid": TENANT,
        "oid": OBJECT,
        "sub": OBJECT,
        "appid": APP,
        "roles": "[Tokens.Read Tokens.Write]",
    }
    expected = EntraCaller(TENANT, OBJECT, APP, frozenset({"Tokens.Read", "Tokens.Write"}))
    assert who(AwsJwtIdentity(claims, API, ACCOUNT)) == expected


def test_a_jwt_authorizer_that_lets_others_in_does_not_make_them_callers(
    subtests: pytest.Subtests,
) -> None:
    for changes in [
        {"iss": "https://evil.example"},
        {"iss": ""},
        {"aud": "[tokenvend other]"},
        {"aud": "tokenvend other"},
        {"aud": "other"},
        {"aud": ""},
        {"sub": ""},
    ]:
        with subtests.test(changes=changes):
            claims = {"iss": GITHUB, "aud": "tokenvend", "sub": "repo:a/b", **changes}
            with pytest.raises(Unauthenticated):
                who(AwsJwtIdentity(claims, API, ACCOUNT))


def test_a_forged_jwt_authorizer_event_is_refused() -> None:
    claims = {"iss": GITHUB, "aud": "tokenvend", "sub": "repo:a/b"}
    with pytest.raises(Unauthenticated):
        who(AwsJwtIdentity(claims, "evil000000", ACCOUNT))


def test_a_direct_invoke_is_the_alias() -> None:
    assert who(LambdaInvocation(f"{FUNCTION}:etl")) == LambdaCaller("etl", ACCOUNT)


def test_an_invoke_through_anything_but_an_alias_of_ours_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for arn in [
        FUNCTION,
        f"{FUNCTION}:",
        f"{FUNCTION}:$LATEST",
        f"{FUNCTION}:17",
        f"{FUNCTION}:etl:etl",
        f"{FUNCTION}:etl\n",
        f"{FUNCTION}s:etl",
        f"{FUNCTION}:etl".replace(ACCOUNT, "444455556666"),
        f"{FUNCTION}:etl".replace(":lambda:", ":states:"),
        "tokenvend:etl",
        "",
    ]:
        with subtests.test(arn=arn), pytest.raises(Unauthenticated):
            who(LambdaInvocation(arn))


def test_importing_the_callers_costs_no_cryptography_and_no_http_client() -> None:
    """Cold start: most requests on AWS need neither."""
    heavy = {"jwt", "cryptography", "requests", "urllib3", "botocore", "xml.etree.ElementTree"}
    code = f"import sys, tokenvend.caller; print(sorted({heavy} & sys.modules.keys()))"
    run = subprocess.run(  # noqa: S603 - our own interpreter, our own text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout.strip() == "[]"
