"""A workload on every kind of machine gets a Google token, by its vendor's own SDK unmodified.

The program is the same on each: the SDK finds the identity by what the machine offers. Who has no
grant is denied on each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localcloud.cloud import AUDIENCE
from localcloud.workloads import ON_AWS, ON_AZURE

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

ROOT = Path(__file__).parents[2]
ON_AWS_PROGRAM = """
import os, boto3, requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
url = os.environ["TOKENVEND_URL"] + "/v1/access-token"
body = b'{"grant": "landing-writer"}'
request = AWSRequest("POST", url, {"Content-Type": "application/json"}, body)
SigV4Auth(boto3.Session().get_credentials(), "execute-api", "us-east-1").add_auth(request)
answer = requests.post(url, body, headers=dict(request.headers.items()), timeout=20)
print(answer.status_code, answer.json().get("service_account"), answer.json().get("code"))
"""
ON_AZURE_PROGRAM = """
import os, requests
from azure.identity import DefaultAzureCredential
with DefaultAzureCredential() as credential:
    token = credential.get_token("api://tokenvend/.default").token
url = os.environ["TOKENVEND_URL"] + "/v1/access-token"
bearer = {"Authorization": f"Bearer {token}"}
answer = requests.post(url, json={"grant": "landing-writer"}, headers=bearer, timeout=20)
print(answer.status_code, answer.json().get("service_account"), answer.json().get("code"))
"""
GOOGLE_AUTH_PROGRAM = """
import sys, google.auth.aws, google.auth.identity_pool, google.auth.transport.requests
kind = getattr(google.auth, sys.argv[1]).Credentials
scope = "https://www.googleapis.com/auth/devstorage.read_write"
credentials = kind.from_file(sys.argv[2], scopes=[scope])
credentials.refresh(google.auth.transport.requests.Request())
print(credentials.token[:5])
"""
GRANTED = "200 landing@acme.iam.gserviceaccount.com None"
DENIED = "403 None denied"
CASES = [(place, "etl", "stranger", ON_AWS_PROGRAM) for place in ON_AWS] + [
    (place, "reporting", "outsider", ON_AZURE_PROGRAM) for place in ON_AZURE
]


@pytest.mark.parametrize(
    ("place", "granted", "denied", "program"), CASES, ids=[case[0] for case in CASES]
)
def test_by_its_sdk_alone(
    cloud: Cloud, place: str, granted: str, denied: str, program: str
) -> None:
    for name, expected in ((granted, GRANTED), (denied, DENIED)):
        environment = cloud.environment_for(name, place)
        done = subprocess.run(  # noqa: S603 -- our own script
            [sys.executable, "-c", program],
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.stdout.strip() == expected, done.stderr


def documented() -> dict[str, Any]:
    """The file for callers without code, as docs/operations.md has it."""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    (block,) = re.findall(r"```json\n(\{\s+\"type\": \"external_account\".*?)```", page, re.DOTALL)
    found: dict[str, Any] = json.loads(block)
    return found


def of_azure(file: dict[str, Any]) -> dict[str, Any]:
    """As the page says that it differs on a virtual machine."""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    (address,) = re.findall(r"`(http://169\.254\.169\.254/metadata/identity[^`]+)`", page)
    source = {
        "url": address,
        "headers": {"Metadata": "True"},
        "format": {"type": "json", "subject_token_field_name": "access_token"},
    }
    jwt = "urn:ietf:params:oauth:token-type:jwt"
    return {**file, "subject_token_type": jwt, "credential_source": source}


@pytest.mark.parametrize(
    ("name", "place", "kind"), [("etl", "ec2", "aws"), ("reporting", "vm", "identity_pool")]
)
def test_the_documented_file_works_on_a_machine_without_a_line_of_code(
    cloud: Cloud, tmp_path: Path, name: str, place: str, kind: str
) -> None:
    environment = cloud.environment_for(name, place)
    file = documented() if kind == "aws" else of_azure(documented())
    grant = file["audience"].partition("/grants/")[2]
    file["audience"] = f"{AUDIENCE}/grants/{grant}"
    file["token_url"] = f"{environment['TOKENVEND_URL']}/v1/token"
    (tmp_path / "file.json").write_text(json.dumps(file))
    done = subprocess.run(  # noqa: S603 -- our own script
        [sys.executable, "-c", GOOGLE_AUTH_PROGRAM, kind, str(tmp_path / "file.json")],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "ya29.", done.stderr
