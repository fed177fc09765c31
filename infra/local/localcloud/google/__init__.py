"""Google Cloud in the embedded cloud, as strict as Google is.

Serves the Security Token Service, IAM Credentials, the service accounts' policies, Cloud Storage,
Cloud Run and the public key sets, all on one world, one token store and one audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google import iamcredentials, metadata, run, storage, sts
from localcloud.google.core.audit import AuditLog, LogEntry
from localcloud.google.core.cloud import GoogleCloud

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.wire.web import Request, Response, Site
    from localcloud.world import World

__all__ = ["AuditLog", "LogEntry", "sites"]


def sites(
    world: World,
    clock: Callable[[], float],
    fetch: Callable[[Request], Response],
    log: AuditLog | None = None,
) -> dict[str, Site]:
    """Hostname patterns to sites, for a `localcloud.wire.web.Router`.

    `clock` gives epoch seconds. `fetch` reaches the other clouds' stand-ins by hostname: AWS STS
    for GetCallerIdentity, an OIDC issuer for its key set. `log` receives the audit entries.
    """
    cloud = GoogleCloud(world, clock, fetch, log or AuditLog())
    token_service = sts.site(cloud)
    return {
        "sts.googleapis.com": token_service,
        "sts.*.rep.googleapis.com": token_service,
        "iamcredentials.googleapis.com": iamcredentials.site(cloud),
        "storage.googleapis.com": storage.site(cloud),
        "*.run.app": run.site(cloud),
        **metadata.sites(cloud),
    }
