"""What a service serves, as one table: routes to match, to list and to hold against its documents.

A `Service` names its hosts, its routes and what it leaves out with the reason. A path is written as
Google's discovery documents write a method's `flatPath`
(``/v1/projects/{project}/serviceAccounts/{account}:getIamPolicy``): a name in braces stands for one
segment, percent-encoded slashes included, up to a colon; ``{name*}`` for a segment with its colons
(object names have them); ``{name+}`` at the end for the rest of the path. Services
with a single path tell their operations apart by an action (AWS Query's `Action`, `X-Amz-Target`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote


@dataclass(frozen=True)
class Route[Handler]:
    """One operation.

    Args:
        method: the HTTP method, ``*`` for any.
        path: its template.
        handler: who serves it.
        permission: what the vendor asks of a caller, in the vendor's own words
            (``iam.serviceAccounts.create``, ``ssm:GetParameter``); empty where nobody needs any.
        action: the operation's name, for services that take it from elsewhere than the path.
        asks: a permission that the handler asks for itself, since it is not asked of the caller or
            on what the path names (a delegate's, an upload's body).
        scopes: the OAuth scopes of which a token needs one, where they are not the service's.

    """

    method: str
    path: str
    handler: Handler
    permission: str = ""
    action: str = ""
    asks: str = ""
    scopes: tuple[str, ...] | None = None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pieces = re.split(r"(\{[A-Za-z]+[+*]?\})", self.path)
        return re.compile("".join(_piece(piece) for piece in pieces))

    def parameters(self, path: str) -> dict[str, str] | None:
        """What an encoded path gives the names in braces, decoded; None if it is another path."""
        match = self._pattern.fullmatch(path)
        return match and {name: unquote(value) for name, value in match.groupdict().items()}


@dataclass(frozen=True)
class Unserved:
    """Methods that a service leaves out: an id of its discovery document, or ``prefix.*``.

    ``id#part`` is a part of a method that is served otherwise.
    """

    method: str
    because: str


@dataclass(frozen=True)
class Service[Handler]:
    """One service's table.

    Args:
        title: its name as the vendor says it.
        hosts: the hostnames and patterns that it answers at.
        routes: what it serves; of several that match, the first.
        document: the name of its discovery document (``iam.v1``), where it has one.
        unserved: what it leaves out of that document.
        scopes: the OAuth scopes of which a token needs one; empty: nobody needs a token.

    """

    title: str
    hosts: tuple[str, ...]
    routes: tuple[Route[Handler], ...]
    document: str = ""
    unserved: tuple[Unserved, ...] = field(default=())
    scopes: tuple[str, ...] = ()

    def find(
        self, method: str, path: str, action: str = ""
    ) -> tuple[Route[Handler], dict[str, str]] | None:
        """The route of a request and its path's parameters; `path` is percent-encoded."""
        for route in self.routes:
            if route.method in (method, "*") and route.action == action:
                parameters = route.parameters(path)
                if parameters is not None:
                    return route, parameters
        return None


def _piece(piece: str) -> str:
    if not piece.startswith("{"):
        return re.escape(piece)
    name = piece.strip("{}")
    if name.endswith("+"):
        return f"(?P<{name[:-1]}>.+)"
    if name.endswith("*"):
        return f"(?P<{name[:-1]}>[^/]+)"
    # A colon divides a resource from its verb: /v1/projects/p/serviceAccounts/s:signBlob.
    return f"(?P<{name}>[^/:]+)"
