"""Cloud Storage: objects on disk behind Google's APIs, on the world's buckets.

`json_api`, its `batch` and `xml` are the doors; behind each `access` guards every operation, and
`store` keeps the objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.storage import batch, json_api, xml
from localcloud.google.storage.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.wire.web import Request, Response, Site

__all__ = ["SERVICES", "sites"]

SERVICES = (json_api.SERVICE, batch.SERVICE, xml.SERVICE)
"""The tables of what is served."""


def sites(cloud: GoogleCloud, beside: Mapping[str, Site]) -> dict[str, Site]:
    """Hostname patterns to sites, for a `localcloud.wire.web.Router`.

    `beside` are sites that share a hostname with Cloud Storage and have its other paths.
    """
    store = Store(cloud.directory)
    json_site, xml_site = json_api.site(cloud, store), xml.site(cloud, store)
    return {
        **dict.fromkeys(xml.SERVICE.hosts, xml_site),
        **{host: _shared(json_site, beside.get(host, xml_site)) for host in json_api.SERVICE.hosts},
    }


def _shared(json_site: Site, other: Site) -> Site:
    batches = batch.site(json_site)

    def serve(request: Request) -> Response:
        if request.path == batch.PATH:
            return batches(request)
        return (json_site if json_api.is_json_api(request) else other)(request)

    return serve
