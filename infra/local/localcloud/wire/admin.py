"""The door for other processes of the same user: callers' environments, faults, the clock.

Loopback only, opened by a random bearer that stands in `admin.json` (mode 0600). A request whose
Host is not this machine is refused, so that no web page reaches it by DNS rebinding.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import asdict, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, get_type_hints

from localcloud.wire.faults import Clock, Fault, Faults, Kind
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_LOOPBACK = {"127.0.0.1", "localhost"}
_STS_OF_A_REGION = re.compile(r"^sts\.[a-z]+(-[a-z]+)+-[0-9]+\.(?=amazonaws\.com$)")


def site(
    token: str,
    environment_for: Callable[[str], Mapping[str, str]],
    faults: Faults,
    clock: Clock,
    hosts: Callable[[], Collection[str]],
) -> Site:
    """`GET /env/NAME`, `GET`, `POST` and `DELETE /faults`, `PUT /clock` (`{"skew": seconds}`).

    `hosts`: the hostnames and patterns that are served; a fault must hit one of them.
    """

    def serve(request: Request) -> Response:  # noqa: PLR0911 - one return for each route
        if refused := _refused(request, token):
            return refused
        try:
            match request.method, request.segments():
                case "GET", ["env", name]:
                    return Response.json(200, dict(environment_for(name)))
                case "GET", ["faults"]:
                    return Response.json(200, [asdict(fault) for fault in faults.listed()])
                case "POST", ["faults"]:
                    faults.add(_fault(_object(request.body), hosts()))
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


def _refused(request: Request, token: str) -> Response | None:
    presented = request.headers.get("Authorization")
    if request.host not in _LOOPBACK:
        return _error(403, "the Host is not this machine")
    if not hmac.compare_digest(presented.encode(), f"Bearer {token}".encode()):
        return _error(401, "the bearer of admin.json is needed")
    return None


def _fault(document: Mapping[str, Any], hosts: Collection[str]) -> Fault:
    members = {item.name for item in fields(Fault)}
    if unknown := document.keys() - members:
        raise ValueError(f"a fault has no {min(unknown)}")
    for name, kind in get_type_hints(Fault).items():
        value = document.get(name)
        wanted = (int, float) if kind is float else kind
        if value is not None and kind is not Kind and not isinstance(value, wanted):
            raise ValueError(f"{name} has the wrong type")
    fault = Fault(**{**document, "kind": Kind(document.get("kind", ""))})
    host = fault.host.lower()
    # A misspelt host would look like a cloud that bears every fault.
    if not any(fnmatchcase(each, host) or fnmatchcase(host, each) for each in hosts):
        known = sorted({_STS_OF_A_REGION.sub("sts.REGION.", each) for each in hosts})
        raise ValueError(f"no host here is {host}; known are {', '.join(known)}")
    return replace(fault, host=host)


def _object(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("expected an object")
    return document


def _error(status: int, text: str) -> Response:
    return Response.json(status, {"error": text})
