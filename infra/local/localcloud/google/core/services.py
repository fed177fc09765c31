"""Which APIs a project has enabled, and Google's refusal of the others.

An API that works on resources asks the project that holds the resource; one that works for its
client asks the project of whoever calls: a service account's own, a workload identity pool's, or
the one of `X-Goog-User-Project`. A person calls through gcloud's own project, which has them all.
https://cloud.google.com/docs/quotas/quota-project
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from localcloud.google.core.errors import GoogleError, error_info
from localcloud.google.core.principals import (
    FederatedPrincipal,
    ServiceAccountPrincipal,
    UserPrincipal,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.principals import Principal
    from localcloud.world import Google, Project

TITLES = {
    f"{name}.googleapis.com": title
    for name, title in {
        "cloudapis": "Google Cloud APIs",
        "cloudresourcemanager": "Cloud Resource Manager API",
        "iam": "Identity and Access Management (IAM) API",
        "iamcredentials": "IAM Service Account Credentials API",
        "run": "Cloud Run Admin API",
        "servicemanagement": "Service Management API",
        "serviceusage": "Service Usage API",
        "storage": "Cloud Storage API",
        "storage-api": "Google Cloud Storage JSON API",
        "sts": "Security Token Service API",
    }.items()
}
"""What a new project has and what is served here, by name, with Google's titles."""

OF_THE_CLIENT = frozenset({"cloudresourcemanager.googleapis.com", "iamcredentials.googleapis.com"})
"""The APIs whose calls count for the caller's project, not for the resource's."""


@cache
def known() -> frozenset[str]:
    """Every API that a project may enable, served here or not.

    `services.txt` is a list of this package's own, of the names that Google's discovery documents
    have; a test compares it with them.
    """
    lines = (files(__package__) / "services.txt").read_text("utf-8").splitlines()
    return frozenset(f"{line}.googleapis.com" for line in lines if not line.startswith("#"))


def title(api: str) -> str:
    """What Google calls an API; of one that is not served here, its name."""
    return TITLES.get(api, api)


def lacks(api: str, consumer: Project | None) -> bool:
    """Whether the API is off in the consumer's project.

    Nobody's project lacks nothing: what does not exist is told by the permission check.
    """
    return consumer is not None and api in TITLES and api not in consumer.enabled_services


def activation(api: str, name: str) -> tuple[str, str]:
    """Google's text for an API that the project of this id or number lacks, and the link in it."""
    url = f"https://console.developers.google.com/apis/api/{api}/overview?project={name}"
    text = (
        f"{TITLES[api]} has not been used in project {name} before or it is disabled. Enable it "
        f"by visiting {url} then retry. If you enabled this API recently, wait a few minutes for "
        "the action to propagate to our systems and retry."
    )
    return text, url


def require_enabled(api: str, consumer: Project | None, shown: str = "") -> None:
    """Raise Google's 403 if the consumer lacks the API; `shown` is how a call named the project."""
    if consumer is None or not lacks(api, consumer):
        return
    name, title = shown or consumer.project_number, TITLES[api]
    text, url = activation(api, name)
    kinds = "type.googleapis.com/google.rpc"
    raise GoogleError(
        "PERMISSION_DENIED",
        text,
        (
            error_info(
                "SERVICE_DISABLED",
                "googleapis.com",
                activationUrl=url,
                consumer=f"projects/{name}",
                containerInfo=name,
                service=api,
                serviceTitle=title,
            ),
            {"@type": f"{kinds}.LocalizedMessage", "locale": "en-US", "message": text},
            {
                "@type": f"{kinds}.Help",
                "links": [{"description": "Google developers console API activation", "url": url}],
            },
        ),
    )


def of_the_resource(google: Google, parameters: Mapping[str, str]) -> tuple[Project | None, str]:
    """The project of what a path names, and how the path names it."""
    if "bucket" in parameters:
        bucket = google.bucket(parameters["bucket"])
        return (google.project(bucket.project_number) if bucket else None), ""
    name = parameters.get("project", "")
    if name == "-" and "account" in parameters:
        account = google.service_account(parameters["account"])
        name = account.name.split("/")[1] if account else ""
    return google.project(name), name


def of_the_caller(google: Google, principal: Principal) -> Project | None:
    """The project that a caller belongs to; None for a person, who belongs to none."""
    match principal:
        case FederatedPrincipal(pool=pool):
            return google.project(pool.split("/")[1])
        case ServiceAccountPrincipal(unique_id=unique_id):
            account = google.service_account(unique_id)
            return google.project(account.name.split("/")[1]) if account else None
        case UserPrincipal():
            return None
