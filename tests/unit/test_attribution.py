"""Attribution: who Google is told is asking, and that nobody is taken for somebody else."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation import STS, World
from tests.unit.issuing import NOW, deadline
from tokenvend.audit.record import AuditRecord
from tokenvend.errors import Misconfigured
from tokenvend.model import (
    AccessTokenRequest,
    AwsCaller,
    Caller,
    EntraCaller,
    IdTokenRequest,
    LambdaCaller,
    OidcCaller,
)
from tokenvend.policy import PolicyError, check_platform, compile_policy
from tokenvend.policy.attribution import caller_label, session_name
from tokenvend.policy.review.diff import Change, diff
from tokenvend.policy.review.explain import explain
from tokenvend.policy.review.lint import lint
from tokenvend.policy.review.matrix import matrix

if TYPE_CHECKING:
    from pathlib import Path

    from tokenvend.service import Vending

ACCOUNT = "111122223333"
ETL = AwsCaller(f"arn:aws:iam::{ACCOUNT}:role/etl", ACCOUNT, "etl", "session-1")
NIGHTLY = LambdaCaller("nightly", ACCOUNT)
GITHUB = "https://token.actions.githubusercontent.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
POLICY = """version = 1
[[grant]]
name = "ledger"
callers = [{ aws_account = "111122223333" }, { lambda_alias = "nightly" }]
service_account = "ledger@acme.iam.gserviceaccount.com"
attribute = "caller"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
[grant.id_token]
audiences = ["https://ledger.example"]

[[grant]]
name = "ours"
callers = [{ aws_account = "111122223333" }, { lambda_alias = "nightly" }]
service_account = "ledger@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]

