"""What may stand in a policy: roles, members, conditions and audit configs.

Google refuses what could not be granted: a role that it does not have or does not grant on that
kind of resource, a member that does not exist, a condition that does not compile. What stands in
the policy already may stay. https://cloud.google.com/iam/docs/reference/rest/v1/Policy
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from localcloud.google.core.cel import condition_problem
from localcloud.google.core.errors import GoogleError, invalid_argument
from localcloud.google.core.iam import ROLES
from localcloud.world import AuditConfig, AuditLogConfig, Binding, Expr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localcloud.world import Google, Policy

MAX_MEMBERS = 1500
"""Of one policy, each as often as it stands there (https://cloud.google.com/iam/quotas)."""
BASIC_ROLES = frozenset({"roles/owner", "roles/editor", "roles/viewer"})
_AUDITED = frozenset(
    f"{name}.googleapis.com"
    for name in ("cloudresourcemanager", "iam", "run", "serviceusage", "storage", "sts")
) | {"allServices"}
"""What of the services here has Data Access logs; IAM Credentials' calls are logged by IAM."""
_POOL = re.compile(
    r"projects/[^/]+/locations/global/workloadIdentityPools/[^/]+"
    r"|locations/[^/]+/workforcePools/[^/]+"
)
_EMAIL = re.compile(r"[^@\s:/]+@[^@\s:/]+")


class Kind(StrEnum):
    """Resources that have policies, by the service whose roles they take."""

    PROJECT = "resourcemanager"
    SERVICE_ACCOUNT = "iam"
    BUCKET = "storage"
    RUN_SERVICE = "run"


def checked(google: Google, kind: Kind, current: Policy, entry: Mapping[str, Any]) -> Binding:
    """A binding, by its fields, that may come into the `current` policy; raises GoogleError."""
    role = entry.get("role", "")
    _check_role(kind, role)
    known = {member for binding in current.bindings for member in binding.members}
    members = [_member(google, kind, known, member) for member in entry["members"]]
    return Binding(role, list(dict.fromkeys(members)), _condition(kind, role, members, entry))


def audited(kind: Kind, entry: Mapping[str, Any]) -> AuditConfig:
    """An audit config, by its fields; raises GoogleError."""
    service = entry.get("service", "")
    if kind is not Kind.PROJECT or service not in _AUDITED:
        text = f"Audit configs for service '{service}' are not supported for this resource."
        raise invalid_argument(text, "audit_configs")
    configs = entry.get("audit_log_configs", [])
    if not configs or not all("log_type" in config for config in configs):
        raise invalid_argument("An audit config needs a log type.", "audit_configs")
    logs = [AuditLogConfig(c["log_type"], c.get("exempted_members", [])) for c in configs]
    return AuditConfig(service, logs)


def check_size(bindings: Iterable[Binding]) -> None:
    """Raise for a policy of too many members."""
    members = sum(len(binding.members) for binding in bindings)
    if members > MAX_MEMBERS:
        text = (
            f"The number of members in the policy ({members:,}) is larger than the maximum "
            f"allowed size {MAX_MEMBERS:,}."
        )
        raise invalid_argument(text, "policy")


def check_owner(kind: Kind, before: Iterable[Binding], after: Iterable[Binding]) -> None:
    """Raise when the last person who owns a project would go.

    The project has no organization: nobody could ever change its policy again.
    """
    if kind is Kind.PROJECT and _owned(before) and not _owned(after):
        text = "The last owner of a project outside an organization cannot be removed."
        detail = {
            "@type": "type.googleapis.com/google.cloudresourcemanager.v1.ProjectIamPolicyError",
            "type": "SOLO_REQUIRE_TOS_ACCEPTOR",
            "role": "roles/owner",
        }
        raise GoogleError("FAILED_PRECONDITION", text, (detail,))


def _owned(bindings: Iterable[Binding]) -> bool:
    """Whether a person owns the project."""
    return any(
        binding.role == "roles/owner" and any(m.startswith("user:") for m in binding.members)
        for binding in bindings
    )


def _check_role(kind: Kind, role: str) -> None:
    if re.fullmatch(r"(projects|organizations)/[^/]+/roles/[^/]+", role):
        raise invalid_argument(f"Role ({role}) does not exist in the resource's hierarchy.", "role")
    found = ROLES.get(role)
    if found is None or not _grantable(kind, role, found.permissions):
        raise invalid_argument(f"Role {role} is not supported for this resource.", "role")


def _grantable(kind: Kind, role: str, permissions: Iterable[str]) -> bool:
    legacy = role.startswith("roles/storage.legacy")
    if kind is Kind.PROJECT:
        return not legacy
    if kind is Kind.BUCKET and role in BASIC_ROLES:
        return False
    prefix = "iam.serviceAccounts." if kind is Kind.SERVICE_ACCOUNT else f"{kind}."
    return any(permission.startswith(prefix) for permission in permissions)


def _condition(
    kind: Kind, role: str, members: Iterable[str], entry: Mapping[str, Any]
) -> Expr | None:
    given = entry.get("condition")
    if not given:
        return None
    if role in BASIC_ROLES:
        text = (
            "LintValidationUnits/BindingRoleAllowConditionCheck Error: Conditions can't be set on "
            "primitive roles"
        )
        raise invalid_argument(text, "condition")
    if kind is Kind.BUCKET and "legacy" in role:
        raise invalid_argument(f"Conditions can't be set on the role {role}.", "condition")
    if not {"allUsers", "allAuthenticatedUsers"}.isdisjoint(members):
        text = "Conditions can't be set on bindings for allUsers or allAuthenticatedUsers."
        raise invalid_argument(text, "condition")
    if not given.get("title"):
        raise invalid_argument("Condition title is required.", "condition.title")
    problem = condition_problem(given.get("expression", ""))
    if problem:
        raise invalid_argument(
            f"Condition expression is invalid: {problem}", "condition.expression"
        )
    return Expr(given["expression"], given["title"], given.get("description", ""))


def _member(google: Google, kind: Kind, known: Iterable[str], member: str) -> str:
    """The member as the policy keeps it; raises Google's 400 for one that there is not."""
    if member in known:
        return member
    if member in ("allUsers", "allAuthenticatedUsers"):
        if kind in (Kind.PROJECT, Kind.SERVICE_ACCOUNT):
            text = (
                "Principals of type allUsers and allAuthenticatedUsers cannot be added to this "
                "resource."
            )
            raise invalid_argument(text, "members")
        return member
    prefix, _, rest = member.partition(":")
    match prefix:
        case "principal" | "principalSet":
            _check_federated(google, prefix, member)
            return member
        case "serviceAccount" | "user" | "group" if _EMAIL.fullmatch(rest):
            _check_exists(google, prefix, rest.lower())
            return f"{prefix}:{rest.lower()}"
        case "domain" if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", rest):
            return member
        case "projectOwner" | "projectEditor" | "projectViewer" if kind is Kind.BUCKET:
            if google.project(rest) is not None:
                return member
    if cluster := re.fullmatch(r"serviceAccount:([a-z0-9-]+\.svc\.id\.goog)\[.+\]", member):
        raise invalid_argument(f"Identity Pool does not exist ({cluster[1]}).", "members")
    text = (
        f"The member {member} is of an unknown type. Please set a valid type prefix for the member."
    )
    raise invalid_argument(text, "members")


def _check_exists(google: Google, prefix: str, email: str) -> None:
    emails, word = {
        "serviceAccount": ({a.email.lower() for a in google.service_accounts}, "Service account"),
        "user": ({u.primary_email.lower() for u in google.users}, "User"),
        "group": ({g.email.lower() for g in google.groups}, "Group"),
    }[prefix]
    if email not in emails:
        raise invalid_argument(f"{word} {email} does not exist.", "members")


def _check_federated(google: Google, prefix: str, member: str) -> None:
    path = member.removeprefix(f"{prefix}://iam.googleapis.com/")
    pool = _POOL.match(path)
    if path == member or pool is None:
        raise invalid_argument(f"Invalid {prefix} member ({member}).", "members")
    if google.pool(pool[0]) is None:
        text = (
            f"Identity Pool does not exist ({pool[0]}). Please check that you specified a valid "
            "resource name as returned in the `name` attribute in the configuration API."
        )
        raise invalid_argument(text, "members")
    one, many = "/subject/.+", r"/(\*|group/.+|attribute\.[a-z0-9_]+/.+)"
    if not re.fullmatch(one if prefix == "principal" else many, path[pool.end() :]):
        raise invalid_argument(f"Invalid {prefix} member ({member}).", "members")
