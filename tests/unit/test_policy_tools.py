"""The operator's tools: lint, explain, test, diff, matrix, SARIF and the editors' schema."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict
from datetime import datetime
from html.parser import HTMLParser
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.issuing import NOW
from tokenvend.model import (
    AccessTokenRequest,
    AwsCaller,
    Caller,
    EntraCaller,
    IdTokenRequest,
    LambdaCaller,
    OidcCaller,
)
from tokenvend.policy import Mode, PolicyError, boundary, compile_policy, compiler
from tokenvend.policy.callers import KEYS, MAX_CALLERS, entra, oidc
from tokenvend.policy.patterns import UNRESERVED, glob
from tokenvend.policy.review.cases import read_cases, run_cases
from tokenvend.policy.review.coverage import covers
from tokenvend.policy.review.diff import diff
from tokenvend.policy.review.explain import Explanation, explain
from tokenvend.policy.review.lint import RULES, lint
from tokenvend.policy.review.matrix import DIRECT, matrix, to_html
from tokenvend.policy.review.sarif import to_sarif
from tokenvend.policy.review.scopes import known_scopes
from tokenvend.policy.values import IMPERSONATING, MAX_AUDIENCE

ROLE = "arn:aws:iam::111122223333:role/"
TENANT = 'entra_tenant = "aaaaaaaa-0000-0000-0000-000000000000"'
OBJECT = 'entra_object = "bbbbbbbb-0000-0000-0000-000000000000"'
USER = OBJECT.replace("object", "user")
READ = "https://www.googleapis.com/auth/devstorage.read_only"
GITHUB = "https://token.actions.githubusercontent.com"
POLICY = f"""version = 1

[[grant]]
name = "landing"
callers = [{{ aws_role = "{ROLE}etl-*" }}, {{ lambda_alias = "etl" }}]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["{READ}"]
max_lifetime = "15m"

