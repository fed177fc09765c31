"""Signing as botocore does it, and AWS's stand-ins called in process."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from localcloud.aws import AccessKey, Accounts, load, sites
from localcloud.wire.faults import Clock
from localcloud.wire.web import Headers, Request, Response, Router
from localcloud.world import AwsPolicy, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.aws import Template

REGION = "us-east-1"
ACCOUNT = "111122223333"
STS = f"sts.{REGION}.amazonaws.com"
IDENTITY = "/?Action=GetCallerIdentity&Version=2011-06-15"


TEMPLATE = Path(__file__).parents[2] / "template.yaml"
PROVIDER = (
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws-p"
)


def own_template(**parameters: str) -> Template:
    """What the repository's template deploys, its role named as in the embedded cloud."""
    given = {"GoogleProvider": PROVIDER, "RoleName": "tokenvend", **parameters}
    return load(TEMPLATE, given, account=ACCOUNT, region=REGION)


def permit(world: World, role: str, action: str | list[str], resource: str) -> World:
    """The world after somebody gave one of its roles a further permission."""
    found = world.aws.role(role)
    assert found is not None
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    document = {"Version": "2012-10-17", "Statement": [statement]}
    found.policies.append(AwsPolicy("further", document))
    return world


@dataclass
class Lab:
    """AWS STS over the default world and the template's role.

    `clock.skew` makes the cloud's time another than ours.
    """

    clock: Clock
    accounts: Accounts
    router: Router

    def fetch(self, request: Request) -> Response:
        return self.router(request)


def new_lab() -> Lab:
    clock = Clock()
    accounts = Accounts(World.load().aws, clock)
    accounts.deploy(own_template().roles)
    return Lab(clock, accounts, Router(sites(accounts)))


def signed(
    key: AccessKey,
    target: str = IDENTITY,
    *,
    method: str = "POST",
    host: str = STS,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    service: str = "sts",
    region: str = REGION,
) -> Request:
    """A request signed by botocore, now."""
    given = {"Host": host, **(headers or {})}
    request = AWSRequest(method, f"https://{host}{target}", given, body)
    credentials = Credentials(key.id, key.secret, key.token or None)
    SigV4Auth(credentials, service, region).add_auth(request)
    return Request(method, host, target, Headers(request.headers.items()), body)


def with_header(request: Request, name: str, value: str) -> Request:
    """The request with one header set to another value, or added."""
    kept = [(k, v) for k, v in request.headers.fields if k.lower() != name.lower()]
    return replace(request, headers=Headers([*kept, (name, value)]))


def without_header(request: Request, name: str) -> Request:
    kept = [(k, v) for k, v in request.headers.fields if k.lower() != name.lower()]
    return replace(request, headers=Headers(kept))


def code(response: Response) -> str:
    """The error code of an STS answer; empty for a success."""
    match = re.search(r"<Code>(.+?)</Code>", response.body.decode())
    return match[1] if match else ""


def element(response: Response, name: str) -> str:
    match = re.search(f"<{name}>(.+?)</{name}>", response.body.decode())
    assert match is not None
    return match[1]


def resigned(request: Request, key: AccessKey, canonical: str) -> Request:
    """The request with a right signature over another canonical text than botocore's."""
    header = request.headers.get("Authorization")
    scope = re.search(r"Credential=[^/]+/([^,]+),", header)
    assert scope is not None
    date = request.headers.get("X-Amz-Date")
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    secret = f"AWS4{key.secret}".encode()
    for part in scope[1].split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    text = f"AWS4-HMAC-SHA256\n{date}\n{scope[1]}\n{digest}"
    signature = hmac.digest(secret, text.encode(), "sha256").hex()
    names = canonical.split("\n")[-2]
    header = re.sub(r"Signature=\w+", f"Signature={signature}", header)
    header = re.sub(r"SignedHeaders=[^,]+", f"SignedHeaders={names}", header)
    return with_header(request, "Authorization", header)
