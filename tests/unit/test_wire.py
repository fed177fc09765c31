"""Bodies on the wire: what is read, and that anything else is one clear refusal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenvend.errors import InvalidRequest
from tokenvend.model import (
    AccessTokenRequest,
    AccessTokenSpec,
    IdTokenRequest,
    IdTokenSpec,
    Secret,
    VendedToken,
)
from tokenvend.wire import own as wire

SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"


def test_an_empty_body_asks_for_all_the_grant_has() -> None:
    assert wire.parse_access_token_request(b"") == AccessTokenRequest()


def test_every_field_of_an_access_token_request_is_read() -> None:
    body = {
        "service_account": "landing@acme.iam.gserviceaccount.com",
        "grant": "landing-writer",
        "scopes": [SCOPE, SCOPE],
        "lifetime": "900s",
    }
    assert wire.parse_access_token_request(json.dumps(body).encode()) == AccessTokenRequest(
        "landing@acme.iam.gserviceaccount.com", "landing-writer", (SCOPE,), 900
    )


def test_every_field_of_an_id_token_request_is_read() -> None:
    body = {"audience": "https://orders.run.app", "include_email": False, "grant": "orders"}
    assert wire.parse_id_token_request(json.dumps(body).encode()) == IdTokenRequest(
        "https://orders.run.app", None, "orders", include_email=False
    )


def test_a_body_that_is_not_a_request_is_refused(subtests: pytest.Subtests) -> None:
    for body in [
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"NaN",
        b'{"lifetime": Infinity}',
        b'{"grant": "a", "grant": "b"}',
        b'{"Scopes": []}',
        b'{"scope": "x"}',
        b'{"scopes": []}',
        b'{"scopes": "x"}',
        b'{"scopes": [1]}',
        b'{"scopes": ["a b"]}',
        b'{"scopes": [""]}',
        b'{"scopes": ["%s"]}' % b'", "'.join(b"%03d" % each + b"x" * 500 for each in range(17)),
        b'{"service_account": 7}',
        b'{"grant": ""}',
        b'{"grant": "../x"}',
        b"[" * 100_000,
    ]:
        with subtests.test(body=body), pytest.raises(InvalidRequest):
            wire.parse_access_token_request(body)


def test_row_22_a_boundary_that_is_there_at_all_is_refused_rather_than_ignored() -> None:
    for boundary in ([{"bucket": "b"}], {}, [], False, None, "", 0):
        with pytest.raises(InvalidRequest, match="boundary"):
            wire.parse_access_token_request(json.dumps({"boundary": boundary}).encode())
    with pytest.raises(InvalidRequest):
        wire.parse_access_token_request(b'{"Boundary": []}')


def test_a_service_account_name_that_could_bend_a_url_is_refused(subtests: pytest.Subtests) -> None:
    for name in [
        "../../v1/x@acme.iam.gserviceaccount.com",
        "x/../y@acme.iam.gserviceaccount.com",
        "x@acme.iam.gserviceaccount.com?alt=json",
        "x@acme.iam.gserviceaccount.com#",
        "x%2f..@acme.iam.gserviceaccount.com",
        "x@acme.iam.gserviceaccount.com\n",
        "x@acme.iam.gserviceaccount.com.evil.example",
        "x@evil.example",
        "X@acme.iam.gserviceaccount.com",
        "a" * 300 + "@acme.iam.gserviceaccount.com",
        "-",
    ]:
        with subtests.test(name=name):
            body = json.dumps({"service_account": name}).encode()
            with pytest.raises(InvalidRequest, match="service_account"):
                wire.parse_access_token_request(body)


def test_an_absurd_lifetime_is_refused(subtests: pytest.Subtests) -> None:
    for lifetime in [
        "0s",
        "-1s",
        "NaN",
        "1000000000000s",
        "3600",
        "3600.5s",
        "1e3s",
        "43201s",
        "01s",
        "",
        " 1s",
        "1s\n",
        "٣s",
        900,
        0,
        True,
        [],
        {},
    ]:
        body = json.dumps({"lifetime": lifetime}).encode()
        with subtests.test(lifetime=lifetime), pytest.raises(InvalidRequest, match="lifetime"):
            wire.parse_access_token_request(body)


def test_an_id_token_needs_an_audience(subtests: pytest.Subtests) -> None:
    for audience in [None, "", 7, "a b", "a\n", "ä", "x" * 2049]:
        body = json.dumps({"audience": audience}).encode()
        with subtests.test(audience=audience), pytest.raises(InvalidRequest, match="audience"):
            wire.parse_id_token_request(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=12,
)
fields = st.dictionaries(
    st.sampled_from(["service_account", "grant", "scopes", "lifetime", "audience", "boundary"])
    | st.text(max_size=8),
    json_values,
)


@given(st.binary(max_size=200) | fields.map(lambda value: json.dumps(value).encode()))
def test_properties_the_request_parsers_raise_only_invalid_request(body: bytes) -> None:
    for parse in (wire.parse_access_token_request, wire.parse_id_token_request):
        try:
            parsed = parse(body)
        except InvalidRequest as refused:
            assert refused.detail  # noqa: PT017 -- either outcome is checked
        else:
            assert isinstance(parsed, AccessTokenRequest | IdTokenRequest)


def test_an_access_token_answer_tells_scopes_and_expiry() -> None:
    grant = AccessTokenSpec("g", None, (SCOPE,), None)
    token = VendedToken(Secret("ya29.x"), grant, 1_000, 4_600)
    assert wire.render_token(token, now=1_600) == {
        "access_token": "ya29.x",
        "token_type": "Bearer",
        "expires_in": 3_000,
        "expires_at": "1970-01-01T01:16:40Z",
        "service_account": None,
        "scopes": [SCOPE],
        "grant": "g",
    }


def test_an_id_token_answer_tells_its_audience() -> None:
    grant = IdTokenSpec("g", "sa@acme.iam.gserviceaccount.com", "https://x.run.app")
    token = VendedToken(Secret("e.y.j"), grant, 0, 3_600)
    assert wire.render_token(token, now=0) == {
        "id_token": "e.y.j",
        "expires_in": 3_600,
        "expires_at": "1970-01-01T01:00:00Z",
        "audience": "https://x.run.app",
        "service_account": "sa@acme.iam.gserviceaccount.com",
        "grant": "g",
    }
