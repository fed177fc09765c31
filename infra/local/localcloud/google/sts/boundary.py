"""Credential access boundaries: a Google access token exchanged for a narrower one.

At most 10 rules of Cloud Storage buckets, 2,048 characters in all, no second boundary, and the
source token must carry a scope. https://cloud.google.com/iam/docs/downscoping-short-lived-credentials
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn

from localcloud.google.core.cel import Resource, condition_holds
from localcloud.google.core.errors import OAuthError
from localcloud.google.core.iam import PERMISSIONS
from localcloud.google.core.tokens import IssuedToken

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.cloud import GoogleCloud

MAX_RULES = 10
MAX_BOUNDARY = 2048
_BUCKET = re.compile(r"//storage\.googleapis\.com/projects/_/buckets/[a-z0-9][a-z0-9._-]{1,221}")
_RULE = {"availableResource", "availablePermissions", "availabilityCondition"}


def downscope(
    cloud: GoogleCloud, text: str, options: Mapping[str, Any], scopes: frozenset[str], now: float
) -> IssuedToken:
    """The narrowed token of a live access token; raises OAuthError."""
    rules = _rules(options.get("accessBoundary"))
    source = cloud.tokens.live(text, cloud.world, now)
    if source is None:
        raise OAuthError("invalid_grant", "The subject_token is not a valid access token.")
    if source.boundary is not None:
        _refuse("the subject_token already has an access boundary")
    if not source.scopes or not scopes <= source.scopes:
        raise OAuthError("invalid_scope", "The scope is wider than the subject_token's.")
    return IssuedToken(source.principal, scopes or source.scopes, source.expires_at, rules)


def within(
    rules: tuple[dict[str, Any], ...],
    permission: str,
    resource: Resource,
    bucket: str,
    list_prefix: str,
    now: float,
) -> bool:
    """Whether some rule lets `permission` through on a resource of the bucket."""
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
    if not all(isinstance(p, str) and p.startswith("inRole:roles/") for p in permissions):
        _refuse("availablePermissions must be inRole: names")
    condition = rule.get("availabilityCondition", {"expression": "true"})
    if (
        not isinstance(condition, dict)
        or not condition.keys() <= {"expression", "title", "description", "location"}
        or not isinstance(condition.get("expression"), str)
    ):
        _refuse("availabilityCondition needs an expression")
    if re.search(r"\bmatches\s*\(", condition["expression"]):
        _refuse("matches() is not supported in an availabilityCondition")


def _refuse(reason: str) -> NoReturn:
    raise OAuthError("invalid_request", f'Invalid value for "options.accessBoundary": {reason}.')
