"""What we send to Google, against Google's own discovery documents."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import googleapiclient.discovery_cache
import jsonschema
import pytest

from tests.unit.issuing import NOW, PROVIDER, Clock, deadline, segment
from tests.unit.sending import Script, said, script
from tokenvend.google.iamcredentials import iamcredentials_host, impersonate
from tokenvend.google.sts import exchange, sts_host
from tokenvend.model import (
    AccessTokenSpec,
    FederatedToken,
    IdTokenSpec,
    Secret,
    SubjectToken,
    SubjectTokenType,
    TokenSpec,
    VendedToken,
)

if TYPE_CHECKING:
    from tokenvend.transport import Call

DOCUMENTS = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
EMAIL = "landing@acme.iam.gserviceaccount.com"
DELEGATES = ("hop@acme.iam.gserviceaccount.com",)
FEDERATED = FederatedToken(Secret("federated"), NOW, NOW + 3600)
# google.protobuf.Duration's JSON form: https://protobuf.dev/reference/protobuf/google.protobuf/
DURATION = re.compile(r"[0-9]+(\.[0-9]{1,9})?s")


@cache
def document(name: str) -> dict[str, Any]:
    """A discovery document, with its schemas made strict: no field but those it lists."""
    text = json.loads((DOCUMENTS / f"{name}.json").read_text())
    for schema in text["schemas"].values():
        schema["additionalProperties"] = False
    return dict(text)


def check(api: str, schema: str, instance: object) -> None:
    """Raises unless the instance is what the named schema says."""
    text = document(api)
    validator = jsonschema.Draft7Validator(text["schemas"][schema])
    validator.validate(instance)


def camel(name: str) -> str:
    """STS takes snake_case in a form for the document's camelCase."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def method(api: str, *path: str) -> dict[str, Any]:
    node = document(api)
    for name in path[:-1]:
        node = node["resources"][name]
    return dict(node["methods"][path[-1]])


@pytest.mark.parametrize("kind", list(SubjectTokenType))
def test_our_token_exchange_is_in_the_document(kind: SubjectTokenType) -> None:
    sender = script(said({"access_token": "t", "token_type": "Bearer", "expires_in": 3599}))
    audience = (
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q"
    )
    subject = SubjectToken(Secret("s"), kind, NOW + 900)
    exchange(
        subject,
        ["a", "b"],
        deadline(),
        sender=sender,
        provider=audience,
        host=sts_host(),
        now=Clock(),
    )
    (call,) = sender.calls
    form = parse_qsl(call.body.decode(), keep_blank_values=True, strict_parsing=True)
    fields = {camel(name): value for name, value in form}
    assert len(fields) == len(form)
    check("sts.v1", "GoogleIdentityStsV1ExchangeTokenRequest", fields)
    properties = document("sts.v1")["schemas"]["GoogleIdentityStsV1ExchangeTokenRequest"]
    assert f"`{fields['grantType']}`" in properties["properties"]["grantType"]["description"]
    for name in ("subjectTokenType", "requestedTokenType"):
        assert f"`{fields[name]}`" in properties["properties"][name]["description"]
    assert call.url == document("sts.v1")["rootUrl"] + method("sts.v1", "v1", "token")["path"]
    assert call.method == method("sts.v1", "v1", "token")["httpMethod"]


@pytest.mark.parametrize("delegates", [(), DELEGATES])
def test_our_generate_access_token_is_in_the_document(delegates: tuple[str, ...]) -> None:
    sender = script(said({"accessToken": "t", "expireTime": "2099-01-01T00:00:00Z"}))
    grant = AccessTokenSpec("g", EMAIL, ("https://a", "https://b"), 900, delegates)
    generate(sender, grant)
    body = json.loads(sender.calls[0].body)
    check("iamcredentials.v1", "GenerateAccessTokenRequest", body)
    assert DURATION.fullmatch(body["lifetime"])
    is_method_of(sender.calls[0], "generateAccessToken")


@pytest.mark.parametrize("delegates", [(), DELEGATES])
def test_our_generate_id_token_is_in_the_document(delegates: tuple[str, ...]) -> None:
    token = f"{segment({'alg': 'RS256'})}.{segment({'aud': 'https://x', 'exp': NOW + 3600})}.s"
    sender = script(said({"token": token}))
    grant = IdTokenSpec("g", EMAIL, "https://x", include_email=True, delegates=delegates)
    generate(sender, grant)
    check("iamcredentials.v1", "GenerateIdTokenRequest", json.loads(sender.calls[0].body))
    is_method_of(sender.calls[0], "generateIdToken")


def generate(sender: Script, spec: TokenSpec) -> VendedToken:
    return impersonate(
        FEDERATED,
        spec,
        deadline(),
        sender=sender,
        provider=PROVIDER,
        host=iamcredentials_host(),
        now=Clock(),
    )


def is_method_of(call: Call, name: str) -> None:
    """Asserts that the call's URL and verb are those of the named method."""
    told = method("iamcredentials.v1", "projects", "serviceAccounts", name)
    resource, _, verb = urlsplit(call.url).path.removeprefix("/v1/").rpartition(":")
    assert call.url.startswith(document("iamcredentials.v1")["rootUrl"])
    assert call.method == told["httpMethod"]
    assert told["path"] == f"v1/{{+name}}:{verb}"
    assert re.fullmatch(told["parameters"]["name"]["pattern"], resource)


def test_the_judge_refuses_what_google_does_not_know() -> None:
    body = {"scope": ["a"], "lifetime": "900s"}
    check("iamcredentials.v1", "GenerateAccessTokenRequest", body)
    for wrong in ({**body, "scopes": []}, {**body, "lifetime": 900}, {**body, "scope": "a"}):
        with pytest.raises(jsonschema.ValidationError):
            check("iamcredentials.v1", "GenerateAccessTokenRequest", wrong)


@pytest.mark.parametrize(
    "answer",
    [
        {"accessToken": "t", "expireTime": "2027-01-15T08:10:00Z"},
        {"accessToken": "t", "expireTime": "2027-01-15T08:10:00.123456789Z"},
    ],
)
def test_an_answer_of_the_documents_shape_is_a_token(answer: dict[str, str]) -> None:
    check("iamcredentials.v1", "GenerateAccessTokenResponse", answer)
    grant = AccessTokenSpec("g", EMAIL, ("https://a",), 900)
    token = generate(script(said(answer)), grant)
    assert token.expires_at == NOW + 600
