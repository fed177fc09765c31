"""Field masks: which fields of a resource a PATCH changes.

A masked field that the body does not hold goes back to its default; what is not masked stays, even
if the body holds it. https://google.aip.dev/134
"""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import invalid_argument

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def masked(
    resource: Mapping[str, Any], changes: Mapping[str, Any], mask: str, fields: Iterable[str]
) -> dict[str, Any]:
    """The resource with the masked fields of `changes`; names in snake_case, nested ones too.

    Args:
        resource: its fields now.
        changes: the body.
        mask: the paths, in either spelling, with commas between them.
        fields: which top-level fields may be changed.

    """
    allowed = set(fields)
    result = deepcopy(dict(resource))
    paths = [_snake(path.strip()) for path in mask.split(",") if path.strip()]
    if not paths:
        raise invalid_argument("Request contains an invalid argument.", "update_mask")
    for path in sorted(allowed) if paths == ["*"] else paths:
        if path.partition(".")[0] not in allowed:
            raise invalid_argument(f"Invalid update mask path: {path}.", "update_mask")
        _copy(result, changes, path.split("."))
    return result


def _copy(target: dict[str, Any], source: Mapping[str, Any] | None, path: list[str]) -> None:
    head, *rest = path
    # A map's keys have dots of their own: attribute_mapping.google.subject.
    if head == "attribute_mapping" and rest:
        rest = [".".join(rest)]
    value = (source or {}).get(head)
    if rest:
        inner = target.get(head)
        known = inner is None or (isinstance(inner, dict) and rest[0] in inner)
        if not known and head != "attribute_mapping":
            raise invalid_argument(f"Invalid update mask path: {'.'.join(path)}.", "update_mask")
        target[head] = dict(inner) if isinstance(inner, dict) else {}
        _copy(target[head], value, rest)
    elif value is None:
        target.pop(head, None)
    else:
        target[head] = value


def _snake(path: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), path)
