"""A Google cloud for tests with real neighbours: AWS STS verifies signatures, Entra signs tokens.

Everything runs in process through one router; `Session` lets unmodified Google clients use it.
"""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests.adapters import BaseAdapter
from urllib3 import HTTPHeaderDict, HTTPResponse

from localcloud import google
from localcloud.aws import sts as aws_sts
from localcloud.aws.accounts import AccessKey, Accounts
from localcloud.azure.entra import Entra
from localcloud.wire.web import Headers, Request, Response, Router
from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.world import WorkloadIdentityPoolProvider

POOL = "projects/123456789012/locations/global/workloadIdentityPools/tokenvend"
AWS_PROVIDER = f"{POOL}/providers/aws-prod"
AZURE_PROVIDER = f"{POOL}/providers/azure-prod"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
READ_WRITE = "https://www.googleapis.com/auth/devstorage.read_write"
LANDING = "landing@acme.iam.gserviceaccount.com"
INVOKER = "orders-invoker@acme.iam.gserviceaccount.com"
LONGHAUL = "longhaul@acme.iam.gserviceaccount.com"
AUDITED = "audited@acme.iam.gserviceaccount.com"
UNBOUND = "unbound@acme.iam.gserviceaccount.com"
ORDERS = "https://orders-4x7k2q9d1a-uc.a.run.app"
_TYPE = "urn:ietf:params:oauth:token-type:"
AWS4 = "urn:ietf:params:aws:token-type:aws4_request"
JWT = f"{_TYPE}jwt"
ACCESS = f"{_TYPE}access_token"


class Clock:
    """A clock that stands at the test's start until it is moved, in epoch seconds."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class Lab:
    """The world with Google in front and AWS STS and Entra behind."""

    def __init__(self, propagation: float = 0, world: World | None = None) -> None:
        self.world = world or World.load()
        self.clock = Clock()
        self.log = google.AuditLog()
        self.accounts = Accounts(self.world.aws, self.clock)
        self.router = Router()
        self.google = google.GoogleCloud(
            self.world, self.clock, self.router, self.log, propagation=propagation
        )
        self.router.add(google.sites(self.google))
        self.router.add(
            {
                "sts.us-east-1.amazonaws.com": aws_sts.site(self.accounts, "us-east-1"),
                "sts.windows.net": self._entra_site,
                "login.microsoftonline.com": self._entra_site,
            }
        )

    @cached_property
    def entra(self) -> Entra:
        """Entra, made when it is wanted: its key takes longer than most tests."""
        return Entra(self.world.azure, self.clock)

    def _entra_site(self, request: Request) -> Response:
        return self.entra.site(request)

    @property
    def aws_provider(self) -> WorkloadIdentityPoolProvider:
        """The AWS provider, to be changed by a test."""
        provider = self.world.google.provider(AWS_PROVIDER)
        assert provider is not None
        return provider

    @property
    def azure_provider(self) -> WorkloadIdentityPoolProvider:
        """The Azure provider, to be changed by a test."""
        provider = self.world.google.provider(AZURE_PROVIDER)
        assert provider is not None
        return provider

    def call(
        self,
        method: str,
        url: str,
        body: Any = None,
        token: str | None = None,
        **headers: str,
    ) -> Response:
        """One request; a body that is not bytes goes as JSON."""
        parts = urlsplit(url)
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if token is not None:
            fields.append(("Authorization", f"Bearer {token}"))
        if body is not None and not isinstance(body, bytes):
            fields.append(("Content-Type", "application/json"))
            body = json.dumps(body).encode()
        path = parts.path or "/"
        target = f"{path}?{parts.query}" if parts.query else path
        return whole(
            self.router(Request(method, parts.netloc, target, Headers(fields), body or b""))
        )

    def exchange(self, **fields: str | None) -> Response:
        """A token exchange by form; None leaves a field out."""
        given: dict[str, str | None] = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": ACCESS,
            "scope": CLOUD_PLATFORM,
            **fields,
        }
        form = urlencode({name: value for name, value in given.items() if value is not None})
        kind = "application/x-www-form-urlencoded"
        url = "https://sts.googleapis.com/v1/token"
        return self.call("POST", url, form.encode(), Content_Type=kind)

    def exchange_aws(self, credential: str, **fields: str | None) -> Response:
        """Exchange a GetCallerIdentity token at the AWS provider."""
        given: dict[str, str | None] = {"audience": f"//iam.googleapis.com/{AWS_PROVIDER}"}
        given |= {"subject_token": credential, "subject_token_type": AWS4, **fields}
        return self.exchange(**given)

    def exchange_jwt(self, credential: str, **fields: str | None) -> Response:
        """Exchange a JWT at the Azure provider."""
        given: dict[str, str | None] = {"audience": f"//iam.googleapis.com/{AZURE_PROVIDER}"}
        given |= {"subject_token": credential, "subject_token_type": JWT, **fields}
        return self.exchange(**given)

    def federated(self, **fields: str | None) -> str:
        """A federated token of the AWS function's role."""
        answer = self.exchange_aws(aws_token(self.key()), **fields)
        assert answer.status == 200, answer.body
        token: str = json.loads(answer.body)["access_token"]
        return token

    def key(self, role: str = "tokenvend", session: str = "f", seconds: int = 3600) -> AccessKey:
        """A session of a role."""
        arn = f"arn:aws:iam::{self.world.aws.account}:role/{role}"
        return self.accounts.issue(arn, session, seconds=seconds)

    def jwt(self, name: str = "tokenvend", lifetime: int = 3600, **claims: Any) -> str:
        """An Entra token of a managed identity for Google's provider."""
        identity = self.entra.identity(name)
        return self.entra.mint(identity, "api://tokenvend-federation", lifetime=lifetime, **claims)

    def credentials(self, account: str, verb: str, body: Any, token: str | None) -> Response:
        """A call of IAM Credentials."""
        url = (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{account}:{verb}"
        )
        return self.call("POST", url, body, token)

    def access_token(
        self, account: str = LANDING, scope: str = READ_WRITE, lifetime: str = "3600s"
    ) -> str:
        """An impersonated access token."""
        body = {"scope": [scope], "lifetime": lifetime}
        answer = self.credentials(account, "generateAccessToken", body, self.federated())
        assert answer.status == 200, answer.body
        token: str = json.loads(answer.body)["accessToken"]
        return token

    def id_token(self, audience: str = ORDERS, account: str = INVOKER, **fields: Any) -> str:
        """An impersonated ID token with the email."""
        body = {"audience": audience, "includeEmail": True, **fields}
        answer = self.credentials(account, "generateIdToken", body, self.federated())
        assert answer.status == 200, answer.body
        token: str = json.loads(answer.body)["token"]
        return token