[[grant]]
name = "orders"
callers = [{{ lambda_alias = "jobs" }}]
service_account = "orders@acme.iam.gserviceaccount.com"
[grant.id_token]
audiences = ["https://orders.a.run.app"]
"""
SCHEMA = json.loads((files("tokenvend.policy.review") / "policy.schema.json").read_text("utf-8"))


def found(text: str) -> list[tuple[str, str, int]]:
    return [(each.rule, str(each.severity), each.line) for each in lint(text, now=NOW)]


# --- lint -----------------------------------------------------------------------------------------


def test_a_careful_policy_has_no_findings() -> None:
    assert found(POLICY) == []


def test_lint_finds(subtests: pytest.Subtests) -> None:
    for old, new, expected in [
        ("version = 1", "version = 2", ("invalid", "error", 1)),
        (f"{ROLE}etl-*", f"{ROLE}*", ("wide-caller", "warning", 5)),
        (f"{ROLE}etl-*", f"{ROLE}a*b", ("wide-caller", "warning", 5)),
        (
            f'aws_role = "{ROLE}etl-*"',
            'aws_account = "111122223333"',
            ("wide-caller", "warning", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            'aws_organization = "o-a1b2c3d4e5"',
            ("wide-caller", "warning", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            f'issuer = "{GITHUB}", claims = {{ ref = "refs/heads/main" }}',
            ("anyone-at-issuer", "error", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            f'issuer = "{GITHUB}", claims = {{ repository_owner_id = "*7" }}',
            ("anyone-at-issuer", "error", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            f'issuer = "{GITHUB}", claims = {{ repository = "acme/etl" }}',
            ("reusable-name", "note", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            'issuer = "https://gitlab.com", claims = { project_path = "acme/etl" }',
            ("reusable-name", "note", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            'issuer = "https://idp.example/", claims = { sub = "job-1" }',
            ("issuer-slash", "note", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            f'issuer = "{GITHUB}/", claims = {{ sub = "repo:acme/etl:x" }}',
            ("issuer-slash", "warning", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            'issuer = "https://acme.auth0.com/", claims = { sub = "job-1" }',
            None,
        ),
        (READ, READ.replace("read_only", "readwrite"), ("unknown-scope", "warning", 8)),
        (READ, "https://www.googleapis.com/auth/qqqqqqqq", ("unknown-scope", "note", 8)),
        (
            f'aws_role = "{ROLE}etl-*"',
            'issuer = "https://idp.example", claims = { sub = "a*" }',
            ("wide-caller", "warning", 5),
        ),
        (
            f'aws_role = "{ROLE}etl-*"',
            'issuer = "https://idp.example", claims = { email = "ana@acme.example" }',
            ("mutable-claim", "warning", 5),
        ),
        (
            '{ lambda_alias = "etl" }',
            f'{{ aws_role = "{ROLE}etl-1" }}',
            ("redundant-caller", "note", 5),
        ),
        (READ, "https://www.googleapis.com/auth/cloud-platform", ("cloud-platform", "warning", 8)),
        ('"15m"', '"61m"', ("long-lifetime", "warning", 9)),
        ("https://orders.a.run.app", "https://orders-*.run.app", ("wildcard-host", "warning", 16)),
        ("https://orders.a.run.app", "https://orders-*.app", ("wildcard-host", "error", 16)),
        ("https://orders.a.run.app", "https://*", ("wildcard-host", "error", 16)),
        ("https://orders.a.run.app", "https://a.example/*", None),
        ('name = "landing"', 'name = "landing"\nmode = "shadow"', ("shadow-mode", "note", 5)),
        (
            'name = "landing"',
            'name = "landing"\nexpires = 2020-01-01T00:00:00Z',
            ("expired", "warning", 5),
        ),
        (
            'name = "landing"',
            'name = "landing"\nexpires = 2027-01-20T00:00:00Z',
            ("expires-soon", "note", 5),
        ),
        ('name = "landing"', 'name = "landing"\nexpires = 2040-01-01T00:00:00Z', None),
    ]:
        with subtests.test(old=old, new=new, expected=expected):
            assert old in POLICY
            assert found(POLICY.replace(old, new)) == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("claims", "rules"),
    [
        ('repository = "acme/*", repository_owner_id = "7"', set()),
        ('sub = "repo:acme/etl:ref:refs/heads/*", repository_id = "7"', set()),
        ('repository_owner_id = "7", ref = "refs/heads/main"', set()),
        ('repository_owner = "acme"', {"reusable-name"}),
        ('sub = "repo:acme/*:ref:refs/heads/main"', {"reusable-name"}),
        ('sub = "repo:*"', {"anyone-at-issuer", "reusable-name"}),
        ('repository = "*/etl"', {"anyone-at-issuer", "reusable-name"}),
    ],
)
def test_a_matcher_at_a_public_issuer_pins_an_owner_by_what_nobody_can_register_again(
    claims: str, rules: set[str]
) -> None:
    matcher = f'issuer = "{GITHUB}", claims = {{ {claims} }}'
    text = POLICY.replace(f'aws_role = "{ROLE}etl-*"', matcher)
    assert {rule for rule, _, _ in found(text)} == rules


def test_a_misspelt_scope_is_told_with_the_one_that_was_meant() -> None:
    (finding,) = lint(POLICY.replace("read_only", "readwrite"), now=NOW)
    assert finding.where == '[[grant]] "landing"'
    assert finding.message == (
        '"https://www.googleapis.com/auth/devstorage.readwrite" is no scope of Google\'s that is '
        'known here; did you mean "https://www.googleapis.com/auth/devstorage.read_write"?'
    )
    assert {READ, *IMPERSONATING} <= set(known_scopes())


def test_a_grant_whose_gifts_an_earlier_one_gives_is_shadowed() -> None:
    again = POLICY[POLICY.index("[[grant]]") :].partition("\n[[grant]]")[0]
    narrow = again.replace("landing", "later", 1).replace("etl-*", "etl-x*")
    assert found(POLICY + narrow) == [("shadowed", "warning", 17)]
    wider = narrow.replace('"15m"', '"20m"')
    assert found(POLICY + wider) == []
    assert found(POLICY + narrow.replace("etl-x*", "other-*")) == []
    shorter = POLICY.replace('name = "landing"', 'name = "landing"\nexpires = 2040-01-01T00:00:00Z')
    assert found(shorter + narrow) == []
    within = narrow.replace('"later"', '"later"\nexpires = 2039-01-01T00:00:00Z')
    assert found(shorter + within) == [("shadowed", "warning", 18)]


def test_a_policy_without_grants_is_noted() -> None:
    assert found("version = 1") == [("empty", "note", 1)]


def test_sarif_carries_every_finding_with_rule_level_and_line() -> None:
    text = POLICY.replace(READ, "https://www.googleapis.com/auth/cloud-platform")
    log = to_sarif({"infra/policy.toml": lint(text, now=NOW)}, version="1.2.3")
    assert log["version"] == "2.1.0"
    runs = json.loads(json.dumps(log))["runs"]
    driver = runs[0]["tool"]["driver"]
    assert [rule["id"] for rule in driver["rules"]] == list(RULES)
    (result,) = runs[0]["results"]
    assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "cloud-platform"
    assert result["level"] == "warning"
    place = result["locations"][0]["physicalLocation"]
    assert place == {
        "artifactLocation": {"uri": "infra/policy.toml"},
        "region": {"startLine": 8},
    }


# --- coverage -------------------------------------------------------------------------------------

_patterns = st.text("ab*/#", min_size=1, max_size=5).filter(lambda text: "**" not in text)


@given(_patterns, _patterns, st.text("ab/#", max_size=6), st.sampled_from(["", UNRESERVED]))
def test_what_a_covered_pattern_fits_the_wide_one_fits(
    wide: str, narrow: str, text: str, star: str
) -> None:
    one, other = glob(wide, star), glob(narrow, star)
    if one.covers(other) and other.matches(text):
        assert one.matches(text)
    assert one.covers(one)


def test_coverage_of_matchers(subtests: pytest.Subtests) -> None:
    for wide, narrow, expected in [
        (f'aws_role = "{ROLE}a*"', f'aws_role = "{ROLE}ab*"', True),
        (f'aws_role = "{ROLE}ab*"', f'aws_role = "{ROLE}a*"', False),
        ('aws_account = "111122223333"', f'aws_role = "{ROLE}a*"', True),
        ('aws_account = "999999999999"', f'aws_role = "{ROLE}a*"', False),
        ('aws_organization = "o-aaaaaaaaaa"', f'aws_role = "{ROLE}a*"', False),
        (f'aws_role = "{ROLE}a*"', 'lambda_alias = "a"', False),
        (f'{TENANT}, entra_role = "a"', f'{TENANT}, entra_role = ["b", "a"]', True),
        (f'{TENANT}, entra_role = ["a", "b"]', f'{TENANT}, entra_role = "a"', False),
        (f'{TENANT}, entra_role = "a"', f'{TENANT}, entra_role = "a", {OBJECT}', True),
        (f'{TENANT}, entra_role = "a", {OBJECT}', f'{TENANT}, entra_role = "a"', False),
        (f'{TENANT}, entra_role = "a"', f'{TENANT}, entra_role = "a", {USER}', False),
        (f"{TENANT}, {USER}", f'{TENANT}, entra_role = "a", {USER}', True),
        (
            'issuer = "https://i", claims = { sub = "a*" }',
            'issuer = "https://i", claims = { sub = "ab", ref = "x" }',
            True,
        ),
        (
            'issuer = "https://i", claims = { sub = "ab", ref = "x" }',
            'issuer = "https://i", claims = { sub = "ab" }',
            False,
        ),
    ]:
        with subtests.test(wide=wide, narrow=narrow, expected=expected):
            one, two = (
                compile_policy(POLICY.replace(f'aws_role = "{ROLE}etl-*"', matcher))
                .grants[0]
                .callers[0]
                for matcher in (wide, narrow)
            )
            assert covers(one, two) is expected


# --- explain --------------------------------------------------------------------------------------


def told(
    caller: Caller,
    request: AccessTokenRequest | IdTokenRequest,
    text: str = POLICY,
) -> Explanation:
    return explain(compile_policy(text), caller, request, NOW)


ETL = AwsCaller(f"{ROLE}etl-1", "111122223333", "etl-1")


def test_an_explanation_of_a_grant_names_it_and_what_matched() -> None:
    explanation = told(ETL, AccessTokenRequest(lifetime=60))
    assert explanation.granted is not None
    assert explanation.summary == 'granted by "landing"'
    assert explanation.request == "an access token for 1m"
    assert [(each.grant, str(each.verdict), each.reason) for each in explanation.considered] == [
        ("landing", "chosen", "matched by aws_role"),
        (
            "orders",
            "names others",
            "it is for direct invokes of an alias, not for IAM roles and users",
        ),
    ]
    assert explanation.kind == "an IAM role"
    assert explanation.gets == (
        f"an access token of landing@acme.iam.gserviceaccount.com with {READ} for 1m"
    )
    assert [each.gives for each in explanation.considered] == [
        "landing@acme.iam.gserviceaccount.com: devstorage.read_only (up to 15m)",
        "orders@acme.iam.gserviceaccount.com: https://orders.a.run.app",
    ]


@pytest.mark.parametrize(
    ("request_", "step"),
    [
        (
            AccessTokenRequest(grant_name="nope"),
            "ask for a grant that exists, or leave `grant` out",
        ),
        (
            AccessTokenRequest(grant_name="orders"),
            f'add {{ aws_role = "{ROLE}etl-1" }} to `callers` of "orders"',
        ),
        (
            AccessTokenRequest("orders@acme.iam.gserviceaccount.com"),
            "ask without `service_account`, or add a grant for that service account",
        ),
        (
            IdTokenRequest("https://a.example"),
            'add [grant.id_token] to "landing", if its callers should have such tokens',
        ),
        (
            AccessTokenRequest(scopes=("openid",)),
            'ask for fewer scopes, or add these to `scopes` of "landing"',
        ),
        (
            AccessTokenRequest(lifetime=3600),
            'ask for a shorter lifetime, or raise `max_lifetime` of "landing"',
        ),
    ],
)
def test_an_explanation_of_a_denial_says_what_to_do(
    request_: AccessTokenRequest | IdTokenRequest, step: str
) -> None:
    explanation = told(ETL, request_)
    assert explanation.granted is None
    assert explanation.summary.startswith("denied: ")
    assert explanation.next_step == step


def test_a_stranger_is_shown_the_line_that_would_let_it_in() -> None:
    explanation = told(AwsCaller(f"{ROLE}other", "111122223333"), AccessTokenRequest())
    assert explanation.next_step == (
        f'add {{ aws_role = "{ROLE}other" }} to `callers` of the grant that should serve '
        "this caller"
    )
    assert explanation.considered[0].reason == f'aws_role: "{ROLE}other" is not "{ROLE}etl-*"'


def test_a_user_is_told_that_the_grant_asks_for_a_role() -> None:
    user = AwsCaller(f"{ROLE.replace('role/', 'user/')}etl-1", "111122223333")
    reason = told(user, AccessTokenRequest()).considered[0].reason
    assert reason == "the caller has no aws_role"


GUID = "bbbbbbbb-0000-0000-0000-000000000000"
EVERYBODY: list[tuple[Caller, str]] = [
    (AwsCaller(f"{ROLE}other", "111122223333", "other"), "an IAM role"),
    (AwsCaller(f"{ROLE.replace('role/', 'user/')}ana", "111122223333"), "an IAM user"),
    (LambdaCaller("nightly", "111122223333"), "a direct invoke of an alias"),
    (EntraCaller(GUID, GUID, GUID), "a workload in Entra"),
    (EntraCaller(GUID, GUID, GUID, is_user=True), "a person in Entra"),
    (
        OidcCaller(GITHUB, 'repo:acme/"etl"', (("ref", "x"),)),
        "a workload of an OpenID Connect issuer",
    ),
]


@pytest.mark.parametrize(("caller", "kind"), EVERYBODY)
def test_the_line_that_would_let_a_caller_in_does(caller: Caller, kind: str) -> None:
    explanation = told(caller, AccessTokenRequest())
    assert explanation.kind == kind
    matcher = explanation.next_step.removeprefix("add ").partition(" to `callers`")[0]
    mended = POLICY.replace('{ lambda_alias = "etl" }', matcher)
    assert told(caller, AccessTokenRequest(), mended).granted is not None
    for other, _ in EVERYBODY:
        assert other is caller or told(other, AccessTokenRequest(), mended).granted is None


def test_shadow_mode_is_told_apart_from_a_right() -> None:
    shadow = POLICY.replace('name = "landing"', 'name = "landing"\nmode = "shadow"')
    explanation = told(ETL, AccessTokenRequest(lifetime=3600), shadow)
    assert explanation.granted is not None
    assert "only because of shadow mode" in explanation.summary


# --- golden cases ---------------------------------------------------------------------------------

CASES = f"""[[case]]
name = "etl reads"
caller = {{ aws_role = "arn:aws:sts::111122223333:assumed-role/etl-1/me" }}
request = {{ scopes = ["{READ}"], lifetime = "900s" }}
expect = "grant"
grant = "landing"
service_account = "landing@acme.iam.gserviceaccount.com"

