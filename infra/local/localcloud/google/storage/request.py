"""What a Cloud Storage request asks for: operation, bucket, object, upload and preconditions.

Reads the object name where the request really carries it (path, query, or the metadata of an
upload's body) and refuses what it cannot classify: an unclassified request is an unchecked one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.principals import Principal

MAX_NAME = 1024
_GENERATION = re.compile(r"[0-9]{1,19}")
_BUCKET = r"/storage/v1/b/([^/]+)"
_ROUTES = tuple(
    (method, re.compile(path), permission)
    for method, path, permission in (
        ("GET", _BUCKET, "storage.buckets.get"),
        ("GET", f"{_BUCKET}/o", "storage.objects.list"),
        ("GET", f"(?:/download)?{_BUCKET}/o/([^/]+)", "storage.objects.get"),
        ("DELETE", f"{_BUCKET}/o/([^/]+)", "storage.objects.delete"),
        ("PATCH", f"{_BUCKET}/o/([^/]+)", "storage.objects.update"),
        ("POST", f"/upload{_BUCKET}/o", "storage.objects.create"),
        ("PUT", f"/upload{_BUCKET}/o", "storage.objects.create"),
    )
)
_WRITABLE = frozenset(
    {
        "cacheControl",
        "contentDisposition",
        "contentEncoding",
        "contentLanguage",
        "contentType",
        "crc32c",
        "customTime",
        "md5Hash",
        "name",
        "storageClass",
    }
)
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
        return cls(code, text, "required" if code == HTTPStatus.UNAUTHORIZED else "forbidden")

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
    overridden = request.headers.all("X-HTTP-Method-Override")
    for method, path, permission in () if overridden else _ROUTES:
        shape = path.fullmatch(request.path)
        if method == request.method and shape is not None:
            bucket, *names = (unquote(part) for part in shape.groups())
            params = request.params
            media = request.path.startswith("/download/") or params.get("alt") == "media"
            name = _valid(names[0]) if names else None
            return Operation(permission, bucket, name, params, media)
    text = f"the embedded cloud does not serve {request.method} {request.path}"
    raise StorageError(501, text, "notImplemented")


def session_id(request: Request) -> str | None:
    """The upload session a request continues, if it continues one."""
    if request.path.startswith("/upload/"):
        return request.params.get("upload_id")
    return None


def read_upload(request: Request, operation: Operation) -> Upload:
    """The object that a POST uploads; raises StorageError for a body that does not say."""
    kind = request.headers.get("Content-Type")
    match operation.params.get("uploadType") if request.method == "POST" else None:
        case "media":
            name = _name(operation, {})
            return Upload(name, {}, kind or "application/octet-stream", request.body)
        case "multipart":
            metadata, part_type, content = _multipart(kind, request.body)
            kind = metadata.get("contentType") or part_type
            return Upload(_name(operation, metadata), metadata, kind, content)
        case "resumable":
            metadata = read_metadata(request.body or b"{}")
            declared = request.headers.get("X-Upload-Content-Type")
            kind = metadata.get("contentType") or declared or "application/octet-stream"
            length = request.headers.get("X-Upload-Content-Length")
            return Upload(_name(operation, metadata), metadata, kind, None, length)
        case _:
            raise StorageError(400, "Invalid upload type.", "invalid")


def read_metadata(body: bytes) -> dict[str, Any]:
    """The writable fields of an object resource; raises StorageError for anything malformed."""
    try:
        resource = json.loads(body)
    except (ValueError, RecursionError):
        resource = None
    if not isinstance(resource, dict):
        raise StorageError(400, "Parse Error", "parseError")
    if "acl" in resource:
        text = "Cannot use ACLs when uniform bucket-level access is enabled."
        raise StorageError(400, text, "invalid")
    custom = resource.get("metadata") or {}
    fields = {name: value for name, value in resource.items() if name in _WRITABLE and value}
    if not isinstance(custom, dict):
        raise StorageError(400, "Invalid value for: metadata", "invalid")
    # These become header fields of a download: a line break in one would forge another.
    for name, value in (*fields.items(), *custom.items()):
        if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f]", f"{name}{value}"):
            raise StorageError(400, f"Invalid value for: {name!r}", "invalid")
    return fields | ({"metadata": custom} if custom else {})


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
        holds = holds and (actual == int(wanted)) != name.endswith("NotMatch")
    if not holds:
        text = "At least one of the pre-conditions you specified did not hold."
        raise StorageError(412, text, "conditionNotMet", "If-Match")


def not_modified(operation: Operation, found: Mapping[str, Any]) -> bool:
    """Whether a read is answered by 304, since the caller has this very object."""
    known = operation.params.get("ifGenerationNotMatch")
    known_metadata = operation.params.get("ifMetagenerationNotMatch")
    return bool(known == found["generation"] or known_metadata == found["metageneration"])


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


def _multipart(kind: str, body: bytes) -> tuple[dict[str, Any], str, bytes]:
    """Two parts exactly (RFC 2387): JSON metadata, then the content, byte for byte."""
    shape = re.match(r'multipart/related;.*?boundary="?([^";,]{1,70})"?', kind, re.IGNORECASE)
    if shape is None:
        raise StorageError(400, "Invalid multipart request.", "badRequest")
    delimiter = b"\r\n--" + shape[1].encode("latin-1", "replace")
    match (b"\r\n" + body).split(delimiter):
        case [preamble, first, second, end] if not preamble.strip() and end.startswith(b"--"):
            content, content_type = _part(second)
            return read_metadata(_part(first)[0]), content_type, content
    raise StorageError(400, "Multipart request must have exactly two parts.", "badRequest")


def _part(part: bytes) -> tuple[bytes, str]:
    head, found, content = part.partition(b"\r\n\r\n")
    if not found:
        raise StorageError(400, "Malformed multipart body.", "badRequest")
    kind = re.search(rb"(?im)^content-type:[ \t]*([^\r\n]+)", head)
    return content, kind[1].decode("latin-1").strip() if kind else "application/octet-stream"
