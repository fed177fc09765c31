"""Service Usage (v1): which APIs a project has, and `gcloud services enable`.

An operation is at work when it is answered and done when it is first asked for, as gcloud waits for
it. Refuses an API that does not exist in Google's own words, and enables each that does, whether it
is served here or not. Dependencies between APIs are not modelled: nothing is enabled or disabled
but what is named.
https://cloud.google.com/service-usage/docs/reference/rest
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from localcloud.google.core.errors import GoogleError, error_info, invalid_argument
from localcloud.google.core.messages import BOOL, INT32, STRING, enum, repeated
from localcloud.google.core.services import known, title
from localcloud.google.core.tokens import CLOUD_PLATFORM
from localcloud.wire.routes import Route, Service, Unserved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.google.core.api import Answer, Call, Handler
    from localcloud.world import Project

MAX_BATCH_ENABLE = 20
MAX_BATCH_GET = 30
MAX_PAGE = 200
DEFAULT_PAGE = 50
NOTHING_TO_DO = "operations/noop.DONE_OPERATION"
_TYPES = "type.googleapis.com/google.api.serviceusage.v1"
_FILTER = re.compile(r"state\s*[:=]\s*(ENABLED|DISABLED)")
_READ = (CLOUD_PLATFORM, "https://www.googleapis.com/auth/cloud-platform.read-only")
_WRITE = (CLOUD_PLATFORM, "https://www.googleapis.com/auth/service.management")


def _project(call: Call) -> Project:
    found = call.google.project(call.parameters["project"])
    if found is None:
        # The permission check lets nobody near a project that does not exist.
        raise GoogleError("NOT_FOUND", "Requested entity was not found.")
    return found


def _state(project: Project, api: str) -> dict[str, Any]:
    parent = f"projects/{project.project_number}"
    return {
        "name": f"{parent}/services/{api}",
        "config": {"name": api, "title": title(api)},
        "state": "ENABLED" if api in project.enabled_services else "DISABLED",
        "parent": parent,
    }


def _existing(names: Iterable[str]) -> list[str]:
    """The names; raises the 403 by which Google says that one of them is no API."""
    wanted = list(dict.fromkeys(names))
    unknown = ",".join(name for name in wanted if name not in known())
    if not unknown:
        return wanted
    text = f"Not found or permission denied for service(s): {unknown}."
    kind = "type.googleapis.com/google.rpc.PreconditionFailure"
    violation = {"type": "googleapis.com", "subject": f"?error_code=220002&services={unknown}"}
    reason = "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED"
    info = error_info(reason, "serviceusage.googleapis.com", services=unknown)
    details = ({"@type": kind, "violations": [violation]}, info)
    raise GoogleError("PERMISSION_DENIED", text, details)


def _get(call: Call) -> Answer:
    (api,) = _existing([call.parameters["api"]])
    return _state(_project(call), api)


def _list(call: Call) -> Answer:
    given = call.arguments(filter=STRING, page_size=INT32, page_token=STRING)
    project = _project(call)
    shown = _FILTER.fullmatch(given.get("filter", "").strip())
    if given.get("filter") and shown is None:
        raise invalid_argument("Invalid filter.", "filter")
    size = given.get("page_size", DEFAULT_PAGE)
    if not 0 <= size <= MAX_PAGE:
        raise invalid_argument(f"Page size should be no more than {MAX_PAGE}.", "page_size")
    states = [_state(project, api) for api in sorted(known())]
    found = [s for s in states if shown is None or s["state"] == shown[1]]
    names = [state["config"]["name"] for state in found]
    token = given.get("page_token", "")
    if token and token not in names:
        raise invalid_argument("Invalid page token.", "page_token")
    start = names.index(token) if token else 0
    end = start + (size or DEFAULT_PAGE)
    answer: dict[str, Any] = {"services": found[start:end]}
    if end < len(found):
        answer["nextPageToken"] = names[end]
    return answer


def _batch_get(call: Call) -> Answer:
    names = [value for name, value in parse_qsl(call.request.query) if name == "names"]
    parent = f"projects/{call.parameters['project']}/services/"
    if not 0 < len(names) <= MAX_BATCH_GET or any(not n.startswith(parent) for n in names):
        raise invalid_argument(f"One to {MAX_BATCH_GET} names of one parent are needed.", "names")
    project = _project(call)
    apis = _existing(name.removeprefix(parent) for name in names)
    return {"services": [_state(project, api) for api in apis]}


def _enable(call: Call) -> Answer:
    call.message({})
    project, (api,) = _project(call), _existing([call.parameters["api"]])
    changed = _switch_on(call, project, [api])
    return _operation(call, "EnableServiceResponse", {"service": _state(project, api)}, changed)


def _batch_enable(call: Call) -> Answer:
    names = call.message({"service_ids": repeated(STRING)}).get("service_ids", [])
    if not 0 < len(names) <= MAX_BATCH_ENABLE:
        text = f"One to {MAX_BATCH_ENABLE} services can be enabled at once."
        raise invalid_argument(text, "service_ids")
    project, apis = _project(call), _existing(names)
    changed = _switch_on(call, project, apis)
    states = [_state(project, api) for api in apis]
    return _operation(call, "BatchEnableServicesResponse", {"services": states}, changed)


def _disable(call: Call) -> Answer:
    usage = ("CHECK_IF_SERVICE_HAS_USAGE_UNSPECIFIED", "SKIP", "CHECK")
    call.message(
        {
            "disable_dependent_services": BOOL,
            "check_if_service_has_usage": enum("google.api.serviceusage.v1.Check", *usage),
        }
    )
    project, (api,) = _project(call), _existing([call.parameters["api"]])
    if api not in project.enabled_services:
        text = f"Service '{api}' is not enabled for consumer 'projects/{project.project_number}'."
        info = error_info("SU_SERVICE_NOT_ENABLED", "serviceusage.googleapis.com", services=api)
        raise GoogleError("FAILED_PRECONDITION", text, (info,))
    with call.cloud.world.lock:
        project.enabled_services = [each for each in project.enabled_services if each != api]
    return _operation(call, "DisableServiceResponse", {"service": _state(project, api)}, [api])


def _switch_on(call: Call, project: Project, apis: list[str]) -> list[str]:
    with call.cloud.world.lock:
        changed = [api for api in apis if api not in project.enabled_services]
        project.enabled_services = [*project.enabled_services, *changed]
    return changed


def _operation(call: Call, kind: str, response: dict[str, Any], changed: list[str]) -> Answer:
    done = {"done": True, "response": {"@type": f"{_TYPES}.{kind}", **response}}
    if not changed:
        return {"name": NOTHING_TO_DO, **done}
    project = _project(call)
    name = f"operations/acat.p2-{project.project_number}-{uuid.uuid4()}"
    parent = f"projects/{project.project_number}"
    metadata = {
        "@type": f"{_TYPES}.OperationMetadata",
        "resourceNames": [f"{parent}/services/{api}" for api in changed],
    }
    call.cloud.operations[name] = {"name": name, "metadata": metadata, **done}
    return {"name": name, "metadata": metadata}


def _get_operation(call: Call) -> Answer:
    name = f"operations/{call.parameters['operation']}"
    found = call.cloud.operations.get(name)
    if found is None:
        raise GoogleError("NOT_FOUND", f"Operation '{name}' was not found.")
    return found


_SERVICES = "/v1/projects/{project}/services"
_UNSURE = "an operation is over when it is first asked for: there is nothing to list or to stop"

SERVICE: Service[Handler] = Service(
    "Service Usage",
    ("serviceusage.googleapis.com", "serviceusage.mtls.googleapis.com"),
    (
        Route("GET", _SERVICES, _list, "serviceusage.services.list", scopes=_READ),
        Route("GET", f"{_SERVICES}/{{api}}", _get, "serviceusage.services.get", scopes=_READ),
        Route(
            "GET", f"{_SERVICES}:batchGet", _batch_get, "serviceusage.services.get", scopes=_READ
        ),
        Route("POST", f"{_SERVICES}/{{api}}:enable", _enable, "serviceusage.services.enable"),
        Route("POST", f"{_SERVICES}/{{api}}:disable", _disable, "serviceusage.services.disable"),
        Route("POST", f"{_SERVICES}:batchEnable", _batch_enable, "serviceusage.services.enable"),
        # Whoever has an operation's name was told it; Google asks nothing more.
        Route("GET", "/v1/operations/{operation}", _get_operation),
    ),
    document="serviceusage.v1",
    unserved=tuple(
        Unserved(f"serviceusage.operations.{verb}", _UNSURE)
        for verb in ("cancel", "delete", "list")
    ),
    scopes=_WRITE,
)
"""Service Usage at its one host."""
