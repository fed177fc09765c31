"""Token exchange: what is sent, which answers are tokens, and what a refusal means."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.unit.issuing import NOW, Clock, deadline
from tests.unit.sending import Script, said, script
from tokenvend.errors import RateLimited, UpstreamRefused, UpstreamUnavailable
from tokenvend.google import sts
from tokenvend.model import FederatedToken, Secret, SubjectToken, SubjectTokenType
from tokenvend.transport import Answer

AUDIENCE = (
    "//iam.googleapis.com/projects/111/locations/global/workloadIdentityPools/pool/providers/aws"
)
SCOPE = "https://www.googleapis.com/auth/iam"
SUBJECT = SubjectToken(Secret("subject%20canary"), SubjectTokenType.AWS4_REQUEST, NOW + 900)


NO_LIVES: list[Any] = [0, -1, 10**12, 86_401, "3600", 3600.5, 3600.0, True, None, [], {}]
NO_TOKENS: list[Any] = [..., None, "", 5, ["a"], "a b", "a\r\nb", "é", "x" * 20_000, "\x7f"]


def given(**changes: Any) -> Answer:
    """An STS answer; a change to ... leaves the field out."""
    answer = {
        "access_token": "ya29.d.canary",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3599,
    }
    fields = {**answer, **changes}
    return said({name: value for name, value in fields.items() if value is not ...})


def exchange(sender: Script, subject: SubjectToken = SUBJECT) -> FederatedToken:
    return sts.exchange(
        subject,
        [SCOPE, "openid"],
        deadline(),
        sender=sender,
        provider=AUDIENCE,
        host="sts.googleapis.com",
        now=Clock(),
    )


def test_an_exchange_is_one_form_post_in_googles_fields() -> None:
    sender = script(given())
    token = exchange(sender)
    (call,) = sender.calls
    assert (call.method, call.url) == ("POST", "https://sts.googleapis.com/v1/token")
    assert call.headers == {"Content-Type": "application/x-www-form-urlencoded"}
    assert dict(parse_qsl(call.body.decode(), strict_parsing=True)) == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": AUDIENCE,
        "scope": f"{SCOPE} openid",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": "subject%20canary",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request",
    }
    assert sender.repeatable == [True]
    assert token == FederatedToken(Secret("ya29.d.canary"), NOW, NOW + 3599)


def test_a_jwt_is_sent_as_one() -> None:
    sender = script(given())
    exchange(sender, SubjectToken(Secret("a.b.c"), SubjectTokenType.JWT, NOW + 900))
    assert b"subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt" in (
        sender.calls[0].body
    )


@pytest.mark.parametrize(
    ("universe", "region", "host"),
    [
        ("googleapis.com", "", "sts.googleapis.com"),
        ("googleapis.com", "europe-west1", "sts.europe-west1.rep.googleapis.com"),
        ("apis-berlin.example", "", "sts.apis-berlin.example"),
    ],
)
def test_universe_and_region_name_the_host(universe: str, region: str, host: str) -> None:
    assert sts.sts_host(universe, region) == host


@pytest.mark.parametrize(("subject_left", "life"), [(900, 900), (7200, 3600), (3600, 3600), (1, 1)])
def test_without_expires_in_a_token_lives_no_longer_than_its_subject(
    subject_left: int, life: int
) -> None:
    subject = SubjectToken(Secret("a.b.c"), SubjectTokenType.JWT, NOW + subject_left)
    assert exchange(script(given(expires_in=...)), subject).expires_at == NOW + life


def test_without_expires_in_a_dead_subject_gives_no_token() -> None:
    subject = SubjectToken(Secret("a.b.c"), SubjectTokenType.JWT, NOW)
    with pytest.raises(UpstreamUnavailable):
        exchange(script(given(expires_in=...)), subject)


def test_threat_25_an_answer_that_is_no_living_token_is_unavailable(
    subtests: pytest.Subtests,
) -> None:
    for answer in [
        *(given(expires_in=life) for life in NO_LIVES),
        *(given(access_token=token) for token in NO_TOKENS),
        given(token_type=...),
        given(token_type="mac"),
        given(token_type=["Bearer"]),
        said([]),
        said("ya29.canary"),
        said(None),
        Answer(200, {}, b""),
        Answer(200, {}, b'{"access_token": "ya29.canary"'),
        Answer(200, {}, b"\xff\xfe"),
        Answer(
            200, {}, b'{"access_token": "ya29.canary", "token_type": "Bearer", "expires_in": NaN}'
        ),
    ]:
        with subtests.test(answer=answer):
            with pytest.raises(UpstreamUnavailable) as caught:
                exchange(script(answer))
            assert "canary" not in f"{caught.value!r} {caught.value.cause}"


@pytest.mark.parametrize("life", [1, 600, 3599, 3600, 43_200])
def test_a_whole_number_of_seconds_is_a_life(life: int) -> None:
    token = exchange(script(given(expires_in=life)))
    assert (token.issued_at, token.expires_at) == (NOW, NOW + life)


REFUSALS = [
    (
        "invalid_target",
        (
            'The target service indicated by the "audience" parameters is invalid. This might '
            "either be because the pool or provider is disabled or deleted or because it doesn't "
            "exist."
        ),
        "TOKENVEND_GOOGLE_PROVIDER",
    ),
    (
        "invalid_request",
        (
            'Invalid value for "audience". This value should be the full resource name of the '
            "Identity Provider. See canary"
        ),
        "full resource name",
    ),
    (
        "invalid_request",
        "The size of mapped attribute google.subject exceeds the 127 bytes limit. canary",
        "127 bytes",
    ),
    (
        "unauthorized_client",
        "The given credential is rejected by the attribute condition.",
        "attribute condition",
    ),
    (
        "unauthorized_client",
        "Could not obtain a value for google.subject from the given credential.",
        "attribute mapping",
    ),
    (
        "invalid_grant",
        "The audience in ID Token [api://canary] does not match the expected audience.",
        "TOKENVEND_AZURE_FEDERATION_AUDIENCE",
    ),
    (
        "invalid_grant",
        (
            "The issuer in ID Token https://sts.windows.net/canary/ does not match the expected "
            "one in config: https://login.microsoftonline.com/canary/v2.0"
        ),
        "requestedAccessTokenVersion",
    ),
    ("invalid_grant", "ID Token issued at 1700000000 is stale to sign-in.", "clock"),
    ("invalid_grant", "Unable to verify the ID Token signature.", "keys"),
    (
        "invalid_grant",
        (
            "Received invalid AWS response of type ExpiredToken with error message: The "
            "security token included in the request is expired"
        ),
        "session token has expired",
    ),
    (
        "invalid_grant",
        "Received invalid AWS response of type SignatureDoesNotMatch with error message: canary",
        "15 minutes off",
    ),
    (
        "invalid_grant",
        "Received invalid AWS response of type InvalidClientTokenId with error message: canary",
        "does not know the access key",
    ),
    (
        "invalid_grant",
        "Received invalid AWS response of type AccessDenied with error message: canary",
        "AWS STS refused",
    ),
    ("access_denied", "canary", "sts.googleapis.com"),
    ("brand_new_code", "canary", "audit logs"),
]


def test_a_refusal_tells_the_operator_what_to_mend(subtests: pytest.Subtests) -> None:
    for code, text, hint in REFUSALS:
        with subtests.test(code=code, text=text, hint=hint):
            with pytest.raises(UpstreamRefused) as caught:
                exchange(script(said({"error": code, "error_description": text}, 400)))
            assert hint in caught.value.cause
            assert code in caught.value.cause
            assert "operator" in caught.value.detail
            assert hint not in caught.value.detail
            assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_a_refusal_nobody_knows_is_still_one(subtests: pytest.Subtests) -> None:
    for body in [
        b"",
        b"canary",
        b"[]",
        b'{"error": {"code": 400, "message": "canary"}}',
        b'{"error": "canary <script>", "error_description": 5}',
        b'{"error": null}',
        b'{"error": ["invalid_grant"], "error_description": {"a": "canary"}}',
    ]:
        with subtests.test(body=body):
            with pytest.raises(UpstreamRefused) as caught:
                exchange(script(Answer(400, {}, body)))
            assert "status 400" in caught.value.cause
            assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_what_passes_says_when_to_try_again(subtests: pytest.Subtests) -> None:
    for answer, error, retry_after in [
        (said({"error": "quota_exceeded"}, 429), RateLimited, 5),
        (said({"error": "quota_exceeded"}, 400), RateLimited, 5),
        (Answer(429, {"retry-after": "17"}, b""), RateLimited, 17),
        (Answer(500, {}, b"canary"), UpstreamUnavailable, 5),
        (Answer(503, {"retry-after": "30"}, b"canary"), UpstreamUnavailable, 30),
        (Answer(302, {"location": "https://evil.example"}, b""), UpstreamUnavailable, 5),
        (Answer(204, {}, b""), UpstreamUnavailable, 5),
        (
            said(
                {
                    "error": "invalid_grant",
                    "error_description": "Error connecting to the given credential's issuer.",
                },
                400,
            ),
            UpstreamUnavailable,
            5,
        ),
    ]:
        with subtests.test(answer=answer, error=error, retry_after=retry_after):
            with pytest.raises(error) as caught:
                exchange(script(answer))
            assert caught.value.retry_after == retry_after
            assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_no_token_shows_in_call_or_result() -> None:
    sender = script(given())
    token = exchange(sender)
    assert "canary" not in f"{sender.calls!r} {token!r}"
    assert json.loads(given().body)["access_token"] == token.value.reveal()
