"""The door for other processes of the same user: callers' environments, the world, faults, clock.

Loopback only, opened by a random bearer that stands in `admin.json` (mode 0600). A request whose
Host is not this machine is refused, so that no web page reaches it by DNS rebinding.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import asdict, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

from localcloud.wire.faults import OF_CONNECTIONS, Clock, Fault, Faults, Kind
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_LOOPBACK = {"127.0.0.1", "localhost"}
_STS_OF_A_REGION = re.compile(r"^sts\.[a-z]+(-[a-z]+)+-[0-9]+\.(?=amazonaws\.com$)")


class EnvironmentFor(Protocol):
    """A caller's environment."""

    def __call__(self, name: str, on: str = "", *, link_local: bool = False) -> Mapping[str, str]:
        """On a machine of a kind; by its platform's own addresses, or by loopback ports."""


class Described(Protocol):
    """What exists, without keys and tokens."""

    def document(self) -> dict[str, Any]:
        """As plain values."""

    def dump(self) -> str:
        """As YAML."""


def site(
    token: str,
    environment_for: EnvironmentFor,
    faults: Faults,
    clock: Clock,
    hosts: Callable[[], Collection[str]],
    world: Described,
) -> Site:
    """`GET /env/NAME`, `GET /world`, `GET`, `POST` and `DELETE /faults`, `PUT /clock`.

    An environment may be asked for `?on=MACHINE`, and with `&addresses=link-local`.

    The world is YAML, and JSON with `?alt=json`; the clock takes `{"skew": seconds}`.

    `hosts`: the hostnames and patterns that are served; a fault must hit one of them.
    """

    def environment(request: Request) -> Response:
        _, name = request.segments()
        asked = request.params
        link_local = asked.get("addresses") == "link-local"
        found = environment_for(name, asked.get("on", ""), link_local=link_local)
        return Response.json(200, dict(found))

    def listed(_: Request) -> Response:
        return Response.json(200, [asdict(fault) for fault in faults.listed()])

    def add(request: Request) -> Response:
        faults.add(_fault(_object(request.body), hosts()))
        return Response(204)

    def clear(_: Request) -> Response:
        faults.clear()
        return Response(204)

    def skew(request: Request) -> Response:
        clock.skew = float(_object(request.body).get("skew", "missing"))
        return Response(204)

    routes = (
        Route("GET", "/env/{name}", environment),
        Route("GET", "/world", lambda request: _world(world, request.params.get("alt", ""))),
        Route("GET", "/faults", listed),
        Route("POST", "/faults", add),
        Route("DELETE", "/faults", clear),
        Route("PUT", "/clock", skew),
    )
    return _guarded(token, Service("the cloud's own door", tuple(_LOOPBACK), routes))


def _guarded(token: str, service: Service[Site]) -> Site:
    def serve(request: Request) -> Response:
        if refused := _refused(request, token):
            return refused
        found = service.find(request.method, request.path)
        if found is None:
            return _error(404, "no such route")
        try:
            return found[0].handler(request)
        except LookupError as unknown:
            return _error(404, str(unknown))
        except (TypeError, ValueError) as wrong:
            return _error(400, str(wrong))

    return serve


def _world(world: Described, form: str) -> Response:
    if form == "json":
        return Response.json(200, world.document())
    return Response(200, world.dump().encode(), (("Content-Type", "application/yaml"),))


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
    if fault.kind in OF_CONNECTIONS and fault.path != "*":
        raise ValueError(f"{fault.kind} hits connections, which have no path")
    if fault.kind is Kind.TLS and host.startswith(("127.", "169.254.")):
        raise ValueError(f"{host} speaks plain http: kind tls does nothing there")
    return replace(fault, host=host)


def _object(body: bytes) -> dict[str, Any]:
    document = json.loads(body)
    if not isinstance(document, dict):
        raise TypeError("expected an object")
    return document


def _error(status: int, text: str) -> Response:
    return Response.json(status, {"error": text})
