"""Multipart uploads in the making: parts on disk until they become one object.

An upload id is no credential: every request of an upload needs a token and its permission. An
upload lives until it is completed or aborted, and is found only under its own bucket and name.
https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import base64
import secrets
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from localcloud.google.storage.xml.documents import XmlError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.google.storage.content import Content
    from localcloud.world import Bucket

MIN_PART = 5 * 1024 * 1024
"""Bytes of every part but the last."""
MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part; `modified` is epoch seconds."""

    content: Content
    modified: float

    @property
    def etag(self) -> str:
        """Its entity tag, with quotes."""
        return f'"{base64.b64decode(self.content.md5).hex()}"'


@dataclass(eq=False)
class Upload:
    """One upload of an object with the fields that its first request gave."""

    bucket: Bucket
    name: str
    fields: Mapping[str, Any]
    initiated: float
    id: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    parts: dict[int, Part] = field(default_factory=dict)

    def chosen(self, wanted: Sequence[tuple[int, str]]) -> list[Part]:
        """The parts of these numbers and entity tags; raises the 400 of what does not fit."""
        numbers = [number for number, _ in wanted]
        if not numbers:
            raise XmlError("MalformedXML")
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise XmlError("InvalidPartOrder")
        chosen = []
        for number, etag in wanted:
            part = self.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip().strip('"'):
                raise XmlError("InvalidPart", f"Part {number}")
            chosen.append(part)
        if any(part.content.size < MIN_PART for part in chosen[:-1]):
            raise XmlError("EntityTooSmall")
        return chosen


class Uploads:
    """Every upload in the making; safe for threads."""

    def __init__(self) -> None:
        self._open: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def open(self, upload: Upload) -> None:
        """Begin an upload."""
        with self._lock:
            self._open[upload.id] = upload

    def find(self, bucket: Bucket, name: str, upload_id: str) -> Upload:
        """The upload of an id; raises the 404, also for that of another object.

        With its bucket an upload is gone: in a later one of that name its parts are a stranger's.
        """
        with self._lock:
            found = self._open.get(upload_id)
        if found is None or found.bucket is not bucket or found.name != name:
            raise XmlError("NoSuchUpload")
        return found

    def add(self, upload: Upload, number: int, part: Part) -> None:
        """Put a part in its place; raises the 404 of an upload that has ended meanwhile."""
        with self._lock:
            if upload.id not in self._open:
                raise XmlError("NoSuchUpload")
            upload.parts[number] = part

    def end(self, upload: Upload) -> None:
        """Take an upload out; raises the 404 if somebody else did."""
        with self._lock:
            if self._open.pop(upload.id, None) is None:
                raise XmlError("NoSuchUpload")

    def of(self, bucket: Bucket, prefix: str) -> list[Upload]:
        """A bucket's uploads in order of their names, then of their beginning."""
        with self._lock:
            found = [u for u in self._open.values() if u.bucket is bucket]
        chosen = [u for u in found if u.name.startswith(prefix)]
        return sorted(chosen, key=lambda upload: (upload.name, upload.initiated, upload.id))
