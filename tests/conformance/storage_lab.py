"""Cloud Storage for tests: addresses of its JSON API and the calls that most tests begin with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken
from tests.conformance.google_lab import LANDING, Lab

if TYPE_CHECKING:
    from localcloud.wire.web import Response
    from localcloud.world import Bucket

HOST = "https://storage.googleapis.com"
API = f"{HOST}/storage/v1/b/acme-landing"
UPLOAD = f"{HOST}/upload/storage/v1/b/acme-landing/o"


def whole_token(lab: Lab, account: str = LANDING) -> str:
    """A service account's token with the scope of everything."""
    found = lab.world.google.service_account(account)
    assert found is not None
    principal = ServiceAccountPrincipal(found.email, found.unique_id)
    now = lab.clock.now
    token = IssuedToken(principal, frozenset({CLOUD_PLATFORM}), int(now) + 3600)
    return lab.google.tokens.issue(token, now)


def put(lab: Lab, name: str, token: str, content: bytes = b"x", **params: str) -> Response:
    """A media upload; `name` is percent-encoded."""
    query = "".join(f"&{key}={value}" for key, value in params.items())
    url = f"{UPLOAD}?uploadType=media&name={name}{query}"
    return lab.call("POST", url, content, token, Content_Type="text/plain")


def resource(answer: Response) -> dict[str, Any]:
    """The JSON body of an answer that must be a 200."""
    assert answer.status == 200, answer.body
    value: dict[str, Any] = json.loads(answer.body)
    return value


def refusal(answer: Response) -> tuple[int, str]:
    """The status and the text of a refusal in the JSON API's shape."""
    error = json.loads(answer.body)["error"]
    assert error["code"] == answer.status
    assert error["errors"][0]["message"] == error["message"]
    return error["code"], error["message"]


def fields(answer: Response) -> dict[str, str]:
    """An answer's header fields by their lower-case names."""
    return {name.lower(): value for name, value in answer.headers}


def start(lab: Lab, token: str, name: str = "x", body: Any = None, **headers: str) -> str:
    """The address of a new upload session."""
    url = f"{UPLOAD}?uploadType=resumable&name={name}"
    answer = lab.call("POST", url, {} if body is None else body, token, **headers)
    assert answer.status == 200, answer.body
    return fields(answer)["location"]


def bucket(lab: Lab, name: str = "acme-landing") -> Bucket:
    """The world's bucket, to be changed by a test."""
    found = lab.world.google.bucket(name)
    assert found is not None
    return found
