"""What a permission is asked on: a resource and the policies that reach it.

A binding counts from the resource's own policy and from its project's
(https://cloud.google.com/iam/docs/resource-hierarchy-access-control); folders and organizations
are not part of a world. A resource that does not exist has its project's policies alone, and one of
an unknown project has none, so that nobody is let through.

`of_route` reads a route's names in braces: ``{account}`` is a service account, ``{bucket}`` a
bucket, ``{service}`` under a ``{location}`` a Cloud Run service, ``{pool}`` a workload identity
pool, ``{project}`` a project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.google.core.cel import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.world import Bucket, Google, Policy, Project, RunService, ServiceAccount

IAM = "iam.googleapis.com"


@dataclass(frozen=True, slots=True)
class Target:
    """A resource as conditions see it, and its policies by the names of their resources.

    `shown` is how IAM's refusal names it; empty where Google's text does not.
    """

    resource: Resource
    policies: Mapping[str, Policy]
    shown: str = ""


def project(google: Google, name: str) -> Target:
    """The project of this id or number."""
    found = google.project(name)
    number = found.project_number if found else name
    service = "cloudresourcemanager.googleapis.com"
    resource = Resource(f"projects/{number}", f"{service}/Project", service)
    return Target(resource, _inherited(found))


def service_account(google: Google, account: ServiceAccount) -> Target:
    """A service account."""
    owner = google.project(account.name.split("/")[1])
    resource = Resource(account.name, f"{IAM}/ServiceAccount", IAM)
    return Target(resource, {account.name: account.iam_policy} | _inherited(owner))


def bucket(google: Google, found: Bucket, name: str | None = None) -> Target:
    """A bucket, or the object `name` in it."""
    service = "storage.googleapis.com"
    resource_name = f"projects/_/buckets/{found.name}"
    policies = {resource_name: found.iam_policy} | _inherited(google.project(found.project_number))
    if name is None:
        return Target(Resource(resource_name, f"{service}/Bucket", service), policies)
    resource_name += f"/objects/{name}"
    return Target(Resource(resource_name, f"{service}/Object", service), policies)


def run_service(google: Google, found: RunService) -> Target:
    """A Cloud Run service."""
    service = "run.googleapis.com"
    owner = google.project(found.name.split("/")[1])
    resource = Resource(found.name, f"{service}/Service", service)
    policies = {found.name: found.iam_policy} | _inherited(owner)
    return Target(resource, policies, found.name)


def of_route(google: Google, parameters: Mapping[str, str]) -> Target | None:
    """The target that a path names; None when its route names none."""
    owner = parameters.get("project", "")
    if "account" in parameters:
        account = _account(google, parameters["account"])
        if account is not None and owner in ("-", *_names(google, account.name.split("/")[1])):
            return service_account(google, account)
    elif "bucket" in parameters:
        found = google.bucket(parameters["bucket"])
        return None if found is None else bucket(google, found, parameters.get("object"))
    elif "service" in parameters and "location" in parameters:
        return _run_target(google, parameters)
    elif "location" in parameters:
        path = f"projects/{owner}/locations/{parameters['location']}"
        path += f"/workloadIdentityPools/{parameters['pool']}" if "pool" in parameters else ""
        path += f"/providers/{parameters['provider']}" if "provider" in parameters else ""
        resource = Resource(path, f"{IAM}/WorkloadIdentityPool", IAM)
        return Target(resource, _inherited(google.project(owner)), f"//{IAM}/{path}")
    return project(google, owner) if "project" in parameters else None


def _account(google: Google, name: str) -> ServiceAccount | None:
    """An account by email or unique id, or a deleted one by its unique id, to be undeleted."""
    deleted = (a for a in google.deleted_service_accounts if a.unique_id == name)
    return google.service_account(name) or next(deleted, None)


def _inherited(owner: Project | None) -> dict[str, Policy]:
    if owner is None or owner.lifecycle_state != "ACTIVE":
        return {}
    return {f"projects/{owner.project_number}": owner.iam_policy}


def _names(google: Google, name: str) -> tuple[str, ...]:
    found = google.project(name)
    return (found.project_id, found.project_number) if found else ()


def _run_target(google: Google, parameters: Mapping[str, str]) -> Target:
    owner = google.project(parameters["project"])
    project_id = owner.project_id if owner else parameters["project"]
    name = f"projects/{project_id}/locations/{parameters['location']}"
    name += f"/services/{parameters['service']}"
    found = next((service for service in google.services if service.name == name), None)
    if found is not None:
        return run_service(google, found)
    resource = Resource(name, "run.googleapis.com/Service", "run.googleapis.com")
    return Target(resource, _inherited(owner), name)
