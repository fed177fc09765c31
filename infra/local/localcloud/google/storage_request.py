"""What a Cloud Storage request asks for: operation, bucket, object, upload and preconditions.

Reads the object name where the request really carries it (path, query, or the metadata of an
upload's body) and refuses what it cannot classify: an unclassified request is an unchecked one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from localcloud.google.principals import Principal
from localcloud.web import Request, Response

MAX_NAME = 1024
_GENERATION = re.compile(r"[0-9]{1,19}")
_PRECONDITIONS = (
    "ifGenerationMatch",
    "ifGenerationNotMatch",
    "ifMetagenerationMatch",
    "ifMetagenerationNotMatch",
)


@dataclass(eq=False)
class StorageError(Exception):
    """A refusal in Cloud Storage's JSON form; `plain` gives the text alone, as media does."""

    code: int
    message: str
    reason: str
    location: str = ""
    plain: bool = False

    @classmethod
    def denied(cls, who: str, permission: str, code: int) -> StorageError:
        """The text of a missing grant."""
        kind = "bucket" if permission.startswith("storage.buckets.") else "object"
        text = (
            f"{who} does not have {permission} access to the Google Cloud Storage {kind}. "
            f"Permission '{permission}' denied on resource (or it may not exist)."
        )
        return cls(code, text, "forbidden" if code == 403 else "required")

    def response(self) -> Response:
        """The refusal on the wire."""
        if self.plain:
            kind = ("Content-Type", "text/html; charset=UTF-8")
            return Response(self.code, self.message.encode(), (kind,))
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            item |= {"locationType": "header", "location": self.location}
        error = {"code": self.code, "message": self.message, "errors": [item]}
        return Response.json(self.code, {"error": error})


@dataclass(frozen=True)
class Operation:
    """One operation on one bucket or object, named by the permission it needs."""

    permission: str
    bucket: str
    name: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    media: bool = False

    @property
    def list_prefix(self) -> str:
        """The prefix of a listing, which access boundaries can see."""
        return self.params.get("prefix", "") if self.permission.endswith(".list") else ""

    def named(self, name: str) -> Operation:
        """The same operation on this object."""
        return replace(self, name=name)

    def needing(self, permission: str) -> Operation:
        """The same target under another permission."""
        return replace(self, permission=permission)


@dataclass(frozen=True)
class Upload:
    """An upload's object; `content` is None when a resumable session is to be opened."""

    name: str
    metadata: dict[str, Any]
    content_type: str
    content: bytes | None
    declared_length: str = ""


@dataclass(frozen=True)
class Session:
    """An open upload session and who opened it."""

    operation: Operation
    principal: Principal


def classify(request: Request) -> Operation:
    """The operation a request asks for; raises StorageError for everything unknown."""
    if request.headers.all("X-HTTP-Method-Override"):
        _unsupported(request)
    segments = request.segments()
    params = request.params
    match request.method, segments:
        case "GET", ["storage", "v1", "b", bucket]:
            return Operation("storage.buckets.get", bucket, params=params)
        case "GET", ["storage", "v1", "b", bucket, "o"]:
            return Operation("storage.objects.list", bucket, params=params)
        case "GET", ["storage", "v1", "b", bucket, "o", name]:
            media = params.get("alt") == "media"
            return Operation("storage.objects.get", bucket, _valid(name), params, media)
        case "GET", ["download", "storage", "v1", "b", bucket, "o", name]:
            return Operation("storage.objects.get", bucket, _valid(name), params, media=True)
        case "DELETE", ["storage", "v1", "b", bucket, "o", name]:
            return Operation("storage.objects.delete", bucket, _valid(name), params)
        case "PATCH", ["storage", "v1", "b", bucket, "o", name]:
            return Operation("storage.objects.update", bucket, _valid(name), params)
        case "POST", ["upload", "storage", "v1", "b", bucket, "o"]:
            return Operation("storage.objects.create", bucket, params=params)
        case "PUT", ["upload", "storage", "v1", "b", bucket, "o"] if "upload_id" in params:
            return Operation("storage.objects.create", bucket, params=params)
    _unsupported(request)


def session_id(request: Request) -> str | None:
    """The upload session a request continues, if it continues one."""
    if request.path.startswith("/upload/"):
        return request.params.get("upload_id")
    return None