[[grant]]
name = "direct"
callers = [{ aws_account = "111122223333" }, { lambda_alias = "nightly" }]
direct = true
attribute = "caller"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
"""

# --- names ---------------------------------------------------------------------------------------


def role(name: str, session: str = "") -> AwsCaller:
    return AwsCaller(f"arn:aws:iam::{ACCOUNT}:role/{name}", ACCOUNT, name, session)


TEXT = st.text(max_size=80)
NAME = st.text("ab:/-.", max_size=4) | TEXT
CALLERS: st.SearchStrategy[Caller] = st.one_of(
    st.builds(role, NAME, TEXT),
    st.builds(LambdaCaller, NAME, st.just(ACCOUNT)),
    st.builds(EntraCaller, st.just("tenant"), NAME, TEXT),
    # No issuer's URL has a `#`: settings and policies refuse one.
    st.builds(OidcCaller, NAME.map(lambda text: text.replace("#", "")), NAME),
)


def principal(caller: Caller) -> tuple[str, ...]:
    """What makes a caller another one."""
    if isinstance(caller, OidcCaller):
        return caller.kind, caller.issuer, caller.subject
    return caller.kind, caller.id


@given(CALLERS)
def test_every_caller_has_a_name_that_aws_and_google_take(caller: Caller) -> None:
    name = session_name(caller)
    assert re.fullmatch(r"caller\.[A-Za-z0-9_-]+\.[a-z2-7]{20}", name)
    assert len(name) <= 64
    # With the longest role's name that the setting takes, Google's 127 bytes are kept.
    assert len(f"aws::{ACCOUNT}::{'r' * 43}/{name}") <= 127


@given(CALLERS, CALLERS)
def test_two_callers_never_share_a_session_name(one: Caller, other: Caller) -> None:
    assert (session_name(one) == session_name(other)) == (principal(one) == principal(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # What differs is cut off, or is written over: the digest still tells them apart.
        (LambdaCaller("a" * 128, ACCOUNT), LambdaCaller("a" * 127 + "b", ACCOUNT)),
        (OidcCaller(GITHUB, "repo:acme/etl"), OidcCaller(GITHUB, "repo:acme:etl")),
        (OidcCaller(GITHUB, "etl"), LambdaCaller("etl", ACCOUNT)),
        (OidcCaller(GITHUB, "etl"), OidcCaller("https://gitlab.com", "etl")),
        (ETL, AwsCaller("arn:aws:iam::444455556666:role/etl", "444455556666", "etl")),
        (ETL, AwsCaller(f"arn:aws:iam::{ACCOUNT}:user/etl", ACCOUNT)),
        # Issuer and subject, run together, read the same.
        (OidcCaller("https://idp.example", "8443:x"), OidcCaller("https://idp.example:8443", "x")),
    ],
)
def test_no_caller_can_give_itself_anothers_name(one: Caller, other: Caller) -> None:
    assert session_name(one) != session_name(other)


def test_a_caller_cannot_spell_out_anothers_name() -> None:
    disguised = OidcCaller(GITHUB, caller_label(ETL))
    assert caller_label(disguised) != caller_label(ETL)
    assert caller_label(disguised).rpartition(".")[2] != caller_label(ETL).rpartition(".")[2]


def test_a_callers_own_session_name_and_claims_change_nothing() -> None:
    again = AwsCaller(ETL.arn, ACCOUNT, "etl", "session-2", "o-other12345")
    assert session_name(again) == session_name(ETL)
    one, other = (OidcCaller(GITHUB, "s", (("run", run),)) for run in "12")
    assert session_name(one) == session_name(other)


@pytest.mark.parametrize(
    ("caller", "readable"),
    [
        (ETL, "etl"),
        (AwsCaller(f"arn:aws:iam::{ACCOUNT}:user/people/ann.lee", ACCOUNT), "ann-lee"),
        (NIGHTLY, "nightly"),
        (EntraCaller("t", "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02", "a"),
         "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02"),
        (OidcCaller(GITHUB, "repo:acme/etl:ref:refs/heads/main"),
         "repo-acme-etl-ref-refs-heads-main"),
        (OidcCaller(GITHUB, "://"), "oidc"),
    ],
)  # fmt: skip
def test_a_name_can_be_read(caller: Caller, readable: str) -> None:
    assert caller_label(caller).rpartition(".")[0] == readable


# --- the policy ----------------------------------------------------------------------------------


def test_the_grant_says_whether_google_sees_the_caller() -> None:
    policy = compile_policy(POLICY)
    assert [grant.attributed for grant in policy.grants] == [True, False, True]
    plain = compile_policy(POLICY.replace('attribute = "caller"\n', ""))
    assert plain.digest != policy.digest


@pytest.mark.parametrize("value", ['"session"', '""', '"Caller"', "true", '["caller"]'])
def test_another_attribute_is_an_error_with_its_line(value: str) -> None:
    with pytest.raises(PolicyError) as caught:
        compile_policy(POLICY.replace('"caller"', value, 1))
    (problem,) = caught.value.problems
    assert (problem.line, problem.where) == (6, '[[grant]] "ledger"')
    assert "`attribute` must be" in problem.message


def test_a_platform_that_cannot_attribute_refuses_each_such_grant_by_its_line() -> None:
    obstacles = {"attribute": "cannot be held here", "entra_user": "cannot call here"}
    with pytest.raises(PolicyError) as caught:
        check_platform(compile_policy(POLICY), POLICY, source="policy.toml", obstacles=obstacles)
    assert caught.value.cause.splitlines() == [
        'policy.toml:6: [[grant]] "ledger": `attribute = "caller"` cannot be held here',
        'policy.toml:23: [[grant]] "direct": `attribute = "caller"` cannot be held here',
    ]


def test_without_an_obstacle_or_without_attribution_a_policy_is_taken() -> None:
    plain = POLICY.replace('attribute = "caller"\n', "")
    check_platform(compile_policy(POLICY), POLICY, source="p", obstacles={"attribute": ""})
    obstacles = {"attribute": "cannot be held here"}
    check_platform(compile_policy(plain), plain, source="p", obstacles=obstacles)
    assert "attribute" not in plain


def test_the_tools_tell_attribution_apart() -> None:
    policy = compile_policy(POLICY)
    before = compile_policy(POLICY.replace('attribute = "caller"\n', "", 1))
    changes = {(each.change, each.limits) for each in diff(before, policy)}
    assert (Change.GAINS, "up to 1h, attributed to the caller") in changes
    assert "shadowed" not in {finding.rule for finding in lint(POLICY, now=NOW)}
    cells = [cell for found in matrix(policy).cells.values() for cell in found]
    assert {cell.grant for cell in cells if "attributed" in cell.limits} == {"ledger", "direct"}


# --- vending -------------------------------------------------------------------------------------


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def ours(world: World, tmp_path: Path) -> Vending:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return world.on_aws(path).vending


def vend(vending: Vending, caller: Caller, grant: str, **more: int) -> str:
    record = AuditRecord(request_id="r", time="t")
    request = AccessTokenRequest(grant_name=grant, **more)
    return vending.vend(caller, request, NOW, deadline(), record).value.reveal()


def test_a_federated_token_of_one_caller_never_mints_for_another(
    world: World, ours: Vending
) -> None:
    for lifetime in (901, 902):
        for caller in (ETL, NIGHTLY):
            for grant, named in (("ledger", session_name(caller)), ("ours", "")):
                token = vend(ours, caller, grant, lifetime=lifetime)
                assert world.given[token].session == named
    # Kept by caller: the second round exchanged nothing.
    assert world.asked.count(STS) == 3


def test_a_direct_token_is_the_callers_own(world: World, ours: Vending) -> None:
    for caller in (ETL, NIGHTLY, ETL):
        given = world.given[vend(ours, caller, "direct")]
        assert (given.kind, given.session) == ("direct", session_name(caller))


def test_a_rejected_federated_token_is_made_anew_in_the_same_name(
    world: World, ours: Vending
) -> None:
    vend(ours, ETL, "ledger", lifetime=901)
    world.expire("federated")
    assert world.given[vend(ours, ETL, "ledger", lifetime=902)].session == session_name(ETL)
    assert world.asked.count(STS) == 2


def test_where_callers_cannot_be_named_an_attributed_grant_gives_nothing(
    world: World, ours: Vending
) -> None:
    """Such a policy does not load; if it did."""
    unable = replace(ours, mint=replace(ours.mint, session_identity=None))
    for grant in ("ledger", "direct"):
        with pytest.raises(Misconfigured):
            vend(unable, ETL, grant)
    assert world.asked == []


def test_the_decision_carries_the_attribution_for_both_kinds(ours: Vending) -> None:
    for request in (AccessTokenRequest(), IdTokenRequest("https://ledger.example")):
        record = AuditRecord(request_id="r", time="t")
        ours.vend(ETL, request, NOW, deadline(), record)
        assert record.spec is not None
        assert record.spec.attributed


def test_the_operator_is_told_what_google_sees_the_caller_as() -> None:
    policy = compile_policy(POLICY)
    told = explain(policy, ETL, AccessTokenRequest(grant_name="ledger"), NOW)
    assert told.google_sees == caller_label(ETL) == "etl.wvxntcwhrrhozkhqiu6q"
    assert explain(policy, ETL, AccessTokenRequest(grant_name="ours"), NOW).google_sees == ""
    denied = explain(policy, ETL, AccessTokenRequest(grant_name="ledger", lifetime=43_200), NOW)
    assert denied.google_sees == ""
