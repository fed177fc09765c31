"""AWS's stand-in refuses each wrongly signed request with AWS's own error."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from localcloud.aws import Accounts
from localcloud.wire.web import Headers, Request, Response
from localcloud.world import World
from tests.conformance.aws_lab import (
    ACCOUNT,
    IDENTITY,
    STS,
    Lab,
    code,
    element,
    new_lab,
    resigned,
    signed,
    with_header,
    without_header,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
GOOGLE_HEADER = "x-goog-cloud-target-resource"
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def lab() -> Lab:
    return new_lab()


def google_form(lab: Lab) -> Request:
    """GetCallerIdentity as Google's clients sign it: in the query, empty body, bound to Google."""
    key = lab.accounts.session("tokenvend", "fn")
    return signed(key, headers={GOOGLE_HEADER: PROVIDER})


def wrong_secret(lab: Lab) -> Request:
    key = lab.accounts.session("etl", "s1")
    return signed(replace(key, secret="A" * 40))


def another_clouds_key(lab: Lab) -> Request:
    return signed(Accounts(World.load().aws, lab.clock).session("etl", "s1"))


def tampered_header(lab: Lab) -> Request:
    return with_header(google_form(lab), GOOGLE_HEADER, PROVIDER + "-other")


def tampered_query(lab: Lab) -> Request:
    request = google_form(lab)
    return replace(request, target=IDENTITY + "&Extra=1")


def tampered_method(lab: Lab) -> Request:
    return replace(google_form(lab), method="GET")


def tampered_body(lab: Lab) -> Request:
    key = lab.accounts.user("operator")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    request = signed(key, "/", headers=form, body=body)
    return replace(request, content=body + b"&x=1")


def stated_payload_hash_of_another_body(lab: Lab) -> Request:
    key = lab.accounts.user("operator")
    stated = hashlib.sha256(b"another").hexdigest()
    return signed(key, headers={"X-Amz-Content-Sha256": stated})


def unsigned_payload(lab: Lab) -> Request:
    key = lab.accounts.user("operator")
    return signed(key, headers={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})


def unsigned_amz_header(lab: Lab) -> Request:
    return with_header(google_form(lab), "x-amz-extra", "smuggled")


def unsigned_session_token(lab: Lab) -> Request:
    key = lab.accounts.session("etl", "s1")
    request = signed(replace(key, token=""))
    return with_header(request, "X-Amz-Security-Token", key.token)


def another_sessions_token(lab: Lab) -> Request:
    token = lab.accounts.session("stranger", "s2").token
    return signed(replace(lab.accounts.session("etl", "s1"), token=token))


def no_session_token(lab: Lab) -> Request:
    return signed(replace(lab.accounts.session("etl", "s1"), token=""))


def signed_header_absent(lab: Lab) -> Request:
    return without_header(google_form(lab), GOOGLE_HEADER)


def host_unsigned(lab: Lab) -> Request:
    key = lab.accounts.user("operator")
    request = signed(key)
    date = request.headers.get("X-Amz-Date")
    canonical = f"POST\n/\n{IDENTITY[2:]}\nx-amz-date:{date}\n\nx-amz-date\n{EMPTY}"
    return resigned(request, key, canonical)


def signed_for_another_host(lab: Lab) -> Request:
    request = signed(lab.accounts.user("operator"), host="sts.eu-west-1.amazonaws.com")
    return with_header(replace(request, host=STS), "Host", STS)


def repeated_header(lab: Lab) -> Request:
    request = google_form(lab)
    fields = [*request.headers.fields, (GOOGLE_HEADER, PROVIDER + "-other")]
    return replace(request, headers=Headers(fields))


def repeated_date(lab: Lab) -> Request:
    request = google_form(lab)
    date = request.headers.get("X-Amz-Date")
    return replace(request, headers=Headers([*request.headers.fields, ("X-Amz-Date", date)]))


def another_region(lab: Lab) -> Request:
    return signed(lab.accounts.user("operator"), region="eu-west-1")


def another_service(lab: Lab) -> Request:
    return signed(lab.accounts.user("operator"), service="execute-api")


def scope_of_another_day(lab: Lab) -> Request:
    request = google_form(lab)
    header = re.sub(r"/\d{8}/", "/20200101/", request.headers.get("Authorization"))
    return with_header(request, "Authorization", header)


def sixteen_minutes_old(lab: Lab) -> Request:
    request = google_form(lab)
    lab.clock.skew = 16 * 60
    return request


def sixteen_minutes_early(lab: Lab) -> Request:
    key = lab.accounts.session("tokenvend", "fn")
    lab.clock.skew = -16 * 60
    return signed(key)


def ended_session(lab: Lab) -> Request:
    lab.clock.skew = -900
    key = lab.accounts.session("etl", "s1", seconds=900)
    lab.clock.skew = 0
    return signed(key)


def no_date(lab: Lab) -> Request:
    return without_header(google_form(lab), "X-Amz-Date")


def unsigned(lab: Lab) -> Request:
    return without_header(google_form(lab), "Authorization")


def bearer(lab: Lab) -> Request:
    return with_header(google_form(lab), "Authorization", "Bearer abc")


def presigned(lab: Lab) -> Request:
    target = IDENTITY + "&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + "0" * 64
    return Request("GET", STS, target, Headers([("Host", STS)]))


