"""A policy loads whole or not at all, and says every mistake with its line."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from tokenvend.errors import Misconfigured
from tokenvend.policy import CompiledPolicy, Mode, PolicyError, check_platform, compile_policy

GRANT = """version = 1
[[grant]]
name = "landing"
callers = [{ lambda_alias = "etl" }]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
"""
TENANT = "11111111-1111-1111-1111-111111111111"


def problems(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        compile_policy(text)
    return [str(problem) for problem in caught.value.problems]


def with_caller(caller: str) -> str:
    return GRANT.replace('{ lambda_alias = "etl" }', caller)


def with_line(line: str, *, before: str = "[grant.access_token]") -> str:
    return GRANT.replace(before, f"{line}\n{before}")


def test_a_policy_without_grants_loads_and_holds_none() -> None:
    assert compile_policy("version = 1").grants == ()


def test_defaults_are_enforcement_and_an_hour() -> None:
    policy = compile_policy(GRANT)
    (grant,) = policy.grants
    assert policy.mode is Mode.ENFORCE
    assert grant.mode is Mode.ENFORCE
    assert grant.max_lifetime == 3600


def test_json_of_the_same_content_is_the_same_policy() -> None:
    toml = with_line("expires = 2030-01-01T00:00:00+01:00")
    tree = tomllib.loads(toml)
    tree["grant"][0]["expires"] = "2029-12-31T23:00:00Z"
    assert compile_policy(json.dumps(tree)) == compile_policy(toml)


def test_the_digest_follows_the_content_and_not_the_layout() -> None:
    digest = compile_policy(GRANT).digest
    assert len(digest) == 64
    assert compile_policy("# a comment\n" + GRANT.replace(" = ", "=")).digest == digest
    assert compile_policy(with_line('mode = "enforce"')).digest == digest
    assert compile_policy(with_line('mode = "shadow"')).digest != digest


def test_a_byte_order_mark_is_no_mistake() -> None:
    assert compile_policy("\ufeff" + GRANT) == compile_policy(GRANT)


def test_nothing_of_a_compiled_policy_can_be_changed() -> None:
    policy = compile_policy(GRANT)
    with pytest.raises(AttributeError):
        policy.mode = Mode.SHADOW  # type: ignore[misc]
    with pytest.raises(TypeError):
        policy.by_fact.exact[("alias", "other")] = ()  # type: ignore[index]


def test_every_problem_is_told_at_once_with_line_and_grant() -> None:
    text = """version = 2
mod = "shadow"

[[grant]]
name = "one"
callers = [
  { lambda_alias = "etl" },
  { aws_role = "etl" },
]
direct = true
[grant.access_token]
scopes = ["openid"]
max_lifetime = "1h"

