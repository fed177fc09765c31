"""Objects by the XML API: read, written, copied, deleted.

https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from localcloud.google.storage import publishing
from localcloud.google.storage.content import PIECE, Content, write
from localcloud.google.storage.digests import Digests
from localcloud.google.storage.downloads import description, media
from localcloud.google.storage.metadata import object_name
from localcloud.google.storage.preconditions import Preconditions
from localcloud.google.storage.resources import timestamp
from localcloud.google.storage.store import Draft, StoredObject, Terms
from localcloud.google.storage.xml.call import (
    NotModifiedError,
    preconditions,
    refuse_conditions,
    require_validators,
    unsigned,
)
from localcloud.google.storage.xml.documents import XmlError, document, http_date
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.google.storage.xml.call import Call
    from localcloud.wire.web import Body

_SOURCE = "X-Goog-Copy-Source"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TEXT = ("Content-Type", "text/html; charset=UTF-8")


def get(call: Call) -> Response:
    """`GET OBJECT`, and `HEAD`, whose body stays here."""
    found = call.store.get(call.bucket.name, call.name, call.generation)
    headers, etag = call.request.headers, entity_tag(found)
    preconditions(headers).require(found)
    extra = [("ETag", etag), ("Last-Modified", http_date(found.updated))]
    try:
        require_validators(headers, found, etag)
    except NotModifiedError:
        return Response(304, b"", (*extra, ("x-goog-generation", str(found.generation))))
    disposition = found.fields.get("contentDisposition")
    if disposition:
        extra.append(("Content-Disposition", disposition))
    custom = found.fields.get("metadata", {})
    # A name that the JSON API took may be none that a header field can have.
    extra += [
        (f"x-goog-meta-{name}", value) for name, value in custom.items() if _TOKEN.fullmatch(name)
    ]
    return media(found, headers, *extra)


def put(call: Call) -> Response:
    """`PUT OBJECT`: the body becomes the object, or a copy of `x-goog-copy-source` does."""
    if call.request.headers.get(_SOURCE):
        return _copy(call)
    object_name(call.name)
    refuse_conditions(call.request.headers, "if-")
    fields = call.fields()
    made = publish(call, Draft(content_of(call), fields), preconditions(call.request.headers))
    return Response(200, b"", (_TEXT, ("ETag", entity_tag(made)), *_numbers(made)))


def delete(call: Call) -> Response:
    """`DELETE OBJECT`, or one generation of it."""
    bucket, name = call.bucket, call.name
    refuse_conditions(call.request.headers, "if-")
    terms = Terms(preconditions(call.request.headers), versioned=bucket.versioning.enabled)
    call.store.delete(bucket.name, name, call.now, terms, call.generation)
    return Response(204)


def content_of(call: Call) -> Content:
    """The body in a file; raises the 411 of a missing length and the 400 of a wrong checksum."""
    headers = call.request.headers
    chunked = headers.get("Transfer-Encoding").lower() == "chunked"
    if not chunked and not headers.get("Content-Length"):
        raise XmlError("MissingContentLength")
    expected = Digests.of_headers(headers)
    content = write(call.store.directory, _pieces(call.request.stream))
    for wanted, computed in ((expected.crc32c, content.crc32c), (expected.md5, content.md5)):
        if wanted and wanted != computed:
            raise XmlError("BadDigest", f"Expected {wanted}, computed {computed}.")
    return content


def publish(call: Call, draft: Draft, conditions: Preconditions | None = None) -> StoredObject:
    """Make the draft the call's object; raises the 412, and the 403 of replacing one."""
    terms = publishing.terms(call.caller, call.bucket, call.name, conditions or Preconditions())
    return publishing.publish(call.caller, call.store, call.bucket, call.name, draft, terms)


def entity_tag(found: StoredObject) -> str:
    """With quotes: the MD5, or what begins with a dash where there is none."""
    return f'"{found.content.etag or "-" + found.etag}"'


def hash_fields(content: Content) -> list[tuple[str, str]]:
    """`x-goog-hash`, a field for each checksum."""
    hashes = [("x-goog-hash", f"crc32c={content.crc32c}")]
    return [*hashes, ("x-goog-hash", f"md5={content.md5}")] if content.md5 else hashes


def _numbers(made: StoredObject) -> list[tuple[str, str]]:
    """What a writer is told of the object it made."""
    return [
        field
        for field in description(made)
        if field[0].lower().startswith("x-goog-") and field[0] != "X-Goog-Storage-Class"
    ]


def _copy(call: Call) -> Response:
    headers = call.request.headers
    found = _source(call)
    refuse_conditions(headers, "if-")
    directive = headers.get("X-Goog-Metadata-Directive", "COPY").upper()
    if directive not in ("COPY", "REPLACE"):
        raise XmlError("InvalidArgument", f"Unknown metadata directive: {directive[:32]}")
    object_name(call.name)
    given = call.fields()
    kept = {**found.fields, "storageClass": given["storageClass"]}
    fields = given if directive == "REPLACE" else kept
    draft = Draft(found.content, fields, found.components)
    made = publish(call, draft, preconditions(headers))
    answer = document(
        (
            "CopyObjectResult",
            [("LastModified", timestamp(made.updated)), ("ETag", entity_tag(made))],
        )
    )
    return Response(200, answer.body, (*answer.headers, *_numbers(made)))


def _source(call: Call) -> StoredObject:
    """The object to copy, which the caller may read; raises the refusal."""
    headers = call.request.headers
    bucket_name, _, name = headers.get(_SOURCE).removeprefix("/").partition("/")
    bucket, name = call.caller.bucket(unquote(bucket_name)), unquote(name)
    call.caller.require("storage.objects.get", bucket, name)
    generation = headers.get(f"{_SOURCE}-Generation")
    number = unsigned(generation, "generation") if generation else None
    found = call.store.get(bucket.name, name, number)
    preconditions(headers, f"{_SOURCE}-If-").require(found)
    try:
        require_validators(headers, found, entity_tag(found), f"{_SOURCE}-")
    except NotModifiedError:
        raise XmlError("PreconditionFailed", f"{_SOURCE}-If-None-Match") from None
    return found


def _pieces(body: Body) -> Iterator[bytes]:
    while piece := body.read(PIECE):
        yield piece
