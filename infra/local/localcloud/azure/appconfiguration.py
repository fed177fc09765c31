"""Azure App Configuration: `GET /kv/{key}` on every `*.azconfig.io`, opened by an Entra token.

Key-values are put in process. Access keys (HMAC), snapshots and listing are not served: 405.
Specification: App Configuration data plane REST API, version 2023-11-01.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from localcloud.azure.bearer import BearerError, Readers, bearer_object
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.azure.entra import Entra

AUDIENCE = "https://azconfig.io"
VERSIONS = ("1.0", "2023-10-01", "2023-11-01")
KIND = "application/vnd.microsoft.appconfig.kv+json; charset=utf-8"
# A key-value may have 10,000 characters in all.
MAX_CHARACTERS = 10_000
_NO_LABEL = "\0"


@dataclass(frozen=True)
class _KeyValue:
    value: str
    etag: str
    modified: str


class KeyValues:
    """Key-values of every store, by host, key and label; `readers` may read them all."""

    def __init__(self, entra: Entra) -> None:
        self.readers = Readers(entra)
        self._clock = entra.clock
        self._held: dict[tuple[str, str, str], _KeyValue] = {}
        self._lock = threading.Lock()

    def put(self, host: str, key: str, value: str, *, label: str = "") -> None:
        """Write a key-value of one store; raises ValueError for what Azure refuses."""
        if not key or len(key) + len(value) + len(label) > MAX_CHARACTERS:
            raise ValueError(f"a key-value has at most {MAX_CHARACTERS} characters in all")
        moment = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="seconds")
        fresh = _KeyValue(value, secrets.token_urlsafe(32), moment)
        with self._lock:
            self._held[host, key, label] = fresh

    def find(self, host: str, key: str, label: str) -> _KeyValue | None:
        """The key-value, if there is one."""
        with self._lock:
            return self._held.get((host, key, label))


def sites(entra: Entra, key_values: KeyValues) -> dict[str, Site]:
    """Every store's endpoint."""

    def serve(request: Request) -> Response:
        if SERVICE.find(request.method, request.path) is None:
            return _problem(405, "not-implemented", "The embedded cloud does not serve this.")
        version = request.params.get("api-version")
        if version not in VERSIONS:
            title = "Unsupported API version" if version else "API version is not specified"
            return _problem(400, "invalid-argument", title)
        try:
            reader = bearer_object(request, entra, (AUDIENCE, f"https://{request.host}"))
        except BearerError as refused:
            return _challenge(f'Bearer error="invalid_token", error_description="{refused}"')
        if reader is None:
            return _challenge("HMAC-SHA256, Bearer")
        if reader not in key_values.readers.object_ids:
            return _problem(403, "forbidden", "The identity may not read this store.")
        return _answer(request, key_values)

    return dict.fromkeys(SERVICE.hosts, serve)


SERVICE: Service[None] = Service(
    "Azure App Configuration",
    ("*.azconfig.io",),
    (Route("GET", "/kv/{key}", None, asks="App Configuration Data Reader"),),
    unserved=(
        Unserved("*", "the functions read one key-value and nothing else"),
        Unserved("HMAC", "the functions have an identity and no access key"),
    ),
)


def _answer(request: Request, key_values: KeyValues) -> Response:
    key = request.segments()[1]
    label = request.params.get("label", "").replace(_NO_LABEL, "")
    found = key_values.find(request.host.lower(), key, label)
    if found is None:
        return Response(404)
    fields = (("ETag", f'"{found.etag}"'), ("Content-Type", KIND))
    if request.headers.get("If-None-Match") in {f'"{found.etag}"', "*"}:
        return Response(304, b"", fields[:1])
    body: dict[str, object] = {
        "etag": found.etag,
        "key": key,
        "label": label or None,
        "content_type": "",
        "value": found.value,
        "last_modified": found.modified,
        "locked": False,
        "tags": {},
    }
    return Response(200, Response.json(200, body).body, fields)


def _challenge(text: str) -> Response:
    return Response(401, b"", (("WWW-Authenticate", text),))


def _problem(status: int, kind: str, title: str) -> Response:
    body = {"type": f"https://azconfig.io/errors/{kind}", "title": title, "status": status}
    return Response(
        status,
        Response.json(status, body).body,
        (("Content-Type", "application/problem+json; charset=utf-8"),),
    )
