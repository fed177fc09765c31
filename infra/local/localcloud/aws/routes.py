"""Which route of an HTTP API a request takes.

API Gateway's order: a full match first, then the one with the longest greedy path, then
`$default`; among equals a named method before `ANY`. Path variables match one whole segment,
`{name+}` the rest. Specification: "Routes for HTTP APIs", API Gateway Developer Guide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from localcloud.aws.template import Route

DEFAULT = "$default"


@dataclass(frozen=True)
class Match:
    """A route and what its path variables stand for."""

    route: Route
    parameters: Mapping[str, str] = field(default_factory=dict)


def find(routes: Iterable[Route], method: str, path: str) -> Match | None:
    """The route for a method and an encoded path, or None."""
    best: tuple[tuple[int, int, int], Match] | None = None
    for route in routes:
        if route.key == DEFAULT:
            candidate, weight = Match(route), (0, 0, 0)
        else:
            verb, _, pattern = route.key.partition(" ")
            parameters = _match(pattern, path)
            if verb not in {method, "ANY"} or parameters is None:
                continue
            greedy = pattern.endswith("+}")
            fixed = sum(not part.startswith("{") for part in pattern.split("/"))
            candidate = Match(route, parameters)
            weight = (1 if greedy else 2, fixed, int(verb == method))
        if best is None or weight > best[0]:
            best = weight, candidate
    return best[1] if best else None


def _match(pattern: str, path: str) -> dict[str, str] | None:
    wanted, given = pattern.strip("/").split("/"), path.strip("/").split("/")
    parameters: dict[str, str] = {}
    for index, part in enumerate(wanted):
        if part.startswith("{") and part.endswith("+}"):
            rest = "/".join(given[index:])
            return {**parameters, part[1:-2]: unquote(rest)} if rest else None
        if index >= len(given):
            return None
        if part.startswith("{") and part.endswith("}"):
            parameters[part[1:-1]] = unquote(given[index])
        elif part != given[index]:
            return None
    return parameters if len(wanted) == len(given) else None
