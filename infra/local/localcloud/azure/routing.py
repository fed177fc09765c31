"""Which function answers a request: the Functions host's routing, drawbacks included.

Templates are ASP.NET Core's: `{name}`, `{name?}`, `{name:int}`, `{*rest}`, and literals around a
parameter in one segment (`{email}:sign`). As on Azure, functions are tried in the alphabetical
order of their names, whatever their templates say (azure-functions-host issue 9876), and a known
route with the wrong method answers 404, not 405 (issue 10098). A template that the host would
reject raises `BadRouteError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

CONSTRAINTS = {
    "": r"[^/]+",
    "alpha": r"[A-Za-z]+",
    "bool": r"(?:true|false)",
    "guid": r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "int": r"-?[0-9]+",
    "long": r"-?[0-9]+",
}
# The host keeps these first segments for its own interface.
RESERVED = ("admin", "runtime")
_PARAMETER = re.compile(r"\{(\*{0,2})([A-Za-z_]\w*)(?::([a-z]+))?(\?)?\}")


class BadRouteError(Exception):
    """A template that the Functions host would not load."""


@dataclass(frozen=True, slots=True)
class Route:
    """One HTTP function as its metadata describes it."""

    function: str
    parameter: str
    """The name of the handler's request argument."""
    methods: frozenset[str]
    """Empty: every method."""
    level: str
    """ANONYMOUS, FUNCTION or ADMIN."""
    pattern: re.Pattern[str]

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Route parameters when this route takes the request, else None."""
        if self.methods and method not in self.methods:
            return None
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        return {name: value for name, value in found.groupdict().items() if value}


@dataclass(frozen=True, slots=True)
class Match:
    """A route and the values that the path gave its parameters."""

    route: Route
    params: dict[str, str]


class Routes:
    """The function app's routes, in the order the host tries them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = sorted(routes, key=lambda route: route.function.lower())

    def find(self, method: str, path: str) -> Match | None:
        """The first route that takes the (still encoded) path with this method."""
        decoded = decode_path(path)
        for route in self._routes:
            params = route.match(method.upper(), decoded)
            if params is not None:
                return Match(route, params)
        return None


def compile_template(prefix: str, template: str) -> re.Pattern[str]:
    """The regular expression of a template under host.json's routePrefix."""
    if template.startswith(("/", "~")):
        raise BadRouteError(f"The route template {template!r} cannot start with '/' or '~'.")
    whole = "/".join(part for part in (prefix.strip("/"), template.strip("/")) if part)
    if whole.split("/", 1)[0].lower() in RESERVED:
        raise BadRouteError("The specified route conflicts with one or more built in routes.")
    pattern = ""
    for segment in whole.split("/") if whole else ():
        pattern += _segment(segment)
    return re.compile(pattern + "/?", re.IGNORECASE)


def decode_path(path: str) -> str:
    """A path as the app sees it: decoded once, an encoded slash left alone."""
    # Kestrel keeps %2F, so that an encoded slash never splits a segment.
    return "%2F".join(unquote(part) for part in re.split("%2[fF]", path))


def _segment(segment: str) -> str:
    alone = _PARAMETER.fullmatch(segment)
    if alone and alone[1]:
        return f"(?:/(?P<{alone[2]}>.*))?"
    if alone and alone[4]:
        return f"(?:/(?P<{alone[2]}>{_constraint(alone[3])}))?"
    pattern, position = "/", 0
    for found in _PARAMETER.finditer(segment):
        if found[1] or found[4]:
            raise BadRouteError(f"{segment!r}: such a parameter must be a whole segment.")
        literal = segment[position : found.start()]
        pattern += _literal(literal) + f"(?P<{found[2]}>{_constraint(found[3])})"
        position = found.end()
    return pattern + _literal(segment[position:])


def _literal(text: str) -> str:
    if set(text) & set("{}?*"):
        raise BadRouteError(f"There is an incomplete or unknown parameter in {text!r}.")
    return re.escape(text)


def _constraint(name: str | None) -> str:
    pattern = CONSTRAINTS.get(name or "")
    if pattern is None:
        raise BadRouteError(f"The route constraint {name!r} is not known here.")
    return pattern
