"""The HTTP trigger: an Azure Functions request -> the core -> an Azure Functions response.

The handler is a sync function on purpose: the core blocks on the network, and a sync handler runs
on the worker's thread pool, where an async one would hold up the whole worker.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import azure.functions as func

from tokenvend import redaction
from tokenvend.app.azure import build_azure
from tokenvend.app.common import Machine
from tokenvend.model import HttpRequest

if TYPE_CHECKING:
    from tokenvend.audit.record import AuditRecord

log = logging.getLogger("tokenvend")
redaction.install(logging.getLogger(), log)


def write_record(line: str, _: AuditRecord) -> None:
    """One JSON line on standard output for each audit record.

    The host reads that pipe and logs each line as `Host.Function.Console`, which host.json lets
    through to Application Insights. A logger would hand it over as well, but it drops what its
    level leaves out and only queues the rest, so that nobody learns of a line that was lost.
    Raises OSError when the host's pipe did not take it.
    """
    sys.stdout.write(f'{{"message":"audit","audit":{line}}}\n')
    sys.stdout.flush()


api = build_azure(os.environ, Machine(write_record, log.warning))

routes = func.Blueprint()  # type: ignore[no-untyped-call]


# Authentication is the core's: function keys are no identity. host.json sets no route prefix.
@routes.function_name("api")
@routes.route(
    route="{*path}",
    methods=["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
    auth_level=func.AuthLevel.ANONYMOUS,
)
def api_door(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Every route of the contract."""
    request = HttpRequest(
        method=req.method,
        # Decoded by the host, once. The URL is no use: the host encodes again what it decoded,
        # except for what then looks encoded already.
        path=f"/{req.route_params.get('path', '')}",
        headers=dict(req.headers),
        body=req.get_body(),
        platform_request_id=context.invocation_id,
        source=_last_hop(req.headers.get("x-forwarded-for", "")),
    )
    response = api.handle(request)
    return func.HttpResponse(
        body=response.body,
        status_code=response.status,
        headers=dict(response.headers),
        mimetype=response.headers["Content-Type"],
    )


def _last_hop(forwarded: str) -> str:
    """The address that App Service's own front end added: `1.2.3.4:56` or `[::1]:56`, portless.

    What stands before it came with the request, from anybody.
    """
    hop = forwarded.rpartition(",")[2].strip()
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop
