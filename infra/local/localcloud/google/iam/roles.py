"""Predefined roles, as far as the embedded cloud knows them (core/roles.toml).

https://cloud.google.com/iam/docs/reference/rest/v1/roles
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import GoogleError
from localcloud.google.core.iam import ROLES, Role
from localcloud.google.core.messages import BOOL, INT32, STRING, enum
from localcloud.google.core.paging import listed
from localcloud.wire.routes import Route, Unserved

if TYPE_CHECKING:
    from localcloud.google.core.api import Answer, Call


def list_(call: Call) -> Answer:
    """The roles that there are; with their permissions in the view FULL."""
    query = call.arguments(
        page_size=INT32,
        page_token=STRING,
        view=enum("google.iam.admin.v1.RoleView", "BASIC", "FULL"),
        parent=STRING,
        show_deleted=BOOL,
    )
    full = query.get("view") == "FULL"
    return listed(
        "roles",
        ROLES.values(),
        lambda role: role.name,
        lambda role: _shown(role, full=full),
        of="roles",
        query=query,
        sizes=(300, 1000),
    )


def get(call: Call) -> Answer:
    """A role with its permissions."""
    call.arguments()
    name = f"roles/{call.parameters['role']}"
    if name not in ROLES:
        raise GoogleError("NOT_FOUND", f"The role named {name} was not found.")
    return _shown(ROLES[name], full=True)


def _shown(role: Role, *, full: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "name": role.name,
        "title": role.title,
        "stage": role.stage,
        "etag": "AA==",
    }
    return answer | ({"includedPermissions": sorted(role.permissions)} if full else {})


ROUTES = (Route("GET", "/v1/roles", list_), Route("GET", "/v1/roles/{role}", get))
UNSERVED = (
    Unserved("iam.projects.roles.*", "custom roles; a world has Google's own"),
    Unserved("iam.roles.queryGrantableRoles", "a console's help"),
)
