"""Google's CEL: attribute mappings, attribute conditions and IAM conditions.

Follows https://cloud.google.com/iam/docs/conditions-attribute-reference for `extract`. A runtime
error inside cel-expr-python comes back as a *value* that is truthy in Python: only a value of type
BOOL that is True ever counts as true here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

if TYPE_CHECKING:
    from collections.abc import Mapping

_TEMPLATE = re.compile(r"([^{}]*)\{[A-Za-z_][A-Za-z0-9_]*\}([^{}]*)")


@dataclass(frozen=True, slots=True)
class Resource:
    """What an IAM condition sees as `resource`."""

    name: str
    type: str
    service: str


def extract(text: str, template: str) -> str:
    """`text.extract('prefix{name}suffix')`: empty when the template does not match."""
    shape = _TEMPLATE.fullmatch(template)
    if shape is None:
        message = "extract: the template needs exactly one {name}"
        raise ValueError(message)
    prefix, suffix = shape.groups()
    _, found, rest = text.partition(prefix) if prefix else ("", "yes", text)
    if not found:
        return ""
    if not suffix:
        return rest
    value, found, _ = rest.partition(suffix)
    return value if found else ""


def evaluate_string(expression: str, values: Mapping[str, Any]) -> str | None:
    """The expression's string, or None if it fails or is of another type."""
    value = _evaluate(expression, values)
    if value is None or value.type() != cel.Type.STRING:
        return None
    text: str = value.plain_value()
    return text


def evaluate_strings(expression: str, values: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The expression's list of strings (one string counts as a list), or None."""
    value = _evaluate(expression, values)
    plain = None if value is None else value.plain_value()
    entries = [plain] if isinstance(plain, str) else plain
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        return None
    return tuple(entries)


def holds(expression: str, values: Mapping[str, Any]) -> bool:
    """Whether a mapping-side condition is the boolean true; an error is false."""
    return _is_true(_evaluate(expression, values))


def condition_holds(
    expression: str, resource: Resource, now: float, attributes: Mapping[str, str] | None = None
) -> bool:
    """Whether an IAM or access-boundary condition is true; an error is false.

    `attributes` is what `api.getAttribute` reads; `now` is epoch seconds.
    """
    data = {
        "resource.name": resource.name,
        "resource.type": resource.type,
        "resource.service": resource.service,
        "request.time": datetime.fromtimestamp(now, UTC),
    }
    try:
        if attributes:
            condition = _condition_environment(attributes).compile(expression)
        else:
            condition = _compile_condition(expression)
        return _is_true(condition.eval(data=data))
    except (RuntimeError, ValueError, TypeError):
        return False


def condition_problem(expression: str) -> str:
    """What is wrong with an IAM condition, as the compiler says it; empty for a sound one."""
    return _problem(_condition_environment({}), expression, ("BOOL",))


def mapping_problem(expression: str, *kinds: str) -> str:
    """What is wrong with a provider's mapping, which must be of one of these types.

    It sees the assertion alone: what it maps to is not there yet.
    """
    return _problem(_environment("assertion"), expression, kinds)


def attribute_condition_problem(expression: str) -> str:
    """What is wrong with a provider's condition, which sees what was mapped, too."""
    return _problem(_environment(*_MAPPED), expression, ("BOOL",))


_RESOURCE = ("resource.name", "resource.type", "resource.service")
_MAPPED = ("assertion", "google", "attribute")
_WORDS = {"BOOL": "a boolean", "STRING": "a string", "LIST<STRING>": "a list of strings"}


def _problem(environment: cel.Env, expression: str, kinds: tuple[str, ...]) -> str:
    if not expression.strip():
        return "the expression is empty"
    try:
        found = str(environment.compile(expression).return_type())
    except (RuntimeError, ValueError, TypeError) as failure:
        first = str(failure).partition("\n")[0]
        return first.removeprefix("INVALID_ARGUMENT: ")
    if found in (*kinds, "DYN"):
        return ""
    return f"expected {' or '.join(_WORDS[kind] for kind in kinds)}, found {found}"


def _condition_environment(attributes: Mapping[str, str]) -> cel.Env:
    given = dict(attributes)
    get = cel.Overload(
        "api_get_attribute",
        return_type=cel.Type.STRING,
        parameters=[cel.Type.STRING, cel.Type.STRING],
        impl=given.get,
    )
    return cel.NewEnv(
        # Each attribute by its whole name: one that there is not is found when a condition is set.
        # Without the functions of ext_strings, which Google's conditions have not: by `replace` in
        # `replace` a short one makes a text of any size.
        variables={
            **dict.fromkeys(
                ("resource.name", "resource.type", "resource.service"), cel.Type.STRING
            ),
            "request.time": cel.Type.TIMESTAMP,
        },
        functions=[_extract_function(), cel.FunctionDecl("api.getAttribute", [get])],
    )


def _is_true(value: Any) -> bool:
    return value is not None and value.type() == cel.Type.BOOL and value.plain_value() is True


def _evaluate(expression: str, values: Mapping[str, Any]) -> Any:
    try:
        value = _compile(expression).eval(data=dict(values))
    except (RuntimeError, ValueError, TypeError):
        return None
    return None if value.type() == cel.Type.ERROR else value


@cache
def _environment(*names: str) -> cel.Env:
    return cel.NewEnv(
        variables=dict.fromkeys(names, cel.Type.DYN),
        extensions=[ext_strings.ExtStrings()],
        functions=[_extract_function()],
    )


@lru_cache(maxsize=1024)
def _compile(expression: str) -> cel.Expression:
    return _environment(*_MAPPED).compile(expression)


@lru_cache(maxsize=1024)
def _compile_condition(expression: str) -> cel.Expression:
    return _condition_environment({}).compile(expression)


def _extract_function() -> cel.FunctionDecl:
    overload = cel.Overload(
        "string_extract",
        return_type=cel.Type.STRING,
        parameters=[cel.Type.STRING, cel.Type.STRING],
        is_member=True,
        impl=extract,
    )
    return cel.FunctionDecl("extract", [overload])
