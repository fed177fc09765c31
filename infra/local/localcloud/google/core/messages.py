"""Requests as Google's parser reads them: proto3 JSON bodies and query parameters.

A method says which fields its message has and of which type; everything else is refused with the
parser's own 400. Names come in lowerCamelCase or in snake_case, as proto3 allows, and go out in
snake_case. https://protobuf.dev/programming-guides/json/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from localcloud.google.core.errors import GoogleError, invalid_argument
from localcloud.world.resources import camel

SYSTEM_PARAMETERS = frozenset(
    {
        *("$.xgafv", "$alt", "access_token", "alt", "callback", "fields", "key", "oauth_token"),
        *("prettyPrint", "quotaUser", "uploadType", "upload_protocol"),
    }
)
"""What Google takes at every method (iam.v1 discovery document, `parameters`)."""
_MAX_INT32 = 2**31 - 1


class WrongTypeError(Exception):
    """A value is not of its field's type."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field's type; `convert` raises WrongTypeError."""

    kind: str
    convert: Callable[[Any, str], Any]


def message(fields: Mapping[str, Field]) -> Field:
    """A nested message."""

    def convert(value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise WrongTypeError
        return _fields(value, fields, at)

    return Field("MESSAGE", convert)


def repeated(field: Field) -> Field:
    """A list."""

    def convert(value: Any, at: str) -> list[Any]:
        entries = value if isinstance(value, list) else [value]
        return [_value(field, entry, f"{at}[{i}]") for i, entry in enumerate(entries)]

    return Field(field.kind, convert)


def string_map() -> Field:
    """map<string, string>."""

    def convert(value: Any, at: str) -> dict[str, str]:
        if not isinstance(value, dict):
            raise WrongTypeError
        return {key: _value(STRING, entry, f"{at}[{key!r}].value") for key, entry in value.items()}

    return Field("MESSAGE", convert)


def _string(value: Any, _at: str) -> str:
    if not isinstance(value, str):
        raise WrongTypeError
    return value


def _bool(value: Any, _at: str) -> bool:
    match value:
        case bool():
            return value
        case str() if value.lower() in ("true", "false"):
            # gcloud writes showDeleted=False.
            return value.lower() == "true"
        case _:
            raise WrongTypeError


def _int32(value: Any, _at: str) -> int:
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,10}", value):
        value = int(value)
    if type(value) is not int or not -_MAX_INT32 - 1 <= value <= _MAX_INT32:
        raise WrongTypeError
    return value


STRING = Field("TYPE_STRING", _string)
BOOL = Field("TYPE_BOOL", _bool)
INT32 = Field("TYPE_INT32", _int32)
BYTES = Field("TYPE_BYTES", _string)
ANY = Field("MESSAGE", lambda value, _at: value)
"""A message that is refused or passed on whole."""


def enum(kind: str, *names: str) -> Field:
    """One of the names; `kind` is the enum's full name."""

    def convert(value: Any, _at: str) -> str:
        if value not in names:
            raise WrongTypeError
        return str(value)

    return Field(f"type.googleapis.com/{kind}", convert)


def read_message(body: bytes, fields: Mapping[str, Field], at: str = "") -> dict[str, Any]:
    """The fields that a JSON body holds; `at` is the message's name in errors."""
    try:
        value = json.loads(body or b"{}", object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise invalid_argument("Invalid JSON payload received. Unexpected token.") from None
    if not isinstance(value, dict):
        raise _violation("Invalid JSON payload received. Root element must be a message.", at)
    return _fields(value, fields, at)


def read_query(query: str, fields: Mapping[str, Field], *, lenient: bool = False) -> dict[str, Any]:
    """The fields that a query string holds; `lenient` passes over what is not one of them."""
    names = {camel(name): name for name in fields} | {name: name for name in fields}
    given: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in names:
            given[names[name]] = _value(fields[names[name]], value, names[name])
        elif not lenient and name not in SYSTEM_PARAMETERS:
            text = (
                f'Invalid JSON payload received. Unknown name "{name}": Cannot bind query '
                f"parameter. Field '{name}' could not be found in request message."
            )
            raise _violation(text)
    return given


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice")
    return value


def _fields(value: Mapping[str, Any], fields: Mapping[str, Field], at: str) -> dict[str, Any]:
    names = {camel(name): name for name in fields} | {name: name for name in fields}
    unknown = [key for key in value if key not in names]
    if unknown:
        place = f" at '{at}'" if at else ""
        text = f'Unknown name "{unknown[0]}"{place}: Cannot find field.'
        raise _violation(f"Invalid JSON payload received. {text}", at)
    prefix = f"{at}." if at else ""
    return {
        names[key]: _value(fields[names[key]], entry, prefix + names[key])
        for key, entry in value.items()
        if entry is not None
    }


def _value(field: Field, value: Any, at: str) -> Any:
    try:
        return field.convert(value, at)
    except WrongTypeError:
        shown = json.dumps(value) if not isinstance(value, dict | list) else "an object"
        raise _violation(f"Invalid value at '{at}' ({field.kind}), {shown}", at) from None


def _violation(text: str, at: str = "") -> GoogleError:
    kind = "type.googleapis.com/google.rpc.BadRequest"
    violation = ({"field": at} if at else {}) | {"description": text}
    detail = {"@type": kind, "fieldViolations": [violation]}
    return GoogleError("INVALID_ARGUMENT", text, (detail,))
