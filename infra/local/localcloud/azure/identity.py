"""App Service's and Functions' identity endpoint (api-version 2019-08-01).

Plain HTTP on loopback, opened by a secret in `X-IDENTITY-HEADER` that differs per workload and may
rotate. It refuses a request that passed a proxy (`X-Forwarded-For`): that is how a workload is
tricked into fetching its own token for somebody else.
Specification: "How to use managed identities for App Service and Azure Functions".
"""

from __future__ import annotations

import hmac
import secrets
import threading
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud.azure.entra import DEFAULT_LIFETIME, Entra, UnknownResourceError
from localcloud.azure.managed_identity import SelectionError, Tokens, selected
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response, Server, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.world import ManagedIdentity

API_VERSION = "2019-08-01"


class IdentityEndpoint:
    """App Service's identity endpoint for every workload of the world, on a free loopback port.

    `lifetime`: seconds that a token lives; about a day on Azure. Cached per identity and resource
    until five minutes before its end. `front` stands before it, such as faults.
    """

    def __init__(
        self,
        entra: Entra,
        *,
        lifetime: int = DEFAULT_LIFETIME,
        front: Callable[[Site], Site] = lambda site: site,
    ) -> None:
        self._tokens = Tokens(entra, lifetime)
        self._entra = entra
        self._secrets: dict[str, str] = {}
        self._lock = threading.Lock()
        self._server = Server(front(self.site))

    def start(self) -> IdentityEndpoint:
        """Serve in the background."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stop serving and release the port."""
        self._server.stop()

    @property
    def port(self) -> int:
        """The loopback port it listens on."""
        return self._server.port

    @property
    def url(self) -> str:
        """The address that workloads find in IDENTITY_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}/msi/token"

    def environment_for(self, name: str) -> dict[str, str]:
        """IDENTITY_ENDPOINT and IDENTITY_HEADER of one workload; KeyError when it is unknown."""
        workload = self._entra.identity(name)
        with self._lock:
            secret = self._secrets.setdefault(workload.name, _new_secret())
        return {"IDENTITY_ENDPOINT": self.url, "IDENTITY_HEADER": secret}

    def rotate(self, name: str) -> dict[str, str]:
        """Give a workload a new header; the old one is refused from now on."""
        with self._lock:
            self._secrets.pop(name, None)
        return self.environment_for(name)

    def site(self, request: Request) -> Response:
        """The endpoint on the wire."""
        found = SERVICE.find(request.method, request.path.rstrip("/"))
        if found is None and SERVICE.find("GET", request.path.rstrip("/")):
            return _error(405, "Only GET is allowed.")
        if found is None:
            return _error(404, "Not found.")
        if request.headers.all("X-Forwarded-For"):
            return _error(400, "A request with an X-Forwarded-For header is not served.")
        return found[0].handler(self, request)

    def token(self, request: Request) -> Response:
        """`GET /msi/token?api-version=2019-08-01&resource=…[&client_id=…]`."""
        presented = request.headers.get("X-IDENTITY-HEADER")
        if not presented:
            return _error(401, "The X-IDENTITY-HEADER header is missing.")
        workload = self._opened_by(presented)
        if workload is None:
            return _error(403, "The X-IDENTITY-HEADER header is not valid.")
        return self._answer(workload, request.params)

    def _opened_by(self, presented: str) -> ManagedIdentity | None:
        with self._lock:
            known = list(self._secrets.items())
        found = [n for n, s in known if hmac.compare_digest(s.encode(), presented.encode())]
        return self._entra.identity(found[0]) if found else None

    def _answer(self, workload: ManagedIdentity, params: Mapping[str, str]) -> Response:
        if params.get("api-version") != API_VERSION:
            return _error(400, f"The api-version must be {API_VERSION}.")
        resource = params.get("resource", "")
        if not resource:
            return _error(400, "The resource parameter is missing.")
        try:
            identity = selected(self._entra, workload, params)
            token, expires = self._tokens.get(identity, resource)
        except SelectionError:
            return _error(400, "Unable to load the proper Managed Identity.")
        except UnknownResourceError as unknown:
            return _error(400, str(unknown))
        return Response.json(
            200,
            {
                "access_token": token,
                "expires_on": str(expires),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": identity.client_id,
            },
        )


def _error(status: int, message: str) -> Response:
    body = {"statusCode": status, "message": message, "correlationId": str(uuid.uuid4())}
    return Response.json(status, body)


def _new_secret() -> str:
    return secrets.token_hex(16).upper()


SERVICE: Service[Callable[[IdentityEndpoint, Request], Response]] = Service(
    "App Service's identity endpoint",
    ("127.0.0.1",),
    (Route("GET", "/msi/token", IdentityEndpoint.token, asks="the workload's own header"),),
)
