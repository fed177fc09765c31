"""Credential Access Boundaries: a Google access token exchanged for a narrower one.

At most 10 rules of Cloud Storage buckets, 2,048 characters in all, no second boundary, and a source
token of the scope cloud-platform. Conditions are compiled at the exchange.
https://cloud.google.com/iam/docs/downscoping-short-lived-credentials
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from localcloud.google.core.cel import Resource, condition_holds, condition_problem
from localcloud.google.core.errors import OAuthError
from localcloud.google.core.iam import PERMISSIONS
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken

if TYPE_CHECKING:
    from localcloud.google.core.api import Call
    from localcloud.google.sts.message import Exchange

MAX_RULES = 10
MAX_BOUNDARY = 2048
_BUCKET = re.compile(r"//storage\.googleapis\.com/projects/_/buckets/[a-z0-9][a-z0-9._-]{1,221}")
_ROLE = re.compile(
    r"inRole:(organizations/[0-9]+/|projects/[a-z0-9:.-]+/)?roles/[A-Za-z0-9_.]{1,64}"
)
_RULE = {"availableResource", "availablePermissions", "availabilityCondition"}


def downscope(call: Call, exchange: Exchange) -> IssuedToken:
    """The narrowed token of a live access token; raises OAuthError."""
    options = exchange.options
    rules = _rules(options.access_boundary)
    source = call.cloud.tokens.live(exchange.subject_token, call.cloud.world, call.now)
    if source is None:
        raise OAuthError("invalid_grant", "The subject_token is not a valid access token.")
    if source.boundary is not None:
        _refuse("the subject_token already has an access boundary")
    if CLOUD_PLATFORM not in source.scopes:
        text = f"The subject_token needs the scope {CLOUD_PLATFORM}."
        raise OAuthError("invalid_scope", text)
    if not exchange.scopes <= source.scopes:
        raise OAuthError("invalid_scope", "The scope is wider than the subject_token's.")
    return IssuedToken(
        source.principal,
        exchange.scopes or source.scopes,
        source.expires_at,
        rules,
        options.user_project or source.user_project,
        options.certificate,
    )


def within(
    rules: tuple[dict[str, Any], ...],
    permission: str,
    resource: Resource,
    bucket: str,
    list_prefix: str,
    now: float,
) -> bool:
    """Whether some rule lets `permission` through on a resource of the bucket.

    A custom role lets nothing through: no world has one.
    """
    attributes = {"storage.googleapis.com/objectListPrefix": list_prefix}
    return any(
        rule["availableResource"] == f"//storage.googleapis.com/projects/_/buckets/{bucket}"
        and any(
            permission in PERMISSIONS.get(role.removeprefix("inRole:"), frozenset())
            for role in rule["availablePermissions"]
        )
        and (
            "availabilityCondition" not in rule
            or condition_holds(
                rule["availabilityCondition"]["expression"], resource, now, attributes
            )
        )
        for rule in rules
    )


def _rules(boundary: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(boundary, dict) or boundary.keys() != {"accessBoundaryRules"}:
        _refuse("accessBoundaryRules is required")
    rules = boundary["accessBoundaryRules"]
    if not isinstance(rules, list) or not 1 <= len(rules) <= MAX_RULES:
        _refuse(f"it needs 1 to {MAX_RULES} rules")
    if len(json.dumps(boundary, separators=(",", ":"))) > MAX_BOUNDARY:
        _refuse(f"it is longer than {MAX_BOUNDARY} characters")
    for rule in rules:
        _check_rule(rule)
    return tuple(rules)


def _check_rule(rule: Any) -> None:
    if not isinstance(rule, dict) or not rule.keys() <= _RULE:
        _refuse("a rule has an unknown field")
    resource, permissions = rule.get("availableResource"), rule.get("availablePermissions")
    if not isinstance(resource, str) or not _BUCKET.fullmatch(resource):
        _refuse("availableResource is not a Cloud Storage bucket")
    if not isinstance(permissions, list) or not permissions:
        _refuse("availablePermissions is empty")
    if not all(isinstance(name, str) and _ROLE.fullmatch(name) for name in permissions):
        _refuse("availablePermissions must be inRole: and the name of a role")
    if "availabilityCondition" in rule:
        _check_condition(rule["availabilityCondition"])


def _check_condition(condition: Any) -> None:
    if (
        not isinstance(condition, dict)
        or not condition.keys() <= {"expression", "title", "description", "location"}
        or not all(isinstance(value, str) for value in condition.values())
        or not condition.get("expression")
    ):
        _refuse("availabilityCondition needs an expression")
    expression = condition["expression"]
    if re.search(r"\bmatches\s*\(", expression):
        _refuse("matches() is not supported in an availabilityCondition")
    if problem := condition_problem(expression):
        _refuse(f"the availabilityCondition does not compile: {problem}")


def _refuse(reason: str) -> NoReturn:
    raise OAuthError("invalid_request", f'Invalid value for "options.accessBoundary": {reason}.')