MISMATCH = "SignatureDoesNotMatch"
REFUSED = [
    (wrong_secret, 403, MISMATCH),
    (tampered_header, 403, MISMATCH),
    (tampered_query, 403, MISMATCH),
    (tampered_method, 403, MISMATCH),
    (tampered_body, 403, MISMATCH),
    (stated_payload_hash_of_another_body, 403, MISMATCH),
    (unsigned_payload, 403, MISMATCH),
    (unsigned_amz_header, 403, MISMATCH),
    (unsigned_session_token, 403, MISMATCH),
    (signed_header_absent, 403, MISMATCH),
    (host_unsigned, 403, MISMATCH),
    (signed_for_another_host, 403, MISMATCH),
    (repeated_header, 403, MISMATCH),
    (another_region, 403, MISMATCH),
    (another_service, 403, MISMATCH),
    (scope_of_another_day, 403, MISMATCH),
    (sixteen_minutes_old, 403, MISMATCH),
    (sixteen_minutes_early, 403, MISMATCH),
    (another_clouds_key, 403, "InvalidClientTokenId"),
    (another_sessions_token, 403, "InvalidClientTokenId"),
    (no_session_token, 403, "InvalidClientTokenId"),
    (ended_session, 403, "ExpiredToken"),
    (unsigned, 403, "MissingAuthenticationToken"),
    (presigned, 403, "MissingAuthenticationToken"),
    (bearer, 400, "IncompleteSignature"),
    (no_date, 403, MISMATCH),
    (repeated_date, 400, "IncompleteSignature"),
]


@pytest.mark.parametrize(
    ("make", "status", "error"), REFUSED, ids=[make.__name__ for make, _, _ in REFUSED]
)
def test_a_wrongly_signed_request_meets_awss_own_error(
    lab: Lab, make: Callable[[Lab], Request], status: int, error: str
) -> None:
    answer = lab.fetch(make(lab))
    assert (answer.status, code(answer)) == (status, error)


@pytest.mark.parametrize("minutes", [-14, 0, 14])
def test_a_request_within_fifteen_minutes_is_accepted(lab: Lab, minutes: int) -> None:
    key = lab.accounts.user("operator")
    lab.clock.skew = minutes * 60
    assert lab.fetch(signed(key)).status == 200


def test_googles_form_names_the_assumed_role(lab: Lab) -> None:
    answer = lab.fetch(google_form(lab))
    assert answer.status == 200
    assert element(answer, "Arn") == f"arn:aws:sts::{ACCOUNT}:assumed-role/tokenvend/fn"
    assert element(answer, "Account") == ACCOUNT
    assert re.fullmatch(r"AROA[A-Z2-7]{17}:fn", element(answer, "UserId"))


def test_a_refusal_repeats_neither_secret_nor_token(lab: Lab) -> None:
    key = lab.accounts.session("etl", "s1")
    answers = [
        lab.fetch(with_header(signed(key), "x-amz-extra", "1")),
        lab.fetch(signed(replace(key, secret="A" * 40))),
        lab.fetch(with_header(signed(key), "Authorization", f"Bearer {key.token}")),
    ]
    for answer in answers:
        assert answer.status in {400, 403}
        assert key.secret.encode() not in answer.body
        assert key.token.encode() not in answer.body
    assert key.secret not in repr(key)
    assert key.token not in repr(key)


def test_a_header_that_botocore_never_signs_may_be_signed(lab: Lab) -> None:
    key = lab.accounts.user("operator")
    request = with_header(signed(key), "User-Agent", "lab/1")
    date = request.headers.get("X-Amz-Date")
    canonical = (
        f"POST\n/\n{IDENTITY[2:]}\nhost:{STS}\nuser-agent:lab/1\nx-amz-date:{date}\n\n"
        f"host;user-agent;x-amz-date\n{EMPTY}"
    )
    assert lab.fetch(resigned(request, key, canonical)).status == 200
    changed = with_header(resigned(request, key, canonical), "User-Agent", "lab/2")
    assert lab.fetch(changed).status == 403


ANSWERS: list[tuple[str, str, int, str]] = [
    ("another action", "/?Action=GetFederationToken&Version=2011-06-15", 400, "InvalidAction"),
    ("another version", "/?Action=GetCallerIdentity&Version=2010-05-08", 400, "InvalidAction"),
    ("no version", "/?Action=GetCallerIdentity", 400, "InvalidAction"),
    ("no action", "/?Version=2011-06-15", 400, "MissingAction"),
    ("action twice", IDENTITY + "&Action=AssumeRole", 400, "MalformedQueryString"),
    ("unknown parameter", IDENTITY + "&Extra=1", 400, "ValidationError"),
    ("another path", "/x" + IDENTITY, 404, "InvalidRequest"),
]


@pytest.mark.parametrize(
    ("target", "status", "error"), [case[1:] for case in ANSWERS], ids=[c[0] for c in ANSWERS]
)
def test_a_wrong_query_meets_awss_own_error(lab: Lab, target: str, status: int, error: str) -> None:
    answer: Response = lab.fetch(signed(lab.accounts.user("operator"), target))
    assert (answer.status, code(answer)) == (status, error)


def test_an_action_split_over_query_and_body_is_refused(lab: Lab) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    request = signed(
        lab.accounts.user("operator"), IDENTITY, headers=form, body=b"Action=AssumeRole"
    )
    assert code(lab.fetch(request)) == "MalformedQueryString"


def test_each_endpoint_takes_its_own_region_only(lab: Lab) -> None:
    key = lab.accounts.user("operator")
    regional = "sts.eu-west-1.amazonaws.com"
    assert lab.fetch(signed(key, host=regional, region="eu-west-1")).status == 200
    assert code(lab.fetch(signed(key, host=regional))) == MISMATCH
    assert lab.fetch(signed(key, host="sts.amazonaws.com")).status == 200
    assert lab.fetch(signed(key, host="sts.moon-1.amazonaws.com")).status == 405