[[grant]]
name = "two"
"""
    assert problems(text) == [
        "1: `version` 2 is not known here; write version = 1",
        '2: unknown key "mod"; did you mean `mode`?',
        (
            '8: [[grant]] "one": `aws_role` must be arn:aws:iam::ACCOUNT:role/NAME with '
            'partition and account spelt out (`*` only in NAME), not "etl"'
        ),
        (
            '13: [[grant]] "one": `max_lifetime` cannot be held for a direct token, whose '
            "life Google's STS decides; remove it"
        ),
        (
            '15: [[grant]] "two": `callers` is missing; write who may use the grant, such as '
            '[{ aws_role = "arn:aws:iam::111122223333:role/etl" }]'
        ),
        '15: [[grant]] "two": grants nothing; add [grant.access_token] or [grant.id_token]',
        '15: [[grant]] "two": names no target; write `service_account`, or `direct = true`',
    ]


def test_a_policy_error_shows_its_problems_to_the_operator_alone() -> None:
    with pytest.raises(Misconfigured) as caught:
        compile_policy("version = 3", source="acme.toml")
    assert "version" not in caught.value.detail
    assert caught.value.cause == ("acme.toml:1: `version` 3 is not known here; write version = 1")


def test_a_text_that_is_no_policy_is_refused(subtests: pytest.Subtests) -> None:
    for text, expected in [
        ("", "1: `version` is missing"),
        ("version = 1\nversion = 1", "2: not valid TOML: Cannot overwrite a value"),
        ("version = ", "1: not valid TOML: Invalid value"),
        ("version = true", "1: `version` must be a whole number, not true"),
        ('{"version": 1,\n "version": 1}', '2: the key "version" stands twice'),
        ('{"version": 1,\n', "2: not valid JSON"),
        ('{"version": NaN}', "1: `version` must be a whole number, not nan"),
        ('{"version": 1, "mode": null}', "1: `mode` must be a string, not null"),
        ('{"version": 1} x', "1: not valid JSON: Extra data"),
        ("x = " + "[" * 100_000, "1: nested too deeply"),
        ('{"x":' * 100_000, "1: nested too deeply"),
        ("x = " + "1" * 5000, "1: a number in the policy is too long to be one"),
        ("#" * (8 * 1024 * 1024 + 1), "1: the policy is longer than"),
        ("version = 1\ngrant = 1", "2: `grant` must be a list, not 1"),
        ("version = 1\ngrant = [1]", "2: [[grant]] number 1: `grant` must list tables, not 1"),
        ("version = 1\n[grant]", "2: `grant` is a list of tables; write [[grant]], not [grant]"),
        (
            "[grant]\nx = 1\n[grant]",
            "3: not valid TOML: Cannot declare ('grant',) twice; write [[grant]]",
        ),
        ('version = 1\nmode = "off"', '2: `mode` must be "enforce" or "shadow", not "off"'),
    ]:
        with subtests.test(text=text, expected=expected):
            assert problems(text)[0].startswith(expected)


def test_a_matcher_that_is_empty_or_too_wide_or_impossible_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for caller, expected in [
        ("", "`callers` is empty; write who may use the grant"),
        ("{}", "an empty matcher fits nobody"),
        ("1", "`callers` must list tables, not 1"),
        ('{ role = "x" }', 'unknown key "role"; did you mean `aws_role`?'),
        ('{ user = "x", zzz = 1 }', 'unknown key "user"; did you mean'),
        ('{ aws_role = "" }', "`aws_role` must be arn:aws:iam::ACCOUNT:role/NAME"),
        ('{ aws_role = "*" }', "`aws_role` must be arn:aws:iam::ACCOUNT:role/NAME"),
        ('{ aws_role = "arn:aws:iam::*:role/etl" }', "`aws_role` must be arn:aws:iam::ACCOUNT"),
        ('{ aws_role = "arn:*:iam::111122223333:role/etl" }', "`aws_role` must be arn:aws:iam::"),
        ('{ aws_role = "arn:aws:iam::111122223333:user/etl" }', "`aws_role` must be arn:aws:iam::"),
        ('{ aws_role = "arn:aws:iam::111122223333:role/etl\\n" }', "`aws_role` must be arn:aws:"),
        (
            '{ aws_role = "arn:aws:iam::111122223333:role/team/etl" }',
            (
                "`aws_role` has a path, which AWS leaves out of a session's ARN, so it would never "
                'match; write "arn:aws:iam::111122223333:role/etl"'
            ),
        ),
        (
            '{ aws_role = "arn:aws:sts::111122223333:assumed-role/etl/me" }',
            "`aws_role` names a session, whose name its user chose",
        ),
        ('{ aws_role = "arn:aws:iam::111122223333:role/a**" }', '`aws_role` "arn:aws:iam::'),
        ('{ aws_user = "arn:aws:iam::111122223333:role/x" }', "`aws_user` must be arn:aws:iam::"),
        ('{ aws_account = "1111" }', '`aws_account` must be 12 digits, not "1111"'),
        ("{ aws_account = 111122223333 }", "`aws_account` must be a string, not 111122223333"),
        (
            '{ aws_account = "999999999999", aws_role = "arn:aws:iam::111122223333:role/etl" }',
            "`aws_account` contradicts the account in",
        ),
        (
            (
                '{ aws_user = "arn:aws:iam::111122223333:user/x", '
                'aws_role = "arn:aws:iam::111122223333:role/x" }'
            ),
            "nobody is both aws_role and aws_user",
        ),
        ('{ aws_organization = "acme" }', "`aws_organization` must be an id like o-a1b2c3d4e5"),
        ('{ lambda_alias = "7" }', "`lambda_alias` must be the name of an alias"),
        ('{ lambda_alias = "$LATEST" }', "`lambda_alias` must be the name of an alias"),
        ('{ lambda_alias = "e*" }', "`lambda_alias` must be the name of an alias"),
        ('{ lambda_alias = "etl", aws_account = "111122223333" }', "no caller is all of"),
        (f'{{ entra_tenant = "{TENANT}" }}', "`entra_tenant` alone would fit every workload"),
        (f'{{ entra_object = "{TENANT}" }}', "`entra_tenant` is missing"),
        (f'{{ entra_tenant = "common", entra_app = "{TENANT}" }}', "`entra_tenant` must be a GUID"),
        (f'{{ entra_tenant = "{TENANT}", entra_app = "*" }}', "`entra_app` must be a GUID"),
        (f'{{ entra_tenant = "{TENANT}", entra_role = [] }}', "`entra_role` is empty"),
        (
            f'{{ entra_tenant = "{TENANT}", entra_user = "{TENANT}", entra_object = "{TENANT}" }}',
            "nobody is both entra_user and entra_object",
        ),
        (f'{{ entra_user = "{TENANT}" }}', "`entra_tenant` is missing"),
        (f'{{ entra_tenant = "{TENANT}", entra_user = "*" }}', "`entra_user` must be a GUID"),
        (
            f'{{ entra_tenant = "{TENANT}", entra_role = "a b" }}',
            "`entra_role` must be an app role",
        ),
        (
            '{ issuer = "https://idp.acme.example" }',
            "`claims` is missing; write what a token must say",
        ),
        ('{ issuer = "https://idp.acme.example", claims = {} }', "`claims` is empty"),
        ('{ issuer = "https://a.example", claims = { sub = "*" } }', '`claims` that are all "*"'),
        ('{ issuer = "https://a.example", claims = { sub = "" } }', "`sub` is empty"),
        ('{ issuer = "https://a.example", claims = { n = 1 } }', "`n` must be a string, not 1"),
        (
            '{ issuer = "http://a.example", claims = { sub = "x" } }',
            "`issuer` must be the issuer's",
        ),
        ('{ issuer = "https://u@a.example", claims = { sub = "x" } }', "`issuer` must be the"),
        ('{ issuer = "https://a.example?x", claims = { sub = "x" } }', "`issuer` must be the"),
        ('{ claims = { sub = "x" } }', "`issuer` is missing"),
    ]:
        with subtests.test(caller=caller, expected=expected):
            assert any(
                f'4: [[grant]] "landing": {expected}' in told
                for told in problems(with_caller(caller))
            )


def test_a_service_account_that_could_bend_a_url_is_refused(subtests: pytest.Subtests) -> None:
    for email in [
        "landing@acme.iam.gserviceaccount.com/../other",
        "../landing@acme.iam.gserviceaccount.com",
        "landing@acme.iam.gserviceaccount.com?alt=media",
        "landing@acme.iam.gserviceaccount.com#x",
        "landing%2f@acme.iam.gserviceaccount.com",
        "landing@acme.iam.gserviceaccount.com\\n",
        "Landing@acme.iam.gserviceaccount.com",
        "landing@gmail.com",
        "landing@acme.iam.gserviceaccount.com.evil.example",
        "*@acme.iam.gserviceaccount.com",
        "",
    ]:
        with subtests.test(email=email):
            told = problems(GRANT.replace("landing@acme.iam.gserviceaccount.com", email))
            assert len(told) == 1
            assert told[0].startswith('5: [[grant]] "landing": `service_account` must be an email')


def test_an_absurd_lifetime_is_one_clear_error(subtests: pytest.Subtests) -> None:
    for value in [
        "0s",
        "-1s",
        "3600",
        "3600.5s",
        "1e3s",
        "NaN",
        "inf",
        "1000000000000s",
        "13h",
        "43201s",
        "15 m",
        "15M",
        "1d",
        "",
        "s",
        "+5s",
        "٣s",
        "5s\\n",
    ]:
        with subtests.test(value=value):
            told = problems(GRANT + f'max_lifetime = "{value}"')
            assert len(told) == 1
            assert told[0].startswith('8: [[grant]] "landing": `max_lifetime` must be')


def test_lifetimes_are_whole_seconds_minutes_or_hours(subtests: pytest.Subtests) -> None:
    for value, seconds in [("1s", 1), ("900s", 900), ("15m", 900), ("1h", 3600), ("12h", 43_200)]:
        with subtests.test(value=value, seconds=seconds):
            (grant,) = compile_policy(GRANT + f'max_lifetime = "{value}"').grants
            assert grant.max_lifetime == seconds


def test_a_wrong_line_in_a_grant_is_refused(subtests: pytest.Subtests) -> None:
    for line, expected in [
        (
            "expire = 2030-01-01T00:00:00Z",
            '6: … unknown key "expire"; did you mean `expires`?',
        ),
        ("expires = 2030-01-01", "6: … `expires` must be a date, a time and an offset"),
        ("expires = 2030-01-01T00:00:00", "6: … `expires` must be a date, a time and an off"),
        ('expires = "tomorrow"', "6: … `expires` must be a date, a time and an offset"),
        (
            "expires = 9999-12-31T23:59:59-23:59",
            "6: … `expires` must lie between the years 1970 and 9999",
        ),
        ("not_before = 1969-12-31T23:59:59Z", "6: … `not_before` must lie between"),
        ("expires = 1893456000", "6: … `expires` must be a date, a time and an offset"),
        (
            "expires = 2030-01-01T00:00:00Z\nnot_before = 2030-01-01T00:00:00Z",
            "6: … `expires` is not after `not_before`",
        ),
        ("direct = true", "6: … has both `service_account` and `direct`"),
        ('direct = "yes"', '6: … `direct` must be true or false, not "yes"'),
        ('delegates = ["x"]', "6: … `delegates` must be an email like"),
        ('delegates = "x"', '6: … `delegates` must be a list, not "x"'),
        ('mode = "Shadow"', '6: … `mode` must be "enforce" or "shadow"'),
        ("id_token = { audiences = [] }", "6: … `audiences` is empty; write who accepts"),
        ("id_token = {}", "6: … `audiences` is missing"),
        ('id_token = { audiences = ["a b"] }', "6: … `audiences` must hold 1 to 2048 visible"),
        ('id_token = { audiences = ["a", "a"] }', "6: … `audiences` names something twice"),
        ('id_token = { audiences = ["**"] }', '6: … `audiences` "**" has `**`, which'),
        (
            'id_token = { audiences = ["a"], max_lifetime = "1h" }',
            '6: … unknown key "max_lifetime"; known: audiences',
        ),
    ]:
        with subtests.test(line=line, expected=expected):
            assert any(
                told.startswith(expected.replace("…", '[[grant]] "landing":'))
                for told in problems(with_line(line))
            )


def test_scopes_are_full_names_and_never_patterns(subtests: pytest.Subtests) -> None:
    for scopes, expected in [
        ("[]", "`scopes` is empty; write the scopes"),
        ('"openid"', '`scopes` must be a list, not "openid"'),
        ("[1]", "`scopes` must list strings, not 1"),
        ('["devstorage.read_only"]', "`scopes` must hold full names; write"),
        ('["https://www.googleapis.com/auth/a https://x"]', "`scopes` must hold scopes like"),
        ('["http://www.googleapis.com/auth/a"]', "`scopes` must hold scopes like"),
        ('["https://www.googleapis.com/auth/*"]', "`scopes` must hold scopes like"),
    ]:
        with subtests.test(scopes=scopes, expected=expected):
            text = GRANT.replace('["https://www.googleapis.com/auth/devstorage.read_only"]', scopes)
            assert problems(text)[0].startswith(f'7: [[grant]] "landing": {expected}')


def test_a_name_stands_once() -> None:
    told = problems(GRANT + GRANT.removeprefix("version = 1\n"))
    assert told == ['8: [[grant]] "landing": the name "landing" is taken; choose another']


def test_a_name_that_no_request_could_ask_for_is_refused(subtests: pytest.Subtests) -> None:
    for name in ["", "a b", "a/b", "é", "a" * 101, "-a", "a\\n"]:
        with subtests.test(name=name):
            told = problems(GRANT.replace('name = "landing"', f'name = "{name}"'))
            assert "`name` must be letters, digits" in told[0]


def test_a_direct_grant_gives_no_id_token_and_takes_no_delegates() -> None:
    text = GRANT.replace(
        'service_account = "landing@acme.iam.gserviceaccount.com"',
        'direct = true\ndelegates = ["a@acme.iam.gserviceaccount.com"]\nid_token.audiences = ["x"]',
    )
    assert [told.partition('"landing": ')[2] for told in problems(text)] == [
        "`delegates` has no meaning for a direct grant; remove it",
        "a direct grant has no service account to be named in an ID token; remove it",
    ]


@pytest.mark.parametrize("scope", ["auth/iam", "auth/cloud-platform"])
def test_row_26_a_direct_grant_cannot_hold_a_scope_that_impersonates(scope: str) -> None:
    text = GRANT.replace(
        'service_account = "landing@acme.iam.gserviceaccount.com"', "direct = true"
    ).replace("auth/devstorage.read_only", scope)
    (told,) = problems(text)
    assert told.startswith(
        f'7: [[grant]] "landing": "https://www.googleapis.com/{scope}" would give away the '
        "endpoint's own identity"
    )
    assert told.endswith(
        "write the narrower scopes that are needed, or `service_account` instead of `direct`"
    )
    assert compile_policy(GRANT.replace("auth/devstorage.read_only", scope))


def test_people_are_taken_only_where_the_platform_lets_them_call() -> None:
    matcher = f'{{ entra_tenant = "{TENANT}", entra_user = "{TENANT}" }}'
    text = with_caller(f'{{ lambda_alias = "etl" }},\n  {matcher}')
    policy = compile_policy(text)
    check_platform(policy, text, source="p", obstacles={"attribute": "x", "entra_user": ""})
    with pytest.raises(PolicyError) as caught:
        check_platform(policy, text, source="p", obstacles={"entra_user": "needs a setting"})
    assert caught.value.cause == 'p:5: [[grant]] "landing": `entra_user` needs a setting'
    plain = with_caller(matcher.replace("entra_user", "entra_object"))
    check_platform(
        compile_policy(plain), plain, source="p", obstacles={"entra_user": "needs a setting"}
    )


def test_direct_false_names_no_target() -> None:
    text = GRANT.replace(
        'service_account = "landing@acme.iam.gserviceaccount.com"', "direct = false"
    )
    assert "`direct = false` names no target" in problems(text)[0]


def test_a_boundary_is_refused_rather_than_ignored() -> None:
    text = (
        GRANT
        + """[[grant.access_token.boundary]]
