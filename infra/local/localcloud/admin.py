"""The door for other processes of the same user: callers' environments, faults, the clock.

Loopback only, opened by a random bearer that stands in `admin.json` (mode 0600). A request whose
Host is not this machine is refused, so that no web page reaches it by DNS rebinding.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_type_hints

from localcloud.faults import Clock, Fault, Faults, Kind
from localcloud.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LOOPBACK = {"127.0.0.1", "localhost"}


def site(
    token: str,
    environment_for: Callable[[str], Mapping[str, str]],
    faults: Faults,
    clock: Clock,
) -> Site:
    """`GET /env/NAME`, `POST` and `DELETE /faults`, `PUT /clock` (`{"skew": seconds}`)."""

    def serve(request: Request) -> Response:  # noqa: PLR0911 - one return for each route
        presented = request.headers.get("Authorization")
        if request.host not in _LOOPBACK:
            return _error(403, "the Host is not this machine")
        if not hmac.compare_digest(presented.encode(), f"Bearer {token}".encode()):
            return _error(401, "the bearer of admin.json is needed")
        try:
            match request.method, request.segments():
                case "GET", ["env", name]:
                    return Response.json(200, dict(environment_for(name)))
                case "POST", ["faults"]:
                    faults.add(_fault(_object(request.body)))
                    return Response(204)
                case "DELETE", ["faults"]:
                    faults.clear()
                    return Response(204)
                case "PUT", ["clock"]:
                    clock.skew = float(_object(request.body).get("skew", "missing"))
                    return Response(204)
                case _:
                    return _error(404, "no such route")
        except LookupError as unknown:
            return _error(404, str(unknown))
        except (TypeError, ValueError) as wrong:
            return _error(400, str(wrong))

    return serve


def _fault(document: Mapping[str, Any]) -> Fault:
    known = {item.name for item in fields(Fault)}
    if unknown := document.keys() - known:
        raise ValueError(f"a fault has no {min(unknown)}")
    for name, kind in get_type_hints(Fault).items():
        value = document.get(name)
        wanted = (int, float) if kind is float else kind
        if value is not None and kind is not Kind and not isinstance(value, wanted):
            raise ValueError(f"{name} has the wrong type")
    return Fault(**{**document, "kind": Kind(document.get("kind", ""))})


def _object(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("expected an object")
    return document


def _error(status: int, text: str) -> Response:
    return Response.json(status, {"error": text})
