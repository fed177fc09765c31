"""What holds for every policy, caller and request, not only for the ones we thought of."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

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
    TokenSpec,
)
from tokenvend.policy import (
    CompiledPolicy,
    PolicyError,
    Problem,
    compile_policy,
    decide,
    grants_of,
)
from tokenvend.policy.callers import facts_of
from tokenvend.policy.decision import candidates_of
from tokenvend.policy.values import IMPERSONATING

ACCOUNT = "111122223333"
GUIDS = [f"{digit * 8}-0000-0000-0000-000000000000" for digit in "ab"]
ISSUER = "https://issuer.example"
SCOPES = ["openid", "email", "https://www.googleapis.com/auth/pubsub"]
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
ACCOUNTS = ["a@acme.iam.gserviceaccount.com", "b@acme.iam.gserviceaccount.com"]

_words = st.sampled_from(["a", "b", "ab", "a-b"])
_globs = st.sampled_from(["a", "b", "a*", "*b", "*-*", "a*b", "*"])
_guids = st.sampled_from(GUIDS)
_arn = f"arn:aws:iam::{ACCOUNT}:"

matchers = st.one_of(
    st.builds(lambda name: {"aws_role": f"{_arn}role/{name}"}, _globs),
    st.builds(lambda name: {"aws_user": f"{_arn}user/{name}"}, _globs),
    st.just({"aws_account": ACCOUNT}),
    st.just({"aws_organization": "o-aaaaaaaaaa"}),
    st.builds(lambda alias: {"lambda_alias": alias}, _words),
    st.builds(lambda tenant, app: {"entra_tenant": tenant, "entra_app": app}, _guids, _guids),
    st.builds(lambda tenant, role: {"entra_tenant": tenant, "entra_role": role}, _guids, _words),
    st.builds(lambda tenant, user: {"entra_tenant": tenant, "entra_user": user}, _guids, _guids),
    st.builds(
        lambda sub, claim: {"issuer": ISSUER, "claims": {"sub": sub, "x": claim}}, _words, _globs
    ),
)
callers: st.SearchStrategy[Caller] = st.one_of(
    st.builds(
        lambda kind, name, organization: AwsCaller(
            f"{_arn}{kind}/{name}", ACCOUNT, organization=organization
        ),
        st.sampled_from(["role", "user"]),
        _words,
        st.sampled_from(["", "o-aaaaaaaaaa"]),
    ),
    st.builds(LambdaCaller, _words, st.just(ACCOUNT)),
    st.builds(
        EntraCaller, _guids, _guids, _guids, st.frozensets(_words, max_size=2), st.booleans()
    ),
    st.builds(lambda sub, x: OidcCaller(ISSUER, sub, (("x", x),)), _words, _words),
)
_access = st.fixed_dictionaries(
    {"scopes": st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3, unique=True)},
    optional={"max_lifetime": st.sampled_from(["60s", "15m", "1h", "12h"])},
)
_id = st.fixed_dictionaries(
    {"audiences": st.lists(_globs, min_size=1, max_size=2, unique=True)},
)
_direct = st.fixed_dictionaries(
    {
        "callers": st.lists(matchers, min_size=1, max_size=3),
        "direct": st.just(value=True),
        "access_token": st.fixed_dictionaries(
            {"scopes": st.lists(st.sampled_from(SCOPES), min_size=1, unique=True)}
        ),
    },
    optional={"mode": st.sampled_from(["enforce", "shadow"])},
)
grants = st.fixed_dictionaries(
    {
        "callers": st.lists(matchers, min_size=1, max_size=3),
        "service_account": st.sampled_from(ACCOUNTS),
        "access_token": _access,
    },
    optional={
        "id_token": _id,
        "mode": st.sampled_from(["enforce", "shadow"]),
        "attribute": st.just("caller"),
        "expires": st.sampled_from(["2020-01-01T00:00:00Z", "2040-01-01T00:00:00Z"]),
    },
)
_lifetimes = st.sampled_from([None, 1, 60, 900, 3600, 43_200])
access_requests = st.builds(
    AccessTokenRequest,
    service_account=st.sampled_from([None, *ACCOUNTS]),
    grant_name=st.none(),
    scopes=st.lists(st.sampled_from(SCOPES), max_size=3, unique=True).map(tuple),
    lifetime=_lifetimes,
)
id_requests = st.builds(IdTokenRequest, audience=_words, service_account=st.none())
requests: st.SearchStrategy[TokenRequest] = st.one_of(access_requests, id_requests)


def compiled(trees: list[dict[str, object]]) -> CompiledPolicy:
    named = [{"name": f"g{number}", **tree} for number, tree in enumerate(trees)]
    return compile_policy(json.dumps({"version": 1, "grant": named}))


def vended(policy: CompiledPolicy, caller: Caller, request: TokenRequest) -> TokenSpec | None:
    try:
        return decide(policy, caller, request, NOW).spec
    except Denied:
        return None


@given(st.lists(grants, max_size=5), callers, access_requests, st.data())
def test_a_narrower_request_never_gets_a_wider_token(
    trees: list[dict[str, object]], caller: Caller, wide: AccessTokenRequest, data: st.DataObject
) -> None:
    policy = compiled(trees)
    first = vended(policy, caller, wide)
    if not isinstance(first, AccessTokenSpec):
        return
    assert first.lifetime is not None
    narrow = AccessTokenRequest(
        service_account=first.service_account,
        grant_name=first.grant_name,
        scopes=tuple(data.draw(st.lists(st.sampled_from(first.scopes), unique=True))),
        lifetime=data.draw(st.integers(1, first.lifetime)),
    )
    second = vended(policy, caller, narrow)
    assert isinstance(second, AccessTokenSpec), "a narrower request is not denied"
    assert second.service_account == first.service_account
    assert second.lifetime == narrow.lifetime
    if narrow.scopes or not wide.scopes:
        assert set(second.scopes) <= set(first.scopes)


@given(st.lists(_direct, max_size=3), callers, st.booleans(), st.data())
def test_no_direct_token_can_impersonate(
    trees: list[dict[str, object]], caller: Caller, narrow: bool, data: st.DataObject
) -> None:
    asked = st.lists(st.sampled_from([*SCOPES, *IMPERSONATING]), unique=True)
    request = AccessTokenRequest(scopes=tuple(data.draw(asked)), narrow=narrow)
    spec = vended(compiled(trees), caller, request)
    if isinstance(spec, AccessTokenSpec):
        assert not IMPERSONATING & set(spec.scopes)


@given(st.lists(grants, max_size=5), callers, access_requests)
def test_people_and_applications_never_share_a_matcher(
    trees: list[dict[str, object]], caller: Caller, request: AccessTokenRequest
) -> None:
    try:
        matched = decide(compiled(trees), caller, request, NOW).matched
    except Denied:
        return
    is_user = isinstance(caller, EntraCaller) and caller.is_user
    assert ("entra_user" in matched) == is_user


_asked = st.lists(st.sampled_from([*SCOPES, CLOUD_PLATFORM]), min_size=1, unique=True)


@given(grants, callers, _asked, st.data())
def test_leaving_scopes_out_never_gets_more_the_oauth_way_either(
    tree: dict[str, object], caller: Caller, asked: list[str], data: st.DataObject
) -> None:
    policy = compiled([{**tree, "mode": "enforce"}])
    fewer = data.draw(st.lists(st.sampled_from(asked), min_size=1, unique=True))
    all_of_it = vended(policy, caller, AccessTokenRequest(scopes=tuple(asked), narrow=True))
    part_of_it = vended(policy, caller, AccessTokenRequest(scopes=tuple(fewer), narrow=True))
    if isinstance(part_of_it, AccessTokenSpec):
        assert isinstance(all_of_it, AccessTokenSpec)
        assert set(part_of_it.scopes) <= set(all_of_it.scopes)


@given(st.lists(grants, max_size=5), callers, requests)
def test_a_token_is_never_wider_than_the_request(
    trees: list[dict[str, object]], caller: Caller, request: TokenRequest
) -> None:
    match vended(compiled(trees), caller, request), request:
        case AccessTokenSpec() as grant, AccessTokenRequest():
            assert not request.scopes or set(grant.scopes) == set(request.scopes)
            assert request.lifetime is None or grant.lifetime == request.lifetime
            assert request.service_account in (None, grant.service_account)
        case IdTokenSpec() as grant, IdTokenRequest():
            assert grant.audience == request.audience
        case granted, _:
            assert granted is None


@given(st.lists(grants, max_size=4), grants, st.integers(0, 4), callers, requests)
def test_adding_a_grant_never_removes_access(
    trees: list[dict[str, object]],
    added: dict[str, object],
    place: int,
    caller: Caller,
    request: TokenRequest,
) -> None:
    if vended(compiled(trees), caller, request) is not None:
        more = [*trees[:place], added, *trees[place:]]
        assert vended(compiled(more), caller, request) is not None


@given(st.lists(grants, max_size=3), callers, requests)
def test_the_order_of_grants_never_decides_whether(
    trees: list[dict[str, object]], caller: Caller, request: TokenRequest
) -> None:
    outcomes = {
        vended(compiled(list(order)), caller, request) is None for order in permutations(trees)
    }
    assert len(outcomes) == 1


@given(st.lists(grants, max_size=5), callers)
def test_the_index_finds_what_trying_every_grant_finds(
    trees: list[dict[str, object]], caller: Caller
) -> None:
    policy = compiled(trees)
    tried = [
        grant
        for grant in policy.grants
        if any(matcher.fits(facts_of(caller)) for matcher in grant.callers)
    ]
    assert [grant for grant, _ in candidates_of(policy, caller)] == tried


@given(st.lists(grants, max_size=5), callers)
def test_what_a_caller_is_told_it_can_have(trees: list[dict[str, object]], caller: Caller) -> None:
    policy = compiled(trees)
    for view in grants_of(policy, caller, NOW):
        asked = AccessTokenRequest(
            grant_name=view.name, scopes=view.scopes, lifetime=view.max_lifetime
        )
        got = vended(policy, caller, asked)
        assert isinstance(got, AccessTokenSpec)
        assert replace(got, attributed=False) == AccessTokenSpec(
            view.name, view.service_account, view.scopes, view.max_lifetime
        )


_keys = st.sampled_from(
    ["version", "mode", "grant", "name", "callers", "service_account", "direct", "delegates",
     "access_token", "id_token", "scopes", "audiences", "max_lifetime", "boundary", "bucket",
     "prefix", "roles", "expires", "not_before", "aws_role", "aws_user", "aws_account",
     "aws_organization", "lambda_alias", "entra_tenant", "entra_object", "entra_app",
     "entra_role", "entra_user", "issuer", "claims", "sub"]
)  # fmt: skip
_leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.sampled_from(["1h", "*", "**", "openid", *ACCOUNTS, *GUIDS, ISSUER, "{caller.alias}/",
                     "enforce", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]),
)  # fmt: skip
_trees = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys | st.text(), inner),
    max_leaves=15,
)
_toml_bits = st.lists(
    st.sampled_from(
        ["[", "]", "{", "}", "=", ",", ".", "\n", '"', "'", '"""', "'''", "#", "\\", "1", "-",
         "true", "2030-01-01T00:00:00Z", "\x00", "\ufeff", "\ud800", "é", " ", "version = 1\n",
         "[[grant]]\n", "name", "callers", "[grant.access_token]\n", "inf", "nan", "0x1"]
    )
)  # fmt: skip


