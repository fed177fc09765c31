"""Condition operators of IAM policies.

Every operator of AWS is here; any other is refused when the policy is read, as IAM refuses it. A
key that this cloud does not fill in is not taken for absent: a comparison with it decides nothing,
so that no Allow depends on it, and the log says so. The same goes for a negation of what equals
nothing: a variable without a value, an ARN that is none.
Specification: "IAM JSON policy elements: Condition operators", IAM User Guide.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from localcloud.aws.iam.patterns import Context, expanded, is_arn, matches, matches_arn

if TYPE_CHECKING:
    from collections.abc import Iterable

type _Compare = Callable[[str, str, Context], bool]


class UndecidedError(LookupError):
    """A condition asks for what this cloud does not know; the text names it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison: an operator, a key and the values that the policy gives."""

    operator: str
    key: str
    values: tuple[str, ...]

    def holds(self, context: Context, modelled: Callable[[str], bool]) -> bool:
        """Whether the request meets it; raises UndecidedError."""
        key = self.key.lower()
        found = context.get(key)
        if found is None and not modelled(key):
            raise UndecidedError(self.key)
        quantifier, base, if_exists = _parts(self.operator)
        if base == "Null":
            return any((found is None) == (value.lower() == "true") for value in self.values)
        compare, negated = _OPERATORS[base]
        if found is None:
            return if_exists or (negated and quantifier != _ANY) or quantifier == _ALL

        def one(value: str) -> bool:
            return negated != any(compare(value, wanted, context) for wanted in self.values)

        held = any(map(one, found)) if quantifier == _ANY else all(map(one, found))
        empty = [wanted for wanted in self.values if not self._is_some(wanted, context)]
        if held and negated and empty:
            raise UndecidedError(empty[0])
        return held

    def _is_some(self, wanted: str, context: Context) -> bool:
        """Whether anything at all could equal this text."""
        if "Arn" in self.operator and not is_arn(wanted):
            return False
        return expanded(wanted, context) is not None


def is_operator(name: str) -> bool:
    """Whether IAM has an operator of this name."""
    quantifier, base, if_exists = _parts(name)
    return base in _OPERATORS or (base == "Null" and not quantifier and not if_exists)


def is_value(operator: str, text: str) -> bool:
    """Whether an operator can compare anything with this text of a policy.

    One that cannot would never be equal, so that its negation would always hold.
    """
    _, base, _ = _parts(operator)
    if "${" in text:
        return True
    if base in {"Null", "Bool"}:
        return text.lower() in {"true", "false"}
    # Each of these texts compares equal to itself, if it is one.
    sample = text.partition("/")[0] if base.endswith("IpAddress") else text
    kind = next((each for each in _TYPED if base.startswith(each)), "")
    return not kind or _TYPED[kind](sample, text, {})


_ALL, _ANY = "ForAllValues:", "ForAnyValue:"


def _parts(operator: str) -> tuple[str, str, bool]:
    quantifier = next((q for q in (_ALL, _ANY) if operator.startswith(q)), "")
    base = operator.removeprefix(quantifier)
    return quantifier, base.removesuffix("IfExists"), base.endswith("IfExists")


def _string(value: str, wanted: str, context: Context) -> bool:
    return value == expanded(wanted, context)


def _string_ignoring_case(value: str, wanted: str, context: Context) -> bool:
    text = expanded(wanted, context)
    return text is not None and value.lower() == text.lower()


def _like(value: str, wanted: str, context: Context) -> bool:
    return matches(wanted, value, context)


def _arn(value: str, wanted: str, context: Context) -> bool:
    return matches_arn(wanted, value, context)


def _bool(value: str, wanted: str, context: Context) -> bool:
    text = expanded(wanted, context)
    return text is not None and value.lower() == text.lower() and text.lower() in {"true", "false"}


def _binary(value: str, wanted: str, _: Context) -> bool:
    try:
        return base64.b64decode(value, validate=True) == base64.b64decode(wanted, validate=True)
    except binascii.Error:
        return False


def _address(value: str, wanted: str, context: Context) -> bool:
    text = expanded(wanted, context)
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(text or "", strict=False)
    except ValueError:
        return False


def _number(test: Callable[[Decimal, Decimal], bool]) -> _Compare:
    def compare(value: str, wanted: str, context: Context) -> bool:
        try:
            return test(Decimal(value), Decimal(expanded(wanted, context) or ""))
        except InvalidOperation:
            return False

    return compare


def _date(test: Callable[[float, float], bool]) -> _Compare:
    def compare(value: str, wanted: str, context: Context) -> bool:
        ours, theirs = _epoch(value), _epoch(expanded(wanted, context) or "")
        return ours is not None and theirs is not None and test(ours, theirs)

    return compare


def _epoch(text: str) -> float | None:
    """Epoch seconds of an ISO 8601 date, or of a number that is already that."""
    if re.fullmatch(r"\d{1,12}(\.\d+)?", text):
        return float(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _ordered(prefix: str, make: Callable[[Callable[..., bool]], _Compare]) -> Iterable[_Entry]:
    yield f"{prefix}Equals", (make(lambda a, b: a == b), False)
    yield f"{prefix}NotEquals", (make(lambda a, b: a == b), True)
    yield f"{prefix}LessThan", (make(lambda a, b: a < b), False)
    yield f"{prefix}LessThanEquals", (make(lambda a, b: a <= b), False)
    yield f"{prefix}GreaterThan", (make(lambda a, b: a > b), False)
    yield f"{prefix}GreaterThanEquals", (make(lambda a, b: a >= b), False)


type _Entry = tuple[str, tuple[_Compare, bool]]

# By name: how one value is compared, and whether the comparison is turned round.
_OPERATORS: Final[dict[str, tuple[_Compare, bool]]] = {
    "StringEquals": (_string, False),
    "StringNotEquals": (_string, True),
    "StringEqualsIgnoreCase": (_string_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_string_ignoring_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn, False),
    "ArnLike": (_arn, False),
    "ArnNotEquals": (_arn, True),
    "ArnNotLike": (_arn, True),
    "Bool": (_bool, False),
    "BinaryEquals": (_binary, False),
    "IpAddress": (_address, False),
    "NotIpAddress": (_address, True),
    **dict(_ordered("Numeric", _number)),
    **dict(_ordered("Date", _date)),
}

# By the beginning of a name: the comparison of operators that do not take any text.
_TYPED: Final[dict[str, _Compare]] = {
    "Binary": _binary,
    "IpAddress": _address,
    "NotIpAddress": _address,
    "Numeric": _OPERATORS["NumericEquals"][0],
    "Date": _OPERATORS["DateEquals"][0],
}
