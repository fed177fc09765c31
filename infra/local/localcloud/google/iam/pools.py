"""Workload identity pools.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools
"""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import (
    ALREADY_EXISTS,
    NOT_FOUND,
    GoogleError,
    invalid_argument,
)
from localcloud.google.core.masks import masked
from localcloud.google.core.messages import ANY, BOOL, INT32, STRING
from localcloud.google.core.paging import listed
from localcloud.google.iam import deletion, operations
from localcloud.wire.routes import Route, Unserved
from localcloud.world import WorkloadIdentityPool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.api import Answer, Call

PATH = "/v1/projects/{project}/locations/{location}/workloadIdentityPools"
POOL = {
    "name": STRING,
    "display_name": STRING,
    "description": STRING,
    "state": STRING,
    "disabled": BOOL,
    "expire_time": STRING,
    "mode": STRING,
    "inline_certificate_issuance_config": ANY,
    "inline_trust_config": ANY,
}
MUTABLE = ("display_name", "description", "disabled")
LIST = {"page_size": INT32, "page_token": STRING, "show_deleted": BOOL}
MAX_DISPLAY_NAME = 32
MAX_DESCRIPTION = 256
PAGE_SIZES = (50, 1000)
_ID = re.compile("[a-z0-9-]{4,32}")


def create(call: Call) -> Answer:
    """A new pool; its id is in the query."""
    wanted = call.arguments(workload_identity_pool_id=STRING).get("workload_identity_pool_id", "")
    check_id("workload_identity_pool_id", wanted)
    message = call.message(POOL, "workload_identity_pool")
    _refuse_unserved(message)
    name = f"{deletion.parent(call)}/workloadIdentityPools/{wanted}"
    with call.cloud.world.lock:
        deletion.purge(call)
        if call.google.pool(name) is not None:
            raise GoogleError("ALREADY_EXISTS", ALREADY_EXISTS)
        pool = _built(name, message)
        call.google.workload_identity_pools.append(pool)
    return operations.done(call, pool)


def get(call: Call) -> Answer:
    """A pool, deleted ones too."""
    call.arguments()
    return operations.shown(find(call))


def list_(call: Call) -> Answer:
    """The pools of a project."""
    query = call.arguments(**LIST)
    parent = deletion.parent(call)
    deletion.purge(call)
    deleted = query.get("show_deleted", False)
    pools = [
        pool
        for pool in call.google.workload_identity_pools
        if pool.name.startswith(f"{parent}/") and (deleted or pool.state != "DELETED")
    ]
    return listed(
        "workloadIdentityPools",
        pools,
        lambda pool: pool.name,
        operations.shown,
        of=f"{parent} {deleted}",
        query=query,
        sizes=PAGE_SIZES,
    )


def patch(call: Call) -> Answer:
    """Change what the mask names."""
    mask = call.arguments(update_mask=STRING).get("update_mask", "")
    message = call.message(POOL, "workload_identity_pool")
    with call.cloud.world.lock:
        pool = find(call)
        deletion.require_live(pool)
        changed = _built(pool.name, masked(asdict(pool), message, mask, MUTABLE))
        for field in MUTABLE:
            setattr(pool, field, getattr(changed, field))
    return operations.done(call, pool)


def delete(call: Call) -> Answer:
    """Stop a pool and its tokens at once; it can be undeleted for thirty days."""
    call.arguments()
    with call.cloud.world.lock:
        pool = find(call)
        deletion.delete(pool, call.now)
    return operations.done(call, pool)


def undelete(call: Call) -> Answer:
    """Bring a deleted pool back."""
    call.message({})
    with call.cloud.world.lock:
        pool = find(call)
        deletion.undelete(pool)
    return operations.done(call, pool)


def find(call: Call) -> WorkloadIdentityPool:
    """The pool that a path names; raises the 404."""
    name = f"{deletion.parent(call)}/workloadIdentityPools/{call.parameters['pool']}"
    deletion.purge(call)
    pool = call.google.pool(name)
    if pool is None:
        raise GoogleError("NOT_FOUND", NOT_FOUND)
    return pool


def check_id(field: str, wanted: str) -> None:
    """Raise unless an id of a pool or provider has its form."""
    if not _ID.fullmatch(wanted):
        text = (
            f"Invalid {field} '{wanted}'. It must be 4-32 characters, and may contain the "
            "characters [a-z0-9-]."
        )
        raise invalid_argument(text, field)
    if wanted.startswith("gcp-"):
        text = f"Invalid {field} '{wanted}'. The prefix 'gcp-' is reserved for use by Google."
        raise invalid_argument(text, field)


def check_texts(message: Mapping[str, Any]) -> None:
    """Raise for a display name or description that is too long."""
    for field, most in (("display_name", MAX_DISPLAY_NAME), ("description", MAX_DESCRIPTION)):
        if len(message.get(field, "")) > most:
            words = field.replace("_", " ")
            text = f"{words} must be less than or equal to {most} characters"
            raise invalid_argument(text, field)


def _built(name: str, message: Mapping[str, Any]) -> WorkloadIdentityPool:
    check_texts(message)
    return WorkloadIdentityPool(name, **{f: message[f] for f in MUTABLE if f in message})


def _refuse_unserved(message: Mapping[str, Any]) -> None:
    if message.get("mode", "FEDERATION_ONLY") not in ("FEDERATION_ONLY", "MODE_UNSPECIFIED"):
        text = "The embedded cloud serves pools of the mode FEDERATION_ONLY alone."
        raise GoogleError("UNIMPLEMENTED", text)
    if any(field.startswith("inline_") for field in message):
        raise GoogleError("UNIMPLEMENTED", "The embedded cloud issues no workload certificates.")


_ONE = PATH + "/{pool}"
_PERMISSION = "iam.workloadIdentityPools"

ROUTES = (
    Route("POST", PATH, create, f"{_PERMISSION}.create"),
    Route("GET", PATH, list_, f"{_PERMISSION}.list"),
    Route("GET", _ONE, get, f"{_PERMISSION}.get"),
    Route("PATCH", _ONE, patch, f"{_PERMISSION}.update"),
    Route("DELETE", _ONE, delete, f"{_PERMISSION}.delete"),
    Route("POST", f"{_ONE}:undelete", undelete, f"{_PERMISSION}.undelete"),
    Route("GET", _ONE + "/operations/{operation}", operations.get, f"{_PERMISSION}.get"),
)
_POOLS = "iam.projects.locations.workloadIdentityPools"
UNSERVED = (
    Unserved(f"{_POOLS}.namespaces.*", "managed workload identities, which run on Google alone"),
    *(
        Unserved(f"{_POOLS}.{verb}", "of managed workload identities, which run on Google alone")
        for verb in (
            "addAttestationRule",
            "listAttestationRules",
            "removeAttestationRule",
            "setAttestationRules",
        )
    ),
    *(
        Unserved(f"{_POOLS}.{verb}", "a pool's own policy, which the guide does not use")
        for verb in ("getIamPolicy", "setIamPolicy", "testIamPermissions")
    ),
)
