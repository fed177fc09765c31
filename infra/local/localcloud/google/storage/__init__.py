"""Cloud Storage: objects on disk behind Google's APIs, on the world's buckets.

`json_api` is the JSON API; below it `access` guards every operation, and `store` keeps the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.storage import json_api
from localcloud.google.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.wire.web import Request, Response, Site

__all__ = ["SERVICES", "sites"]

SERVICES = (json_api.SERVICE,)


def sites(cloud: GoogleCloud, beside: Mapping[str, Site]) -> dict[str, Site]:
    """Hostname patterns to sites, for a `localcloud.wire.web.Router`.

    `beside` are sites that share a hostname with Cloud Storage and have its other paths.
    """
    json_site = json_api.site(cloud, Store(cloud.directory))
    return {
        host: _shared(json_site, beside[host]) if host in beside else json_site
        for host in json_api.SERVICE.hosts
    }


def _shared(json_site: Site, other: Site) -> Site:
    def serve(request: Request) -> Response:
        return (json_site if json_api.is_json_api(request) else other)(request)

    return serve
