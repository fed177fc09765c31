"""Where a workload asks for its managed identity's token.

`IdentityEndpoint` is App Service's and Functions' endpoint (api-version 2019-08-01): plain HTTP on
loopback, opened by a secret in `X-IDENTITY-HEADER` that differs per workload and may rotate.
`vm_metadata` is the virtual machine's metadata service at 169.254.169.254. Both refuse a request
that passed a proxy (`X-Forwarded-For`): that is how a workload is tricked into fetching its own
token for somebody else.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import uuid
from typing import TYPE_CHECKING

from localcloud.azure.entra import DEFAULT_LIFETIME, Entra, UnknownResourceError
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response, Server, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.world import ManagedIdentity

METADATA = "169.254.169.254"
API_VERSION = "2019-08-01"
VM_API_VERSIONS = ("2018-02-01", "2019-08-01", "2019-11-01", "2021-02-01")
# The platform hands the same token out until shortly before its end.
FRESH_SECONDS = 300
SELECTORS = ("client_id", "object_id", "principal_id", "mi_res_id", "msi_res_id")


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
        self._tokens = _Tokens(entra, lifetime)
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
        """`GET /msi/token?api-version=2019-08-01&resource=…[&client_id=…]`."""
        if request.path.rstrip("/") != "/msi/token":
            return _error(404, "Not found.")
        if request.method != "GET":
            return _error(405, "Only GET is allowed.")
        if request.headers.all("X-Forwarded-For"):
            return _error(400, "A request with an X-Forwarded-For header is not served.")
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
        identity = _selected(self._entra, workload, params)
        if identity is None:
            return _error(400, "Unable to load the proper Managed Identity.")
        try:
            token, expires = self._tokens.get(identity, resource)
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


def vm_metadata(entra: Entra, name: str, *, lifetime: int = DEFAULT_LIFETIME) -> Site:
    """The metadata service of a virtual machine that has the managed identity `name`."""
    tokens = _Tokens(entra, lifetime)

    def site(request: Request) -> Response:
        if request.path != "/metadata/identity/oauth2/token":
            return _vm_error(404, "not_found", "Not found")
        if request.method != "GET":
            return _vm_error(405, "method_not_allowed", "Only GET is allowed")
        if request.headers.get("Metadata").lower() != "true":
            return _vm_error(400, "invalid_request", "Required metadata header not specified")
        if request.headers.all("X-Forwarded-For"):
            return _vm_error(400, "invalid_request", "X-Forwarded-For is not allowed")
        if request.params.get("api-version") not in VM_API_VERSIONS:
            return _vm_error(400, "bad_request_102", "Required audience or api-version missing")
        return _vm_answer(entra, tokens, entra.identity(name), request.params)

    return site


def _vm_answer(
    entra: Entra, tokens: _Tokens, workload: ManagedIdentity, params: Mapping[str, str]
) -> Response:
    resource = params.get("resource", "")
    if not resource:
        return _vm_error(400, "invalid_request", "Required query variable 'resource' is missing")
    identity = _selected(entra, workload, params)
    if identity is None:
        return _vm_error(400, "invalid_request", "Identity not found")
    try:
        token, expires = tokens.get(identity, resource)
    except UnknownResourceError as unknown:
        return _vm_error(400, "invalid_resource", str(unknown))
    now = int(entra.clock())
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


class _Tokens:
    """Tokens already handed out: the platform answers with the same one for most of a day."""

    def __init__(self, entra: Entra, lifetime: int) -> None:
        self._entra = entra
        self._lifetime = lifetime
        self._held: dict[tuple[str, str], tuple[str, int]] = {}
        self._lock = threading.Lock()

    def get(self, identity: ManagedIdentity, resource: str) -> tuple[str, int]:
        """The token and the epoch second of its end."""
        key = (identity.principal_id, resource)
        with self._lock:
            held = self._held.get(key)
            now = int(self._entra.clock())
            if held is None or held[1] - FRESH_SECONDS <= now:
                token = self._entra.mint(identity, resource, lifetime=self._lifetime)
                held = self._held[key] = (token, now + self._lifetime)
            return held


def _selected(
    entra: Entra, workload: ManagedIdentity, params: Mapping[str, str]
) -> ManagedIdentity | None:
    """The workload's own identity, or the one of its identities that a selector names."""
    chosen = [(key, params[key].lower()) for key in SELECTORS if params.get(key)]
    if not chosen:
        return workload
    if len(chosen) > 1:
        return None
    key, wanted = chosen[0]
    held = [workload, *(entra.identity(name) for name in workload.user_assigned_identities)]
    for identity in held:
        if _selector(identity, key).lower() == wanted:
            return identity
    return None


def _selector(identity: ManagedIdentity, key: str) -> str:
    """What a query parameter of this name is compared with; Azure ignores the letters' case."""
    if key == "client_id":
        return identity.client_id
    return identity.resource_id if key.endswith("_res_id") else identity.principal_id


def _error(status: int, message: str) -> Response:
    body = {"statusCode": status, "message": message, "correlationId": str(uuid.uuid4())}
    return Response.json(status, body)


def _vm_error(status: int, error: str, text: str) -> Response:
    return Response.json(status, {"error": error, "error_description": text})


def _new_secret() -> str:
    return secrets.token_hex(16).upper()


APP_SERVICE: Service[None] = Service(
    "App Service's identity endpoint",
    ("127.0.0.1",),
    (Route("GET", "/msi/token", None),),
)
VIRTUAL_MACHINE: Service[None] = Service(
    "Azure Instance Metadata Service",
    (METADATA,),
    (Route("GET", "/metadata/identity/oauth2/token", None),),
    unserved=(Unserved("instance, attested, loadbalancer", "only the identity is asked for"),),
)