def whole(answer: Response) -> Response:
    """The answer with all of its body, as a client has it in the end."""
    if answer.stream is None:
        return answer
    return replace(answer, body=b"".join(answer.stream), stream=None)


def aws_request(
    key: AccessKey,
    provider: str = AWS_PROVIDER,
    url: str = "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15",
) -> dict[str, Any]:
    """A GetCallerIdentity request in Google's form, signed by botocore, to tamper with."""
    target = f"//iam.googleapis.com/{provider}"
    host = urlsplit(url).netloc
    request = AWSRequest("POST", url, {"host": host, "x-goog-cloud-target-resource": target})
    signer = SigV4Auth(Credentials(key.id, key.secret, key.token or None), "sts", "us-east-1")
    signer.add_auth(request)
    headers = [{"key": name, "value": value} for name, value in request.headers.items()]
    return {"url": url, "method": "POST", "headers": headers}


def body(answer: Response) -> dict[str, Any]:
    """The JSON object of an answer."""
    value: dict[str, Any] = json.loads(answer.body)
    return value


def as_token(request: Mapping[str, Any]) -> str:
    """The request as a subject token."""
    return quote(json.dumps(request))


def aws_token(key: AccessKey, provider: str = AWS_PROVIDER) -> str:
    """A GetCallerIdentity subject token."""
    return as_token(aws_request(key, provider))


class Session(requests.Session):
    """A requests session whose https goes to a router in process."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.trust_env = False
        self.mount("https://", _InProcess(router))
        self.mount("http://", _Refusing())


class _InProcess(BaseAdapter):
    def __init__(self, router: Router) -> None:
        super().__init__()
        self._router = router

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        body = body if isinstance(body, bytes) else b"".join(body)
        fields = Headers((name, _text(value)) for name, value in request.headers.items())
        answer = whole(
            self._router(Request(str(request.method), parts.netloc, target or "/", fields, body))
        )
        raw = HTTPResponse(
            io.BytesIO(answer.body),
            HTTPHeaderDict(answer.headers),
            answer.status,
            preload_content=False,
        )
        response = requests.Response()
        response.status_code = answer.status
        response.headers = requests.structures.CaseInsensitiveDict(answer.headers)
        response.url = str(request.url)
        response.request = request
        response.raw = raw
        return response

    def close(self) -> None:
        """Nothing is open."""


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


class _Refusing(BaseAdapter):
    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        message = f"a client left TLS: {request.url}"
        raise AssertionError(message)

    def close(self) -> None:
        """Nothing is open."""
