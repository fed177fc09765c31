"""Impersonation: what is sent, which answers are tokens, and what a refusal means."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.unit.issuing import NOW, PROVIDER, Clock, deadline, segment
from tests.unit.sending import Script, said, script
from tokenvend.errors import (
    FederatedTokenRejected,
    Misconfigured,
    RateLimited,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.google.iamcredentials import iamcredentials_host, impersonate
from tokenvend.model import (
    AccessTokenSpec,
    FederatedToken,
    IdTokenSpec,
    Secret,
    TokenSpec,
    VendedToken,
)
from tokenvend.transport import Answer

EMAIL = "landing@acme.iam.gserviceaccount.com"
DELEGATE = "hop@acme.iam.gserviceaccount.com"
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
AUDIENCE = "https://orders-abc.run.app"
ACCESS = AccessTokenSpec("landing-writer", EMAIL, SCOPES, 900)
ID = IdTokenSpec("orders-invoker", EMAIL, AUDIENCE)
FEDERATED = FederatedToken(Secret("federated-canary"), NOW, NOW + 3600)
BASE = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def access_answer(**changes: Any) -> Answer:
    return said({"accessToken": "ya29.c.canary", "expireTime": at(900), **changes})


def id_token(**changes: Any) -> str:
    claims = {"iss": "https://accounts.google.com", "aud": AUDIENCE, "exp": NOW + 3600, "iat": NOW}
    fields = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
    return f"{segment({'alg': 'RS256'})}.{segment(fields)}.signature-canary"


def get(sender: Script, spec: TokenSpec, reason: str) -> VendedToken:
    return impersonate(
        FEDERATED,
        spec,
        deadline(),
        reason,
        sender=sender,
        provider=PROVIDER,
        host=iamcredentials_host(),
        now=Clock(),
    )


def get_access(sender: Script, grant: AccessTokenSpec = ACCESS, reason: str = "") -> VendedToken:
    return get(sender, grant, reason)


def get_id(sender: Script, grant: IdTokenSpec = ID, reason: str = "") -> VendedToken:
    return get(sender, grant, reason)


BOTH = [get_access, get_id]


# --- what is sent --------------------------------------------------------------------------------


def test_an_access_token_is_asked_with_the_federated_token() -> None:
    sender = script(access_answer())
    token = get_access(sender)
    (call,) = sender.calls
    assert (call.method, call.url) == ("POST", f"{BASE}/{EMAIL}:generateAccessToken")
    assert call.headers == {
        "Authorization": "Bearer federated-canary",
        "Content-Type": "application/json",
    }
    assert json.loads(call.body) == {"scope": list(SCOPES), "lifetime": "900s"}
    assert sender.repeatable == [True]
    assert token == VendedToken(Secret("ya29.c.canary"), ACCESS, NOW, NOW + 900)


@pytest.mark.parametrize("include_email", [True, False])
def test_an_id_token_is_asked_for_its_audience(include_email: bool) -> None:
    grant = dataclasses.replace(ID, include_email=include_email)
    sender = script(said({"token": id_token()}))
    token = get_id(sender, grant)
    (call,) = sender.calls
    assert (call.method, call.url) == ("POST", f"{BASE}/{EMAIL}:generateIdToken")
    assert call.headers["Authorization"] == "Bearer federated-canary"
    assert json.loads(call.body) == {"audience": AUDIENCE, "includeEmail": include_email}
    assert token == VendedToken(Secret(id_token()), grant, NOW, NOW + 3600)


def test_delegates_go_by_their_full_names() -> None:
    sender = script(access_answer())
    get_access(sender, dataclasses.replace(ACCESS, delegates=(DELEGATE,)))
    assert json.loads(sender.calls[0].body)["delegates"] == [
        f"projects/-/serviceAccounts/{DELEGATE}"
    ]


@pytest.mark.parametrize("lifetime", [1, 900, 3600, 43_200])
def test_the_granted_lifetime_is_asked_in_seconds(lifetime: int) -> None:
    sender = script(access_answer(expireTime=at(lifetime)))
    token = get_access(sender, dataclasses.replace(ACCESS, lifetime=lifetime))
    assert json.loads(sender.calls[0].body)["lifetime"] == f"{lifetime}s"
    assert token.expires_at == NOW + lifetime


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("req-1", "req-1"),
        ("a\r\nX-Evil: 1", "a??X-Evil: 1"),
        ("ü", "?"),
        ("x" * 900, "x" * 200),
        ("", None),
    ],
)
def test_the_request_reason_cannot_become_another_header(reason: str, sent: str | None) -> None:
    sender = script(access_answer())
    get_access(sender, ACCESS, reason)
    assert sender.calls[0].headers.get("X-Goog-Request-Reason") == sent


def test_a_name_that_is_no_email_never_enters_a_url(subtests: pytest.Subtests) -> None:
    for email in [
        "../../v1/projects/-/serviceAccounts/x@y.iam.gserviceaccount.com",
        "a@b.iam.gserviceaccount.com/../c",
        "a@b.iam.gserviceaccount.com?x=",
        "a@b.iam.gserviceaccount.com#",
        "a%2f@b.iam.gserviceaccount.com",
        "a@evil.example",
        "a@b.iam.gserviceaccount.com\n",
        "a@b.iam.gserviceaccount.com:signBlob",
        "",
        None,
    ]:
        with subtests.test(email=email):
            sender = script(access_answer())
            with pytest.raises(Misconfigured):
                get_access(sender, dataclasses.replace(ACCESS, service_account=email))
            if email is not None:
                with pytest.raises(Misconfigured):
                    get_id(sender, dataclasses.replace(ID, service_account=email))
                with pytest.raises(Misconfigured):
                    get_access(sender, dataclasses.replace(ACCESS, delegates=(DELEGATE, email)))
            assert sender.calls == []


def test_a_universe_has_its_own_host() -> None:
    assert iamcredentials_host("apis-berlin.example") == "iamcredentials.apis-berlin.example"


# --- which answers are tokens --------------------------------------------------------------------


def test_expire_time_is_an_rfc_3339_time_and_never_beyond_what_was_asked(
    subtests: pytest.Subtests,
) -> None:
    for text, expires_at in [
        (at(600), NOW + 600),
        (at(600).replace("Z", ".999999999Z"), NOW + 600),
        (at(600).replace("Z", ".5Z"), NOW + 600),
        (at(600).replace("Z", "+00:00"), NOW + 600),
        (at(600 + 7200).replace("Z", "+02:00"), NOW + 600),
        (at(600 - 7200).replace("Z", "-02:00"), NOW + 600),
        (at(901), NOW + 900),
        (at(10**9), NOW + 900),
    ]:
        with subtests.test(text=text, expires_at=expires_at):
            assert get_access(script(access_answer(expireTime=text))).expires_at == expires_at


def test_threat_25_a_token_without_a_living_expiry_is_none(subtests: pytest.Subtests) -> None:
    for text in [
        *(None, "", 5, True, NOW + 900, [at(900)], "soon"),
        at(900).removesuffix("Z"),
        at(900).replace("T", " "),
        at(900).lower(),
        at(900) + "\n",
        at(900).replace("Z", ".Z"),
        at(900).replace("Z", "+0000"),
        at(900).replace("Z", "+99:00"),
        "2027-13-01T00:00:00Z",
        "2027-02-30T00:00:00Z",
        "2027-01-15T25:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "1970-01-01T00:00:00Z",
        at(0),
        at(-1),
    ]:
        with subtests.test(text=text):
            with pytest.raises(UpstreamUnavailable) as caught:
                get_access(script(access_answer(expireTime=text)))
            assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_threat_25_what_cannot_be_a_token_is_none(subtests: pytest.Subtests) -> None:
    for token in [None, "", 5, "a b", "a\r\nb", "é", "x" * 20_000, ["a"]]:
        for get in BOTH:
            with subtests.test(token=token, get=get):
                answer = said({"accessToken": token, "expireTime": at(900), "token": token})
                with pytest.raises(UpstreamUnavailable):
                    get(script(answer))


def test_threat_25_garbage_is_no_token(subtests: pytest.Subtests) -> None:
    for body in [b"", b"{", b"[]", b"null", b"\xff", b'"canary"', b"<html>"]:
        for get in BOTH:
            with subtests.test(body=body, get=get):
                with pytest.raises(UpstreamUnavailable) as caught:
                    get(script(Answer(200, {}, body)))
                assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_threat_25_an_id_token_for_another_audience_or_past_is_none(
    subtests: pytest.Subtests,
) -> None:
    for token in [
        id_token(aud="https://other.run.app"),
        id_token(aud=[AUDIENCE]),
        id_token(aud=...),
        id_token(aud=f"{AUDIENCE}/"),
        id_token(exp=...),
        id_token(exp=str(NOW + 3600)),
        id_token(exp=NOW + 0.5),
        id_token(exp=True),
        id_token(exp=NOW),
        id_token(exp=NOW - 3600),
        "ya29.canary",
        "a.b",
        "a.b.c.d",
        f"a.{segment([])}.c",
        f"a.{segment(b'canary')}.c",
        f"a.{segment({'aud': AUDIENCE})}%.c",
        f"a.{segment(b'[' * 5000)}.c",
    ]:
        with subtests.test(token=token):
            with pytest.raises(UpstreamUnavailable) as caught:
                get_id(script(said({"token": token})))
            assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_an_id_token_is_never_thought_to_live_longer_than_an_hour() -> None:
    token = get_id(script(said({"token": id_token(exp=NOW + 10**6)})))
    assert token.expires_at == NOW + 3600


@pytest.mark.parametrize(
    ("header", "kept"), [("ABC-123_x.y:z", "ABC-123_x.y:z"), ("a\r\nb", ""), ("x" * 200, "")]
)
def test_googles_request_id_is_kept_if_it_is_one(header: str, kept: str) -> None:
    answer = dataclasses.replace(access_answer(), headers={"x-goog-request-id": header})
    assert get_access(script(answer)).upstream_request_id == kept


# --- what a refusal means ------------------------------------------------------------------------


def refusal(code: int, status: str, message: str, reason: str = "") -> Answer:
    details = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "iam.googleapis.com",
        }
    ]
    error = {"code": code, "message": message, "status": status, "details": details}
    return said({"error": error}, code)


REFUSALS = [
    (
        refusal(
            403,
            "PERMISSION_DENIED",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not "
            "exist). canary",
            "IAM_PERMISSION_DENIED",
        ),
        (
            f"gcloud iam service-accounts add-iam-policy-binding {EMAIL} "
            "--role=roles/iam.workloadIdentityUser --member='principalSet://iam.googleapis.com/"
        ),
    ),
    (
        refusal(
            403,
            "PERMISSION_DENIED",
            "IAM Service Account Credentials API has not been used in project canary before or "
            "it is disabled.",
            "SERVICE_DISABLED",
        ),
        "gcloud services enable iamcredentials.googleapis.com",
    ),
    (
        refusal(404, "NOT_FOUND", f"Not found; Gaia id not found for email {EMAIL} canary"),
        f"no service account {EMAIL}",
    ),
    (
        refusal(400, "INVALID_ARGUMENT", "The caller cannot request lifetimes of more than 1 hour"),
        "constraints/iam.allowServiceAccountCredentialLifetimeExtension",
    ),
    (
        refusal(400, "INVALID_ARGUMENT", "Invalid OAuth scope or ID token audience provided."),
        "scopes",
    ),
    (refusal(400, "FAILED_PRECONDITION", "canary"), f"gcloud iam service-accounts enable {EMAIL}"),
    (refusal(400, "BRAND_NEW", "canary"), "audit logs"),
    (Answer(403, {}, b"canary"), "audit logs"),
    (said({"error": "canary-string"}, 400), "audit logs"),
    (said({"error": {"status": 5, "details": "canary", "message": []}}, 400), "audit logs"),
]


def test_a_refusal_tells_the_operator_what_to_mend(subtests: pytest.Subtests) -> None:
    for answer, hint in REFUSALS:
        for get in BOTH:
            with subtests.test(answer=answer, hint=hint, get=get):
                with pytest.raises(UpstreamRefused) as caught:
                    get(script(answer))
                assert hint in caught.value.cause
                assert "operator" in caught.value.detail
                assert EMAIL not in caught.value.detail
                assert "canary" not in f"{caught.value!r} {caught.value.cause}"


@pytest.mark.parametrize("get", BOTH)
def test_a_rejected_federated_token_is_told_apart(get: Callable[[Script], VendedToken]) -> None:
    """Whoever keeps the federated token has to drop it, or every request of the hour fails."""
    with pytest.raises(FederatedTokenRejected):
        get(script(refusal(401, "UNAUTHENTICATED", "canary")))


def test_what_passes_says_when_to_try_again(subtests: pytest.Subtests) -> None:
    for answer, error, retry_after in [
        (refusal(429, "RESOURCE_EXHAUSTED", "canary"), RateLimited, 5),
        (Answer(429, {"retry-after": "17"}, b""), RateLimited, 17),
        (Answer(500, {}, b"canary"), UpstreamUnavailable, 5),
        (Answer(503, {"retry-after": "0"}, b"canary"), UpstreamUnavailable, 0),
        (Answer(302, {"location": "https://evil.example"}, b""), UpstreamUnavailable, 5),
    ]:
        for get in BOTH:
            with subtests.test(answer=answer, error=error, retry_after=retry_after, get=get):
                with pytest.raises(error) as caught:
                    get(script(answer))
                assert caught.value.retry_after == retry_after
                assert "canary" not in f"{caught.value!r} {caught.value.cause}"


def test_no_token_shows_in_call_or_result() -> None:
    sender = script(access_answer())
    assert "canary" not in f"{get_access(sender)!r} {sender.calls!r} {FEDERATED!r}"
