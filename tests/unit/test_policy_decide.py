"""Who gets what: deny by default, the first grant that permits the whole request wins."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.unit.issuing import NOW
from tokenvend.errors import Denied
from tokenvend.model import (
    AccessTokenRequest,
    AccessTokenSpec,
    AwsCaller,
    Caller,
    EntraCaller,
    IdTokenRequest,
    IdTokenSpec,
    LambdaCaller,
    OidcCaller,
    TokenRequest,
)
from tokenvend.policy import CompiledPolicy, compile_policy, decide, grants_of
from tokenvend.policy.callers import facts_of

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed import TraceFunction

ACCOUNT = "111122223333"
TENANT = "aaaaaaaa-1111-1111-1111-111111111111"
OBJECT = "bbbbbbbb-1111-1111-1111-111111111111"
APP = "cccccccc-1111-1111-1111-111111111111"
ISSUER = "https://token.actions.githubusercontent.com"
READ = "https://www.googleapis.com/auth/devstorage.read_only"
WRITE = "https://www.googleapis.com/auth/devstorage.read_write"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
LANDING = "landing@acme.iam.gserviceaccount.com"
ORDERS = "orders@acme.iam.gserviceaccount.com"

ETL = AwsCaller(f"arn:aws:iam::{ACCOUNT}:role/etl", ACCOUNT, "etl", session="anything")
ALIAS = LambdaCaller("etl", ACCOUNT)


def policy(*grants: str, mode: str = "enforce") -> CompiledPolicy:
    return compile_policy(f'version = 1\nmode = "{mode}"\n' + "\n".join(grants))


def grant(
    name: str = "landing",
    caller: str = '{ lambda_alias = "etl" }',
    target: str = f'service_account = "{LANDING}"',
    limits: str = f'access_token = {{ scopes = ["{READ}", "{WRITE}"], max_lifetime = "15m" }}',
) -> str:
    return f'[[grant]]\nname = "{name}"\ncallers = [{caller}]\n{target}\n{limits}\n'


ID_LIMITS = 'id_token = { audiences = ["https://orders-*.run.app"] }'


def denial(held: CompiledPolicy, caller: Caller, request: TokenRequest, now: int = NOW) -> str:
    with pytest.raises(Denied) as caught:
        decide(held, caller, request, now)
    assert caught.value.detail == (
        "This caller may not have that. Quote the request id to the operator."
    )
    return caught.value.cause


def fits(caller_toml: str, caller: Caller) -> bool:
    held = policy(grant(caller=caller_toml))
    try:
        decide(held, caller, AccessTokenRequest(), NOW)
    except Denied:
        return False
    return True


def test_a_request_for_nothing_in_particular_gets_all_the_grant_has() -> None:
    got = decide(policy(grant()), ALIAS, AccessTokenRequest(), NOW)
    assert got.spec == AccessTokenSpec("landing", LANDING, (READ, WRITE), 900)
    assert (got.matched, got.would_deny) == (("lambda_alias",), "")


def test_a_lifetime_left_open_is_an_hour_even_where_twelve_are_allowed() -> None:
    limits = f'access_token = {{ scopes = ["{READ}"], max_lifetime = "12h" }}'
    held = policy(grant(limits=limits))
    assert decide(held, ALIAS, AccessTokenRequest(), NOW).spec.lifetime == 3600  # type: ignore[union-attr]
    assert decide(held, ALIAS, AccessTokenRequest(lifetime=43_200), NOW).spec.lifetime == 43_200  # type: ignore[union-attr]


def test_a_narrower_request_gets_what_it_asked_for_in_the_grants_order() -> None:
    held = policy(grant())
    asked = AccessTokenRequest(LANDING, "landing", (WRITE, READ), 60)
    assert decide(held, ALIAS, asked, NOW).spec == AccessTokenSpec(
        "landing", LANDING, (READ, WRITE), 60
    )
    assert decide(held, ALIAS, AccessTokenRequest(scopes=(WRITE,)), NOW).spec == AccessTokenSpec(
        "landing", LANDING, (WRITE,), 900
    )


def test_an_id_token_is_for_the_audience_asked_and_carries_the_email_on_request() -> None:
    held = policy(grant(limits=ID_LIMITS))
    asked = IdTokenRequest("https://orders-x.a.run.app", include_email=False)
    assert decide(held, ALIAS, asked, NOW).spec == IdTokenSpec(
        "landing", LANDING, "https://orders-x.a.run.app", include_email=False
    )


def test_a_direct_grant_gives_the_federated_token_itself() -> None:
    held = policy(grant(target="direct = true", limits=f'access_token = {{ scopes = ["{READ}"] }}'))
    assert decide(held, ALIAS, AccessTokenRequest(), NOW).spec == AccessTokenSpec(
        "landing", None, (READ,), None
    )
    assert "up to Google's STS" in denial(held, ALIAS, AccessTokenRequest(lifetime=60))
    assert "no service account (direct)" in denial(held, ALIAS, AccessTokenRequest(LANDING))


def test_delegates_come_with_the_grant() -> None:
    held = policy(grant(target=f'service_account = "{LANDING}"\ndelegates = ["{ORDERS}"]'))
    assert decide(held, ALIAS, AccessTokenRequest(), NOW).spec.delegates == (ORDERS,)


def test_the_first_grant_that_permits_the_whole_request_wins() -> None:
    narrow = f'access_token = {{ scopes = ["{READ}"], max_lifetime = "12h" }}'
    held = policy(grant("one", limits=narrow), grant("two"), grant("three"))
    assert decide(held, ALIAS, AccessTokenRequest(), NOW).spec.grant_name == "one"
    assert decide(held, ALIAS, AccessTokenRequest(scopes=(WRITE,)), NOW).spec.grant_name == "two"
    assert (
        decide(held, ALIAS, AccessTokenRequest(grant_name="three"), NOW).spec.grant_name == "three"
    )


def test_a_request_the_oauth_way_gets_what_the_grant_has_of_it(subtests: pytest.Subtests) -> None:
    for scopes, given in [
        ((WRITE, "openid"), (WRITE,)),
        ((CLOUD_PLATFORM,), (READ, WRITE)),
        ((CLOUD_PLATFORM, "openid", READ), (READ, WRITE)),
        ((), (READ, WRITE)),
    ]:
        with subtests.test(scopes=scopes, given=given):
            asked = AccessTokenRequest(scopes=scopes, narrow=True)
            got = decide(policy(grant()), ALIAS, asked, NOW).spec
            assert isinstance(got, AccessTokenSpec)
            assert got.scopes == given


def test_a_request_the_oauth_way_for_nothing_the_grant_has_is_denied() -> None:
    asked = AccessTokenRequest(scopes=("openid",), narrow=True)
    assert "its scopes do not include" in denial(policy(grant()), ALIAS, asked)


def test_two_grants_never_add_up() -> None:
    one = f'access_token = {{ scopes = ["{READ}"] }}'
    two = f'access_token = {{ scopes = ["{WRITE}"] }}'
    held = policy(grant("one", limits=one), grant("two", limits=two))
    assert "its scopes do not include" in denial(
        held, ALIAS, AccessTokenRequest(scopes=(READ, WRITE))
    )


def test_a_denial_tells_the_operator_the_nearest_grant_and_why(subtests: pytest.Subtests) -> None:
    for request_, cause in [
        (
            AccessTokenRequest(grant_name="other"),
            (f'the grant "other" does not exist, asked for by the caller "lambda:{ACCOUNT}:etl"'),
        ),
        (
            AccessTokenRequest(ORDERS),
            (
                'nearest grant "landing": it is for another service account: '
                f'"{ORDERS}" is not "{LANDING}"'
            ),
        ),
        (
            AccessTokenRequest(scopes=("x",)),
            'nearest grant "landing": its scopes do not include "x"',
        ),
        (
            AccessTokenRequest(scopes=(READ + "x", READ)),
            f'nearest grant "landing": its scopes do not include "{READ}x"',
        ),
        (
            AccessTokenRequest(lifetime=901),
            'nearest grant "landing": its tokens live at most 15m and 901s were asked for',
        ),
        (
            IdTokenRequest("https://orders.run.app"),
            'nearest grant "landing": it gives access tokens and the request is for an ID token',
        ),
    ]:
        with subtests.test(request_=request_, cause=cause):
            assert denial(policy(grant()), ALIAS, request_) == cause


def test_a_caller_without_a_grant_is_denied_whatever_it_asks() -> None:
    held = policy(grant())
    stranger = LambdaCaller("other", ACCOUNT)
    assert denial(held, stranger, AccessTokenRequest()) == (
        f'no grant names the caller "lambda:{ACCOUNT}:other"'
    )
    assert denial(held, stranger, AccessTokenRequest(grant_name="landing")) == (
        f'the grant "landing" does not name the caller "lambda:{ACCOUNT}:other"'
    )
    assert denial(compile_policy("version = 1"), ALIAS, AccessTokenRequest())


def test_the_nearest_grant_is_the_one_that_failed_last() -> None:
    held = policy(
        grant("far", target=f'service_account = "{ORDERS}"'), grant("near"), grant("near-too")
    )
    cause = denial(held, ALIAS, AccessTokenRequest(LANDING, lifetime=1000))
    assert cause.startswith('nearest grant "near": its tokens live at most')


def test_an_audience_cannot_leave_the_host_that_its_pattern_names(
    subtests: pytest.Subtests,
) -> None:
    for audience in [
        "https://orders-x.run.app/",
        "https://orders-x.run.app:443",
        "http://orders-x.run.app",
        "https://orders-x/y.run.app",
        "xhttps://orders-x.run.app",
        "https://orders-x.run.app\n",
        "https://orders-\x00.run.app",
        "https://orders- .run.app",
        "https://orders-é.run.app",
        "",
        "https://ORDERS-x.run.app",
        "https://orders-x@evil.example/.run.app",
        "https://orders-evil.example#.run.app",
        "https://orders-evil.example?.run.app",
        "https://orders-evil.example\\.run.app",
        "https://orders-evil.example%2f.run.app",
        "https://orders-evil.example\t.run.app",
    ]:
        with subtests.test(audience=audience):
            assert denial(policy(grant(limits=ID_LIMITS)), ALIAS, IdTokenRequest(audience))


def test_a_grant_holds_from_its_first_second_to_before_its_last() -> None:
    held = policy(
        grant(
            target=f'service_account = "{LANDING}"\nnot_before = 2027-01-15T08:00:00Z\n'
            "expires = 2027-01-15T09:00:00Z"
        )
    )
    start = 1_800_000_000
    request = AccessTokenRequest()
    assert "it holds only from 2027-01-15T08:00:00Z" in denial(held, ALIAS, request, start - 1)
    assert decide(held, ALIAS, request, start)
    assert decide(held, ALIAS, request, start + 3599)
    assert "it expired at 2027-01-15T09:00:00Z" in denial(held, ALIAS, request, start + 3600)
    assert [len(grants_of(held, ALIAS, start + offset)) for offset in (-1, 0, 3599, 3600)] == [
        0,
        1,
        1,
        0,
    ]


# --- who ------------------------------------------------------------------------------------------

ROLE = f"arn:aws:iam::{ACCOUNT}:role/"
USER = f"arn:aws:iam::{ACCOUNT}:user/"


def test_an_aws_role_matches_roles_of_its_account_alone(subtests: pytest.Subtests) -> None:
    for pattern, arn, account, expected in [
        (ROLE + "etl", ROLE + "etl", ACCOUNT, True),
        (ROLE + "etl", ROLE + "etl2", ACCOUNT, False),
        (ROLE + "etl", ROLE + "ETL", ACCOUNT, False),
        (ROLE + "etl-*", ROLE + "etl-1", ACCOUNT, True),
        (ROLE + "etl-*", ROLE + "etl-1/x", ACCOUNT, False),
        (ROLE + "*", ROLE + "etl", ACCOUNT, True),
        (ROLE + "*", USER + "etl", ACCOUNT, False),
        (ROLE + "*", f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT, False),
        (ROLE + "*", f"arn:aws:sts::{ACCOUNT}:federated-user/x", ACCOUNT, False),
        (ROLE + "*", f"arn:aws-cn:iam::{ACCOUNT}:role/etl", ACCOUNT, False),
        (ROLE + "*", "arn:aws:iam::999999999999:role/etl", "999999999999", False),
        (ROLE + "*", ROLE + "etl", "999999999999", False),
        (ROLE + "*", USER + "assumed-role/etl/me", ACCOUNT, False),
        (ROLE + "*", USER + "role/etl", ACCOUNT, False),
        (ROLE + "*", "arn:aws:iam::" + ACCOUNT + ":user/x:role/etl", ACCOUNT, False),
        (ROLE + "*", "", "", False),
    ]:
        with subtests.test(pattern=pattern, arn=arn, account=account, expected=expected):
            assert fits(f'{{ aws_role = "{pattern}" }}', AwsCaller(arn, account)) is expected


def test_an_iam_user_whose_path_imitates_an_assumed_role_matches_no_role() -> None:
    imposter = AwsCaller(USER + "assumed-role/etl/session", ACCOUNT, role_name="etl")
    assert not fits(f'{{ aws_role = "{ROLE}etl" }}', imposter)
    assert not fits(f'{{ aws_role = "{ROLE}*" }}', imposter)
    assert fits(f'{{ aws_user = "{USER}assumed-role/etl/session" }}', imposter)


@pytest.mark.parametrize("grant_name", [None, "landing"])
@pytest.mark.parametrize("session", ["admin", "a-b", "etl-a-b", ROLE + "etl-a-b"])
def test_row_10_the_sessions_name_never_decides(session: str, grant_name: str | None) -> None:
    held = policy(grant(caller=f'{{ aws_role = "{ROLE}etl-*-*" }}'))
    request = AccessTokenRequest(grant_name=grant_name)
    # The second has the pattern's ends, so that the index lets it come as far as the matcher.
    for name in ("other", "etl-x"):
        stranger = AwsCaller(ROLE + name, ACCOUNT, name, session=session)
        assert denial(held, stranger, request)
        assert grants_of(held, stranger, NOW) == ()
    named, unnamed = (
        AwsCaller(ROLE + "etl-a-b", ACCOUNT, "etl-a-b", session=each) for each in (session, "")
    )
    assert decide(held, named, request, NOW) == decide(held, unnamed, request, NOW)


def test_fields_of_one_aws_matcher_must_all_fit(subtests: pytest.Subtests) -> None:
    for caller, arn, organization, expected in [
        (f'{{ aws_user = "{USER}ana" }}', USER + "ana", "", True),
        (f'{{ aws_user = "{USER}team/*" }}', USER + "team/ana", "", True),
        (f'{{ aws_user = "{USER}*" }}', USER + "team/ana", "", False),
        (f'{{ aws_user = "{USER}*" }}', ROLE + "ana", "", False),
        (f'{{ aws_account = "{ACCOUNT}" }}', ROLE + "any", "", True),
        (f'{{ aws_account = "{ACCOUNT}" }}', USER + "any", "", True),
        (f'{{ aws_account = "{ACCOUNT}" }}', f"arn:aws:iam::{ACCOUNT}:root", "", False),
        ('{ aws_account = "999999999999" }', ROLE + "any", "", False),
        ('{ aws_organization = "o-a1b2c3d4e5" }', ROLE + "any", "o-a1b2c3d4e5", True),
        ('{ aws_organization = "o-a1b2c3d4e5" }', ROLE + "any", "", False),
        ('{ aws_organization = "o-a1b2c3d4e5" }', ROLE + "any", "o-a1b2c3d4e6", False),
        (
            f'{{ aws_role = "{ROLE}etl", aws_organization = "o-a1b2c3d4e5" }}',
            ROLE + "etl",
            "o-a1b2c3d4e5",
            True,
        ),
        (
            f'{{ aws_role = "{ROLE}etl", aws_organization = "o-a1b2c3d4e5" }}',
            ROLE + "etl",
            "",
            False,
        ),
        (
            f'{{ aws_role = "{ROLE}etl", aws_organization = "o-a1b2c3d4e5" }}',
            ROLE + "other",
            "o-a1b2c3d4e5",
            False,
        ),
    ]:
        with subtests.test(caller=caller, arn=arn, organization=organization, expected=expected):
            assert fits(caller, AwsCaller(arn, ACCOUNT, organization=organization)) is expected


def test_fields_of_one_entra_matcher_must_all_fit(subtests: pytest.Subtests) -> None:
    for fields, caller, expected in [
        (f'entra_object = "{OBJECT}"', EntraCaller(TENANT, OBJECT, APP), True),
        (f'entra_object = "{OBJECT.upper()}"', EntraCaller(TENANT, OBJECT, APP), True),
        (f'entra_object = "{OBJECT}"', EntraCaller(TENANT.upper(), OBJECT.upper(), APP), True),
        (f'entra_object = "{OBJECT}"', EntraCaller(OBJECT, OBJECT, APP), False),
        (f'entra_object = "{OBJECT}"', EntraCaller(TENANT, APP, OBJECT), False),
        (f'entra_app = "{APP}"', EntraCaller(TENANT, OBJECT, APP), True),
        (f'entra_app = "{APP}", entra_object = "{OBJECT}"', EntraCaller(TENANT, APP, APP), False),
        ('entra_role = "Vend"', EntraCaller(TENANT, OBJECT, APP, frozenset({"Vend", "x"})), True),
        ('entra_role = "Vend"', EntraCaller(TENANT, OBJECT, APP, frozenset({"vend"})), False),
        ('entra_role = "Vend"', EntraCaller(TENANT, OBJECT, APP), False),
        ('entra_role = ["a", "b"]', EntraCaller(TENANT, OBJECT, APP, frozenset("ab")), True),
        ('entra_role = ["a", "b"]', EntraCaller(TENANT, OBJECT, APP, frozenset("a")), False),
    ]:
        with subtests.test(fields=fields, caller=caller, expected=expected):
            assert fits(f'{{ entra_tenant = "{TENANT}", {fields} }}', caller) is expected


PERSON = EntraCaller(TENANT, OBJECT, APP, frozenset({"Vend"}), is_user=True)
WORKLOAD = EntraCaller(TENANT, OBJECT, APP, frozenset({"Vend"}))


@pytest.mark.parametrize(
    "fields",
    [
        f'entra_app = "{APP}"',
        f'entra_object = "{OBJECT}"',
        'entra_role = "Vend"',
        f'entra_object = "{OBJECT}", entra_app = "{APP}", entra_role = "Vend"',
    ],
)
def test_a_person_is_never_taken_for_the_application_they_signed_in_through(fields: str) -> None:
    matcher = f'{{ entra_tenant = "{TENANT}", {fields} }}'
    assert fits(matcher, WORKLOAD)
    assert not fits(matcher, PERSON)
    why = denial(policy(grant(caller=matcher)), PERSON, AccessTokenRequest(grant_name="landing"))
    assert "does not name the caller" in why
    # Whatever the index lets through.
    (entry,) = policy(grant(caller=matcher)).grants[0].callers
    assert not entry.fits(facts_of(PERSON))


@pytest.mark.parametrize(
    ("fields", "person", "expected"),
    [
        ("", PERSON, True),
        ("", WORKLOAD, False),
        (f', entra_app = "{APP}", entra_role = "Vend"', PERSON, True),
        (f', entra_app = "{OBJECT}"', PERSON, False),
        (', entra_role = "Other"', PERSON, False),
        ("", EntraCaller(OBJECT, OBJECT, APP, is_user=True), False),
        ("", EntraCaller(TENANT, APP, OBJECT, is_user=True), False),
    ],
)
def test_an_entra_user_is_one_person_however_narrowed_and_no_application(
    fields: str, person: EntraCaller, expected: bool
) -> None:
    matcher = f'{{ entra_tenant = "{TENANT}", entra_user = "{OBJECT.upper()}"{fields} }}'
    assert fits(matcher, person) is expected


def test_fields_of_one_issuer_matcher_must_all_fit(subtests: pytest.Subtests) -> None:
    for claims, caller, expected in [
        ('repository = "acme/etl"', OidcCaller(ISSUER, "s", (("repository", "acme/etl"),)), True),
        ('repository = "acme/etl"', OidcCaller(ISSUER, "s", (("repository", "acme/etl2"),)), False),
        ('repository = "acme/*"', OidcCaller(ISSUER, "s", (("repository", "acme/etl"),)), True),
        ('repository = "acme/*"', OidcCaller(ISSUER, "s", (("repository", "acme/a/b"),)), False),
        ('repository = "acme/etl"', OidcCaller(ISSUER, "acme/etl"), False),
        ('repository = "x"', OidcCaller(ISSUER + "/", "s", (("repository", "x"),)), False),
        (
            'sub = "repo:acme/etl:ref:refs/heads/main"',
            OidcCaller(ISSUER, "repo:acme/etl:ref:refs/heads/main"),
            True,
        ),
        ('sub = "repo:acme/etl:*"', OidcCaller(ISSUER, "repo:acme/etl:ref:refs/heads/x"), False),
        (
            'sub = "repo:acme/etl:ref:refs/heads/*"',
            OidcCaller(ISSUER, "repo:acme/etl:ref:refs/heads/x"),
            True,
        ),
        ('sub = "a"', OidcCaller(ISSUER, "b", (("sub", "a"),)), False),
        ('sub = "a", environment = "prod"', OidcCaller(ISSUER, "a"), False),
        (
            'sub = "a", environment = "prod"',
            OidcCaller(ISSUER, "a", (("environment", "prod"),)),
            True,
        ),
        ('environment = "*", sub = "a*"', OidcCaller(ISSUER, "ab", (("environment", "x"),)), True),
    ]:
        with subtests.test(claims=claims, caller=caller, expected=expected):
            assert fits(f'{{ issuer = "{ISSUER}", claims = {{ {claims} }} }}', caller) is expected


def test_a_matcher_of_one_cloud_never_fits_a_caller_of_another() -> None:
    callers: list[Caller] = [
        ETL,
        ALIAS,
        EntraCaller(TENANT, OBJECT, APP),
        OidcCaller(ISSUER, "etl"),
    ]
    matchers = [
        f'{{ aws_role = "{ROLE}etl" }}',
        '{ lambda_alias = "etl" }',
        f'{{ entra_tenant = "{TENANT}", entra_object = "{OBJECT}" }}',
        f'{{ issuer = "{ISSUER}", claims = {{ sub = "etl" }} }}',
    ]
    for row, matcher in enumerate(matchers):
        assert [fits(matcher, caller) for caller in callers] == [row == n for n in range(4)]


def test_matchers_of_one_grant_are_alternatives() -> None:
    both = f'{{ lambda_alias = "etl" }}, {{ aws_role = "{ROLE}etl" }}'
    assert fits(both, ALIAS)
    assert fits(both, ETL)


# --- shadow mode ----------------------------------------------------------------------------------


def test_shadow_mode_lets_limits_pass_and_says_so(subtests: pytest.Subtests) -> None:
    for request_, told in [
        (AccessTokenRequest(scopes=(READ, "openid")), 'its scopes do not include "openid"'),
        (AccessTokenRequest(lifetime=3600), "its tokens live at most 15m and 1h were asked"),
        (AccessTokenRequest(), ""),
    ]:
        with subtests.test(request_=request_, told=told):
            decision = decide(policy(grant(), mode="shadow"), ALIAS, request_, NOW)
            assert told in decision.would_deny
            assert bool(decision.would_deny) is bool(told)
            assert isinstance(decision.spec, AccessTokenSpec)
            assert set(decision.spec.scopes) == set(request_.scopes or (READ, WRITE))
            assert decision.spec.lifetime == (request_.lifetime or 900)


def test_shadow_mode_lets_dates_and_audiences_pass_together() -> None:
    expired = f'service_account = "{LANDING}"\nexpires = 2020-01-01T00:00:00Z'
    held = policy(grant(target=expired, limits=ID_LIMITS), mode="shadow")
    decision = decide(held, ALIAS, IdTokenRequest("https://else.example"), NOW)
    assert decision.would_deny == (
        'grant "landing": it expired at 2020-01-01T00:00:00Z; '
        'its audiences do not include "https://else.example"'
    )


def test_shadow_mode_never_relaxes_who_and_what_for(subtests: pytest.Subtests) -> None:
    for caller, request_ in [
        (LambdaCaller("stranger", ACCOUNT), AccessTokenRequest()),
        (ALIAS, AccessTokenRequest(ORDERS)),
        (ALIAS, AccessTokenRequest(grant_name="other")),
        (ALIAS, AccessTokenRequest(lifetime=43_201)),
        (ALIAS, IdTokenRequest("https://orders-x.run.app")),
    ]:
        with subtests.test(caller=caller, request_=request_):
            assert denial(policy(grant(), mode="shadow"), caller, request_)


IAM = "https://www.googleapis.com/auth/iam"


@pytest.mark.parametrize("scopes", [(IAM,), (CLOUD_PLATFORM,), (READ, IAM), (WRITE,), ("openid",)])
def test_row_26_shadow_mode_never_gives_away_the_endpoints_own_identity(
    scopes: tuple[str, ...],
) -> None:
    limits = f'access_token = {{ scopes = ["{READ}"] }}'
    held = policy(grant(target="direct = true", limits=limits), mode="shadow")
    why = denial(held, ALIAS, AccessTokenRequest(scopes=scopes))
    assert why.startswith('nearest grant "landing": its scopes do not include')
    # What is beyond the grant is dropped where the request narrows; it is never added.
    narrowing = AccessTokenRequest(scopes=(CLOUD_PLATFORM, *scopes), narrow=True)
    assert decide(held, ALIAS, narrowing, NOW).spec == AccessTokenSpec(
        "landing", None, (READ,), None
    )


def test_a_direct_grant_in_shadow_mode_still_relaxes_its_dates() -> None:
    target = "direct = true\nexpires = 2020-01-01T00:00:00Z"
    limits = f'access_token = {{ scopes = ["{READ}"] }}'
    held = policy(grant(target=target, limits=limits), mode="shadow")
    assert "it expired" in decide(held, ALIAS, AccessTokenRequest(), NOW).would_deny
    why = denial(held, ALIAS, AccessTokenRequest(scopes=(IAM,)))
    assert "its scopes do not include" in why


def test_a_grants_own_mode_counts_over_the_policys() -> None:
    shadow = grant(target=f'service_account = "{LANDING}"\nmode = "shadow"')
    enforce = grant(target=f'service_account = "{LANDING}"\nmode = "enforce"')
    long = AccessTokenRequest(lifetime=3600)
    assert decide(policy(shadow), ALIAS, long, NOW).would_deny
    assert denial(policy(enforce, mode="shadow"), ALIAS, long)


def test_a_grant_that_permits_by_right_comes_before_one_in_shadow() -> None:
    shadow = f'service_account = "{LANDING}"\nmode = "shadow"'
    wide = f'access_token = {{ scopes = ["{READ}"], max_lifetime = "2h" }}'
    held = policy(
        grant("a-shadow", target=shadow),
        grant("b-shadow", target=shadow, limits=wide),
        grant("c-right", limits=wide),
    )
    long = AccessTokenRequest(lifetime=7200)
    assert decide(held, ALIAS, long, NOW).spec.grant_name == "c-right"
    both_scopes = AccessTokenRequest(scopes=(READ, WRITE), lifetime=7200)
    assert decide(held, ALIAS, both_scopes, NOW).spec.grant_name == "a-shadow"
    assert (
        decide(
            policy(grant("a", target=shadow), grant("b", target=shadow, limits=wide)),
            ALIAS,
            long,
            NOW,
        ).spec.grant_name
        == "b"
    )


# --- what a caller is told ------------------------------------------------------------------------


def test_a_caller_sees_its_own_grants_and_no_others() -> None:
    held = policy(
        grant("landing"),
        grant("others", caller='{ lambda_alias = "other" }'),
        grant("orders", target=f'service_account = "{ORDERS}"', limits=ID_LIMITS),
        grant("direct", target="direct = true", limits='access_token = { scopes = ["openid"] }'),
    )
    views = grants_of(held, ALIAS, NOW)
    assert [
        (each.name, each.service_account, each.scopes, *map(str, each.audiences), each.max_lifetime)
        for each in views
    ] == [
        ("landing", LANDING, (READ, WRITE), 900),
        ("orders", ORDERS, (), "https://orders-*.run.app", None),
        ("direct", None, ("openid",), None),
    ]
    assert grants_of(held, LambdaCaller("nobody", ACCOUNT), NOW) == ()


def steps(held: CompiledPolicy, caller: Caller, request: TokenRequest) -> int:
    """How many lines a decision runs: time, counted."""
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> TraceFunction:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        denial(held, caller, request)
    finally:
        sys.settrace(before)
    return lines


def test_row_32_a_denied_caller_cannot_time_which_grants_exist() -> None:
    crowd = ", ".join(f'{{ aws_role = "{ROLE}team-{number}-*" }}' for number in range(200))
    held = policy(
        grant("crowd", caller=crowd),
        grant("alone", caller='{ lambda_alias = "other" }'),
        grant("hers", caller=f'{{ aws_role = "{ROLE}eve" }}', limits=ID_LIMITS),
    )
    for stranger in (AwsCaller(ROLE + "mallory", ACCOUNT), AwsCaller(ROLE + "eve", ACCOUNT)):
        asked = [AccessTokenRequest(grant_name=name) for name in ("crowd", "alone", "ghost")]
        assert len({steps(held, stranger, request) for request in asked}) == 1
    eve = AwsCaller(ROLE + "eve", ACCOUNT)
    assert "ID tokens" in denial(held, eve, AccessTokenRequest(grant_name="hers"))


def test_a_reason_shows_where_two_long_names_differ() -> None:
    common = "repo:acme/" + "a" * 450 + ":ref:refs/heads/"
    matcher = f'{{ issuer = "{ISSUER}", claims = {{ sub = "{common}main" }} }}'
    (entry,) = policy(grant(caller=matcher)).grants[0].callers
    reason = entry.mismatch(facts_of(OidcCaller(ISSUER, common + "maim")))
    assert 'heads/maim" is not …' in reason
    assert reason.endswith('heads/main"')


def test_a_grant_is_found_among_many_by_any_of_its_matchers() -> None:
    grants = [
        grant(
            f"g{number}",
            caller=(
                f'{{ aws_role = "{ROLE}team-{number}-*" }}, {{ lambda_alias = "a{number}" }}, '
                f'{{ issuer = "{ISSUER}", claims = {{ owner = "acme", '
                f'repository = "acme/{number}", ref = "refs/heads/*" }} }}, '
                f'{{ entra_tenant = "{TENANT}", entra_role = ["Common", "R{number}"] }}'
            ),
        )
        for number in range(300)
    ]
    held = policy(*grants)
    claims = (("owner", "acme"), ("ref", "refs/heads/x"), ("repository", "acme/77"))
    callers: list[Caller] = [
        AwsCaller(ROLE + "team-77-x", ACCOUNT),
        LambdaCaller("a77", ACCOUNT),
        OidcCaller(ISSUER, "s", claims),
        EntraCaller(TENANT, OBJECT, APP, frozenset({"Common", "R77"})),
    ]
    for caller in callers:
        assert [view.name for view in grants_of(held, caller, NOW)] == ["g77"]
        # The rarest fact is the key: the shared owner or role puts no crowd into one group.
        assert sum(1 for _ in held.by_fact.entries(facts_of(caller))) == 1
