"""IAM policy documents: read and checked once, then held against requests.

Refuses what IAM refuses with MalformedPolicyDocument: unknown elements, an element together with
its negation, missing ones, operators that do not exist, a Sid used twice, actions in a trust policy
that take on no role. NotPrincipal is no part of a role's trust policy, and Lambda writes none into
a function's. Elements are matched case-sensitively, actions and condition keys are not.
Specification: "Grammar of the IAM JSON policy language", IAM User Guide.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from localcloud.aws.iam.conditions import Condition, UndecidedError, is_operator, is_value
from localcloud.aws.iam.patterns import expanded, matches, matches_resource, without_variables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.aws.iam.evaluation import Asked, Requester

log = logging.getLogger(__name__)

_VERSIONS = {"2012-10-17", "2008-10-17"}
_ELEMENTS = {
    *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction"),
    *("Resource", "NotResource", "Condition"),
}
_KINDS = {"AWS", "Service", "Federated"}
# A statement's id: IAM's own rule, and Lambda's; either may be left out.
_SID, _STATEMENT_ID = "[A-Za-z0-9]*", "[A-Za-z0-9_-]*"
# "Resource vendor must be fully qualified and cannot contain regexes."
_RESOURCE = re.compile(r"arn:[^:]+:[a-z0-9-]+(?::.*)?", re.DOTALL)
_ACCOUNT = re.compile(r"(?:arn:aws[a-z-]*:iam::)?(\d{12})(?::root)?")


class PolicyError(ValueError):
    """IAM would refuse the document; the text says where it stands and why."""


class Reach(IntEnum):
    """How a Principal names who asks: not at all, by the whole account, or in person."""

    NOT = 0
    ACCOUNT = 1
    DIRECT = 2


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; of a pair such as Action and NotAction, `not_actions` says which it was."""

    allows: bool
    actions: tuple[str, ...]
    not_actions: bool
    resources: tuple[str, ...]
    not_resources: bool
    # Kind and name of each; None in an identity's policy, which is about whoever has it.
    principals: tuple[tuple[str, str], ...] | None
    conditions: tuple[Condition, ...]

    def reach(self, asked: Asked) -> Reach:
        """Whether it says anything of a request, and how closely it names who asks."""
        reach = self._names(asked.requester)
        if not reach or not self._is_about(asked):
            return Reach.NOT
        return reach if self._holds(asked) else Reach.NOT

    def _is_about(self, asked: Asked) -> bool:
        named = any(
            matches(each, asked.action, asked.context, ignore_case=True) for each in self.actions
        )
        if named == self.not_actions:
            return False
        if any(matches_resource(r, asked.resource, asked.context) for r in self.resources):
            return not self.not_resources
        # What a variable without a value leaves out is not known.
        known = all(expanded(each, asked.context) is not None for each in self.resources)
        return self.not_resources and (known or not self.allows)

    def _names(self, requester: Requester) -> Reach:
        if self.principals is None:
            return Reach.DIRECT
        return max((_reach(*each, requester) for each in self.principals), default=Reach.NOT)

    def _holds(self, asked: Asked) -> bool:
        unknown = []
        for each in self.conditions:
            try:
                if not each.holds(asked.context, asked.modelled):
                    return False
            except UndecidedError as key:
                unknown.append(str(key))
        if not unknown:
            return True
        log.warning("a policy asks for %s, which the embedded cloud does not know", unknown)
        # Nobody is allowed anything by what nobody can judge; a Deny stands.
        return not self.allows


@dataclass(frozen=True, slots=True)
class Policy:
    """A document as it is evaluated; `name` is where it stands."""

    name: str
    statements: tuple[Statement, ...]


def read(document: Any, name: str, *, resource: bool = False, trust: bool = False) -> Policy:
    """Read a document; raises PolicyError.

    `resource`: it belongs to a resource, so that its statements have principals; `trust`: to a
    role, so that they have no Resource, which is the role itself.
    """
    if not isinstance(document, dict) or document.keys() - {"Version", "Id", "Statement"}:
        raise PolicyError(f"{name}: a policy has Version, Id and Statement, and nothing else")
    version = str(document.get("Version", "2008-10-17"))
    if version not in _VERSIONS:
        raise PolicyError(f"{name}: Version is 2012-10-17 or 2008-10-17")
    given = document.get("Statement")
    statements: list[Any] = given if isinstance(given, list) else [given]
    if not statements:
        raise PolicyError(f"{name}: there is no statement")
    made = tuple(
        _statement(each, f"{name}, statement {number}", resource=resource, trust=trust)
        for number, each in enumerate(statements, 1)
    )
    sids = [each["Sid"] for each in statements if each.get("Sid")]
    if len(sids) != len(set(sids)):
        raise PolicyError(f"{name}: Statement IDs (SID) in a single policy must be unique.")
    if version == "2008-10-17":
        made = tuple(map(_literally, made))
    return Policy(name, made)


