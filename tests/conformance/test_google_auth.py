"""Google's own clients are the judges: google-auth and google-cloud-storage run unmodified.

The vectors are what `gcloud iam workload-identity-pools create-cred-config` (528.0.0) writes; where
gcloud is installed a test makes them anew and compares.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google.auth
import google.auth.aws
import google.auth.transport.requests
import pytest
import requests
from google.cloud import storage
from google.oauth2.credentials import Credentials

from tests.callers import Caller, session
from tests.tools import tool

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

VECTORS = Path(__file__).parent / "vectors"
PROVIDERS = "projects/123456789012/locations/global/workloadIdentityPools/tokenvend/providers"
LANDING = "landing@acme.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"


@pytest.fixture
def own_identity(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the endpoint's own role on AWS, where the provider's condition holds."""
    for name, value in cloud.environment_for("tokenvend").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def vm(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual machine with the endpoint's managed identity."""
    for name, value in cloud.environment_for("azure:tokenvend", "vm").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def instance(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EC2 instance with the endpoint's role, which trusts EC2 for once."""
    role = cloud.accounts.role("tokenvend")
    assert role is not None
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "ec2.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    trust = {"Version": "2012-10-17", "Statement": [statement]}
    monkeypatch.setattr(role, "assume_role_policy_document", trust)
    for name, value in cloud.environment_for("tokenvend", "ec2").items():
        monkeypatch.setenv(name, value)


def default_credentials(file: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Application default credentials, as any Google client library finds them."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "acme")
    credentials, project = google.auth.default(scopes=[SCOPE])
    assert project == "acme"
    return credentials


def usable(credentials: Any) -> bool:
    """Whether a refresh gives a token that Cloud Storage takes."""
    transport = google.auth.transport.requests.Request(session=requests.Session())
    credentials.refresh(transport)
    answer = requests.get(
        "https://storage.googleapis.com/storage/v1/b/acme-landing/o",
        headers={"Authorization": f"Bearer {credentials.token}"},
        timeout=10,
    )
    return answer.status_code == 200


@pytest.mark.usefixtures("own_identity")
def test_google_auth_with_gclouds_aws_file_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = default_credentials(VECTORS / "create-cred-config-aws.json", monkeypatch)
    assert credentials.service_account_email == LANDING
    assert usable(credentials)


@pytest.mark.usefixtures("instance")
def test_google_auth_with_gclouds_imdsv2_file_gets_a_token_on_an_instance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = default_credentials(VECTORS / "create-cred-config-aws-imdsv2.json", monkeypatch)
    assert usable(credentials)


@pytest.mark.usefixtures("instance")
def test_google_auth_without_imdsv2_is_refused_by_an_instance_that_requires_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = default_credentials(VECTORS / "create-cred-config-aws.json", monkeypatch)
    with pytest.raises(google.auth.exceptions.RefreshError, match="AWS"):
        credentials.refresh(google.auth.transport.requests.Request(session=requests.Session()))


@pytest.mark.usefixtures("vm")
def test_google_auth_with_gclouds_azure_file_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = default_credentials(VECTORS / "create-cred-config-azure.json", monkeypatch)
    assert usable(credentials)


@pytest.mark.parametrize(
    ("machine", "vector"),
    [("instance", "create-cred-config-aws-imdsv2"), ("vm", "create-cred-config-azure")],
)
def test_gcloud_lists_a_bucket_on_a_machine(
    request: pytest.FixtureRequest, tmp_path: Path, machine: str, vector: str
) -> None:
    request.getfixturevalue(machine)
    variables = {
        **os.environ,
        "CLOUDSDK_CONFIG": str(tmp_path),
        "CLOUDSDK_CORE_PROJECT": "acme",
        "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE": str(VECTORS / f"{vector}.json"),
    }
    done = subprocess.run(  # noqa: S603
        [tool("gcloud"), "storage", "ls", "gs://acme-landing"],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("own_identity")
def test_google_auth_gets_a_direct_federated_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((VECTORS / "create-cred-config-aws.json").read_text())
    del config["service_account_impersonation_url"]
    file = tmp_path / "direct.json"
    file.write_text(json.dumps(config))
    credentials = default_credentials(file, monkeypatch)
    assert usable(credentials)


def test_google_auth_as_a_role_that_the_condition_rejects_gets_googles_error(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cloud.environment_for("etl").items():
        monkeypatch.setenv(name, value)
    credentials = default_credentials(VECTORS / "create-cred-config-aws.json", monkeypatch)
    with pytest.raises(
        google.auth.exceptions.OAuthError, match="rejected by the attribute condition"
    ):
        credentials.refresh(google.auth.transport.requests.Request(session=requests.Session()))


@pytest.mark.parametrize("caller", ["etl", "reporting"])
def test_google_cloud_storage_works_with_a_vended_token(cloud: Cloud, caller: str) -> None:
    environment = cloud.environment_for(caller)
    token = Caller(environment).token("/v1/access-token", service_account=LANDING)
    http = google.auth.transport.requests.AuthorizedSession(Credentials(token["access_token"]))
    http.trust_env = False
    http.proxies = {"https": environment["HTTPS_PROXY"]}
    http.verify = environment["REQUESTS_CA_BUNDLE"]
    client = storage.Client("acme", credentials=http.credentials, _http=http)
    bucket = client.bucket("acme-landing")
    name = f"judged/{caller}.txt"
    bucket.blob(name).upload_from_string(b"vended", if_generation_match=0)
    assert bucket.blob(name).download_as_bytes() == b"vended"
    assert name in [blob.name for blob in client.list_blobs("acme-landing", prefix="judged/")]
    bucket.blob(name).delete()
    assert not bucket.blob(name).exists()


@pytest.mark.parametrize("caller", ["etl", "reporting"])
def test_google_auth_accepts_a_vended_id_token(cloud: Cloud, caller: str) -> None:
    from google.oauth2 import id_token  # noqa: PLC0415

    environment = cloud.environment_for(caller)
    audience = "https://orders-4x7k2q9d1a-uc.a.run.app"
    token = Caller(environment).token("/v1/id-token", audience=audience)["id_token"]
    transport = google.auth.transport.requests.Request(session=session(environment))
    claims = id_token.verify_oauth2_token(token, transport, audience)
    assert claims["email"] == "orders-invoker@acme.iam.gserviceaccount.com"


@pytest.mark.parametrize(
    ("vector", "arguments"),
    [
        ("create-cred-config-aws.json", [f"{PROVIDERS}/aws-prod", "--aws"]),
        (
            "create-cred-config-aws-imdsv2.json",
            [f"{PROVIDERS}/aws-prod", "--aws", "--enable-imdsv2"],
        ),
        (
            "create-cred-config-azure.json",
            [f"{PROVIDERS}/azure-prod", "--azure", "--app-id-uri=api://tokenvend-federation"],
        ),
    ],
)
def test_the_vectors_are_what_gcloud_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vector: str, arguments: list[str]
) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    made = tmp_path / "made.json"
    command = [tool("gcloud"), "iam", "workload-identity-pools", "create-cred-config", *arguments]
    command += [f"--service-account={LANDING}", f"--output-file={made}"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    assert json.loads(made.read_text()) == json.loads((VECTORS / vector).read_text())
