"""Partial responses: the `fields` parameter of a JSON API.

``items(name,size),nextPageToken`` or ``items/name``; an asterisk stands for every field.
https://cloud.google.com/storage/docs/json_api#fields
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import GoogleError, invalid_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

type Mask = dict[str, Mask]
"""Names to what is selected of them; empty for all of it."""

MAX_DEPTH = 10
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+|[*/,()]")


def selected(
    value: Mapping[str, Any], text: str, known: frozenset[str] | None = None
) -> dict[str, Any]:
    """What `text` selects of a resource; raises the 400.

    `known` names the fields on every level that has names of its own, as ``items/name``: another
    one is refused. Without it a name that the resource lacks selects nothing.
    """
    mask = _parse(text)
    if known is not None:
        _check(mask, known, "", text)
    chosen: dict[str, Any] = _apply(mask, dict(value))
    return chosen


def _parse(text: str) -> Mask:
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text.replace(" ", "") or not tokens:
        raise _refused(text)
    mask, rest = _list(tokens, 0, text)
    if rest:
        raise _refused(text)
    return mask


def _list(tokens: list[str], depth: int, text: str) -> tuple[Mask, list[str]]:
    """A comma-separated list of selections, and the tokens behind it."""
    mask: Mask = {}
    while True:
        tokens = _selection(mask, tokens, depth, text)
        if not tokens or tokens[0] != ",":
            return mask, tokens
        tokens = tokens[1:]


def _selection(mask: Mask, tokens: list[str], depth: int, text: str) -> list[str]:
    if not tokens or tokens[0] in "/,()" or depth > MAX_DEPTH:
        raise _refused(text)
    below = mask.setdefault(tokens[0], {})
    match tokens[1:]:
        case ["/", *rest]:
            return _selection(below, rest, depth + 1, text)
        case ["(", *rest]:
            inner, rest = _list(rest, depth + 1, text)
            below.update(inner)
            if not rest or rest[0] != ")":
                raise _refused(text)
            return rest[1:]
        case rest:
            return rest


def _check(mask: Mask, known: frozenset[str], at: str, text: str) -> None:
    for name, below in mask.items():
        place = f"{at}{name}"
        if name != "*" and place not in known and f"{at}*" not in known:
            raise _refused(name)
        if name != "*" and f"{at}*" not in known:
            _check(below, known, f"{place}/", text)


def _apply(mask: Mask, value: Any) -> Any:
    if isinstance(value, list):
        return [_apply(mask, entry) for entry in value]
    if not isinstance(value, dict) or not mask:
        return value
    return {
        name: _apply(mask.get(name, mask.get("*", {})), entry)
        for name, entry in value.items()
        if name in mask or "*" in mask
    }


def _refused(name: str) -> GoogleError:
    return invalid_argument(f"Invalid field selection {name[:128]}", "fields")
