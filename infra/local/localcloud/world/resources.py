"""Plain YAML or JSON values to typed resources and back, in Google's camelCase spelling.

Refuses unknown keys, missing keys and wrong types, each with the path of the offender.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Union, cast, get_args, get_origin, get_type_hints


class WorldError(ValueError):
    """The document does not describe a world; the message names the path."""


def parse[T](kind: type[T], value: object, where: str) -> T:
    """Build a `kind` dataclass from a mapping; `where` begins the path in errors."""
    if not isinstance(value, dict):
        message = f"{where}: expected a mapping"
        raise WorldError(message)
    hints = get_type_hints(kind)
    known = {camel(item.name): item for item in fields(cast("Any", kind)) if _kept(item)}
    unknown = sorted(str(key) for key in value.keys() - known.keys())
    if unknown:
        message = f"{where}: unknown key {', '.join(unknown)}"
        raise WorldError(message)
    missing = sorted(key for key, item in known.items() if key not in value and _required(item))
    if missing:
        message = f"{where}: missing key {', '.join(missing)}"
        raise WorldError(message)
    given = {
        known[key].name: _convert(hints[known[key].name], entry, f"{where}.{key}")
        for key, entry in value.items()
    }
    return kind(**given)


def unparse(resource: Any) -> dict[str, Any]:
    """The resource as a mapping; fields that hold their default are left out."""
    return {
        camel(item.name): _plain(getattr(resource, item.name))
        for item in fields(resource)
        if _kept(item) and (_required(item) or getattr(resource, item.name) != _default(item))
    }


def camel(name: str) -> str:
    """`iam_policy` to `iamPolicy`."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _kept(item: Field[Any]) -> bool:
    """Whether a field is part of a world, not only of the running cloud."""
    return item.metadata.get("kept", True) is True


def _required(item: Field[Any]) -> bool:
    return item.default is MISSING and item.default_factory is MISSING


def _default(item: Field[Any]) -> object:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return unparse(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return dict(value) if isinstance(value, dict) else value


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is list and isinstance(value, list):
        return [_convert(args[0], entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {
            _convert(args[0], key, where): _convert(args[1], entry, f"{where}.{key}")
            for key, entry in value.items()
        }
    if origin is None and is_dataclass(hint):
        return parse(cast("type[Any]", hint), value, where)
    # `type(...) is`, since True is an int and YAML reads an unquoted account number as one.
    # Any is a document of another language, such as IAM's; whoever reads it checks it.
    if hint is Any or (origin is None and type(value) is hint):
        return value
    expected = getattr(origin or hint, "__name__", str(hint))
    message = f"{where}: expected {expected}, found {type(value).__name__}"
    raise WorldError(message)