def _statement(given: Any, where: str, *, resource: bool, trust: bool) -> Statement:
    if not isinstance(given, dict):
        raise PolicyError(f"{where}: a statement is an object")
    if unknown := given.keys() - _ELEMENTS:
        raise PolicyError(f"{where}: there is no element {min(map(str, unknown))}")
    if given.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"{where}: Effect is Allow or Deny")
    sid = _SID if trust or not resource else _STATEMENT_ID
    if not re.fullmatch(sid, str(given.get("Sid", ""))):
        raise PolicyError(f"{where}: Statement IDs (SID) must be alpha-numeric.")
    actions, not_actions = _pair(given, "Action", where)
    if not all(action == "*" or re.fullmatch(r"[\w-]+:[\w*?]+", action) for action in actions):
        raise PolicyError(f"{where}: an action is SERVICE:Name")
    if trust and not all(re.match(r"\*$|sts:", action, re.IGNORECASE) for action in actions):
        raise PolicyError(f"{where}: AssumeRole policy may only specify STS AssumeRole actions.")
    resources, not_resources = (("*",), False) if trust else _pair(given, "Resource", where)
    if not all(each == "*" or _RESOURCE.fullmatch(each) for each in resources):
        raise PolicyError(f"{where}: a resource is * or an ARN whose service has no wildcard")
    if trust and given.keys() & {"Resource", "NotResource"}:
        raise PolicyError(f"{where}: a trust policy has no Resource")
    if not resource and given.keys() & {"Principal", "NotPrincipal"}:
        raise PolicyError(f"{where}: an identity's policy has no Principal")
    principals = _principals(given, where) if resource else None
    return Statement(
        given["Effect"] == "Allow",
        actions,
        not_actions,
        resources,
        not_resources,
        principals,
        _conditions(given.get("Condition", {}), where),
    )


def _pair(given: Mapping[str, Any], element: str, where: str) -> tuple[tuple[str, ...], bool]:
    found = [name for name in (element, f"Not{element}") if name in given]
    if len(found) != 1:
        raise PolicyError(f"{where}: either {element} or Not{element} stands there")
    return _texts(given[found[0]], f"{where}, {found[0]}"), found[0] != element


def _principals(given: Mapping[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    if "Principal" not in given or "NotPrincipal" in given:
        raise PolicyError(f"{where}: Principal stands there, and never NotPrincipal")
    value = given["Principal"]
    if value == "*":
        return (("*", "*"),)
    if not isinstance(value, dict) or not value or value.keys() - _KINDS:
        raise PolicyError(f"{where}: a principal is * or has AWS, Service or Federated")
    named = tuple(
        (kind, name) for kind, names in value.items() for name in _texts(names, f"{where}, {kind}")
    )
    if any("*" in name and name != "*" for _, name in named):
        raise PolicyError(f"{where}: a principal has no wildcard within its name")
    return named


def _conditions(given: Any, where: str) -> tuple[Condition, ...]:
    if not isinstance(given, dict):
        raise PolicyError(f"{where}: Condition is an object")
    made = []
    for operator, keys in given.items():
        if not is_operator(operator) or not isinstance(keys, dict):
            raise PolicyError(f"{where}: Invalid Condition type : {operator}")
        for key, values in keys.items():
            texts = _texts(values, f"{where}, {operator} {key}")
            if wrong := next((text for text in texts if not is_value(operator, text)), None):
                raise PolicyError(f"{where}: {operator} compares {key} with no such value: {wrong}")
            made.append(Condition(operator, key, texts))
    return tuple(made)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    texts = [str(v).lower() if isinstance(v, bool) else v for v in values]
    texts = [str(v) if isinstance(v, int | float) else v for v in texts]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise PolicyError(f"{where}: a text or a list of texts")
    return tuple(texts)


def _literally(statement: Statement) -> Statement:
    """A statement of the older version, in which `${…}` is no variable."""
    return replace(
        statement,
        resources=tuple(map(without_variables, statement.resources)),
        conditions=tuple(
            replace(each, values=tuple(map(without_variables, each.values)))
            for each in statement.conditions
        ),
    )


def _reach(kind: str, name: str, requester: Requester) -> Reach:
    if kind == "*" or (kind, name) == ("AWS", "*"):
        return Reach.DIRECT
    if kind != requester.kind:
        return Reach.NOT
    if name in requester.names:
        return Reach.DIRECT
    account = _ACCOUNT.fullmatch(name) if kind == "AWS" else None
    return Reach.ACCOUNT if account and account[1] == requester.account else Reach.NOT
