"""The checksums that a writer gives for its content, held against what came.

https://cloud.google.com/storage/docs/data-validation
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.google.storage.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.storage.content import Content
    from localcloud.wire.web import Headers

_CRC32C_BYTES = 4
_MD5_BYTES = 16


@dataclass(frozen=True, slots=True)
class Digests:
    """A CRC32C and an MD5 in base64; empty where none was given."""

    crc32c: str = ""
    md5: str = ""

    @classmethod
    def of_fields(cls, fields: Mapping[str, object]) -> Digests:
        """Those of an object resource; raises the 400 of what is no digest."""
        return cls(
            _checked(str(fields.get("crc32c") or ""), _CRC32C_BYTES, "crc32c"),
            _checked(str(fields.get("md5Hash") or ""), _MD5_BYTES, "md5Hash"),
        )

    @classmethod
    def of_headers(cls, headers: Headers) -> Digests:
        """Those of `X-Goog-Hash` and `Content-MD5`; raises the 400 of what is no digest."""
        given = {}
        for value in headers.all("X-Goog-Hash"):
            for entry in value.split(","):
                name, _, digest = entry.strip().partition("=")
                given[name.lower()] = digest
        md5 = given.get("md5") or headers.get("Content-MD5").strip()
        return cls(
            _checked(given.get("crc32c", ""), _CRC32C_BYTES, "X-Goog-Hash"),
            _checked(md5, _MD5_BYTES, "Content-MD5"),
        )

    def require(self, content: Content) -> None:
        """Raise the 400 unless the content has these digests."""
        if self.crc32c and self.crc32c != content.crc32c:
            text = (
                f'Provided CRC32C "{self.crc32c}" doesn\'t match calculated CRC32C '
                f'"{content.crc32c}".'
            )
            raise invalid(text)
        if self.md5 and content.md5 and self.md5 != content.md5:
            text = (
                f'Provided MD5 hash "{self.md5}" doesn\'t match calculated MD5 hash '
                f'"{content.md5}".'
            )
            raise invalid(text)


def _checked(text: str, size: int, where: str) -> str:
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:
        decoded = b"?"
    if text and len(decoded) != size:
        raise invalid(f"Invalid value for: {where}", where)
    return text
