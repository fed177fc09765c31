"""Cloud Run's Admin API, versions 1 and 2: services are looked at, and their policies are set.

Services are not deployed here: a world says which there are. A service is shown with the fields
that it has there and those that its clients cannot do without.
https://cloud.google.com/run/docs/reference/rest
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from localcloud.google.core import policies
from localcloud.google.core.bindings import Kind
from localcloud.google.core.errors import GoogleError, invalid_argument
from localcloud.google.core.messages import BOOL, INT32, STRING
from localcloud.google.core.paging import page, page_size
from localcloud.google.core.tokens import CLOUD_PLATFORM
from localcloud.wire.routes import Route, Service, Unserved

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.google.core.api import Answer, Call, Handler
    from localcloud.world import RunService

HOSTS = (
    "run.googleapis.com",
    "run.mtls.googleapis.com",
    "*-run.googleapis.com",
    "run.*.rep.googleapis.com",
)
_AUTH = "https://www.googleapis.com/auth"
_WRITE = (CLOUD_PLATFORM, f"{_AUTH}/run")
_READ = (*_WRITE, f"{_AUTH}/run.readonly")
_IMAGE = "us-docker.pkg.dev/cloudrun/container/hello"
_SINCE = "2026-01-01T00:00:00Z"


def _find(call: Call) -> RunService:
    project = call.google.project(call.parameters["project"])
    owner = project.project_id if project else ""
    wanted, place = call.parameters["service"], call.parameters.get("location", "-")
    name = f"projects/{owner}/locations/{place}/services/{wanted}"
    found = next((service for service in call.google.services if service.name == name), None)
    if found is None:
        text = (
            f"Resource '{wanted}' of kind 'SERVICE' in region '{place}' in project '{owner}' "
            "does not exist."
        )
        raise GoogleError("NOT_FOUND", text)
    return found


def _of_place(call: Call) -> list[RunService]:
    """The services of a project in one region, or in all (``-``, or no region)."""
    project = call.google.project(call.parameters["project"])
    owner, place = project.project_id if project else "", call.parameters.get("location", "-")
    prefix = f"projects/{owner}/locations/" + ("" if place == "-" else f"{place}/")
    return [service for service in call.google.services if service.name.startswith(prefix)]


def _get_v1(call: Call) -> Answer:
    call.arguments()
    return _v1(call, _find(call))


def _get_v2(call: Call) -> Answer:
    call.arguments()
    return _v2(call, _find(call))


def _list_v1(call: Call) -> Answer:
    given = call.arguments(
        **{"continue": STRING, "limit": INT32, "label_selector": STRING, "field_selector": STRING}
    )
    for name in ("label_selector", "field_selector"):
        if given.get(name):
            raise invalid_argument(f"The embedded cloud takes no {name}.", name)
    here, token = _page(call, given.get("limit"), given.get("continue", ""))
    metadata = {"continue": token} if token else {}
    kind = {"apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "metadata": metadata}
    return kind | {"items": [_v1(call, service) for service in here]}


def _list_v2(call: Call) -> Answer:
    given = call.arguments(page_size=INT32, page_token=STRING, show_deleted=BOOL)
    here, token = _page(call, given.get("page_size"), given.get("page_token", ""))
    answer: dict[str, Any] = {"services": [_v2(call, service) for service in here]} if here else {}
    return answer | ({"nextPageToken": token} if token else {})


def _page(call: Call, size: int | None, token: str) -> tuple[list[RunService], str]:
    place = f"{call.parameters['project']} {call.parameters.get('location', '-')}"
    return page(_of_place(call), lambda s: s.name, place, page_size(size, 100, 1000), token)


def _locations(call: Call) -> Answer:
    call.arguments(page_size=INT32, page_token=STRING, filter=STRING)
    found = sorted({service.name.split("/")[3] for service in _of_place(call)})
    project = call.parameters["project"]
    return {
        "locations": [
            {"name": f"projects/{project}/locations/{place}", "locationId": place}
            for place in found
        ]
    }


def _v1(call: Call, service: RunService) -> dict[str, Any]:
    _, project, _, place, _, name = service.name.split("/")
    found = call.google.project(project)
    annotations = {"run.googleapis.com/ingress": "all"}
    annotations["run.googleapis.com/urls"] = json.dumps(list(call.google.urls(service)))
    if service.custom_audiences:
        audiences = json.dumps(service.custom_audiences)
        annotations["run.googleapis.com/custom-audiences"] = audiences
    ready = ("Ready", "ConfigurationsReady", "RoutesReady")
    revision = f"{name}-00001-abc"
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": found.project_number if found else project,
            "generation": 1,
            "creationTimestamp": _SINCE,
            "labels": {"cloud.googleapis.com/location": place},
            "annotations": annotations,
        },
        "spec": {
            "template": {"spec": {"containers": [{"image": _IMAGE}]}},
            "traffic": [{"percent": 100, "latestRevision": True}],
        },
        "status": {
            "observedGeneration": 1,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": _SINCE} for kind in ready
            ],
            "latestReadyRevisionName": revision,
            "latestCreatedRevisionName": revision,
            "traffic": [{"percent": 100, "latestRevision": True, "revisionName": revision}],
            "url": service.uri,
            "address": {"url": service.uri},
        },
    }


def _v2(call: Call, service: RunService) -> dict[str, Any]:
    name = service.name.rpartition("/")[2]
    answer: dict[str, Any] = {
        "name": service.name,
        "generation": "1",
        "observedGeneration": "1",
        "createTime": _SINCE,
        "updateTime": _SINCE,
        "ingress": "INGRESS_TRAFFIC_ALL",
        "launchStage": "GA",
        "template": {"containers": [{"image": _IMAGE}]},
        "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
        "terminalCondition": {"type": "Ready", "state": "CONDITION_SUCCEEDED"},
        "latestReadyRevision": f"{service.name}/revisions/{name}-00001-abc",
        "latestCreatedRevision": f"{service.name}/revisions/{name}-00001-abc",
        "uri": service.uri,
        "urls": list(call.google.urls(service)),
    }
    audiences = service.custom_audiences
    return answer | ({"customAudiences": audiences} if audiences else {})


def _routes(
    version: str, get: Callable[[Call], Answer], list_: Callable[[Call], Answer]
) -> tuple[Route[Handler], ...]:
    services = f"/{version}/projects/{{project}}/locations/{{location}}/services"
    one = services + "/{service}"
    kind = Kind.RUN_SERVICE
    return (
        Route("GET", services, list_, "run.services.list"),
        Route("GET", one, get, "run.services.get"),
        *policies.routes(one, "run.services", kind, _find, read="GET", writers=_WRITE),
    )


_KNATIVE = "/apis/serving.knative.dev/v1/namespaces/{project}/services"
_DEPLOYING = "a world says which services there are"
_NOT_SERVICES = "of Cloud Run, the guide uses services alone"


def _unserved(*methods: str, because: str) -> tuple[Unserved, ...]:
    return tuple(Unserved(f"run.{method}", because) for method in methods)


V1: Service[Handler] = Service(
    "Cloud Run Admin API",
    HOSTS,
    (
        Route("GET", _KNATIVE, _list_v1, "run.services.list"),
        Route("GET", _KNATIVE + "/{service}", _get_v1, "run.services.get"),
        Route("GET", "/v1/projects/{project}/locations", _locations, "run.locations.list"),
        *_routes("v1", _get_v1, _list_v1),
    ),
    document="run.v1",
    unserved=(
        *_unserved(
            *(
                f"{place}.services.{verb}"
                for place in ("namespaces", "projects.locations")
                for verb in ("create", "delete", "replaceService")
            ),
            because=_DEPLOYING,
        ),
        *_unserved(
            *(
                f"{place}.{resource}.*"
                for place in ("namespaces", "projects.locations")
                for resource in (
                    *("authorizeddomains", "configurations", "domainmappings", "instances"),
                    *("jobs", "revisions", "routes", "workerpools"),
                )
            ),
            *("namespaces.executions.*", "namespaces.tasks.*"),
            *("projects.authorizeddomains.*", "projects.locations.operations.*"),
            because=_NOT_SERVICES,
        ),
    ),
    scopes=_READ,
)
"""Version 1, which gcloud speaks."""

V2: Service[Handler] = Service(
    "Cloud Run Admin API",
    HOSTS,
    _routes("v2", _get_v2, _list_v2),
    document="run.v2",
    unserved=(
        *_unserved(
            *(f"projects.locations.services.{verb}" for verb in ("create", "delete", "patch")),
            because=_DEPLOYING,
        ),
        *_unserved(
            *(
                f"projects.locations.{resource}.*"
                for resource in (
                    *("builds", "instances", "jobs", "operations", "services.revisions"),
                    *("sourceUploads", "workerPools"),
                )
            ),
            *(
                f"projects.locations.{verb}"
                for verb in (
                    *("exportImage", "exportImageMetadata", "exportMetadata"),
                    "exportProjectMetadata",
                )
            ),
            because=_NOT_SERVICES,
        ),
    ),
    scopes=_READ,
)
"""Version 2, which Google's libraries and Terraform speak."""
