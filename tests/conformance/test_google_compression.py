"""Google's answers come in gzip to whoever accepts it, objects as they are."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from tests.conformance.google_lab import CLOUD_PLATFORM, LANDING, ORDERS, Lab, aws_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.wire.web import Response

STORAGE = "https://storage.googleapis.com"


def certificates(lab: Lab, accepted: str) -> Response:
    url = "https://www.googleapis.com/oauth2/v1/certs"
    return lab.call("GET", url, Accept_Encoding=accepted)


def exchange(lab: Lab, accepted: str) -> Response:
    message = {
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": "//iam.googleapis.com/" + lab.aws_provider.name,
        "scope": CLOUD_PLATFORM,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": aws_token(lab.key()),
        "subjectTokenType": "urn:ietf:params:aws:token-type:aws4_request",
    }
    url = "https://sts.googleapis.com/v1/token"
    return lab.call("POST", url, message, Accept_Encoding=accepted)


def impersonate(lab: Lab, accepted: str) -> Response:
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LANDING}"
    message, token = {"scope": [CLOUD_PLATFORM]}, lab.federated()
    verb = "generateAccessToken"
    return lab.call("POST", f"{url}:{verb}", message, token, Accept_Encoding=accepted)


def invoke(lab: Lab, accepted: str) -> Response:
    return lab.call("GET", ORDERS, token=lab.id_token(), Accept_Encoding=accepted)


def upload(lab: Lab) -> str:
    token = lab.access_token()
    url = f"{STORAGE}/upload/storage/v1/b/acme-landing/o?name=x.json&uploadType=media"
    body = b'{"x": "' + b"x" * 1000 + b'"}'
    assert lab.call("POST", url, body, token, Content_Type="application/json").status == 200
    return token


def listing(lab: Lab, accepted: str) -> Response:
    token = upload(lab)
    url = f"{STORAGE}/storage/v1/b/acme-landing/o"
    return lab.call("GET", url, token=token, Accept_Encoding=accepted)


def refusal(lab: Lab, accepted: str) -> Response:
    url = "https://iam.googleapis.com/v1/projects/acme/serviceAccounts"
    return lab.call("GET", url, Accept_Encoding=accepted)


@pytest.mark.parametrize(
    "ask", [certificates, exchange, impersonate, invoke, listing, refusal], ids=lambda f: f.__name__
)
@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("br, GZIP ; q=1.0", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("x-gzip-not", False),
    ],
)
def test_every_front_compresses_for_who_asks_and_nobody_else(
    lab: Lab, ask: Callable[[Lab, str], Response], accepted: str, packed: bool
) -> None:
    answer = ask(lab, accepted)
    assert (("Content-Encoding", "gzip") in answer.headers) is packed
    assert json.loads(gzip.decompress(answer.body) if packed else answer.body)


def test_an_object_is_never_compressed_on_its_way(lab: Lab) -> None:
    token = upload(lab)
    url = f"{STORAGE}/storage/v1/b/acme-landing/o/x.json?alt=media"
    answer = lab.call("GET", url, token=token, Accept_Encoding="gzip")
    body = b"".join(answer.stream) if answer.stream else answer.body
    assert body == b'{"x": "' + b"x" * 1000 + b'"}'
    assert "content-encoding" not in {name.lower() for name, _ in answer.headers}
