"""Resumable upload sessions: bytes that arrive over several requests and become one object.

**The session's address is the credential**, as at Google: whoever has it may go on with the upload,
without any token, for a week, even when the grant under which it was opened is gone. So its id is
unguessable and stands in no log and no error. What is kept of a broken request are whole quanta of
256 KiB. A finished session answers a repeated request with the object that it made.
https://cloud.google.com/storage/docs/resumable-uploads
"""

from __future__ import annotations

import re
import secrets
import threading
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from localcloud.google.storage.content import Writer
from localcloud.google.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.google.storage.content import Content, Directory
    from localcloud.google.storage.store import StoredObject
    from localcloud.wire.web import Body

QUANTUM = 256 * 1024
"""Bytes: all but the last request of an upload carry a multiple of it."""
LIFETIME = 7 * 24 * 3600
"""Seconds that a session can be used."""
BUSY_SECONDS = 30
_RANGE = re.compile(r"bytes (?:([0-9]{1,19})-([0-9]{1,19}|\*)|\*)/([0-9]{1,19}|\*)")


@dataclass(frozen=True, slots=True)
class Span:
    """A request's Content-Range; None is an asterisk. Without `first` it only asks."""

    first: int | None = 0
    last: int | None = None
    total: int | None = None
    open_end: bool = False

    @classmethod
    def parse(cls, text: str) -> Span:
        """The span of a field; without one the body is all of the object."""
        if not text:
            return cls(open_end=True)
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            raise bad_request(
                f"Invalid request.  Failed to parse Content-Range header: {text[:64]}"
            )
        first, last, total = (
            int(part) if part and part != "*" else None for part in match.groups()
        )
        if first is not None and last is not None and last < first:
            raise bad_request("Invalid request.  The Content-Range header ends before it begins.")
        if last is not None and total is not None and last >= total:
            raise bad_request(
                "Invalid request.  The Content-Range header ends behind the total of "
                f"{total} byte(s)."
            )
        return cls(first, last, total, open_end=first is not None and last is None)


@dataclass(eq=False)
class Session:
    """One upload; `advance` serves its requests one after another.

    Args:
        id: the unguessable id.
        bucket: the bucket whose object it makes.
        expires: epoch seconds.
        length: the object's size in bytes, where it was announced.
        finish: makes the object of the content; raises what keeps it from being made.

    """

    id: str = field(repr=False)
    bucket: str
    expires: float
    length: int | None
    finish: Callable[[Content], StoredObject]
    writer: Writer | None
    made: StoredObject | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def received(self) -> int:
        """How many bytes are kept."""
        return self.writer.size if self.writer else 0

    def advance(
        self, content_range: str, body: Body, check: Callable[[Content], None] | None = None
    ) -> StoredObject | None:
        """Take a request's bytes; the object once it is made, None while bytes are missing.

        `check` raises what the last request knows against the content, its checksum. Raises
        StorageError for what does not fit, and what `finish` raises; passes on the BodyCutError
        of a broken connection, having kept the whole quanta that came.
        """
        if not self.lock.acquire(timeout=BUSY_SECONDS):
            text = "An earlier request of this upload is still running."
            raise StorageError(HTTPStatus.SERVICE_UNAVAILABLE, text, "backendError", plain=True)
        try:
            return self._advance(content_range, body, check)
        finally:
            if self.writer is not None:
                self.writer.pause()
            self.lock.release()

    def cancel(self) -> None:
        """Drop what came; nothing can be sent any more."""
        with self.lock:
            self.writer = None

    def _advance(
        self, content_range: str, body: Body, check: Callable[[Content], None] | None
    ) -> StoredObject | None:
        if self.made is not None:
            _skip(body, None)
            return self.made
        if self.writer is None:
            raise gone()
        span = Span.parse(content_range)
        self._agree(span)
        if span.first is None:
            return self._complete(self.writer, check) if span.total == self.received else None
        _check_length(span, body)
        if span.first > self.received:
            text = (
                f"Invalid request.  According to the Content-Range header, the upload offset is "
                f"{span.first} byte(s), which exceeds already uploaded size of {self.received} "
                "byte(s)."
            )
            raise StorageError(HTTPStatus.SERVICE_UNAVAILABLE, text, "backendError", plain=True)
        _skip(body, self.received - span.first)
        final = span.open_end or (span.last is not None and span.last + 1 == span.total)
        self._take(self.writer, body, span, final=final)
        ended = span.total is None or self.received == span.total
        return self._complete(self.writer, check) if final and ended else None

    def _agree(self, span: Span) -> None:
        """The announced size is the size."""
        known, last = self.length, span.last or 0
        if known is None:
            return
        if (span.total is not None and span.total != known) or last >= max(known, 1):
            size = last + 1 if span.total is None else span.total
            raise bad_request(
                f"Invalid request.  The upload was announced with {known} byte(s), but the "
                f"Content-Range header says {size} byte(s)."
            )

    def _take(self, writer: Writer, body: Body, span: Span, *, final: bool) -> None:
        limit = next((n for n in (span.total, self.length) if n is not None), None)
        piece = _quantum(body)
        while piece and (final or len(piece) == QUANTUM):
            if limit is not None and self.received + len(piece) > limit:
                raise bad_request(
                    f"Invalid request.  There were more than the {limit} byte(s) that were "
                    "announced."
                )
            writer.write(piece)
            piece = _quantum(body)

    def _complete(self, writer: Writer, check: Callable[[Content], None] | None) -> StoredObject:
        if self.length is not None and self.received != self.length:
            raise bad_request(
                f"Invalid request.  The upload was announced with {self.length} byte(s), but "
                f"{self.received} byte(s) came."
            )
        content = writer.finish()
        if check is not None:
            check(content)
        made = self.finish(content)
        # The answer to a repeated request needs no bytes: with the object's its file goes too.
        self.made = replace(made, content=made.content.without_file())
        self.writer = None
        return self.made


