"""A Lambda environment for the handlers under measure: settings, and events as the gateway writes.

The events come from the embedded cloud's own API Gateway, over a request that botocore signed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from localcloud.aws.events import Arrival, version_2
from localcloud.aws.sigv4 import Signed
from tests.bench.measuring import ROOT
from tests.conformance.aws_lab import ACCOUNT, REGION, signed

if TYPE_CHECKING:
    from localcloud.aws import AccessKey

HANDLER = "functions.aws.api"
GOOGLE_AUTH_HANDLER = "tests.bench.google_auth_handler"
API_ID = "abcdefghij"
DOMAIN = f"{API_ID}.execute-api.{REGION}.amazonaws.com"
FUNCTION = "tokenvend"
ROUTE = "/v1/access-token"
BODY = b'{"service_account": "landing@acme.iam.gserviceaccount.com"}'
# What template.yaml sets and what Lambda does; nothing of this machine's. One policy for all sides.
SETTINGS = {
    "AWS_REGION": REGION,
    "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
    "LANG": "en_US.UTF-8",
    "POWERTOOLS_SERVICE_NAME": "tokenvend",
    "POWERTOOLS_METRICS_NAMESPACE": "tokenvend",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "TOKENVEND_AWS_ACCOUNT": ACCOUNT,
    "TOKENVEND_AWS_API_IDS": API_ID,
    "TOKENVEND_GOOGLE_PROVIDER": (
        "//iam.googleapis.com/projects/123456789012/locations/global/"
        "workloadIdentityPools/tokenvend/providers/aws-prod"
    ),
    "TOKENVEND_POLICY": str(ROOT / "infra/local/localcloud/policy.toml"),
}


def event_of(key: AccessKey, body: bytes = BODY) -> dict[str, Any]:
    """The event of payload 2.0 for a signed request of `key`'s owner for an access token."""
    headers = {"Content-Type": "application/json", "User-Agent": "python-requests/2.34.2"}
    request = signed(key, ROUTE, host=DOMAIN, headers=headers, body=body, service="execute-api")
    arrival = Arrival(
        request=request,
        account=ACCOUNT,
        organization="o-acme000000",
        domain=DOMAIN,
        stage="$default",
        route=f"POST {ROUTE}",
        now=time.time(),
        signed=Signed(key),
    )
    return version_2(arrival, decoded_path=True)
