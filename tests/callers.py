"""Callers as they are outside: nothing but an environment, the real hostnames and the proxy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

API_AUDIENCE = "api://tokenvend"


def session(environment: Mapping[str, str]) -> requests.Session:
    """A session that goes through the embedded cloud's proxy and trusts its CA alone."""
    made = requests.Session()
    made.trust_env = False
    made.proxies = {"https": environment["HTTPS_PROXY"]}
    made.verify = environment["REQUESTS_CA_BUNDLE"]
    return made


def managed_identity_token(environment: Mapping[str, str], resource: str = API_AUDIENCE) -> str:
    """An Entra token from the caller's own identity endpoint."""
    answer = requests.get(
        environment["IDENTITY_ENDPOINT"],
        params={"api-version": "2019-08-01", "resource": resource},
        headers={"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
        timeout=10,
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])


@dataclass
class Caller:
    """One caller at its own cloud's door."""

    environment: Mapping[str, str]
    session: requests.Session = field(init=False)

    def __post_init__(self) -> None:
        self.session = session(self.environment)

    @property
    def on_aws(self) -> bool:
        return "AWS_ACCESS_KEY_ID" in self.environment

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """One request to the endpoint, signed or with a bearer token as the cloud wants it."""
        url = self.environment["TOKENVEND_URL"] + path
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent |= dict(headers or {})
        if self.on_aws:
            request = AWSRequest(method, url, sent, body or b"")
            SigV4Auth(self.credentials, "execute-api", self.environment["AWS_REGION"]).add_auth(
                request
            )
            sent = dict(request.headers.items())
        else:
            sent["Authorization"] = f"Bearer {managed_identity_token(self.environment)}"
        return self.session.request(method, url, data=body, headers=sent, timeout=30)

    @property
    def credentials(self) -> Credentials:
        """The caller's AWS session."""
        return Credentials(
            self.environment["AWS_ACCESS_KEY_ID"],
            self.environment["AWS_SECRET_ACCESS_KEY"],
            self.environment["AWS_SESSION_TOKEN"],
        )

    def token(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer of a request that must succeed."""
        answer = self._post(path, body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _post(self, path: str, body: Mapping[str, Any]) -> requests.Response:
        import json  # noqa: PLC0415

        return self.ask("POST", path, json.dumps(body).encode())