class Sessions:
    """Every session of the last week; safe for threads."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def open(
        self,
        bucket: str,
        finish: Callable[[Content], StoredObject],
        length: int | None,
        now: float,
    ) -> Session:
        """A new session; `now` is epoch seconds."""
        upload, writer = secrets.token_urlsafe(96), Writer(self._directory)
        session = Session(upload, bucket, now + LIFETIME, length, finish, writer)
        with self._lock:
            for expired in [key for key, known in self._open.items() if known.expires <= now]:
                del self._open[expired]
            self._open[session.id] = session
        return session

    def find(self, upload_id: str, now: float) -> Session:
        """The session of an id; raises the 404 of an unknown one, the 410 of an old one."""
        with self._lock:
            session = self._open.get(upload_id)
        if session is None:
            text = "No such upload session."
            raise StorageError(HTTPStatus.NOT_FOUND, text, "notFound", plain=True)
        if session.expires <= now:
            raise gone()
        return session


def bad_request(text: str) -> StorageError:
    """The 400 of an upload session, which is plain text."""
    return StorageError(HTTPStatus.BAD_REQUEST, text, "badRequest", plain=True)


def gone() -> StorageError:
    """The answer of a session that was cancelled or is older than a week."""
    text = "The upload session is no longer available."
    return StorageError(HTTPStatus.GONE, text, "uploadBrokenConnection", plain=True)


def _check_length(span: Span, body: Body) -> None:
    """A body is as long as its Content-Range says, and no short one but the last."""
    if span.first is None or span.last is None or body.length is None:
        return
    wanted = span.last - span.first + 1
    if body.length != wanted:
        raise bad_request(
            f"Invalid request.  There were {body.length} byte(s) in the request body.  There "
            f"should have been {wanted} byte(s) (starting at offset {span.first} and ending at "
            f"offset {span.last}) according to the Content-Range header."
        )
    if span.last + 1 != span.total and wanted < QUANTUM:
        raise bad_request(
            f"Invalid request.  The number of bytes uploaded is required to be equal or greater "
            f"than {QUANTUM}, except for the final request (it's recommended to be the exact "
            f"multiple of {QUANTUM}).  The received request contained {wanted} bytes, which does "
            "not meet this requirement."
        )


def _skip(body: Body, count: int | None) -> None:
    """Pass over bytes that are kept already; None: over all of them."""
    while count is None or count > 0:
        piece = body.read(QUANTUM if count is None else min(count, QUANTUM))
        if not piece:
            return
        count = count and count - len(piece)


def _quantum(body: Body) -> bytes:
    """The next 256 KiB of a body, less at its end."""
    pieces, left = [], QUANTUM
    while left and (piece := body.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)
