"""EC2's instance metadata service at 169.254.169.254, versions 1 and 2.

Version 2 asks for a session token, which a PUT gives for 1 to 21,600 seconds and refuses to a
request that passed a proxy (X-Forwarded-For), so that an open proxy on the instance leaks nothing.
Where tokens are required, as on every current image, a request without one gets 401. The hop limit
is not played. What an instance has no value for answers 404, the document's signatures too. A role
that does not trust EC2 is served without credentials, with EC2's own code.
Specification: EC2 User Guide, "Access instance metadata" and "Instance metadata categories".
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from localcloud.aws import service_roles
from localcloud.aws.instances.credentials import (
    Assumption,
    RotatingCredentials,
    UntrustedError,
    timestamp,
)
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts

ADDRESS = "169.254.169.254"
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_LONGEST = 21600
_TYPE, _IMAGE = "t3.micro", "ami-0abcdef1234567890"
# Versions are dates; clients ask for `latest` or for the one they were written against.
_VERSIONS = ("1.0", "2021-07-15", "2022-09-24", "2024-04-11", "latest")


class Instance:
    """An instance whose profile holds one role.

    Args:
        accounts: the account it runs in.
        role: the role's name.

    The account says whether version 1 is off (`HttpTokens: required`).

    """

    def __init__(self, accounts: Accounts, role: str) -> None:
        how = assumption(accounts, role)
        self.id = how.session
        self._accounts = accounts
        self._role = role
        self._credentials = RotatingCredentials(accounts, role, how)
        self._tokens: dict[str, float] = {}
        self._started = accounts.clock()
        self._lock = threading.Lock()

    def site(self, request: Request) -> Response:
        """The metadata service as this instance sees it."""
        method = "GET" if request.method == "HEAD" else request.method
        path = re.sub("/{2,}", "/", request.path)
        found = SERVICE.find(method, path)
        if found is None:
            known = any(SERVICE.find(each, path) for each in ("GET", "PUT"))
            return _error(405 if known else 404)
        route, parameters = found
        return route.handler(self, request, parameters)

    def issue(self, request: Request, _: dict[str, str]) -> Response:
        """`PUT /latest/api/token`."""
        if request.headers.all("X-Forwarded-For"):
            return _error(403)
        asked = request.headers.get(TTL)
        if not re.fullmatch(r"\d{1,5}", asked) or not 1 <= int(asked) <= _LONGEST:
            return _error(400)
        token, now = secrets.token_urlsafe(40) + "==", self._accounts.clock()
        with self._lock:
            self._tokens = {held: end for held, end in self._tokens.items() if end > now}
            self._tokens[token] = now + int(asked)
        return _text(token, (TTL, asked))

    def read(self, request: Request, parameters: dict[str, str]) -> Response:
        """A value of the tree, or the names below it."""
        presented = request.headers.all(TOKEN)
        if (presented and not self._knows(presented[0])) or (self._required and not presented):
            return _error(401)
        if parameters["version"] not in _VERSIONS:
            return _error(404)
        asked = parameters.get("path", "")
        tree = self._tree()
        value = tree.get(asked.rstrip("/") if asked.endswith("/") else asked)
        if value is not None:
            return _text(value())
        folder = asked.rstrip("/") + "/" if asked.strip("/") else ""
        below = {name.removeprefix(folder) for name in tree if name.startswith(folder)}
        listed = sorted({name.partition("/")[0] + "/" * ("/" in name) for name in below})
        return _text("\n".join(listed)) if listed else _error(404)

    def versions(self, request: Request, _: dict[str, str]) -> Response:
        """The versions there are."""
        if self._required and not self._knows(request.headers.get(TOKEN)):
            return _error(401)
        return _text("\n".join(_VERSIONS))

    @property
    def _required(self) -> bool:
        return self._accounts.aws.instance_metadata_options.http_tokens != "optional"

    def _knows(self, token: str) -> bool:
        with self._lock:
            return self._accounts.clock() < self._tokens.get(token, 0.0)

    def _tree(self) -> dict[str, Callable[[], str]]:
        aws = self._accounts.aws
        zone, address = f"{aws.region}a", _address(self.id)
        host = f"ip-{address.replace('.', '-')}.ec2.internal"
        fixed = {
            "ami-id": _IMAGE,
            "hostname": host,
            "instance-id": self.id,
            "instance-life-cycle": "on-demand",
            "instance-type": _TYPE,
            "local-hostname": host,
            "local-ipv4": address,
            "mac": "02:" + ":".join(re.findall("..", _digest(self.id)[:10])),
            "placement/availability-zone": zone,
            "placement/region": aws.region,
            "profile": "default-hvm",
            "services/domain": "amazonaws.com",
            "services/partition": "aws",
        }
        made = {
            "iam/info": self._profile,
            f"iam/security-credentials/{self._role}": self._security_credentials,
        }
        return {
            **{f"meta-data/{name}": partial(str, text) for name, text in fixed.items()},
            **{f"meta-data/{name}": make for name, make in made.items()},
            "dynamic/instance-identity/document": lambda: self._document(zone, address),
        }

    def _security_credentials(self) -> str:
        try:
            key, issued = self._credentials.current()
        except UntrustedError:
            return _json(
                {
                    "Code": "AssumeRoleUnauthorizedAccess",
                    "Message": f"EC2 cannot assume the role {self._role}. Please see documentation "
                    "at https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_iam-ec2.html",
                    "LastUpdated": timestamp(self._accounts.clock()),
                }
            )
        return _json(
            {
                "Code": "Success",
                "LastUpdated": timestamp(issued),
                "Type": "AWS-HMAC",
                "AccessKeyId": key.id,
                "SecretAccessKey": key.secret,
                "Token": key.token,
                "Expiration": timestamp(key.expires or 0),
            }
        )

    def _profile(self) -> str:
        arn = f"arn:aws:iam::{self._accounts.aws.account}:instance-profile/{self._role}"
        return _json(
            {
                "Code": "Success",
                "LastUpdated": timestamp(self._started),
                "InstanceProfileArn": arn,
                "InstanceProfileId": "AIPA" + _digest(arn)[:17].upper(),
            }
        )

    def _document(self, zone: str, address: str) -> str:
        return _json(
            {
                "accountId": self._accounts.aws.account,
                "architecture": "x86_64",
                "availabilityZone": zone,
                "billingProducts": None,
                "devpayProductCodes": None,
                "marketplaceProductCodes": None,
                "imageId": _IMAGE,
                "instanceId": self.id,
                "instanceType": _TYPE,
                "kernelId": None,
                "pendingTime": timestamp(self._started),
                "privateIp": address,
                "ramdiskId": None,
                "region": self._accounts.aws.region,
                "version": "2017-09-30",
            }
        )


def assumption(_: Accounts, role: str) -> Assumption:
    """How EC2 takes on a role for an instance, whose id the session is named after."""
    return Assumption(service_roles.EC2, "i-0" + _digest(role)[:16])


SERVICE: Service[Callable[[Instance, Request, dict[str, str]], Response]] = Service(
    title="EC2 instance metadata",
    hosts=(ADDRESS,),
    routes=(
        Route("PUT", "/latest/api/token", Instance.issue),
        Route("GET", "/", Instance.versions, asks="a metadata token"),
        Route("GET", "/{version}", Instance.read, asks="a metadata token"),
        Route("GET", "/{version}/", Instance.read, asks="a metadata token"),
        Route("GET", "/{version}/{path+}", Instance.read, asks="a metadata token"),
    ),
)


def _text(text: str, *headers: tuple[str, str]) -> Response:
    kinds = (("Content-Type", "text/plain"), ("Server", "EC2ws"), *headers)
    return Response(200, text.encode(), kinds)


def _error(status: int) -> Response:
    said = f"{status} - {HTTPStatus(status).phrase}"
    page = (
        '<?xml version="1.0" encoding="iso-8859-1"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
        '\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        f" <head>\n  <title>{said}</title>\n </head>\n"
        f" <body>\n  <h1>{said}</h1>\n </body>\n</html>\n"
    )
    return Response(status, page.encode(), (("Content-Type", "text/html"), ("Server", "EC2ws")))


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, separators=(",", " : "))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _address(instance: str) -> str:
    return f"172.31.{int(_digest(instance)[:2], 16)}.{1 + int(_digest(instance)[2:4], 16) % 254}"
