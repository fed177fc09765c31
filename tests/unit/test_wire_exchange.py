"""RFC 8693 requests in Google STS's two spellings: what is read, what is refused and how."""

from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenvend import errors
from tokenvend.errors import InvalidRequest
from tokenvend.model import AccessTokenRequest, AccessTokenSpec, Secret, VendedToken
from tokenvend.policy.values import CLOUD_PLATFORM
from tokenvend.wire.sts import (
    FORM,
    GRANT_TYPE,
    STATUSES,
    ExchangeRequest,
    UnknownGrantType,
    UnknownTarget,
    parse_exchange,
    render_error,
    render_exchange,
)

OURS = "//tokenvend.example"
FIELDS = {
    "grant_type": GRANT_TYPE,
    "audience": f"{OURS}/grants/reader",
    "scope": "a b",
    "subject_token": "t",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}
EXPECTED = ExchangeRequest(
    f"{OURS}/grants/reader",
    Secret("t"),
    "urn:ietf:params:oauth:token-type:jwt",
    AccessTokenRequest(grant_name="reader", scopes=("a", "b"), narrow=True),
)


def form(**change: str) -> bytes:
    return urlencode(FIELDS | change).encode()


def test_a_form_and_json_in_google_s_spelling_say_the_same() -> None:
    camel = {
        "grantType": GRANT_TYPE,
        "audience": f"{OURS}/grants/reader",
        "scope": "a b",
        "subjectToken": "t",
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
    }
    assert parse_exchange(form(), FORM, OURS) == EXPECTED
    assert parse_exchange(json.dumps(camel).encode(), "application/json", OURS) == EXPECTED


def test_unknown_parameters_are_ignored_as_oauth_demands() -> None:
    assert parse_exchange(form(new="x"), FORM, OURS) == EXPECTED


@pytest.mark.parametrize("options", ["{}", '{"userProject": "p"}', "%7B%22userProject%22%3A1%7D"])
def test_options_that_ask_for_nothing_are_accepted(options: str) -> None:
    assert parse_exchange(form(options=options), FORM, OURS) == EXPECTED


def test_a_form_that_is_no_exchange_is_refused(subtests: pytest.Subtests) -> None:
    for body, kind in [
        (form() + b"&" + form(), InvalidRequest),
        (form() + b"&scope=", InvalidRequest),
        (b"\xff", InvalidRequest),
        (b"", InvalidRequest),
        (form(grant_type="password"), UnknownGrantType),
        (form(audience=OURS + "/grants/"), UnknownTarget),
        (form(audience=OURS + "/grants/a/b"), UnknownTarget),
        (form(audience=OURS + "x"), UnknownTarget),
        (form(audience="https:" + OURS), UnknownTarget),
        (form(actor_token="x"), InvalidRequest),
        (form(resource="x"), InvalidRequest),
        (form(options="[]"), InvalidRequest),
        (form(scope=" a"), InvalidRequest),
        (form(scope=" ".join(map(str, range(101)))), InvalidRequest),
        (form(subject_token="x" * 16_385), InvalidRequest),
    ]:
        with subtests.test(body=body, kind=kind), pytest.raises(kind):
            parse_exchange(body, FORM, OURS)


def test_json_that_is_no_exchange_is_refused(subtests: pytest.Subtests) -> None:
    for body in [
        b'{"grantType": "a", "grant_type": "b"}',
        b'{"subjectToken": 1}',
        b'{"scope": ["a"]}',
        b"[]",
    ]:
        with subtests.test(body=body), pytest.raises(InvalidRequest):
            parse_exchange(body, "application/json", OURS)


NOTHING = ("{}", "false", "null", "[]", '""', "0")


def test_row_22_a_boundary_that_is_there_at_all_is_refused_however_it_is_spelt() -> None:
    for name in ("accessBoundary", "access_boundary", "ACCESS_BOUNDARY", "accessboundary"):
        for value in NOTHING:
            options = f'{{"{name}": {value}}}'
            for spelling in (options, quote(options)):
                with pytest.raises(InvalidRequest, match="boundary"):
                    parse_exchange(form(options=spelling), FORM, OURS)
                body = json.dumps(FIELDS | {"options": spelling}).encode()
                with pytest.raises(InvalidRequest, match="boundary"):
                    parse_exchange(body, "application/json", OURS)
        with pytest.raises(InvalidRequest, match="boundary"):
            parse_exchange(form(**{name: ""}), FORM, OURS)
    with pytest.raises(InvalidRequest, match="options"):
        parse_exchange(form(options='{"a": 1, "a": {"accessBoundary": {}}}'), FORM, OURS)


def test_an_endpoint_without_a_name_exchanges_nothing() -> None:
    for audience in ("", "/grants/x", "//x"):
        with pytest.raises(UnknownTarget):
            parse_exchange(form(audience=audience), FORM, "")


def test_the_answer_has_what_the_strictest_client_wants() -> None:
    token = VendedToken(Secret("ya29"), AccessTokenSpec("g", None, ("a", "b"), None), 0, 100)
    assert render_exchange(token, now=99) == {
        "access_token": "ya29",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 1,
        "scope": "a b",
    }


def test_every_outcome_has_an_error_in_oauths_shape() -> None:
    for kind, (status, code) in STATUSES.items():
        told = render_error(kind("Do this."), "r-1")
        answer = {"error": code, "error_description": "Do this. (request r-1)"}
        assert told == (status, "application/json", answer)
    assert errors.TokenvendError in STATUSES
    assert render_error(UnknownTarget("No."), "r-1")[2]["error"] == "invalid_target"


texts = st.sampled_from([*FIELDS.values(), "", "{}", "x"]) | st.text(max_size=20)
names = st.sampled_from([*FIELDS, "options", "actor_token", "grantType"]) | st.text(max_size=8)


@given(
    st.binary(max_size=120)
    | st.dictionaries(names, texts).map(lambda f: urlencode(FIELDS | f).encode())
    | st.dictionaries(names, texts | st.integers() | st.none()).map(
        lambda f: json.dumps(FIELDS | f).encode()
    ),
    st.sampled_from([FORM, "application/json", ""]),
)
def test_any_body_is_an_exchange_or_invalid(body: bytes, media_type: str) -> None:
    try:
        parsed = parse_exchange(body, media_type, OURS)
    except InvalidRequest as refused:
        assert refused.detail  # noqa: PT017 -- either outcome is checked
    else:
        assert parsed.audience.startswith(OURS)


def test_a_caller_cannot_ask_for_so_much_that_its_record_is_cut_off() -> None:
    everything = [CLOUD_PLATFORM, *(f"{each:03}{'x' * 500}" for each in range(99))]
    with pytest.raises(InvalidRequest):
        parse_exchange(form(scope=" ".join(everything)), FORM, OURS)
    with pytest.raises(InvalidRequest):
        parse_exchange(form(scope=" ".join(everything[:18])), FORM, OURS)
    assert (
        len(parse_exchange(form(scope=" ".join(everything[:16])), FORM, OURS).wanted.scopes) == 16
    )
