"""Everything that the embedded cloud plays: each service's table, by vendor.

`tokenvend local routes` and infra/local/README.md are made of it, and a test holds it against
Google's discovery documents. A service that is not here is not served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud import aws, azure, google

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from localcloud.wire.routes import Route, Service

VENDORS: Mapping[str, tuple[Service[Any], ...]] = {
    "AWS": aws.SERVICES,
    "Azure": azure.SERVICES,
    "Google": google.SERVICES,
}
"""The tables of each vendor."""

_HEAD = """# The embedded cloud

What `make up` runs: AWS, Azure and Google on loopback, under their own hostnames, for development,
tests and `make demo`. This page is made by `make docs` from the tables that serve the requests.

- **Served** routes answer as the vendor's do, with its checks and its errors. A permission is asked
  of the caller by the policies of the world (`tokenvend local world`); of one in brackets the
  service itself decides on whom or on what.
- **Left out** is refused at once: by Google and by Azure's data services with status 405 and a
  message that names the embedded cloud, in the vendor's own shape, since clients retry a 501 for
  minutes (docs/adr/0011); elsewhere in the words that each service has for what it does not know.
  What a table does not name is refused alike.
"""


_MACHINES = """## Machines

`tokenvend local env --as NAME --on MACHINE` makes a shell a workload of that kind:

| machine | who runs there | what it finds |
|---|---|---|
| `lambda` | a role that trusts it, as for the next three | keys in its environment |
| `ec2` | | instance metadata of version 2, with the role's keys in it |
| `ecs` | | the task's credentials at 169.254.170.2 |
| `eks` | | a projected token, and EKS Pod Identity at 169.254.170.23 |
| `functions` | a managed identity | `IDENTITY_ENDPOINT` and its header |
| `vm` | a managed identity | instance metadata |
| `aks` | one with a federated identity credential | a projected token for Entra |

Each machine has a proxy port of its own, where link-local addresses mean this machine and no other;
any other plain http is refused. Metadata of version 1 is a setting of the world
(`instanceMetadataOptions`). The AWS SDKs ask ECS's and EKS's addresses without any proxy, so
`AWS_CONTAINER_CREDENTIALS_FULL_URI` gives them a loopback port instead, as
`AWS_EC2_METADATA_SERVICE_ENDPOINT` does for EC2's; `--link-local` names the addresses as AWS does.

**A program that ignores `HTTP_PROXY` and those two variables asks the real address**: on a virtual
machine of your own it would get that machine's real credentials.
"""


def document() -> dict[str, Any]:
    """The catalogue as JSON: vendors, their services, routes and what is left out."""
    return {
        vendor: [
            {
                "title": service.title,
                "hosts": list(service.hosts),
                "document": service.document,
                "routes": [_route(route) for route in service.routes],
                "unserved": [
                    {"method": entry.method, "because": entry.because} for entry in service.unserved
                ],
            }
            for service in services
        ]
        for vendor, services in VENDORS.items()
    }


def markdown() -> str:
    """The catalogue as the text of infra/local/README.md."""
    return "\n".join([_HEAD, _MACHINES, *_sections()]).rstrip() + "\n"


def _route(route: Route[Any]) -> dict[str, str]:
    return {
        "method": route.method,
        "path": route.path,
        "action": route.action,
        "permission": permission(route),
    }


def permission(route: Route[Any]) -> str:
    """What a caller needs, in brackets where the handler asks for it; empty for anybody."""
    return route.permission or (f"({route.asks})" if route.asks else "")


def _sections() -> Iterator[str]:
    for vendor, services in VENDORS.items():
        yield f"## {vendor}\n"
        for service in services:
            yield f"### {service.title}\n"
            yield ", ".join(f"`{host}`" for host in service.hosts) + "\n"
            yield from _table(("route", "permission"), (_cells(r) for r in service.routes))
            if service.unserved:
                rows = ((f"`{entry.method}`", entry.because) for entry in service.unserved)
                yield from _table(("left out", "because"), rows)


def _cells(route: Route[Any]) -> tuple[str, str]:
    method = "any" if route.method == "*" else route.method
    what = f"`{method} {route.path}`" + (f" {route.action}" if route.action else "")
    return what, permission(route)


def _table(head: tuple[str, str], rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield f"| {head[0]} | {head[1]} |\n|---|---|"
    for left, right in rows:
        yield f"| {left} | {right} |"
    yield ""
