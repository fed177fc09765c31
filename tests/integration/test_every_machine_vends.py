"""A workload on every kind of machine gets a Google token, by its vendor's own SDK unmodified.

The program is the same on each: the SDK finds the identity by what the machine offers. Who has no
grant is denied on each.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localcloud.workloads import ON_AWS, ON_AZURE

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

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
