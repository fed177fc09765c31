"""A virtual machine's metadata service at 169.254.169.254, as far as it gives the identity's token.

The header `Metadata: true` is needed, and a request that passed a proxy (`X-Forwarded-For`) is
refused: that is how a workload is tricked into fetching its own token for somebody else.
Specification: "How to use managed identities for Azure resources on an Azure VM to acquire an
access token".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud.azure.entra import Entra, UnknownResourceError
from localcloud.azure.managed_identity import SelectionError, Tokens, selected
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.world import ManagedIdentity

ADDRESS = "169.254.169.254"
API_VERSIONS = ("2018-02-01", "2019-08-01", "2019-11-01", "2021-02-01")


class VirtualMachine:
    """A machine that has the managed identity `name`; KeyError when there is none."""

    def __init__(self, entra: Entra, name: str) -> None:
        self._entra = entra
        self._name = entra.identity(name).name
        self._tokens = Tokens(entra)

    def site(self, request: Request) -> Response:
        """The metadata service as this machine sees it."""
        found = SERVICE.find(request.method, request.path)
        if found is None:
            known = SERVICE.find("GET", request.path) is not None
            if known:
                return _error(405, "method_not_allowed", "Only GET is allowed")
            return _error(404, "not_found", "Not found")
        if request.headers.get("Metadata").lower() != "true":
            return _error(400, "invalid_request", "Required metadata header not specified")
        if request.headers.all("X-Forwarded-For"):
            return _error(400, "invalid_request", "X-Forwarded-For is not allowed")
        if request.params.get("api-version") not in API_VERSIONS:
            return _error(400, "bad_request_102", "Required audience or api-version missing")
        return found[0].handler(self, request)

    def token(self, request: Request) -> Response:
        """`GET /metadata/identity/oauth2/token?api-version=…&resource=…[&client_id=…]`."""
        resource = request.params.get("resource", "")
        if not resource:
            return _error(400, "invalid_request", "Required query variable 'resource' is missing")
        try:
            identity = selected(self._entra, self._entra.identity(self._name), request.params)
            return self._handed_out(identity, resource)
        except SelectionError as wrong:
            return _error(400, "invalid_request", str(wrong))
        except UnknownResourceError as unknown:
            return _error(400, "invalid_resource", str(unknown))

    def _handed_out(self, identity: ManagedIdentity, resource: str) -> Response:
        token, expires = self._tokens.get(identity, resource)
        now = int(self._entra.clock())
        return Response.json(
            200,
            {
                "access_token": token,
                "client_id": identity.client_id,
                "expires_in": str(expires - now),
                "expires_on": str(expires),
                "ext_expires_in": str(expires - now),
                "not_before": str(now),
                "resource": resource,
                "token_type": "Bearer",
            },
        )


SERVICE: Service[Callable[[VirtualMachine, Request], Response]] = Service(
    "Azure Instance Metadata Service",
    (ADDRESS,),
    (Route("GET", "/metadata/identity/oauth2/token", VirtualMachine.token),),
    unserved=(Unserved("instance, attested, loadbalancer", "only the identity is asked for"),),
)


def _error(status: int, error: str, text: str) -> Response:
    return Response.json(status, {"error": error, "error_description": text})
