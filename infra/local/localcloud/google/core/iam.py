"""IAM's decision: does a principal have a permission on a resource?

Denies by default: an unknown role holds nothing, a condition that fails to evaluate is false. The
roles stand in roles.toml, with the permissions that the embedded cloud checks.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localcloud.google.core.cel import condition_holds

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.google.core.hierarchy import Target
    from localcloud.google.core.principals import Principal
    from localcloud.world import Binding, Google


@dataclass(frozen=True, slots=True)
class Role:
    """iam.v1 Role: a predefined one, with the permissions that are checked here."""

    name: str
    title: str
    permissions: frozenset[str]
    stage: str


def _read() -> dict[str, Role]:
    document = tomllib.loads(Path(__file__).with_name("roles.toml").read_text(encoding="utf-8"))
    return {
        name: Role(name, given["title"], frozenset(given["permissions"]), given.get("stage", "GA"))
        for name, given in document.items()
    }


ROLES = _read()
PERMISSIONS = {name: role.permissions for name, role in ROLES.items()}
"""Role to the permissions it contains, as far as the embedded cloud checks them."""

# Convenience values of Cloud Storage's policies: who has a basic role on a project.
_BASIC = {
    "projectOwner": "roles/owner",
    "projectEditor": "roles/editor",
    "projectViewer": "roles/viewer",
}


def allows(
    cloud: GoogleCloud, principal: Principal, permission: str, target: Target, now: float
) -> bool:
    """Whether some policy of `target` gives `principal` the permission; `now` is epoch seconds.

    What an API has changed counts once the cloud's propagation is over.
    """
    names = member_names(cloud.world.google, principal)
    return any(
        permission in PERMISSIONS.get(binding.role, frozenset())
        and not names.isdisjoint(binding.members)
        and (
            binding.condition is None
            or condition_holds(binding.condition.expression, target.resource, now)
        )
        for policy in target.policies.values()
        for binding in policy.bindings_at(now - cloud.propagation)
    )


def open_to_all(cloud: GoogleCloud, permission: str, target: Target, now: float) -> bool:
    """Whether everybody on the internet has the permission, without saying who they are."""
    return any(
        "allUsers" in binding.members
        and binding.condition is None
        and permission in PERMISSIONS.get(binding.role, frozenset())
        for policy in target.policies.values()
        for binding in policy.bindings_at(now - cloud.propagation)
    )


def member_names(google: Google, principal: Principal) -> frozenset[str]:
    """Every member name that covers a principal: its own, its groups', its projects'."""
    own = principal.members
    kind, _, email = principal.identifier.partition(":")
    if kind in ("user", "serviceAccount"):
        own |= {f"group:{group.email}" for group in google.groups if email in group.members}
        own |= {f"domain:{email.partition('@')[2]}"} if kind == "user" else set()
    return own | {
        f"{name}:{project.project_id}"
        for project in google.projects
        for name, role in _BASIC.items()
        if any(_holds(binding, role, own) for binding in project.iam_policy.bindings)
    }


def _holds(binding: Binding, role: str, names: frozenset[str]) -> bool:
    held = binding.role == role and binding.condition is None
    return held and not names.isdisjoint(binding.members)
