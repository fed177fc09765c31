"""Google Cloud in the embedded cloud: one world, one token store and one audit log.

Every API is a table of what it serves and what it leaves out, behind the one front of `core/api`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google import (
    iam,
    iamcredentials,
    oauth2,
    resourcemanager,
    run,
    run_admin,
    serviceusage,
    storage,
    sts,
)
from localcloud.google.core.api import api_sites
from localcloud.google.core.audit import AuditLog, LogEntry
from localcloud.google.core.cloud import GoogleCloud
from localcloud.google.people import environment_of

if TYPE_CHECKING:
    from localcloud.wire.web import Site

__all__ = ["SERVICES", "AuditLog", "GoogleCloud", "LogEntry", "environment_of", "sites"]


_APIS = (
    sts.SERVICE,
    iamcredentials.SERVICE,
    iam.SERVICE,
    run.SERVICE,
    run_admin.V1,
    run_admin.V2,
    oauth2.KEYS,
    oauth2.OPENID,
    oauth2.TOKEN_INFO,
    resourcemanager.V1,
    resourcemanager.V3,
    serviceusage.SERVICE,
)
SERVICES = (*_APIS, *storage.SERVICES)
"""Everything of Google's that is served; Cloud Storage has a front of its own."""


def sites(cloud: GoogleCloud) -> dict[str, Site]:
    """Hostname patterns to sites, for a `localcloud.wire.web.Router`."""
    apis = api_sites(cloud, *_APIS)
    return {
        **apis,
        **storage.sites(cloud, beside=apis),
    }
