"""Resource Manager: what a project is, and its policy, in versions 1 and 3.

Refuses as Google does, which does not tell a project that is missing from one that is nobody's
business. Projects are not made, moved or deleted here: a world says which there are, and none of
them lies in a folder or an organization.
https://cloud.google.com/resource-manager/reference/rest
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from localcloud.google.core import hierarchy, policies
from localcloud.google.core.bindings import Kind
from localcloud.google.core.errors import GoogleError, invalid_argument
from localcloud.google.core.messages import INT32, STRING
from localcloud.google.core.tokens import CLOUD_PLATFORM
from localcloud.wire.routes import Route, Service, Unserved

if TYPE_CHECKING:
    from localcloud.google.core.api import Answer, Call, Handler
    from localcloud.world import Project

_AUTH = "https://www.googleapis.com/auth"
_READ = (
    CLOUD_PLATFORM,
    f"{_AUTH}/cloud-platform.read-only",
    f"{_AUTH}/cloudplatformprojects",
    f"{_AUTH}/cloudplatformprojects.readonly",
)
_TERM = re.compile(
    r"(id|projectId|name|displayName|lifecycleState|state)\s*[:=]\s*\"?([^\s\"]+)\"?"
)
_MAX_PAGE = 500


def _project(call: Call) -> Project:
    found = call.google.project(call.parameters["project"])
    if found is None:
        # The permission check lets nobody near a project that does not exist.
        raise GoogleError("PERMISSION_DENIED", "The caller does not have permission")
    return found


def _v1(project: Project) -> dict[str, Any]:
    return {
        "projectNumber": project.project_number,
        "projectId": project.project_id,
        "lifecycleState": project.lifecycle_state,
        "name": project.display_name or project.project_id,
    }


def _v3(project: Project) -> dict[str, Any]:
    return {
        "name": f"projects/{project.project_number}",
        "projectId": project.project_id,
        "state": project.lifecycle_state,
        "displayName": project.display_name or project.project_id,
    }


def _get_v1(call: Call) -> Answer:
    return _v1(_project(call))


def _get_v3(call: Call) -> Answer:
    return _v3(_project(call))


def _list_v1(call: Call) -> Answer:
    given = call.arguments(filter=STRING, page_size=INT32, page_token=STRING)
    return _page(
        given, "projects", [_v1(p) for p in _seen(call, given.get("filter", ""), "filter")]
    )


def _search_v3(call: Call) -> Answer:
    given = call.arguments(query=STRING, page_size=INT32, page_token=STRING)
    return _page(given, "projects", [_v3(p) for p in _seen(call, given.get("query", ""), "query")])


def _ancestry(call: Call) -> Answer:
    call.message({})
    return {"ancestor": [{"resourceId": {"type": "project", "id": _project(call).project_id}}]}


def _seen(call: Call, query: str, name: str) -> list[Project]:
    """The projects that the caller may get and that the query names, of which only the plain
    ``field:value`` terms are understood.
    """
    # Parentheses change nothing between terms that must all hold; OR and NOT are left over.
    query = re.sub(r"[()]", " ", query)
    terms = _TERM.findall(query)
    rest = re.sub(r"\bAND\b", "", _TERM.sub("", query)).strip()
    if rest:
        raise invalid_argument(f"The embedded cloud does not understand {rest!r}.", name)
    return [
        project
        for project in call.google.projects
        if call.allows(
            "resourcemanager.projects.get", hierarchy.project(call.google, project.project_id)
        )
        and all(_matches(project, field, value) for field, value in terms)
    ]


def _matches(project: Project, field: str, value: str) -> bool:
    held = {
        "id": project.project_id,
        "projectId": project.project_id,
        "name": project.display_name or project.project_id,
        "displayName": project.display_name or project.project_id,
        "lifecycleState": project.lifecycle_state,
        "state": project.lifecycle_state,
    }[field]
    if value.endswith("*"):
        return held.lower().startswith(value[:-1].lower())
    return held.lower() == value.lower()


def _page(given: dict[str, Any], name: str, found: list[dict[str, Any]]) -> Answer:
    size, token = given.get("page_size", 0), given.get("page_token", "0")
    if size < 0:
        raise invalid_argument("Page size must not be negative.", "page_size")
    if not re.fullmatch("[0-9]{1,9}", token):
        raise invalid_argument("Invalid page token.", "page_token")
    start, size = int(token), min(size or _MAX_PAGE, _MAX_PAGE)
    answer: dict[str, Any] = {name: found[start : start + size]}
    if start + size < len(found):
        answer["nextPageToken"] = str(start + size)
    return answer


def _policies(version: str) -> tuple[Route[Handler], ...]:
    path = f"/{version}/projects/{{project}}"
    kind, writers = Kind.PROJECT, (CLOUD_PLATFORM,)
    return policies.routes(path, "resourcemanager.projects", kind, _project, writers=writers)


_HOSTS = ("cloudresourcemanager.googleapis.com", "cloudresourcemanager.mtls.googleapis.com")
_GIVEN = "a world says which projects there are"
_NO_FOLDERS = "no project of a world lies in a folder or an organization"
_NO_TAGS = "conditions on tags are not evaluated"
_NO_CONSTRAINTS = "a world's only constraint is its lifetimeExtension"

V1: Service[Handler] = Service(
    "Resource Manager",
    _HOSTS,
    (
        Route("GET", "/v1/projects", _list_v1),
        Route("GET", "/v1/projects/{project}", _get_v1, "resourcemanager.projects.get"),
        Route(
            "POST",
            "/v1/projects/{project}:getAncestry",
            _ancestry,
            "resourcemanager.projects.get",
        ),
        *_policies("v1"),
    ),
    document="cloudresourcemanager.v1",
    unserved=(
        *(
            Unserved(f"cloudresourcemanager.projects.{verb}", _GIVEN)
            for verb in ("create", "delete", "undelete", "update")
        ),
        *(
            Unserved(f"cloudresourcemanager.projects.{verb}", _NO_CONSTRAINTS)
            for verb in (
                "clearOrgPolicy",
                "getEffectiveOrgPolicy",
                "getOrgPolicy",
                "listAvailableOrgPolicyConstraints",
                "listOrgPolicies",
                "setOrgPolicy",
            )
        ),
        Unserved("cloudresourcemanager.folders.*", _NO_FOLDERS),
        Unserved("cloudresourcemanager.organizations.*", _NO_FOLDERS),
        Unserved("cloudresourcemanager.liens.*", _GIVEN),
        Unserved("cloudresourcemanager.operations.*", _GIVEN),
    ),
    scopes=_READ,
)
"""Version 1, which gcloud speaks."""

V3: Service[Handler] = Service(
    "Resource Manager",
    _HOSTS,
    (
        Route("GET", "/v3/projects:search", _search_v3),
        Route("GET", "/v3/projects/{project}", _get_v3, "resourcemanager.projects.get"),
        *_policies("v3"),
    ),
    document="cloudresourcemanager.v3",
    unserved=(
        *(
            Unserved(f"cloudresourcemanager.projects.{verb}", _GIVEN)
            for verb in ("create", "delete", "undelete", "patch", "move")
        ),
        Unserved("cloudresourcemanager.projects.list", _NO_FOLDERS),
        *(
            Unserved(f"cloudresourcemanager.{resource}.*", _NO_FOLDERS)
            for resource in ("folders", "organizations", "effectiveTags", "locations")
        ),
        *(
            Unserved(f"cloudresourcemanager.{resource}.*", _NO_TAGS)
            for resource in ("tagBindings", "tagKeys", "tagValues")
        ),
        Unserved("cloudresourcemanager.liens.*", _GIVEN),
        Unserved("cloudresourcemanager.operations.*", _GIVEN),
        Unserved("cloudresourcemanager.projects.capabilityConfigs.*", _NO_FOLDERS),
        Unserved("cloudresourcemanager.fetchResourceSemantics", _NO_TAGS),
    ),
    scopes=_READ,
)
"""Version 3, which Google's libraries and Terraform speak."""
