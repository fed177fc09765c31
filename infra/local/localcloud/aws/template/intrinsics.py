"""CloudFormation's intrinsic functions and conditions, resolved as a stack would resolve them.

Ref, Fn::GetAtt, Fn::Sub, Fn::Join and Fn::If over Fn::Equals, Fn::Not, Fn::And, Fn::Or and
Condition; any other one is an error that names it.
Specification: "Intrinsic function reference", AWS CloudFormation Template Reference Guide.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.aws.template.expansion import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VARIABLE = re.compile(r"\$\{(!?)([A-Za-z0-9_:.]+)\}")
# What AWS::NoValue stands for: a property or a list's entry that is not there.
_NOTHING = object()


class Resolver:
    """Resolves values of one stack.

    Args:
        names: parameters and pseudo parameters.
        conditions: the template's Conditions.
        ref: what Ref gives for a resource's logical id.
        attribute: what Fn::GetAtt gives for a logical id and an attribute.

    """

    def __init__(
        self,
        names: Mapping[str, str],
        conditions: Mapping[str, Any],
        ref: Callable[[str], str],
        attribute: Callable[[str, str], str],
    ) -> None:
        self._names = names
        self._conditions = conditions
        self._ref = ref
        self._attribute = attribute

    def resolve(self, value: Any) -> Any:
        """A value with its intrinsics replaced; raises TemplateError."""
        found = self._resolved(value)
        return None if found is _NOTHING else found

    def holds(self, name: str) -> bool:
        """Whether a condition of the template holds; raises TemplateError."""
        if name not in self._conditions:
            raise TemplateError(f"the template has no such condition: {name}")
        return self._is_true(name, self._conditions[name])

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, list):
            items = [self._resolved(item) for item in value]
            return [item for item in items if item is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            name, operand = next(iter(value.items()))
            if name == "Ref" or name.startswith("Fn::"):
                return self._intrinsic(name, operand)
        found = {key: self._resolved(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item is not _NOTHING}

    def _intrinsic(self, name: str, operand: Any) -> Any:
        match name, operand:
            case "Ref", str():
                return _NOTHING if operand == "AWS::NoValue" else self._named(operand)
            case "Fn::GetAtt", [str() as target, str() as attribute]:
                return self._attribute(target, attribute)
            case "Fn::If", [str() as condition, yes, no]:
                return self._resolved(yes if self.holds(condition) else no)
            case _:
                return self._text(name, operand)

    def _text(self, name: str, operand: Any) -> str:
        match name, operand:
            case "Fn::Sub", str():
                return self._substituted(operand, {})
            case "Fn::Sub", [str() as text, dict() as own]:
                return self._substituted(text, own)
            case "Fn::Join", [str() as separator, parts]:
                return separator.join(map(str, self._resolved(parts)))
        raise TemplateError(f"the intrinsic {name} is not understood here")

    def _is_true(self, name: str, condition: Any) -> bool:
        match condition:
            case {"Fn::Equals": [left, right]}:
                return bool(self._resolved(left) == self._resolved(right))
            case {"Fn::Not": [inner]}:
                return not self._is_true(name, inner)
            case {"Fn::And": [*inner]}:
                return all(self._is_true(name, each) for each in inner)
            case {"Fn::Or": [*inner]}:
                return any(self._is_true(name, each) for each in inner)
            case {"Condition": str() as other}:
                return self.holds(other)
        raise TemplateError(f"the condition {name} is not understood here")

    def _named(self, name: str) -> str:
        return self._names[name] if name in self._names else self._ref(name)

    def _substituted(self, text: str, own: Mapping[str, Any]) -> str:
        def replaced(match: re.Match[str]) -> str:
            literal, name = match.groups()
            if literal:
                return "${" + name + "}"
            if name in own:
                return str(self._resolved(own[name]))
            target, _, attribute = name.partition(".")
            return self._attribute(target, attribute) if attribute else self._named(name)

        return _VARIABLE.sub(replaced, text)
