"""`multipart/related` uploads, read as they come, in every client's dialect.

Two parts: the object's resource in JSON, then its content, byte for byte. Lines end in CRLF or LF
(gcloud, gcsfs), the boundary stands bare, in double or in single quotes; a preamble and an epilogue
are passed over. A third part or a missing end is refused. RFC 2046 section 5.1, RFC 2387.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Protocol

from localcloud.google.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.wire.web import Body

PIECE = 256 * 1024
MAX_HEADER = 16 * 1024
MAX_RESOURCE = 1024 * 1024
"""Bytes of the JSON part."""
_BOUNDARY = re.compile(
    r"multipart/(?:related|mixed)\s*;(?:.*;)?\s*boundary=(?:\"([^\"]+)\"|'([^']+)'|([^\s;\"',]+))",
    re.IGNORECASE | re.DOTALL,
)
MAX_BOUNDARY = 200
_PLAIN = ("binary", "8bit", "7bit")
# Behind a delimiter: the end of all parts, or of the line, or of what has come so far; else it is
# content that begins like it.
_TAIL = rb"(--|[ \t]*\r?\n|(?:-|[ \t]*\r?)\Z)"


class Source(Protocol):
    """What bytes are read from; empty at the end."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""


class Inflated:
    """A gzip body as what it holds; raises the 400 of what is no gzip. Java's client sends it."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._waiting = b""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes of the content."""
        while True:
            if self._stream.eof and not self._next_member():
                return b""
            packed = self._waiting or self._body.read(PIECE)
            try:
                piece = self._stream.decompress(packed, size)
            except zlib.error:
                raise malformed("the body is no gzip") from None
            self._waiting = self._stream.unconsumed_tail
            if piece:
                return piece
            if not packed and not self._stream.eof:
                raise malformed("the gzip body ends early")

    def _next_member(self) -> bool:
        """Whether another gzip member follows (RFC 1952 section 2.2: a file may have several)."""
        rest = self._stream.unused_data or self._body.read(PIECE)
        if rest:
            self._waiting, self._stream = rest, zlib.decompressobj(zlib.MAX_WBITS | 16)
        return bool(rest)


class Related:
    """The parts of one upload, in their order."""

    def __init__(self, kind: str, source: Source) -> None:
        match = _BOUNDARY.match(kind.strip())
        boundary = next(filter(None, match.groups()), "") if match else ""
        if not 0 < len(boundary) <= MAX_BOUNDARY:
            raise malformed("the content type names no boundary")
        self._mark = b"\n--" + boundary.encode("latin-1", "replace")
        self._delimiter = re.compile(re.escape(self._mark) + _TAIL)
        self._source = source
        # A first delimiter needs no line break before it.
        self._seen = b"\n"
        self._ended = False
        # A carriage return before a delimiter is its own where lines end in CRLF, else content.
        self._return = b""
        for _ in self._until_mark():
            continue

    def resource(self) -> bytes:
        """The first part's content, which is JSON."""
        self._header()
        pieces, size = [], 0
        for piece in self._until_mark():
            size += len(piece)
            if size > MAX_RESOURCE:
                raise malformed("the metadata part is too large")
            pieces.append(piece)
        return b"".join(pieces)

    def content_type(self) -> str:
        """The second part's own type; its content comes next."""
        return self._header().get("content-type", "")

    def content(self) -> Iterator[bytes]:
        """The second part's content, in pieces; raises the 400 if anything but the end follows."""
        yield from self._until_mark()
        if not self._ended:
            raise malformed("there are more than two parts")

    def _header(self) -> dict[str, str]:
        """The fields before a part's content."""
        if self._ended:
            raise malformed("there are fewer than two parts")
        while (end := re.search(rb"\r?\n\r?\n", self._seen)) is None:
            if len(self._seen) > MAX_HEADER or not self._more():
                raise malformed("a part has no header")
        head, self._seen = self._seen[: end.start()], self._seen[end.end() :]
        fields = re.findall(rb"(?m)^([A-Za-z-]+):[ \t]*(.*?)[ \t\r]*$", head)
        given = {name.decode().lower(): value.decode("latin-1") for name, value in fields}
        if given.get("content-transfer-encoding", "binary").lower() not in _PLAIN:
            raise malformed("a part has an encoding that is not served")
        return given

    def _until_mark(self) -> Iterator[bytes]:
        """What comes before the next delimiter line, which is passed over."""
        # Two bytes more than the mark wait: a line break may be CRLF, a dash may be half of two.
        waiting = len(self._mark) + 2
        while True:
            match = self._delimiter.search(self._seen)
            if match is not None and match[1].endswith((b"\n", b"--")):
                yield self._seen[: match.start()].removesuffix(self._return)
                self._pass_delimiter(match)
                return
            keep = max(0, len(self._seen) - waiting if match is None else match.start() - 1)
            if len(self._seen) - keep > MAX_HEADER:
                raise malformed("a delimiter line is too long")
            if keep:
                yield self._seen[:keep]
                self._seen = self._seen[keep:]
            if not self._more():
                raise malformed("the last delimiter is missing")

    def _pass_delimiter(self, match: re.Match[bytes]) -> None:
        if match[1] == b"--":
            self._ended = True
            while self._source.read(PIECE):
                continue
            return
        self._seen = self._seen[match.end() - 1 :]
        self._return = b"\r" if match[1].endswith(b"\r\n") else b""

    def _more(self) -> bool:
        piece = self._source.read(PIECE)
        self._seen += piece
        return bool(piece)


def malformed(why: str) -> StorageError:
    """The 400 of a body that cannot be read."""
    return StorageError(400, f"Malformed multipart body: {why}.", "badRequest")
