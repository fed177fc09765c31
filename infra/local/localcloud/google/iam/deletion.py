"""Soft deletion of pools and providers: thirty days in which their names stay taken.

https://cloud.google.com/iam/docs/manage-workload-identity-pools-providers
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from localcloud.google.core.audit import timestamp
from localcloud.google.core.errors import (
    FAILED_PRECONDITION,
    NOT_FOUND,
    GoogleError,
    invalid_argument,
)

if TYPE_CHECKING:
    from localcloud.google.core.api import Call
    from localcloud.world import WorkloadIdentityPool, WorkloadIdentityPoolProvider

KEPT_SECONDS = 30 * 24 * 3600


def parent(call: Call) -> str:
    """``projects/NUMBER/locations/global`` of a call; raises for another location."""
    project = call.google.project(call.parameters["project"])
    if project is None:
        raise GoogleError("NOT_FOUND", NOT_FOUND)
    if call.parameters["location"] != "global":
        raise invalid_argument("Request contains an invalid argument.", "parent")
    return f"projects/{project.project_number}/locations/global"


def purge(call: Call) -> None:
    """Forget what was deleted thirty days ago."""
    google = call.google
    with call.cloud.world.lock:
        google.workload_identity_pools = [
            pool
            for pool in google.workload_identity_pools
            if not expired(pool.expire_time, call.now)
        ]
        pools = {pool.name for pool in google.workload_identity_pools}
        google.workload_identity_pool_providers = [
            provider
            for provider in google.workload_identity_pool_providers
            if provider.pool in pools and not expired(provider.expire_time, call.now)
        ]


def delete(resource: WorkloadIdentityPool | WorkloadIdentityPoolProvider, now: float) -> None:
    """Mark as deleted; raises for what is deleted already."""
    require_live(resource)
    resource.state = "DELETED"
    resource.expire_time = timestamp(now + KEPT_SECONDS)


def undelete(resource: WorkloadIdentityPool | WorkloadIdentityPoolProvider) -> None:
    """Bring back; raises for what is not deleted."""
    if resource.state != "DELETED":
        raise GoogleError("FAILED_PRECONDITION", FAILED_PRECONDITION)
    resource.state = "ACTIVE"
    resource.expire_time = ""


def require_live(resource: WorkloadIdentityPool | WorkloadIdentityPoolProvider) -> None:
    """Raise for what is deleted."""
    if resource.state == "DELETED":
        raise GoogleError("NOT_FOUND", NOT_FOUND)


def expired(expire_time: str, now: float) -> bool:
    """Whether a deleted resource's time (RFC 3339, empty while it lives) has come."""
    return bool(expire_time) and datetime.fromisoformat(expire_time).timestamp() <= now
