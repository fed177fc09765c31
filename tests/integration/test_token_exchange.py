"""POST /v1/token: Google's own client, told that our endpoint is its token service, just works."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import google.auth
import google.auth.transport.requests
import pytest
import requests

from localcloud.cloud import AUDIENCE
from tests.callers import API_AUDIENCE, managed_identity_token, session
from tests.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from localcloud.cloud import Cloud

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
WRITE = "https://www.googleapis.com/auth/devstorage.read_write"
READ = "https://www.googleapis.com/auth/devstorage.read_only"
PLATFORM = "https://www.googleapis.com/auth/cloud-platform"


def aws_source() -> dict[str, Any]:
    return {
        "environment_id": "aws1",
        "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
        "regional_cred_verification_url": (
            "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
        ),
    }


def azure_source(environment: dict[str, str]) -> dict[str, Any]:
    return {
        "url": f"{environment['IDENTITY_ENDPOINT']}?api-version=2019-08-01&resource={API_AUDIENCE}",
        "headers": {"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
        "format": {"type": "json", "subject_token_field_name": "access_token"},
    }


@pytest.mark.parametrize("door", ["aws", "azure"])
@pytest.mark.parametrize("name", ["etl", "reporting"])
@pytest.mark.parametrize(
    "scopes",
    [[WRITE], [PLATFORM], [READ, WRITE]],
    ids=["the grant's scope", "cloud-platform", "more than the grant has"],
)
def test_google_auth_gets_a_vended_token_without_a_line_of_caller_code(
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    door: str,
    name: str,
    scopes: list[str],
) -> None:
    environment = cloud.environment_for(name)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    on_aws = name == "etl"
    config = {
        "type": "external_account",
        "audience": f"{AUDIENCE}/grants/landing-writer",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request" if on_aws else JWT,
        "token_url": f"{cloud.endpoints[door]}/v1/token",
        "credential_source": aws_source() if on_aws else azure_source(environment),
    }
    file = tmp_path / "tokenvend.json"
    file.write_text(json.dumps(config))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "acme")
    credentials, _ = google.auth.default(scopes=scopes)
    credentials.refresh(google.auth.transport.requests.Request(session=requests.Session()))
    known = requests.get(
        "https://oauth2.googleapis.com/tokeninfo",
        params={"access_token": credentials.token},
        timeout=10,
    ).json()
    assert known["scope"] == WRITE
    listing = requests.get(
        "https://storage.googleapis.com/storage/v1/b/acme-landing/o",
        headers={"Authorization": f"Bearer {credentials.token}"},
        timeout=10,
    )
    assert listing.status_code == 200


@pytest.mark.parametrize("name", ["etl", "reporting"])
def test_gcloud_lists_a_bucket_with_a_vended_token(cloud: Cloud, tmp_path: Path, name: str) -> None:
    environment = cloud.environment_for(name)
    on_aws = name == "etl"
    config = {
        "type": "external_account",
        "audience": f"{AUDIENCE}/grants/landing-writer",
        "subject_token_type": "urn:ietf:params:aws:token-type:aws4_request" if on_aws else JWT,
        "token_url": f"{environment['TOKENVEND_URL']}/v1/token",
        "credential_source": aws_source() if on_aws else azure_source(environment),
    }
    (tmp_path / "file.json").write_text(json.dumps(config))
    variables = environment | {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CLOUDSDK_CONFIG": str(tmp_path / "gcloud"),
        "CLOUDSDK_CORE_PROJECT": "acme",
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }
    for arguments in (
        ["auth", "login", f"--cred-file={tmp_path / 'file.json'}"],
        ["storage", "ls", "gs://acme-landing"],
    ):
        done = subprocess.run(  # noqa: S603
            [tool("gcloud"), *arguments],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr


def form(token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": GRANT_TYPE,
        "audience": AUDIENCE,
        "scope": WRITE,
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": token,
        "subject_token_type": JWT,
        **more,
    }


@pytest.mark.parametrize("door", ["aws", "azure"])
@pytest.mark.parametrize("encoding", ["form", "json"])
def test_the_answer_satisfies_the_strictest_client(cloud: Cloud, door: str, encoding: str) -> None:
    environment = cloud.environment_for("reporting")
    fields = form(managed_identity_token(environment))
    url = f"{cloud.endpoints[door]}/v1/token"
    if encoding == "form":
        answer = session(environment).post(url, data=fields, timeout=10)
    else:
        words = {name: name.split("_") for name in fields}
        camel = {
            first[0] + "".join(part.title() for part in first[1:]): fields[name]
            for name, first in words.items()
        }
        answer = session(environment).post(url, json=camel, timeout=10)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert body["token_type"] == "Bearer"
    assert isinstance(body["expires_in"], int)
    assert body["expires_in"] > 0
    assert body["scope"] == WRITE
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("door", ["aws", "azure"])
@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("reporting", {"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ("reporting", {"audience": "//iam.googleapis.com/projects/1"}, "invalid_target"),
        ("reporting", {"audience": AUDIENCE + "/grants/../x"}, "invalid_target"),
        ("reporting", {"audience": ""}, "invalid_target"),
        ("reporting", {"requested_token_type": "urn:x"}, "invalid_request"),
        ("reporting", {"subject_token": ""}, "invalid_request"),
        ("reporting", {"subject_token": "x" * 20_000}, "invalid_request"),
        ("reporting", {"subject_token": "not.a.jwt"}, "invalid_grant"),
        ("reporting", {"subject_token_type": "urn:x"}, "invalid_request"),
        ("reporting", {"scope": "a  b"}, "invalid_request"),
        ("reporting", {"options": '{"accessBoundary": {}}'}, "invalid_request"),
        ("reporting", {"options": "%7B%22accessBoundary%22%3A%7B%7D%7D"}, "invalid_request"),
        ("reporting", {"actor_token": "x"}, "invalid_request"),
        ("reporting", {"scope": "https://www.googleapis.com/auth/bigquery"}, "unauthorized_client"),
        ("outsider", {}, "unauthorized_client"),
    ],
)
def test_an_exchange_that_is_refused_is_refused_in_googles_shape(
    cloud: Cloud, door: str, name: str, change: dict[str, str], error: str
) -> None:
    environment = cloud.environment_for(name)
    fields = form(managed_identity_token(environment), **change)
    answer = session(environment).post(f"{cloud.endpoints[door]}/v1/token", data=fields, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert answer.headers["X-Request-Id"] in answer.json()["error_description"]


@pytest.mark.parametrize("door", ["aws", "azure"])
def test_a_token_for_googles_audience_is_no_token_for_us(cloud: Cloud, door: str) -> None:
    environment = cloud.environment_for("reporting")
    token = managed_identity_token(environment, "api://tokenvend-federation")
    answer = session(environment).post(
        f"{cloud.endpoints[door]}/v1/token", data=form(token), timeout=10
    )
    assert answer.json()["error"] == "invalid_grant"
