"""The same Lambda handler on google-auth: what a careful team would write with Google's library.

`bench_start.py` measures our start against it, so everything but the vending core is as in
`functions/aws/api.py`: powertools' Logger and Metrics, an audit line, a policy file, API Gateway's
events, the hook after a restore. The vending core is google-auth's: AWS credentials of the function
for a workload identity pool, impersonated credentials for each grant, kept while they are valid.
`google.auth.transport.requests` is imported at the start, as google-auth's own documentation and
samples have it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
import time
import tomllib
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from google.auth import aws, impersonated_credentials
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from snapshot_restore_py import register_after_restore

IMPERSONATION_SCOPE = "https://www.googleapis.com/auth/iam"
AWS_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
ROLE_SESSION = re.compile(
    r"arn:aws:sts::([0-9]{12}):assumed-role/([\w+=,.@-]{1,64})/[\w+=,.@-]{2,64}"
)

logger = Logger(service="tokenvend")
metrics = Metrics(namespace="tokenvend", service="tokenvend")
account = os.environ["TOKENVEND_AWS_ACCOUNT"]
api_ids = frozenset(os.environ["TOKENVEND_AWS_API_IDS"].split(","))
grants: list[dict[str, Any]] = tomllib.loads(Path(os.environ["TOKENVEND_POLICY"]).read_text())[
    "grant"
]
chain = {"instance": str(uuid.uuid4())}
own = aws.Credentials(
    audience=os.environ["TOKENVEND_GOOGLE_PROVIDER"],
    subject_token_type=AWS_REQUEST,
    credential_source={
        "environment_id": "aws1",
        "regional_cred_verification_url": (
            "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
        ),
    },
    scopes=[IMPERSONATION_SCOPE],
)
kept: dict[tuple[str, ...], Any] = {}
transport = Request()


def restored() -> None:
    """Each restored process has a name of its own."""
    chain["instance"] = str(uuid.uuid4())


register_after_restore(restored)


class Refused(Exception):
    """An answer other than a token: status and code."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry for API Gateway's payload 2.0."""
    start = time.perf_counter()
    record = {**chain, "request_id": event["requestContext"]["requestId"]}
    try:
        caller = _caller(event["requestContext"])
        record["caller"] = caller
        token = _vend(caller, event["rawPath"], json.loads(_body(event)))
        value = token.get("access_token") or token["id_token"]
        record["fingerprint"] = hashlib.sha256(value.encode()).hexdigest()
        status, body = 200, token
        outcome = "vended"
    except Refused as refused:
        status, outcome = refused.args
        body = {"title": outcome, "status": status}
    except GoogleAuthError as failed:
        logger.warning("google refused", extra={"error": type(failed).__name__})
        status, outcome = 502, "upstream_refused"
        body = {"title": outcome, "status": status}
    record["outcome"] = outcome
    sys.stdout.write(json.dumps({"level": "INFO", "message": "audit", "audit": record}) + "\n")
    sys.stdout.flush()
    metrics.add_dimension(name="route", value=event["rawPath"])
    metrics.add_metric(name=outcome, unit=MetricUnit.Count, value=1)
    took = int((time.perf_counter() - start) * 1e6)
    metrics.add_metric(name="latency", unit=MetricUnit.Microseconds, value=took)
    metrics.flush_metrics()
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", "cache-control": "no-store"},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }


def _caller(gateway: dict[str, Any]) -> str:
    if gateway["apiId"] not in api_ids or gateway["accountId"] != account:
        raise Refused(401, "unauthenticated")
    iam = gateway.get("authorizer", {}).get("iam", {})
    match = ROLE_SESSION.fullmatch(iam.get("userArn", ""))
    if match is None or match[1] != iam["accountId"]:
        raise Refused(401, "unauthenticated")
    return f"arn:aws:iam::{match[1]}:role/{match[2]}"


def _body(event: dict[str, Any]) -> str:
    text = event.get("body") or "{}"
    return base64.b64decode(text).decode() if event["isBase64Encoded"] else text


def _vend(caller: str, path: str, asked: dict[str, Any]) -> dict[str, Any]:
    kind = {"/v1/access-token": "access_token", "/v1/id-token": "id_token"}.get(path, "")
    for grant in grants:
        named = any(each.get("aws_role") == caller for each in grant["callers"])
        account_name = grant.get("service_account", "")
        wanted = asked.get("service_account", account_name)
        if not named or kind not in grant or not wanted or wanted != account_name:
            continue
        audience = asked.get("audience", "")
        if kind == "access_token":
            credentials = _kept((caller, wanted), partial(_access, wanted, grant[kind]["scopes"]))
        elif audience in grant[kind]["audiences"]:
            credentials = _kept((caller, wanted, audience), partial(_identity, wanted, audience))
        else:
            continue
        return {kind: credentials.token, "service_account": wanted, "grant": grant["name"]}
    raise Refused(403, "denied")


def _kept(key: tuple[str, ...], make: Any) -> Any:
    credentials = kept.get(key)
    if credentials is None:
        credentials = kept[key] = make()
    if not credentials.valid:
        credentials.refresh(transport)
    return credentials


def _access(service_account: str, scopes: list[str]) -> Any:
    return impersonated_credentials.Credentials(
        source_credentials=own, target_principal=service_account, target_scopes=scopes
    )


def _identity(service_account: str, audience: str) -> Any:
    access = _access(service_account, [IMPERSONATION_SCOPE])
    return impersonated_credentials.IDTokenCredentials(
        access, target_audience=audience, include_email=True
    )
