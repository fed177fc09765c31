"""The bytes of objects, in files: written once while they are hashed, never held in memory.

A file lives as long as something refers to it (an object, a copy of it, a reader, an upload) and is
unlinked with its last reference. What a killed process left is cleared by the next `Directory`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import shutil
import tempfile
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c

from localcloud.google.storage.errors import out_of_space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PIECE = 256 * 1024
"""How many bytes at most are in memory for one transfer."""


class Directory:
    """Where the files are; given none, a temporary one that goes with this object."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="objects-"))
            weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        elif path.exists():
            # Left by a process that was killed: nothing refers to it any more.
            shutil.rmtree(path)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path


class File:
    """A file that is unlinked when nothing refers to it any more."""

    def __init__(self, directory: Directory) -> None:
        try:
            number, name = tempfile.mkstemp(dir=directory.path)
        except OSError as failure:
            raise _told(failure) from None
        os.close(number)
        self.path = Path(name)
        # The finalizer also holds the directory, so that a temporary one outlives its files.
        weakref.finalize(self, _unlink, self.path, directory)


def _unlink(path: Path, _directory: Directory) -> None:
    path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Content:
    """Finished bytes and their digests.

    Args:
        file: the file they are in; None once only the digests are remembered.
        size: how many there are.
        crc32c: base64 of the big-endian CRC32C, as `x-goog-hash` carries it.
        md5: base64 of the MD5; empty for what was composed of parts.

    """

    file: File | None
    size: int
    crc32c: str
    md5: str

    def without_file(self) -> Content:
        """What is known of the bytes without the bytes."""
        return replace(self, file=None)

    def read(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces."""
        if self.file is None:
            message = "the bytes are gone"
            raise RuntimeError(message)
        left = (self.size if end is None else end) - start
        with self.file.path.open("rb") as source:
            source.seek(start)
            while left > 0 and (piece := source.read(min(PIECE, left))):
                left -= len(piece)
                yield piece

    @property
    def etag(self) -> str:
        """The XML API's entity tag without its quotes: the MD5 in hexadecimal, if there is one."""
        return base64.b64decode(self.md5).hex()


class Writer:
    """Content in the making."""

    def __init__(self, directory: Directory) -> None:
        self._file = File(directory)
        self._handle: io.FileIO | None = None
        self._crc32c = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self.size = 0

    def write(self, piece: bytes) -> None:
        """Append bytes; they are in the file when this returns."""
        try:
            if self._handle is None:
                self._handle = io.FileIO(self._file.path, "r+b")
                # What a full disk took of a piece is not part of the content.
                self._handle.truncate(self._handle.seek(self.size))
            view = memoryview(piece)
            while view:
                view = view[self._handle.write(view) :]
        except OSError as failure:
            raise _told(failure) from None
        self._crc32c = google_crc32c.extend(self._crc32c, piece)
        self._md5.update(piece)
        self.size += len(piece)

    def pause(self) -> None:
        """Close the file until the next write: an upload may rest for a week."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def finish(self, *, composed: bool = False) -> Content:
        """The content so far. What is `composed` of parts has no MD5."""
        self.pause()
        crc32c = base64.b64encode(self._crc32c.to_bytes(4, "big")).decode()
        md5 = "" if composed else base64.b64encode(self._md5.digest()).decode()
        return Content(self._file, self.size, crc32c, md5)


def _told(failure: OSError) -> Exception:
    """A full disk as the refusal that the client hears; any other failure as it is."""
    full = failure.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return out_of_space() if full else failure


def write(directory: Directory, pieces: Iterable[bytes], *, composed: bool = False) -> Content:
    """Content of what `pieces` yields."""
    writer = Writer(directory)
    try:
        for piece in pieces:
            writer.write(piece)
    finally:
        writer.pause()
    return writer.finish(composed=composed)


def concatenate(directory: Directory, parts: Iterable[Content]) -> Content:
    """One content of several, read piece by piece; it has no MD5, as at Google."""
    return write(directory, (piece for part in parts for piece in part.read()), composed=True)