def read_upload(request: Request, operation: Operation) -> Upload:
    """The object that a POST uploads; raises StorageError for a body that does not say."""
    kind = request.headers.get("Content-Type")
    match operation.params.get("uploadType"):
        case "media":
            name = _name(operation, {})
            return Upload(name, {}, kind or "application/octet-stream", request.body)
        case "multipart":
            metadata, part_type, content = _multipart(kind, request.body)
            kind = metadata.get("contentType") or part_type
            return Upload(_name(operation, metadata), metadata, kind, content)
        case "resumable":
            metadata = _metadata(request.body or b"{}")
            declared = request.headers.get("X-Upload-Content-Type")
            kind = metadata.get("contentType") or declared or "application/octet-stream"
            length = request.headers.get("X-Upload-Content-Length")
            return Upload(_name(operation, metadata), metadata, kind, None, length)
        case _:
            raise StorageError(400, "Invalid upload type.", "invalid")


def check_preconditions(operation: Operation, found: Mapping[str, Any] | None) -> None:
    """Raise the 412 unless the live object (None: there is none) is as the caller expects."""
    holds = True
    for name in _PRECONDITIONS:
        wanted = operation.params.get(name)
        if wanted is None:
            continue
        if not _GENERATION.fullmatch(wanted):
            raise StorageError(400, f"Invalid value for: {name}", "invalidParameter")
        key = "metageneration" if "Meta" in name else "generation"
        # Generation 0 stands for "no live object".
        actual = int(found[key]) if found is not None else 0
        holds &= (actual == int(wanted)) is not name.endswith("NotMatch")
    if not holds:
        text = "At least one of the pre-conditions you specified did not hold."
        raise StorageError(412, text, "conditionNotMet", "If-Match")


def not_modified(operation: Operation, found: Mapping[str, Any]) -> bool:
    """Whether a read is answered by 304, since the caller has this very object."""
    return (
        operation.params.get("ifGenerationNotMatch") == found["generation"]
        or operation.params.get("ifMetagenerationNotMatch") == found["metageneration"]
    )


def _unsupported(request: Request) -> NoReturn:
    text = f"the embedded cloud does not serve {request.method} {request.path}"
    raise StorageError(501, text, "notImplemented")


def _name(operation: Operation, metadata: Mapping[str, Any]) -> str:
    name = operation.params.get("name", metadata.get("name"))
    if not isinstance(name, str) or not name:
        raise StorageError(400, "Required", "required")
    return _valid(name)


def _valid(name: str) -> str:
    """https://cloud.google.com/storage/docs/objects#naming."""
    if (
        not name
        or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME
        or name in (".", "..")
        or name.startswith(".well-known/acme-challenge/")
        or re.search(r"[\r\n\x00\ud800-\udfff]", name)
    ):
        raise StorageError(400, "Invalid object name.", "invalid")
    return name


def _metadata(body: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(body)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise StorageError(400, "Parse Error", "parseError")
    return metadata


def _multipart(kind: str, body: bytes) -> tuple[dict[str, Any], str, bytes]:
    """Two parts exactly (RFC 2387): JSON metadata, then the content, byte for byte."""
    shape = re.match(r'multipart/related;.*?boundary="?([^";,]{1,70})"?', kind, re.IGNORECASE)
    if shape is None:
        raise StorageError(400, "Invalid multipart request.", "badRequest")
    delimiter = b"\r\n--" + shape[1].encode("latin-1", "replace")
    parts = (b"\r\n" + body).split(delimiter)
    if len(parts) != 4 or parts[0].strip() or not parts[3].startswith(b"--"):
        text = "Multipart request must have exactly two parts."
        raise StorageError(400, text, "badRequest")
    metadata, _ = _part(parts[1])[0], None
    content, content_type = _part(parts[2])
    return _metadata(metadata), content_type, content


def _part(part: bytes) -> tuple[bytes, str]:
    head, found, content = part.partition(b"\r\n\r\n")
    if not found:
        raise StorageError(400, "Malformed multipart body.", "badRequest")
    kind = re.search(rb"(?im)^content-type:[ \t]*([^\r\n]+)", head)
    return content, kind[1].decode("latin-1").strip() if kind else "application/octet-stream"
