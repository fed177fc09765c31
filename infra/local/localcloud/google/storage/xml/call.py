"""One admitted request of the XML API, and what its header fields say."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from localcloud.google.storage.metadata import refuse_acl, refuse_parameters, writable
from localcloud.google.storage.preconditions import Preconditions
from localcloud.google.storage.xml.documents import XmlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.google.storage.access import Caller
    from localcloud.google.storage.store import Store, StoredObject
    from localcloud.google.storage.xml.uploads import Uploads
    from localcloud.wire.web import Headers, Request, Response
    from localcloud.world import Bucket

type Handler = Callable[[Call], Response]

_FIELDS = {
    "Cache-Control": "cacheControl",
    "Content-Disposition": "contentDisposition",
    "Content-Encoding": "contentEncoding",
    "Content-Language": "contentLanguage",
    "Content-Type": "contentType",
    "X-Goog-Custom-Time": "customTime",
    "X-Goog-Storage-Class": "storageClass",
}
_CUSTOM = "x-goog-meta-"
# Of a number of 64 bits.
_DIGITS = 19
_CONDITIONS = {
    "generation-match": "ifGenerationMatch",
    "metageneration-match": "ifMetagenerationMatch",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request on a bucket, or on the object `name` in it, whose route's permission was given."""

    request: Request
    caller: Caller
    store: Store
    uploads: Uploads
    bucket: Bucket
    name: str
    query: Mapping[str, str]

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.caller.now

    @property
    def generation(self) -> int | None:
        """The generation that the query asks for."""
        text = self.query.get("generation")
        return None if text is None else unsigned(text, "generation")

    def number(self, name: str, default: int) -> int:
        """A parameter that is a number; raises the 400 of any other text."""
        return unsigned(self.query.get(name, str(default)), name)

    def fields(self) -> dict[str, Any]:
        """The fields of a new object that the header sets; raises the 400 of what cannot be."""
        headers = self.request.headers
        if headers.get("X-Goog-Acl"):
            refuse_acl(self.bucket)
        refuse_parameters({}, headers, self.bucket)
        given: dict[str, Any] = {
            field: _text(name, headers.get(name))
            for name, field in _FIELDS.items()
            if headers.get(name)
        }
        given["metadata"] = {
            name[len(_CUSTOM) :].lower(): _text(name, value)
            for name, value in headers.fields
            if name.lower().startswith(_CUSTOM)
        }
        return {"storageClass": self.bucket.storage_class} | writable(given, self.bucket)


def preconditions(headers: Headers, prefix: str = "X-Goog-If-") -> Preconditions:
    """Those on generation and metageneration; with another prefix, of a copy's source."""
    given = {name: headers.get(prefix + field) for field, name in _CONDITIONS.items()}
    return Preconditions.of({name: value for name, value in given.items() if value})


def require_validators(headers: Headers, found: StoredObject, etag: str, prefix: str = "") -> None:
    """Raise the 412 of `If-Match` and `If-Unmodified-Since`.

    Raises NotModifiedError for `If-None-Match` and `If-Modified-Since` (RFC 9110 section 13.2.2).
    """
    match = headers.get(f"{prefix}If-Match")
    if match:
        if not _lists(match, etag):
            raise XmlError("PreconditionFailed", "If-Match")
    elif _after(headers.get(f"{prefix}If-Unmodified-Since"), found) is False:
        raise XmlError("PreconditionFailed", "If-Unmodified-Since")
    none_match = headers.get(f"{prefix}If-None-Match")
    if none_match:
        if _lists(none_match, etag):
            raise NotModifiedError
    elif _after(headers.get(f"{prefix}If-Modified-Since"), found):
        raise NotModifiedError


def refuse_conditions(headers: Headers, *prefixes: str) -> None:
    """Raise the 400 of a condition of these kinds, which Google does not hold such a request to.

    To pass it over would overwrite or delete what the caller meant to keep.
    """
    for name, _ in headers.fields:
        if name.lower().startswith(prefixes):
            raise XmlError("InvalidArgument", f"{name} is no condition of such a request.")


def unsigned(text: str, name: str) -> int:
    """The number that a field or parameter says; raises the 400 of any other text."""
    if not (text.isascii() and text.isdigit()) or len(text) > _DIGITS:
        raise XmlError("InvalidArgument", f"Invalid value for {name}: {text[:64]}")
    return int(text)


class NotModifiedError(Exception):
    """The caller has this very object."""


def _text(name: str, value: str) -> str:
    """What a field says in UTF-8; the wire has read it as latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        raise XmlError("InvalidArgument", f"{name} is not UTF-8.") from None


def _lists(field: str, etag: str) -> bool:
    return field.strip() == "*" or etag in [entry.strip() for entry in field.split(",")]


def _after(date: str, found: StoredObject) -> bool | None:
    """Whether the object was not changed after a date; None without one that can be read."""
    try:
        return int(found.updated) <= parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None
