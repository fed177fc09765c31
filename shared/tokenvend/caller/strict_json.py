"""JSON from strangers, read without leniency (RFC 8259, I-JSON RFC 7493).

Refused: anything but one object in UTF-8, a member named twice (two readers could pick different
ones), NaN and Infinity, nesting that exhausts the stack, and text that is no Unicode (a lone
surrogate passes here and breaks whoever writes it to a log).
"""

from __future__ import annotations

import json
from typing import Any, Never


def read_object(data: bytes) -> dict[str, Any]:
    """The object in `data`. Raises ValueError, whose text holds nothing of the data."""
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        # The cause is dropped: a decoder's message quotes what it could not read.
        msg = "not strict JSON"
        raise ValueError(msg) from None
    if not isinstance(value, dict):
        msg = "not a JSON object"
        raise ValueError(msg)  # noqa: TRY004 - one error for every unreadable document
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        msg = "a member named twice"
        raise ValueError(msg)
    return members


def _no_constant(name: str) -> Never:
    msg = f"{name} is no JSON"
    raise ValueError(msg)
