"""IAM's decision: does a policy give a principal a permission on a resource?

Denies by default: an unknown role holds nothing, a condition that fails to evaluate is false.
Roles and permissions: https://cloud.google.com/iam/docs/understanding-roles (the parts in use).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.core.cel import Resource, condition_holds

if TYPE_CHECKING:
    from localcloud.google.core.principals import Principal
    from localcloud.world import Policy

_SA = "iam.serviceAccounts"
_FEDERATION = {f"{_SA}.getAccessToken", f"{_SA}.getOpenIdToken"}
_SIGNING = {f"{_SA}.signBlob", f"{_SA}.signJwt", f"{_SA}.implicitDelegation"}
_OBJECT_READ = {"storage.objects.get", "storage.objects.list"}
_OBJECT_WRITE = {"storage.objects.create", "storage.objects.delete", "storage.objects.update"}
_BUCKET_READ = {"storage.buckets.get", "storage.buckets.list"}

PERMISSIONS: dict[str, frozenset[str]] = {
    role: frozenset(permissions)
    for role, permissions in {
        "roles/iam.workloadIdentityUser": _FEDERATION,
        "roles/iam.serviceAccountTokenCreator": _FEDERATION | _SIGNING,
        "roles/iam.serviceAccountOpenIdTokenCreator": {f"{_SA}.getOpenIdToken"},
        "roles/iam.serviceAccountAdmin": {f"{_SA}.getIamPolicy", f"{_SA}.setIamPolicy"},
        "roles/run.invoker": {"run.routes.invoke"},
        "roles/storage.objectViewer": _OBJECT_READ,
        "roles/storage.objectCreator": {"storage.objects.create"},
        "roles/storage.objectUser": _OBJECT_READ | _OBJECT_WRITE,
        "roles/storage.objectAdmin": _OBJECT_READ | _OBJECT_WRITE,
        "roles/storage.legacyBucketReader": {"storage.buckets.get", "storage.objects.list"},
        "roles/storage.bucketViewer": _BUCKET_READ,
        "roles/storage.admin": _OBJECT_READ | _OBJECT_WRITE | _BUCKET_READ,
    }.items()
}
"""Role to the permissions it contains, as far as the embedded cloud checks them."""


def allows(
    policy: Policy, principal: Principal, permission: str, resource: Resource, now: float
) -> bool:
    """Whether some binding gives `principal` the permission; `now` is epoch seconds."""
    names = principal.members
    return any(
        permission in PERMISSIONS.get(binding.role, frozenset())
        and not names.isdisjoint(binding.members)
        and (
            binding.condition is None
            or condition_holds(binding.condition.expression, resource, now)
        )
        for binding in policy.bindings
    )