bucket = "acme-landing"
prefix = "incoming/{caller.alias}/"
roles = ["roles/storage.objectCreator"]
"""
    )
    assert problems(text) == [
        (
            '8: [[grant]] "landing": this version cannot enforce a boundary yet, and would '
            "hand out the full token; remove the grant until it can"
        )
    ]


def test_a_boundary_is_checked_in_full(subtests: pytest.Subtests) -> None:
    for rule, expected in [
        ('bucket = "gs://x"\nroles = ["roles/a.b"]', "`bucket` must be a bucket's name"),
        ('roles = ["roles/a.b"]', "`bucket` is missing"),
        ('bucket = "acme"', "`roles` is missing"),
        ('bucket = "acme"\nroles = ["storage.admin"]', "`roles` must hold roles like"),
        (
            'bucket = "acme"\nroles = ["roles/a.b"]\nprefx = "a"',
            'unknown key "prefx"; did you mean',
        ),
        ('bucket = "acme"\nroles = ["roles/a.b"]\nprefix = "/a"', "`prefix` starts with /"),
        ('bucket = "acme"\nroles = ["roles/a.b"]\nprefix = ""', "`prefix` must be 1 to 1024"),
        ('bucket = "acme"\nroles = ["roles/a.b"]\nprefix = "{caller"', "`prefix` has a brace"),
        ('bucket = "acme"\nroles = ["roles/a.b"]\nprefix = "{user}"', '`prefix` uses "{user}"'),
        (
            'bucket = "acme"\nroles = ["roles/a.b"]\nprefix = "{caller.role_name}/"',
            (
                '`prefix` uses "{caller.role_name}", which not every caller of the grant has; '
                "for these callers write one of {caller.account}, {caller.alias}"
            ),
        ),
        (
            'bucket = "acme"\nroles = ["roles/a.b"]\nprefix = "{caller.session}/"',
            '`prefix` uses "{caller.session}"',
        ),
    ]:
        with subtests.test(rule=rule, expected=expected):
            told = problems(GRANT + "[[grant.access_token.boundary]]\n" + rule)
            assert len(told) == 2
            assert any(f'"landing": {expected}' in each for each in told)


def test_a_good_policy_loads_nothing_that_only_a_mistake_or_a_tool_needs() -> None:
    names = "difflib", "tokenvend.policy.reading.lines", "tokenvend.policy.boundary"
    script = (
        "import sys; from tokenvend.policy import compile_policy; "
        f"compile_policy(sys.argv[1]); print([n for n in sys.modules if n in {names} "
        "or n.startswith('tokenvend.policy.review')])"
    )
    ran = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", script, GRANT], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"


def test_control_characters_in_a_policy_cannot_forge_a_log_line() -> None:
    told = problems(GRANT.replace('name = "landing"', 'name = "a\\nline 1: all is well\\u001b[2J"'))
    assert all("\n" not in each and "\x1b" not in each for each in told)


def test_a_hundred_mistakes_are_enough_to_start() -> None:
    assert len(problems("version = 1\n" + "[[grant]]\n" * 200)) <= 100


def test_fractions_of_a_second_are_rounded_to_the_side_that_grants_less() -> None:
    text = with_line("not_before = 1970-01-01T00:00:01.5Z\nexpires = 1970-01-01T00:00:09.5Z")
    (grant,) = compile_policy(text).grants
    assert (grant.not_before, grant.expires) == (2, 9)


def test_entra_ids_are_compared_in_lower_case() -> None:
    def policy(guid: str) -> CompiledPolicy:
        return compile_policy(with_caller(f'{{ entra_tenant = "{guid}", entra_app = "{guid}" }}'))

    guid = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    assert policy(guid.upper()) == policy(guid)
