"""The demonstration: callers of both clouds get Google tokens, use them, and one is turned away.

Every request takes the road of an ordinary client: the real hostnames through the proxy, under
the local CA, signed by botocore on AWS and with the managed identity's bearer token on Azure. A
step that fails ends its cloud's walk. No step's text holds a token, only its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# The default world's names.
RESOURCE = "api://tokenvend"
BUCKET = "acme-landing"
GRANT = "landing-writer"
SERVICE = "https://orders-4x7k2q9d1a-uc.a.run.app"
CALLERS = (("AWS", "etl", "stranger"), ("Azure", "reporting", "outsider"))
TIMEOUT = 30
OK = 200
FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was tried; `seconds` is how long it took, `detail` what was seen."""

    cloud: str
    title: str
    ok: bool
    seconds: float
    detail: str


class StepError(Exception):
    """A step saw something else than it should; the text holds no token."""


def run(environment_for: Callable[[str], Mapping[str, str]]) -> Iterator[Step]:
    """Walk through both clouds; `environment_for` gives the environment of a named caller."""
    for cloud, granted, denied in CALLERS:
        walk = _Walk(
            _Client(environment_for(granted)), f"demo/{cloud.lower()}-{secrets.token_hex(4)}"
        )
        refused = _Client(environment_for(denied))
        steps: tuple[tuple[str, Callable[[], str]], ...] = (
            (f"{granted} proves who it is", walk.client.identify),
            ("POST /v1/access-token", walk.access_token),
            (f"write gs://{BUCKET}/{walk.name}", walk.write),
            ("read it back", walk.read),
            ("POST /v1/id-token", walk.id_token),
            ("call the Cloud Run service orders", walk.call_service),
            (f"{denied}, without a grant, is denied", lambda: _denied(refused)),  # noqa: B023
        )
        for title, act in steps:
            step = _timed(cloud, title, act)
            yield step
            if not step.ok:
                break


class _Client:
    """A caller of the endpoint, made of nothing but its environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.session = requests.Session()
        # The environment of whoever runs the demo must not lead around the embedded cloud.
        self.session.trust_env = False
        self.session.proxies = {"https": environment["HTTPS_PROXY"]}
        self.session.verify = environment["REQUESTS_CA_BUNDLE"]
        self._bearer = ""

    def identify(self) -> str:
        """Get ready to prove the caller's identity; on Azure that takes a token."""
        environment = self.environment
        if "AWS_ACCESS_KEY_ID" in environment:
            return f"SigV4, key {environment['AWS_ACCESS_KEY_ID'][:8]}…"
        answer = self.session.get(
            environment["IDENTITY_ENDPOINT"],
            params={"api-version": "2019-08-01", "resource": RESOURCE},
            headers={"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
            timeout=TIMEOUT,
        )
        self._bearer = str(_object(answer)["access_token"])
        return f"managed identity, token {_fingerprint(self._bearer)}"

    def post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        """A request to the endpoint as this caller."""
        url = self.environment["TOKENVEND_URL"] + path
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if self._bearer:
            headers["Authorization"] = f"Bearer {self._bearer}"
        else:
            headers = self._signed(url, data, headers)
        return self.session.post(url, data=data, headers=headers, timeout=TIMEOUT)

    def _signed(self, url: str, data: bytes, headers: dict[str, str]) -> dict[str, str]:
        environment = self.environment
        credentials = Credentials(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment["AWS_SESSION_TOKEN"],
        )
        request = AWSRequest("POST", url, headers, data)
        SigV4Auth(credentials, "execute-api", environment["AWS_REGION"]).add_auth(request)
        return dict(request.headers.items())


class _Walk:
    """What one granted caller does, step after step."""

    def __init__(self, client: _Client, name: str) -> None:
        self.client = client
        self.name = name
        self._content = secrets.token_hex(16)
        self._access_token = ""
        self._id_token = ""

    def access_token(self) -> str:
        answer = _object(self.client.post("/v1/access-token", _ACCESS))
        self._access_token = str(answer["access_token"])
        shown = _fingerprint(self._access_token)
        return f"{answer['service_account']}, {answer['expires_in']} s, token {shown}"

    def write(self) -> str:
        url = f"https://storage.googleapis.com/upload/storage/v1/b/{BUCKET}/o"
        answer = self.client.session.post(
            url,
            params={"uploadType": "media", "name": self.name},
            data=self._content,
            headers={"Authorization": f"Bearer {self._access_token}", "Content-Type": "text/plain"},
            timeout=TIMEOUT,
        )
        return f"{_object(answer)['size']} bytes"

    def read(self) -> str:
        url = f"https://storage.googleapis.com/storage/v1/b/{BUCKET}/o/{quote(self.name, safe='')}"
        answer = self.client.session.get(
            url,
            params={"alt": "media"},
            headers={"Authorization": f"Bearer {self._access_token}"},
            timeout=TIMEOUT,
        )
        if answer.status_code != OK or answer.text != self._content:
            raise StepError(f"the object is not what was written: {_problem(answer)}")
        return "the same bytes"

    def id_token(self) -> str:
        answer = _object(self.client.post("/v1/id-token", {"audience": SERVICE}))
        self._id_token = str(answer["id_token"])
        shown = _fingerprint(self._id_token)
        return f"{answer['service_account']}, {answer['expires_in']} s, token {shown}"

    def call_service(self) -> str:
        answer = self.client.session.get(
            f"{SERVICE}/orders/42",
            headers={"Authorization": f"Bearer {self._id_token}"},
            timeout=TIMEOUT,
        )
        return f"it answered {_object(answer)['caller']}"


_ACCESS = {"grant": GRANT, "lifetime": "900s"}


def _denied(client: _Client) -> str:
    client.identify()
    answer = client.post("/v1/access-token", _ACCESS)
    if answer.status_code != FORBIDDEN:
        raise StepError(f"it should have been denied: {_problem(answer)}")
    return f"403 {answer.json()['code']}, request {answer.json()['request_id']}"


def _timed(cloud: str, title: str, act: Callable[[], str]) -> Step:
    started = time.perf_counter()
    try:
        detail, ok = act(), True
    except StepError as failure:
        detail, ok = str(failure), False
    except (requests.RequestException, KeyError, ValueError) as failure:
        # Their texts may quote a request or an answer, tokens included.
        detail, ok = f"failed with {type(failure).__name__}", False
    return Step(cloud, title, ok, time.perf_counter() - started, detail)


def _object(answer: requests.Response) -> dict[str, Any]:
    if answer.status_code != OK:
        raise StepError(_problem(answer))
    body = answer.json()
    if not isinstance(body, dict):
        raise StepError("the answer is not a JSON object")
    return body


def _problem(answer: requests.Response) -> str:
    """Status and, from an error body, what it says to its reader."""
    if answer.ok:
        return f"status {answer.status_code}"
    try:
        body = answer.json()
    except ValueError:
        body = {}
    said = body.get("detail") or body.get("message") if isinstance(body, dict) else None
    return f"status {answer.status_code}" + (f": {said}" if isinstance(said, str) else "")


def _fingerprint(token: str) -> str:
    return "sha256:" + hashlib.sha256(token.encode()).hexdigest()[:10]
