"""Azure Blob Storage: Get Blob on every `*.blob.core.windows.net`, opened by an Entra token.

Blobs are put in process and private. Every other operation, shared keys and SAS answer 405.
Specification: Azure Storage REST API, Get Blob and "Authorize with Microsoft Entra ID".
"""

from __future__ import annotations

import re
import secrets
import threading
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.sax.saxutils import escape

from localcloud.azure.bearer import BearerError, Readers, bearer_object
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.azure.entra import Entra

AUDIENCE = "https://storage.azure.com"
# The first version that takes bearer tokens.
FIRST_VERSION = "2017-11-09"
_VERSION = re.compile(r"20\d\d-[01]\d-[0-3]\d")


@dataclass(frozen=True)
class _Blob:
    content: bytes
    etag: str
    modified: str


class Blobs:
    """Blobs of every account, by host and `CONTAINER/BLOB`; `readers` may read them all."""

    def __init__(self, entra: Entra) -> None:
        self.readers = Readers(entra)
        self._clock = entra.clock
        self._held: dict[tuple[str, str], _Blob] = {}
        self._lock = threading.Lock()

    def put(self, host: str, name: str, content: bytes | str) -> None:
        """Write a blob of one account, and its container; raises ValueError without a container."""
        container, slash, blob = name.partition("/")
        if not container or not slash or not blob:
            raise ValueError(f"{name} is not CONTAINER/BLOB")
        data = content.encode() if isinstance(content, str) else content
        moment = format_datetime(datetime.fromtimestamp(self._clock(), UTC), usegmt=True)
        fresh = _Blob(data, f'"0x8D{secrets.token_hex(6).upper()}"', moment)
        with self._lock:
            self._held[host, name] = fresh

    def find(self, host: str, name: str) -> _Blob | None:
        """The blob, if there is one."""
        with self._lock:
            return self._held.get((host, name))

    def has_container(self, host: str, container: str) -> bool:
        """Whether anything was ever put there."""
        with self._lock:
            names = list(self._held)
        return any(h == host and name.startswith(f"{container}/") for h, name in names)


def sites(entra: Entra, blobs: Blobs) -> dict[str, Site]:
    """Every account's blob endpoint."""

    def serve(request: Request) -> Response:
        if SERVICE.find(request.method, request.path) is None or request.query:
            return _error(405, "NotImplemented", "The embedded cloud does not serve this.")
        refusal = _refusal(request, entra, blobs)
        return refusal or _answer(request, blobs)

    return dict.fromkeys(SERVICE.hosts, serve)


SERVICE: Service[None] = Service(
    "Azure Blob Storage",
    ("*.blob.core.windows.net",),
    (Route("GET", "/{container}/{blob+}", None, asks="Storage Blob Data Reader"),),
    unserved=(
        Unserved("*", "the functions read one blob and nothing else; blobs are put in process"),
        Unserved("Shared Key and SAS", "the functions have an identity and no key"),
    ),
)


def _refusal(request: Request, entra: Entra, blobs: Blobs) -> Response | None:
    version = request.headers.get("x-ms-version")
    if version and not _VERSION.fullmatch(version):
        text = "The value for one of the HTTP headers is not in the correct format."
        return _error(400, "InvalidHeaderValue", text)
    if request.headers.get("Authorization") and version < FIRST_VERSION:
        # Without a version the service takes its oldest, which knows no bearer tokens.
        text = "Authentication scheme Bearer is not supported in this version."
        return _error(403, "AuthenticationFailed", text)
    authority = f"https://login.microsoftonline.com/{entra.azure.tenant}/oauth2/authorize"
    challenge = (
        "WWW-Authenticate",
        f"Bearer authorization_uri={authority} resource_id=https://storage.azure.com",
    )
    audiences = (AUDIENCE, f"{AUDIENCE}/", f"https://{request.host}")
    try:
        reader = bearer_object(request, entra, audiences)
    except BearerError as refused:
        text = "Server failed to authenticate the request. Please refer to the information in "
        text += f"the www-authenticate header. {refused}"
        return _error(401, "InvalidAuthenticationInfo", text, challenge)
    if reader is None:
        text = "Server failed to authenticate the request. Please refer to the information in "
        text += "the www-authenticate header."
        return _error(401, "NoAuthenticationInformation", text, challenge)
    if reader not in blobs.readers.object_ids:
        text = "This request is not authorized to perform this operation using this permission."
        return _error(403, "AuthorizationPermissionMismatch", text)
    return None


def _answer(request: Request, blobs: Blobs) -> Response:
    host, name = request.host.lower(), unquote(request.path[1:])
    found = blobs.find(host, name)
    if found is None:
        if not blobs.has_container(host, name.partition("/")[0]):
            return _error(404, "ContainerNotFound", "The specified container does not exist.")
        return _error(404, "BlobNotFound", "The specified blob does not exist.")
    fields = (
        ("ETag", found.etag),
        ("Last-Modified", found.modified),
        ("x-ms-request-id", str(uuid.uuid4())),
        ("x-ms-version", request.headers.get("x-ms-version")),
    )
    if request.headers.get("If-None-Match") in {found.etag, "*"}:
        return Response(304, b"", (*fields, ("x-ms-error-code", "ConditionNotMet")))
    kind = (("Content-Type", "application/octet-stream"), ("x-ms-blob-type", "BlockBlob"))
    return Response(200, found.content, (*fields, *kind))


def _error(status: int, code: str, text: str, *fields: tuple[str, str]) -> Response:
    request_id = str(uuid.uuid4())
    body = (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code>'
        f"<Message>{escape(text)}\nRequestId:{request_id}</Message></Error>"
    )
    known = (
        ("Content-Type", "application/xml"),
        ("x-ms-request-id", request_id),
        ("x-ms-error-code", code),
    )
    return Response(status, body.encode(), (*known, *fields))
