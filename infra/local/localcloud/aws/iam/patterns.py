"""IAM's wildcards and policy variables: `*`, `?`, `${aws:username}`, `${*}`.

A value that a variable stands for is always literal, so that a caller who is named `*` gains
nothing. A variable without a value, and without a default of its own, makes the text match nothing.
Specification: "IAM policy elements: Variables and tags" and "Resource", IAM User Guide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

type Values = tuple[str, ...]
"""What a key holds; several only for a multivalued key."""

type Context = Mapping[str, Values]
"""Condition keys, in lower case, and what the request holds under them."""

_PIECE = re.compile(r"\$\{([^{}]*)\}|\*|\?|[^*?$]+|\$")
_DEFAULT = re.compile(r"\s*([^,\s]+)\s*,\s*'([^']*)'\s*")
_ARN_PARTS = 6
_LITERAL = {"*", "?", "$"}


def matches(pattern: str, text: str, context: Context, *, ignore_case: bool = False) -> bool:
    """Whether a pattern with wildcards stands for the whole text."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    compiled = _compiled(pattern, context, star=".*", mark=".")
    return compiled is not None and re.fullmatch(compiled, text, flags) is not None


def matches_resource(pattern: str, arn: str, context: Context) -> bool:
    """Whether a Resource stands for an ARN.

    A wildcard stays within its segment between colons, unless it ends that segment.
    """
    if pattern == "*":
        return True
    segments = []
    for segment in _segments(pattern):
        ends = segment.endswith("*")
        inner = _compiled(segment[:-1] if ends else segment, context, star="[^:]*", mark="[^:]")
        if inner is None:
            return False
        segments.append(inner + (".*" if ends else ""))
    return re.fullmatch(":".join(segments), arn, re.DOTALL) is not None


def matches_arn(pattern: str, arn: str, context: Context) -> bool:
    """ArnLike and ArnEquals: each of the six parts by itself, whose last may hold colons."""
    wanted, given = _segments(pattern), arn.split(":", 5)
    if len(wanted) < _ARN_PARTS or len(given) != _ARN_PARTS:
        return False
    parts = [*wanted[:5], ":".join(wanted[5:])]
    return all(matches(part, value, context) for part, value in zip(parts, given, strict=True))


def is_arn(pattern: str) -> bool:
    """Whether a pattern has all the parts of an ARN."""
    return len(_segments(pattern)) >= _ARN_PARTS


def expanded(text: str, context: Context) -> str | None:
    """A text without wildcards, its variables replaced; None if one of them has no value."""
    pieces = []
    for match in _PIECE.finditer(text):
        value = match[0] if match[1] is None else _value(match[1], context)
        if value is None:
            return None
        pieces.append(value)
    return "".join(pieces)


def without_variables(text: str) -> str:
    """The text so that `${…}` stands for itself, as it does before version 2012-10-17."""
    return text.replace("$", "${$}")


def _compiled(pattern: str, context: Context, *, star: str, mark: str) -> str | None:
    pieces = []
    for match in _PIECE.finditer(pattern):
        if match[1] is not None:
            value = _value(match[1], context)
            if value is None:
                return None
            pieces.append(re.escape(value))
        else:
            pieces.append({"*": star, "?": mark}.get(match[0]) or re.escape(match[0]))
    return "".join(pieces)


def _value(name: str, context: Context) -> str | None:
    if name in _LITERAL:
        return name
    with_default = _DEFAULT.fullmatch(name)
    found = context.get((with_default[1] if with_default else name.strip()).lower(), ())
    if len(found) == 1:
        return found[0]
    # Of a key with several values there is no one value to put in.
    return with_default[2] if with_default and not found else None


def _segments(pattern: str) -> list[str]:
    """A pattern's parts between colons; a variable's own colon divides nothing."""
    return re.split(r":(?![^{}]*\})", pattern)
