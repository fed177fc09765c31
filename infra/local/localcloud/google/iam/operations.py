"""Long-running operations of pools and providers, done by the time they are answered.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools.operations
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import NOT_FOUND, GoogleError
from localcloud.world.resources import unparse

if TYPE_CHECKING:
    from localcloud.google.core.api import Answer, Call
    from localcloud.world import WorkloadIdentityPool, WorkloadIdentityPoolProvider

MAX_KEPT = 10_000


def done(call: Call, resource: WorkloadIdentityPool | WorkloadIdentityPoolProvider) -> Answer:
    """The operation that has made of the resource what it is now."""
    kind = type(resource).__name__
    operation: dict[str, Any] = {
        "name": f"{resource.name}/operations/{secrets.token_hex(16)}",
        "metadata": {"@type": f"type.googleapis.com/google.iam.v1.{kind}OperationMetadata"},
        "done": True,
        "response": {"@type": f"type.googleapis.com/google.iam.v1.{kind}"} | shown(resource),
    }
    kept = call.cloud.operations
    with call.cloud.world.lock:
        if len(kept) >= MAX_KEPT:
            del kept[next(iter(kept))]
        kept[operation["name"]] = operation
    return operation


def shown(resource: WorkloadIdentityPool | WorkloadIdentityPoolProvider) -> dict[str, Any]:
    """A pool or provider as JSON."""
    return unparse(resource) | {"state": resource.state}


def get(call: Call) -> Answer:
    """An operation by its name, with the project's id or number."""
    call.arguments()
    project = call.google.project(call.parameters["project"])
    path = call.request.path.removeprefix("/v1/").split("/")
    if project is not None:
        path[1] = project.project_number
    found = call.cloud.operations.get("/".join(path))
    if found is None:
        raise GoogleError("NOT_FOUND", NOT_FOUND)
    return found
