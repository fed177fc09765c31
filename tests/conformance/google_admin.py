"""Google's own Python client at the lab, as the person who owns the projects."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import googleapiclient.discovery_cache
import jsonschema
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest

from localcloud.google.core.principals import Principal, UserPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken
from tests.conformance.google_lab import Lab, Session

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTS = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
ADMIN = UserPrincipal("admin@acme.example")


def token_of(lab: Lab, who: Principal = ADMIN, scope: str = CLOUD_PLATFORM) -> str:
    """An access token of anybody."""
    now = lab.clock.now
    return lab.google.tokens.issue(IssuedToken(who, frozenset({scope}), int(now) + 3600), now)


def client(lab: Lab, api: str, who: Principal = ADMIN) -> Any:
    """Google's client for ``iam.v1``; each answer it gets is held against the document."""
    responses = dict(_responses(_document(api)))

    class Checked(HttpRequest):
        def execute(self, *arguments: Any, **named: Any) -> Any:
            answer = super().execute(*arguments, **named)
            # A deletion of Cloud Storage's answers nothing.
            if self.methodId in responses:
                conforms(api, responses[self.methodId], answer)
            return answer

    http = _Http(lab, token_of(lab, who))
    return build_from_document(_document(api), http=http, requestBuilder=Checked)


def refused(request: HttpRequest, status: int, code: str, text: str) -> dict[str, Any]:
    """The error of a call that must be refused."""
    try:
        answer = request.execute()
    except HttpError as refusal:
        error = cast("dict[str, Any]", json.loads(refusal.content)["error"])
        assert (error["code"], error["status"]) == (status, code), error
        assert text in error["message"], error["message"]
        return error
    raise AssertionError(answer)


def conforms(api: str, schema: str, answer: object) -> None:
    """Raises unless the answer has the fields of the document's schema, and no other."""
    root = {"$ref": f"#/{schema}", **_schemas(api)}
    jsonschema.Draft7Validator(root).validate(answer)


@cache
def _document(api: str) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((DOCUMENTS / f"{api}.json").read_text("utf-8")))


def _responses(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The response schema of each method of a document."""
    for method in node.get("methods", {}).values():
        if "response" in method:
            yield method["id"], method["response"]["$ref"]
    for resource in node.get("resources", {}).values():
        yield from _responses(resource)


@cache
def _schemas(api: str) -> dict[str, Any]:
    return {name: _strict(schema) for name, schema in _document(api)["schemas"].items()}


def _strict(value: Any) -> Any:
    """A schema as JSON Schema has it, without room for fields that it does not list."""
    if isinstance(value, list):
        return [_strict(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    # A field may be named `id`; a schema's own id is a text.
    left_out = {key for key in ("id", "format") if isinstance(value.get(key), str)}
    kept = {key: _strict(entry) for key, entry in value.items() if key not in left_out}
    if isinstance(value.get("$ref"), str):
        kept["$ref"] = f"#/{value['$ref']}"
    if isinstance(value.get("properties"), dict) and value.get("type") == "object":
        kept["additionalProperties"] = False
    if value.get("type") == "any":
        del kept["type"]
    return kept


class _Http:
    """What the client takes for its httplib2."""

    def __init__(self, lab: Lab, token: str) -> None:
        self._session = Session(lab.router)
        self._token = token

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: str | bytes | None = None,
        headers: dict[str, str] | None = None,
        **_: Any,
    ) -> tuple[Any, bytes]:
        fields = {**(headers or {}), "Authorization": f"Bearer {self._token}"}
        answer = self._session.request(method, uri, data=body, headers=fields)
        return _Response(answer.status_code, dict(answer.headers)), answer.content


class _Response(dict[str, str]):
    def __init__(self, status: int, headers: dict[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in headers.items()})
        self.status = status
        self.reason = ""
