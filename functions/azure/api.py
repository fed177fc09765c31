"""The HTTP trigger: an Azure Functions request -> the core -> an Azure Functions response.

The handler is a sync function on purpose: the core blocks on the network, and a sync handler runs
on the worker's thread pool, where an async one would hold up the whole worker.
"""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import azure.functions as func

from tokenvend import redaction
from tokenvend.app.azure import build_azure
from tokenvend.errors import InvalidRequest
from tokenvend.model import HttpRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("tokenvend")
redaction.install(logging.getLogger(), log)


class LogSink:
    """Audit records as one JSON line each, which Application Insights indexes."""

    def write(self, record: Mapping[str, Any]) -> None:
        """One line for each record."""
        log.info(json.dumps({"message": "audit", "audit": record}))


api = build_azure(os.environ, sink=LogSink(), report=log.warning)

routes = func.Blueprint()  # type: ignore[no-untyped-call]


# Authentication is the core's: function keys are no identity. host.json sets no route prefix.
@routes.function_name("api")
@routes.route(
    route="{*path}",
    methods=[
        func.HttpMethod.GET,
        func.HttpMethod.POST,
        func.HttpMethod.PUT,
        func.HttpMethod.PATCH,
        func.HttpMethod.DELETE,
        func.HttpMethod.HEAD,
        func.HttpMethod.OPTIONS,
    ],
    auth_level=func.AuthLevel.ANONYMOUS,
)
def api_door(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Every route of the contract."""
    response = api.handle(_request(req, context))
    return func.HttpResponse(
        body=response.body,
        status_code=response.status,
        headers=dict(response.headers),
        mimetype=response.headers["Content-Type"],
    )


def _request(req: func.HttpRequest, context: func.Context) -> HttpRequest | InvalidRequest:
    """An unreadable request is answered and recorded like any other."""
    try:
        path = unquote(urlsplit(req.url).path)
    except ValueError:
        # The host makes the URL of the Host header, which may be `[.]`.
        return InvalidRequest("The request's URL cannot be read.")
    return HttpRequest(
        method=req.method,
        path=path,
        headers={name.lower(): value for name, value in req.headers.items()},
        body=req.get_body(),
        platform_request_id=context.invocation_id,
    )