[[case]]
name = "etl gets no hour"
caller = {{ aws_role = "{ROLE}etl-1" }}
request = {{ lifetime = "1h" }}
expect = "deny"
reason = "live at most"

[[case]]
name = "jobs call orders"
caller = {{ lambda_alias = "jobs" }}
request = {{ audience = "https://orders.a.run.app" }}
expect = "grant"
at = 2026-01-01T00:00:00Z

[[case]]
name = "Entra gets nothing"
caller = {{ entra_tenant = "a", entra_object = "b", entra_role = ["c"] }}
expect = "deny"

[[case]]
name = "GitHub gets nothing"
caller = {{ issuer = "{GITHUB}", claims = {{ sub = "repo:acme/etl", ref = "x" }} }}
expect = "deny"
"""


def test_golden_cases_pass_on_the_policy_they_describe() -> None:
    results = run_cases(compile_policy(POLICY), read_cases(CASES), NOW)
    assert [result.passed for result in results] == [True] * 5
    assert [result.line for result in results] == [1, 9, 16, 23, 28]


@pytest.mark.parametrize(
    ("old", "new", "failing", "got"),
    [
        ('"15m"', '"10m"', "etl reads", 'denied: nearest grant "landing": its tokens live at most'),
        ('"15m"', '"2h"', "etl gets no hour", 'granted by "landing"'),
        ('name = "landing"', 'name = "renamed"', "etl reads", 'granted by "renamed"'),
        ('"jobs"', '"other"', "jobs call orders", "denied: no grant names the caller"),
    ],
)
def test_a_case_that_comes_out_otherwise_fails_with_what_was_got(
    old: str, new: str, failing: str, got: str
) -> None:
    results = run_cases(compile_policy(POLICY.replace(old, new)), read_cases(CASES), NOW)
    (failed,) = [result for result in results if not result.passed]
    assert failed.name == failing
    assert failed.got.startswith(got)


def test_what_only_shadow_mode_lets_pass_is_no_expected_grant() -> None:
    shadow = POLICY.replace('"15m"', '"1m"').replace("version = 1", 'version = 1\nmode = "shadow"')
    results = run_cases(compile_policy(shadow), read_cases(CASES), NOW)
    assert not results[0].passed
    assert "only because of shadow mode" in results[0].got


def test_a_case_file_with_a_mistake_proves_nothing_and_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for text, expected in [
        ("", "1: `case` is missing; write [[case]] tables"),
        ("case = []", "1: `case` is empty; write [[case]] tables"),
        ("[[case]]", "1: [[case]] number 1: `caller` is missing"),
        (
            CASES.replace("lambda_alias", "alias"),
            '18: [[case]] "jobs call orders": unknown key "alias"; known: aws_role, ',
        ),
        (
            CASES.replace("audience =", "audiences ="),
            (
                '19: [[case]] "jobs call orders": unknown key "audiences"; known: '
                "service_account, grant, scopes, lifetime"
            ),
        ),
        (
            CASES.replace('reason = "live at most"', 'grant = "landing"'),
            '9: [[case]] "etl gets no hour": `grant` and `service_account` say what',
        ),
        (
            CASES.replace('expect = "grant"', 'expect = "yes"'),
            '5: [[case]] "etl reads": `expect` must be "grant" or "deny", not "yes"',
        ),
        (
            CASES.replace("at = 2026-01-01T00:00:00Z", 'reason = "x"'),
            '21: [[case]] "jobs call orders": `reason` is of a denial',
        ),
        (
            CASES.replace(f"{ROLE}etl-1", "etl"),
            '11: [[case]] "etl gets no hour": `aws_role` must be the ARN of a role',
        ),
    ]:
        with subtests.test(text=text, expected=expected):
            with pytest.raises(PolicyError) as caught:
                read_cases(text)
            assert str(caught.value.problems[0]).startswith(expected)


# --- diff -----------------------------------------------------------------------------------------


def changes(old: str, new: str) -> list[tuple[str, str, str, str]]:
    differences = diff(compile_policy(old), compile_policy(new))
    return [(each.caller, str(each.change), each.what, each.limits) for each in differences]


def test_the_same_policy_in_other_words_is_no_difference() -> None:
    assert changes(POLICY, POLICY.replace('"15m"', '"900s"')) == []
    assert changes(POLICY, POLICY.replace('"landing"', '"other-name"')) == []
    extra = POLICY.replace('{ lambda_alias = "etl" }', f'{{ aws_role = "{ROLE}etl-x" }}')
    fewer = POLICY.replace(', { lambda_alias = "etl" }', "")
    assert changes(extra, fewer) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '{ lambda_alias = "etl" }',
            '{ lambda_alias = "new" }',
            [
                ("lambda_alias=etl", "loses", READ, "up to 15m"),
                ("lambda_alias=new", "gains", READ, "up to 15m"),
            ],
        ),
        (
            "etl-*",
            "etl-1",
            [(f"aws_role={ROLE}etl-*", "loses", READ, "up to 15m")],
        ),
        (
            "https://orders.a.run.app",
            "https://orders*.a.run.app",
            [("lambda_alias=jobs", "gains", "https://orders*.a.run.app", "")],
        ),
        (
            'name = "orders"',
            'name = "orders"\nmode = "shadow"',
            [("lambda_alias=jobs", "gains", "https://orders.a.run.app", "in shadow mode")],
        ),
        (
            'name = "orders"',
            'name = "orders"\nexpires = 2030-01-01T00:00:00Z',
            [("lambda_alias=jobs", "loses", "https://orders.a.run.app", "")],
        ),
    ],
)
def test_diff_names_who_gains_and_who_loses(
    old: str, new: str, expected: list[tuple[str, str, str, str]]
) -> None:
    forth = changes(POLICY, POLICY.replace(old, new))
    assert forth == expected
    turned = {"gains": "loses", "loses": "gains"}
    back = changes(POLICY.replace(old, new), POLICY)
    assert sorted(back) == sorted((who, turned[way], *rest) for who, way, *rest in expected)


# --- matrix ---------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_matrix_shows_each_pair_that_has_something() -> None:
    table = matrix(compile_policy(POLICY))
    assert table.callers == (f"aws_role={ROLE}etl-*", "lambda_alias=etl", "lambda_alias=jobs")
    assert len(table.service_accounts) == 2
    (cell,) = table.cells["lambda_alias=etl", "landing@acme.iam.gserviceaccount.com"]
    assert (cell.grant, cell.what, cell.limits) == (
        "landing",
        ("devstorage.read_only",),
        "up to 15m",
    )
    assert ("lambda_alias=etl", "orders@acme.iam.gserviceaccount.com") not in table.cells


def test_direct_grants_have_a_column_of_their_own() -> None:
    text = POLICY.replace(
        'service_account = "landing@acme.iam.gserviceaccount.com"', "direct = true"
    )
    table = matrix(compile_policy(text.replace('max_lifetime = "15m"', "")))
    assert DIRECT in table.service_accounts


def test_the_html_page_loads_nothing_and_escapes_what_the_policy_says() -> None:
    evil = 'issuer = "https://i.example", claims = { sub = "<script>alert(1)</script>" }'
    text = POLICY.replace('lambda_alias = "etl"', evil)
    html = to_html(matrix(compile_policy(text)))
    page = Page()
    page.feed(html)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe"} & set(tags)
    assert not any({"src", "href"} & attributes.keys() for _, attributes in page.tags)
    assert "<script>alert(1)</script>" in page.text
    assert tags.count("td") == 6


# --- schema ---------------------------------------------------------------------------------------


def fits_schema(text: str) -> bool:
    tree = tomllib.loads(text)
    for grant in tree.get("grant", []):
        for key in ("expires", "not_before"):
            if isinstance(grant.get(key), datetime):
                grant[key] = grant[key].isoformat()
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return validator.is_valid(tree)


def test_the_schema_is_a_schema_and_its_caps_are_the_compilers() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    grants = SCHEMA["properties"]["grant"]
    grant = grants["items"]["properties"]
    access, identity = grant["access_token"]["properties"], grant["id_token"]["properties"]
    rule = access["boundary"]["items"]["properties"]
    entries = [entry["properties"] for entry in grant["callers"]["items"]["anyOf"]]
    fields = {key: field for entry in entries for key, field in entry.items()}
    assert fields.keys() == KEYS.keys()
    assert set(SCHEMA["properties"]["mode"]["enum"]) == set(grant["mode"]["enum"]) == set(Mode)
    direct = grants["items"]["then"]["properties"]["access_token"]["properties"]["scopes"]
    assert set(direct["items"]["not"]["enum"]) == IMPERSONATING
    caps = {
        grants["maxItems"]: compiler.MAX_GRANTS,
        grant["callers"]["maxItems"]: MAX_CALLERS,
        grant["delegates"]["maxItems"]: compiler.MAX_DELEGATES,
        fields["entra_role"]["anyOf"][1]["maxItems"]: entra.MAX_ROLES,
        fields["claims"]["maxProperties"]: oidc.MAX_CLAIMS,
        access["scopes"]["maxItems"]: compiler.MAX_SCOPES,
        access["boundary"]["maxItems"]: boundary.MAX_RULES,
        rule["prefix"]["maxLength"]: boundary.MAX_PREFIX,
        rule["roles"]["maxItems"]: boundary.MAX_ROLES,
        identity["audiences"]["maxItems"]: compiler.MAX_AUDIENCES,
        identity["audiences"]["items"]["maxLength"]: MAX_AUDIENCE,
    }
    assert all(written == held for written, held in caps.items())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('name = "orders"', 'name = "orders"\nexpires = 2030-01-01T00:00:00Z\nmode = "shadow"'),
        ('lambda_alias = "etl"', 'aws_account = "111122223333", aws_organization = "o-a1b2c3d4e5"'),
        ('lambda_alias = "etl"', f'aws_user = "{ROLE.replace("role", "user")}team/ana"'),
        ('lambda_alias = "etl"', f'issuer = "{GITHUB}", claims = {{ sub = "repo:acme/*" }}'),
        (
            'lambda_alias = "etl"',
            'entra_tenant = "AAAAAAAA-0000-0000-0000-000000000000", entra_role = ["a", "b"]',
        ),
        ('lambda_alias = "etl"', f"{TENANT}, {USER}"),
    ],
)
def test_a_policy_that_loads_fits_the_schema(old: str, new: str) -> None:
    text = POLICY.replace(old, new)
    assert compile_policy(text)
    assert fits_schema(text)


def test_what_the_compiler_refuses_the_schema_marks_too(subtests: pytest.Subtests) -> None:
    for old, new in [
        ("version = 1", "version = 2"),
        ("version = 1", "version = 1\nmod = 1"),
        ('name = "orders"', 'nam = "orders"'),
        ('name = "orders"', 'name = "a b"'),
        ('name = "orders"', 'name = "orders"\ndirect = true'),
        ('[{ lambda_alias = "jobs" }]', "[]"),
        ('[{ lambda_alias = "jobs" }]', "[{}]"),
        ('lambda_alias = "jobs"', 'lambda_alias = "$LATEST"'),
        ('lambda_alias = "jobs"', 'entra_tenant = "aaaaaaaa-0000-0000-0000-000000000000"'),
        ('lambda_alias = "jobs"', 'issuer = "https://a.example"'),
        ('lambda_alias = "jobs"', 'lambda_alias = "jobs", aws_account = "111122223333"'),
        ('lambda_alias = "jobs"', f"{TENANT}, {OBJECT}, {USER}"),
        ("orders@acme", "../orders@acme"),
        ('audiences = ["https://orders.a.run.app"]', "audiences = []"),
        ('"15m"', '"15"'),
        (READ, "devstorage.read_only"),
    ]:
        with subtests.test(old=old, new=new):
            text = POLICY.replace(old, new)
            with pytest.raises(PolicyError):
                compile_policy(text)
            assert not fits_schema(text)


def test_findings_and_explanations_are_plain_data() -> None:
    assert json.dumps([asdict(each) for each in lint(POLICY, now=NOW)]) == "[]"
    assert json.loads(json.dumps(asdict(told(ETL, AccessTokenRequest()))))["granted"]["grant_name"]
