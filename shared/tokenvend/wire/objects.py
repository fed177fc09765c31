"""JSON objects: read from strangers without leniency (RFC 8259, I-JSON RFC 7493), and written.

Refused: anything but one object in UTF-8, a member named twice (two readers could pick different
ones), NaN and Infinity, nesting that exhausts the stack, and text that is no Unicode (a lone
surrogate passes here and breaks whoever writes it to a log).
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Never

from tokenvend.model import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

# Google's tokens reach 12,288 bytes today, and it reserves the right to change that.
MAX_TOKEN = 16 * 1024
_TOKEN = re.compile(r"[!-~]+")


def read_object(data: bytes) -> dict[str, Any]:
    """The object in `data`. Raises ValueError, whose text holds nothing of the data."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=once, parse_constant=_no_constant
        )
        if b"\\u" in data:
            # Half a surrogate pair can only have come by an escape.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        # The cause is dropped: a decoder's message quotes what it could not read.
        raise ValueError("not strict JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 -- one error for every unreadable document
    return value


def render(value: Mapping[str, Any]) -> bytes:
    """One JSON object, the same bytes for the same value on both clouds."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def read_token(value: object) -> Secret:
    """A member of an answer as a token: 1 to 16 Ki visible ASCII characters. Raises ValueError."""
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not _TOKEN.fullmatch(value):
        raise ValueError("the answer holds no usable token")
    return Secret(value)


def rfc3339(seconds: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ`; google-auth for Python refuses fractions and offsets."""
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}Z"


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A hook for `json`: the object of these members. Raises ValueError on one named twice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("names a member twice")
    return members


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")
