"""Google's public documents: keys and certificates under each of their names, tokeninfo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcloud import google
from tests.conformance.google_lab import INVOKER, LANDING, ORDERS, READ_WRITE, Lab, body

if TYPE_CHECKING:
    from collections.abc import Callable


TOKEN_INFO = "https://oauth2.googleapis.com/tokeninfo"
EMAIL_SCOPE = "https://www.googleapis.com/auth/userinfo.email"


@pytest.mark.parametrize("name", [LANDING, LANDING.replace("@", "%40"), "101010101010101010101"])
def test_an_accounts_keys_are_one_set_under_each_name(lab: Lab, name: str) -> None:
    base = "https://www.googleapis.com/service_accounts/v1"
    sets = [lab.call("GET", f"{base}/{path}/{name}") for path in ("jwk", "metadata/jwk")]
    ids = [[key["kid"] for key in body(answer)["keys"]] for answer in sets]
    certificates = body(lab.call("GET", f"{base}/metadata/x509/{name}"))
    assert ids == [list(certificates)] * 2
    assert all("-----BEGIN CERTIFICATE-----" in pem for pem in certificates.values())


def test_keys_of_an_absent_account_are_not_found(lab: Lab) -> None:
    url = "https://www.googleapis.com/service_accounts/v1/jwk/absent@acme.iam.gserviceaccount.com"
    assert body(lab.call("GET", url))["error"]["status"] == "NOT_FOUND"


def test_tokeninfo_names_the_account_to_who_holds_the_email_scope(lab: Lab) -> None:
    silent = body(lab.call("GET", f"{TOKEN_INFO}?access_token={lab.access_token()}"))
    assert (silent["scope"], silent["azp"]) == (READ_WRITE, "101010101010101010101")
    assert "email" not in silent
    told = body(lab.call("GET", TOKEN_INFO, token=lab.access_token(scope=EMAIL_SCOPE)))
    assert (told["email"], told["email_verified"]) == (LANDING, "true")


def test_tokeninfo_names_the_person_who_signed_in_with_gcloud(lab: Lab) -> None:
    token = google.environment_of(lab.google, "admin")["CLOUDSDK_AUTH_ACCESS_TOKEN"]
    told = body(lab.call("GET", f"{TOKEN_INFO}?access_token={token}"))
    assert told["email"] == "admin@acme.example"
    assert told["aud"] == "32555940559.apps.googleusercontent.com"


def test_tokeninfo_reads_id_tokens_in_strings(lab: Lab) -> None:
    told = body(lab.call("GET", f"{TOKEN_INFO}?id_token={lab.id_token()}"))
    assert (told["aud"], told["email"], told["email_verified"]) == (ORDERS, INVOKER, "true")
    assert told["exp"] == str(int(lab.clock()) + 3600)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (lambda _: "", "invalid_request"),
        (lambda _: "access_token=x", "invalid_token"),
        (lambda _: "id_token=x", "invalid_token"),
        (lambda _: f"id_token={Lab().id_token()}", "invalid_token"),
        (lambda lab: f"id_token={lab.access_token()}", "invalid_token"),
        # Google's tokeninfo does not know the tokens of its Security Token Service.
        (lambda lab: f"access_token={lab.federated()}", "invalid_token"),
    ],
)
def test_tokeninfo_of_anything_else_is_refused(
    lab: Lab, query: Callable[[Lab], str], error: str
) -> None:
    answer = lab.call("GET", f"{TOKEN_INFO}?{query(lab)}")
    assert (answer.status, body(answer)["error"]) == (400, error)


def test_tokeninfo_of_an_expired_id_token_is_refused(lab: Lab) -> None:
    token = lab.id_token()
    lab.clock.now += 3601
    assert body(lab.call("GET", f"{TOKEN_INFO}?id_token={token}"))["error"] == "invalid_token"
