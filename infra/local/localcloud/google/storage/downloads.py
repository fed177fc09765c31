"""Content to its reader: ranges, conditions, header fields and decompressive transcoding.

An object that is stored as gzip is decompressed for whoever does not accept gzip, unless its
Cache-Control says `no-transform`; such an answer has no length and no ranges.
https://cloud.google.com/storage/docs/transcoding
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from localcloud.google.storage.content import PIECE
from localcloud.google.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from localcloud.google.storage.store import StoredObject
    from localcloud.wire.web import Headers

from localcloud.wire.web import Response

_RANGE = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))")


def media(found: StoredObject, headers: Headers, *extra: tuple[str, str]) -> Response:
    """An object's content; `headers` are the request's. Raises the 416.

    `extra` are the header fields that differ between the APIs (ETag, Content-Disposition).
    """
    # Text of an object's fields is UTF-8 on the wire, where a header otherwise has latin-1.
    given = (*description(found), *extra)
    described = tuple((name, value.encode().decode("latin-1")) for name, value in given)
    if _is_transcoded(found, headers):
        warning = ("Warning", "214 UploadServer gunzipped")
        return Response(200, b"", (*described, warning), _inflated(found))
    encoding = found.fields.get("contentEncoding")
    if encoding:
        described = (*described, ("Content-Encoding", encoding))
    size = found.content.size
    wanted = requested_range(headers.get("Range"), size)
    start, end = wanted or (0, size)
    described = (*described, ("Accept-Ranges", "bytes"), ("Content-Length", str(end - start)))
    stream = _stream(found.content.read(start, end))
    if wanted is None:
        return Response(200, b"", described, stream)
    described = (*described, ("Content-Range", f"bytes {start}-{end - 1}/{size}"))
    return Response(206, b"", described, stream)


def description(found: StoredObject) -> tuple[tuple[str, str], ...]:
    """The header fields that tell what the content is, in either API."""
    fields, content = found.fields, found.content
    hashes = [f"crc32c={content.crc32c}"] + ([f"md5={content.md5}"] if content.md5 else [])
    optional = {
        "Content-Language": fields.get("contentLanguage", ""),
        "X-Goog-Component-Count": str(found.components or ""),
    }
    return (
        ("Content-Type", fields.get("contentType") or "application/octet-stream"),
        ("Cache-Control", fields.get("cacheControl") or "no-cache, no-store, max-age=0"),
        ("X-Goog-Hash", ",".join(hashes)),
        ("X-Goog-Generation", str(found.generation)),
        ("X-Goog-Metageneration", str(found.metageneration)),
        ("X-Goog-Storage-Class", fields.get("storageClass", "STANDARD")),
        ("X-Goog-Stored-Content-Encoding", fields.get("contentEncoding") or "identity"),
        ("X-Goog-Stored-Content-Length", str(content.size)),
        *((name, value) for name, value in optional.items() if value),
    )


def requested_range(text: str, size: int) -> tuple[int, int] | None:
    """The start and the end, exclusive, that a Range field asks for; None for everything.

    A field that cannot be read, or names several ranges, is passed over (RFC 9110 section 14.2).
    Raises the 416 of a range outside.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeError(size)
    return start, end


class RangeError(StorageError):
    """The 416, which tells the content's size."""

    def __init__(self, size: int) -> None:
        text = "The requested range cannot be satisfied."
        super().__init__(416, text, "requestedRangeNotSatisfiable", "Range", plain=True)
        self.size = size

    def response(self) -> Response:
        """The refusal on the wire."""
        answer = super().response()
        return Response(
            416, answer.body, (*answer.headers, ("Content-Range", f"bytes */{self.size}"))
        )


def _is_transcoded(found: StoredObject, headers: Headers) -> bool:
    stored = found.fields.get("contentEncoding") == "gzip"
    kept = "no-transform" in found.fields.get("cacheControl", "")
    return stored and not kept and "gzip" not in headers.get("Accept-Encoding").lower()


def _stream(pieces: Iterator[bytes]) -> Generator[bytes]:
    yield from pieces


def _inflated(found: StoredObject) -> Generator[bytes]:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for packed in found.content.read():
        waiting = packed
        while waiting:
            piece = stream.decompress(waiting, PIECE)
            waiting = stream.unconsumed_tail
            if piece:
                yield piece
            if stream.eof:
                # A gzip file may have several members (RFC 1952 section 2.2).
                waiting, stream = stream.unused_data, zlib.decompressobj(zlib.MAX_WBITS | 16)
