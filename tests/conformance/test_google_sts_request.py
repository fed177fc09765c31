"""The Security Token Service's request: its hosts and paths, forms, scopes, options and actors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest

from tests.conformance.google_lab import (
    AWS4,
    AWS_PROVIDER,
    CLOUD_PLATFORM,
    LANDING,
    READ_WRITE,
    Lab,
    aws_token,
    body,
)

if TYPE_CHECKING:
    from localcloud.wire.web import Response

FORM = "application/x-www-form-urlencoded"
FINGERPRINT = "A" * 43


def form(lab: Lab, **fields: str) -> bytes:
    given = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": f"//iam.googleapis.com/{AWS_PROVIDER}",
        "scope": CLOUD_PLATFORM,
        "subject_token": aws_token(lab.key()),
        "subject_token_type": AWS4,
    }
    return urlencode(given | fields).encode()


@pytest.mark.parametrize(
    "url",
    [
        "https://sts.googleapis.com/v1/token",
        "https://sts.googleapis.com/v1beta/token",
        "https://sts.mtls.googleapis.com/v1/token",
        "https://sts.europe-west1.rep.googleapis.com/v1/token",
    ],
)
def test_each_host_and_version_exchanges(lab: Lab, url: str) -> None:
    answer = lab.call("POST", url, form(lab), Content_Type=FORM)
    assert answer.status == 200
    assert body(answer)["access_token"].startswith("ya29.d.")


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (FORM, 200),
        (f"{FORM};charset=UTF-8", 200),
        # google-cloud-cpp sends it twice in one field.
        (f"{FORM},{FORM}", 200),
        (f"{FORM},text/plain", 400),
        ("text/plain", 400),
        ("", 400),
    ],
)
def test_the_body_is_a_form(lab: Lab, kind: str, status: int) -> None:
    answer = lab.call("POST", "https://sts.googleapis.com/v1/token", form(lab), Content_Type=kind)
    assert answer.status == status


@pytest.mark.parametrize(
    ("scope", "error"),
    [
        (CLOUD_PLATFORM, None),
        (f"{CLOUD_PLATFORM} {READ_WRITE}", None),
        ("https://www.googleapis.com/auth/iam", None),
        ("openid email profile", None),
        ("https://www.googleapis.com/auth/cloud-platfrom", "invalid_scope"),
        (f"{CLOUD_PLATFORM} https://www.googleapis.com/auth/nothing", "invalid_scope"),
        # Joined letter by letter, as gcloud-aio did.
        ("h t t p s", "invalid_scope"),
        ("cloud-platform", "invalid_scope"),
        (f"{CLOUD_PLATFORM},{READ_WRITE}", "invalid_scope"),
        (" ", "invalid_request"),
    ],
)
def test_only_scopes_that_google_has_are_granted(lab: Lab, scope: str, error: str | None) -> None:
    answer = lab.exchange_aws(aws_token(lab.key()), scope=scope)
    assert body(answer).get("error") == error
    assert answer.status == (400 if error else 200)


@pytest.mark.parametrize(
    "options",
    [
        "[1]",
        "{",
        "true",
        {"nope": 1},
        {"userProject": 1},
        {"userProject": ""},
        {"userProject": "p" * 33},
        {"userProject": "projects/acme"},
        {"userProject": "Acme"},
        {"bindCertFingerprint": FINGERPRINT + "A"},
        {"bindCertFingerprint": FINGERPRINT[1:]},
        {"bindCertFingerprint": FINGERPRINT[1:] + "="},
        {"bindCertFingerprint": FINGERPRINT[1:] + "+"},
        {"bindCertFingerprint": 43},
    ],
)
def test_options_out_of_bounds_are_refused(lab: Lab, options: object) -> None:
    text = options if isinstance(options, str) else json.dumps(options)
    for given in (text, quote(text, safe="")):
        answer = lab.exchange_aws(aws_token(lab.key()), options=given)
        assert (answer.status, body(answer)["error"]) == (400, "invalid_request")
        assert 'Invalid value for "options' in body(answer)["error_description"]


def call(lab: Lab, options: dict[str, str], **headers: str) -> Response:
    token = body(lab.exchange_aws(aws_token(lab.key()), options=json.dumps(options)))
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LANDING}"
    message = {"scope": [READ_WRITE]}
    return lab.call("POST", f"{url}:generateAccessToken", message, token["access_token"], **headers)


def test_the_tokens_user_project_needs_the_right_to_use_it(lab: Lab) -> None:
    for project in ("acme", "123456789012", "p" * 32):
        refused = call(lab, {"userProject": project})
        assert refused.status == 403
        assert f"to use project {project}." in body(refused)["error"]["message"]
    project = lab.world.google.project("acme")
    assert project is not None
    caller = lab.log.entries[-1].metadata["mapped_principal"]
    project.iam_policy.grant("roles/serviceusage.serviceUsageConsumer", caller)
    assert call(lab, {"userProject": "acme"}).status == 200


def test_cloud_storage_asks_for_the_tokens_user_project_too(lab: Lab) -> None:
    url = "https://storage.googleapis.com/storage/v1/b/acme-landing/o"
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    lab.federated()
    caller = lab.log.entries[-1].metadata["mapped_principal"]
    found.iam_policy.grant("roles/storage.objectViewer", caller)
    for options, status in (({}, 200), ({"userProject": "acme"}, 403)):
        answer = lab.exchange_aws(aws_token(lab.key()), options=json.dumps(options))
        assert lab.call("GET", url, token=body(answer)["access_token"]).status == status


def test_the_callers_project_comes_before_the_tokens(lab: Lab) -> None:
    project = lab.world.google.project("acme")
    assert project is not None
    lab.federated()
    caller = lab.log.entries[-1].metadata["mapped_principal"]
    project.iam_policy.grant("roles/serviceusage.serviceUsageConsumer", caller)
    fields = {"X_Goog_User_Project": "acme"}
    assert call(lab, {"userProject": "absent"}, **fields).status == 200
    assert call(lab, {"userProject": "acme"}, X_Goog_User_Project="absent").status == 403


def test_a_token_bound_to_a_certificate_opens_nothing_without_it(lab: Lab) -> None:
    refused = call(lab, {"bindCertFingerprint": FINGERPRINT})
    assert (refused.status, body(refused)["error"]["status"]) == (401, "UNAUTHENTICATED")


JWT = "urn:ietf:params:oauth:token-type:jwt"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"actor_token": "x"}, 'Missing required field "actor_token_type".'),
        ({"actor_token_type": JWT}, 'Missing required field "actor_token".'),
        ({"actor_token": "x", "actor_token_type": AWS4}, 'Invalid value for "actor_token_type".'),
        ({"actor_token": "x", "actor_token_type": JWT}, "The provider has no actor providers."),
    ],
)
def test_nobody_acts_for_another_here(lab: Lab, fields: dict[str, str], text: str) -> None:
    answer = lab.exchange_aws(aws_token(lab.key()), **fields)
    assert body(answer)["error"] == "invalid_request"
    assert text in body(answer)["error_description"]


@pytest.mark.parametrize("kind", ["saml2", "mtls"])
def test_a_type_that_the_provider_does_not_take_is_refused(lab: Lab, kind: str) -> None:
    kind = f"urn:ietf:params:oauth:token-type:{kind}"
    answer = lab.exchange_aws(aws_token(lab.key()), subject_token_type=kind)
    assert "does not accept this type" in body(answer)["error_description"]


def test_client_side_boundaries_are_said_to_be_missing(lab: Lab) -> None:
    kind = "urn:ietf:params:oauth:token-type:access_boundary_intermediary_token"
    answer = lab.exchange_aws(aws_token(lab.key()), requested_token_type=kind)
    assert "embedded cloud does not serve" in body(answer)["error_description"]


@pytest.mark.parametrize("path", ["/v2/token", "/v1/revoke", "/v1/token/"])
def test_what_is_not_served_is_said_in_a_status_that_nobody_retries(lab: Lab, path: str) -> None:
    answer = lab.call("POST", f"https://sts.googleapis.com{path}", form(lab), Content_Type=FORM)
    assert answer.status == 405
    assert "embedded cloud does not serve" in body(answer)["error"]["message"]