@given(st.text() | _toml_bits.map("".join))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    _assert_policy_or_error(text)


@given(st.dictionaries(_keys, _trees) | _trees)
def test_any_json_is_a_policy_or_a_policy_error(tree: object) -> None:
    _assert_policy_or_error(json.dumps(tree))
    _assert_policy_or_error(json.dumps({"version": 1, "grant": [tree]}, indent=1))


@given(grants, st.lists(st.one_of(_keys, st.integers(0, 2)), min_size=1, max_size=5), _trees)
def test_any_wrong_value_in_a_grant_is_a_policy_or_a_policy_error(
    grant: dict[str, object], path: list[str | int], value: object
) -> None:
    tree: dict[str, object] = json.loads(json.dumps({"name": "g", **grant}))
    at: object = tree
    for step in path:
        match at:
            case dict() if isinstance(step, str) and isinstance(at.get(step), (dict, list)):
                at = at[step]
            case list() if isinstance(step, int) and step < len(at):
                if not isinstance(at[step], (dict, list)):
                    at[step] = value
                    break
                at = at[step]
            case dict() if isinstance(step, str):
                at[step] = value
                break
    _assert_policy_or_error(json.dumps({"version": 1, "grant": [tree]}))


def _assert_policy_or_error(text: str) -> None:
    for problem in _problems(text):
        assert 1 <= problem.line <= text.count("\n") + 1
        assert str(problem).isprintable()


def _problems(text: str) -> tuple[Problem, ...]:
    try:
        policy = compile_policy(text)
    except PolicyError as error:
        return error.problems
    assert len(policy.digest) == 64
    return ()
