"""Microsoft Entra ID for one tenant: discovery, key sets and access tokens for managed identities.

The tenant publishes two issuers: v1 `https://sts.windows.net/TENANT/` (note the slash) and v2
`https://login.microsoftonline.com/TENANT/v2.0`. Which one a token names is decided by the
*resource application's* `requestedAccessTokenVersion`, never by the caller. Claims follow
Microsoft's access token claims reference. Another tenant gets Entra's own error, AADSTS90002.
A managed identity's tokens are handed out by its platform, see `identity`; a workload with a token
of its own platform gets them at the token endpoint, see `token_endpoint`.
"""

from __future__ import annotations

import base64
import secrets
import threading
from typing import TYPE_CHECKING, Any

from localcloud.azure.directory import check
from localcloud.azure.keys import CertifiedKey, new_key
from localcloud.azure.refusals import LOGIN, EntraError
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localcloud.world import Azure, EntraApplication, ManagedIdentity

STS = "sts.windows.net"
# Any tenant's keys verify any tenant's tokens; these names publish the same set.
MULTI_TENANT = ("common", "organizations")
# Entra backdates a token by five minutes, so that a verifier whose clock is behind accepts it.
BACKDATED = 300
DEFAULT_LIFETIME = 24 * 3600
# requestedAccessTokenVersion: null and 1 both mean version 1.
VERSION_2 = 2
# What MSAL asks before it believes in an authority.
_INSTANCE = {
    "tenant_discovery_endpoint": f"https://{LOGIN}/common/v2.0/.well-known/openid-configuration",
    "api-version": "1.1",
    "metadata": [
        {
            "preferred_network": LOGIN,
            "preferred_cache": "login.windows.net",
            "aliases": [LOGIN, "login.windows.net", "login.microsoft.com", "sts.windows.net"],
        }
    ],
}


class UnknownResourceError(Exception):
    """The tenant has no such application; the text is Entra's, safe to show."""

    def __init__(self, text: str) -> None:
        super().__init__(f"AADSTS500011: {text}")
        self.text = text


class Entra:
    """The tenant's issuer. `azure` is the world's part, read anew at every request.

    `clock` gives epoch seconds. Raises WorldError for what could stand in no tenant.
    """

    def __init__(self, azure: Azure, clock: Callable[[], float]) -> None:
        check(azure)
        self.azure = azure
        self.clock = clock
        self._keys = [new_key(clock())]
        self._lock = threading.Lock()

    @property
    def signing_key(self) -> CertifiedKey:
        """The key that signs now."""
        return self._keys[-1]

    def identity(self, name: str) -> ManagedIdentity:
        """The managed identity of this name; KeyError when there is none."""
        for found in self.azure.managed_identities:
            if found.name == name:
                return found
        raise KeyError(name)

    def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key; the old ones stay published unless they are retired."""
        fresh = new_key(self.clock())
        with self._lock:
            self._keys = [fresh] if retire else [*self._keys, fresh]

    def key_set(self, issuer: str | None = None) -> dict[str, Any]:
        """The published keys; v2 entries name their issuer, v1 entries do not."""
        extra = {"issuer": issuer} if issuer else {}
        return {"keys": [{**key.published(), **extra} for key in self._keys]}

    def mint(
        self,
        identity: ManagedIdentity,
        resource: str,
        *,
        lifetime: int = DEFAULT_LIFETIME,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Sign an access token for an identity and a resource (identifier URI or appId).

        Args:
            identity: who the token speaks for.
            resource: what it is for, as the caller spelled it.
            lifetime: seconds until it expires, counted from now.
            header: header fields to add or replace, to make a wrong token.
            claims: claims to add or replace, None to leave one out, to make a wrong token.

        Raises:
            UnknownResourceError: the tenant has no such application.

        """
        application = self.azure.application(resource)
        if application is None:
            raise UnknownResourceError(_unknown_resource(resource, self.azure.tenant))
        key = self.signing_key
        now = int(self.clock())
        body = {
            **self._common(identity, application, now, lifetime),
            **self._versioned(identity, application, resource),
            **claims,
        }
        head = {"x5t": key.kid} if application.requested_access_token_version != VERSION_2 else {}
        present = {name: value for name, value in body.items() if value is not None}
        return key.key.sign_jwt(present, {**head, **(header or {})})

    def site(self, request: Request) -> Response:
        """`login.microsoftonline.com` and `sts.windows.net`."""
        named = request.path.strip("/").partition("/")[0]
        tenant = named.lower()
        if tenant not in (self.azure.tenant, *MULTI_TENANT):
            unknown = EntraError(90002, "invalid_tenant", _unknown_tenant(named))
            return unknown.answer(self.clock())
        services = [service for service in SERVICES if request.host in service.hosts]
        found = [service.find(request.method, request.path.rstrip("/")) for service in services]
        route = next((each[0] for each in found if each), None)
        if route is None or route.handler is None:
            return Response(404)
        return Response.json(200, route.handler(self, tenant))

    def _common(
        self, identity: ManagedIdentity, application: EntraApplication, now: int, lifetime: int
    ) -> dict[str, Any]:
        issued = now - BACKDATED
        return {
            "iat": issued,
            "nbf": issued,
            "exp": now + lifetime,
            "aio": _opaque(36),
            "oid": identity.principal_id,
            "rh": f"0.{_opaque(30)}.",
            "roles": _roles(identity, application) or None,
            "sub": identity.principal_id,
            "tid": self.azure.tenant,
            "uti": _opaque(16),
        }

    def _versioned(
        self, identity: ManagedIdentity, application: EntraApplication, resource: str
    ) -> dict[str, Any]:
        tenant = self.azure.tenant
        # appidacr/azpacr "2": the client proved itself with a certificate, as the platform does.
        if application.requested_access_token_version != VERSION_2:
            return {
                "aud": resource,
                "iss": _issuer_v1(tenant),
                "appid": identity.client_id,
                "appidacr": "2",
                "idp": _issuer_v1(tenant),
                "ver": "1.0",
            }
        return {
            "aud": application.app_id,
            "iss": _issuer_v2(tenant),
            "azp": identity.client_id,
            "azpacr": "2",
            "ver": "2.0",
        }


def _discovery_v1(_entra: Entra, tenant: str) -> dict[str, Any]:
    base = f"https://{LOGIN}/{tenant}"
    return {
        **_discovery_common(),
        "issuer": _issuer_v1(_tenant_in_text(tenant)),
        "authorization_endpoint": f"{base}/oauth2/authorize",
        "token_endpoint": f"{base}/oauth2/token",
        "jwks_uri": f"https://{LOGIN}/common/discovery/keys",
    }


def _discovery_v2(_entra: Entra, tenant: str) -> dict[str, Any]:
    base = f"https://{LOGIN}/{tenant}"
    return {
        **_discovery_common(),
        "issuer": _issuer_v2(_tenant_in_text(tenant)),
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
    }


def _roles(identity: ManagedIdentity, application: EntraApplication) -> list[str]:
    name = application.display_name
    held = {a.app_role_id for a in identity.app_role_assignments if a.resource_display_name == name}
    return [role.value for role in application.app_roles if role.id in held]


def _discovery_common() -> dict[str, Any]:
    return {
        "token_endpoint_auth_methods_supported": [
            "client_secret_post",
            "private_key_jwt",
            "client_secret_basic",
        ],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nonce", "tid", "ver"],
        "cloud_instance_name": "microsoftonline.com",
    }


def _issuer_v1(tenant: str) -> str:
    return f"https://{STS}/{tenant}/"


def _issuer_v2(tenant: str) -> str:
    return f"https://{LOGIN}/{tenant}/v2.0"


def _tenant_in_text(tenant: str) -> str:
    # The multi-tenant documents hold this placeholder literally; the verifier fills it in.
    return "{tenantid}" if tenant in MULTI_TENANT else tenant


def _unknown_tenant(tenant: str) -> str:
    return (
        f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are "
        "signing into the correct cloud. Check with your subscription administrator, this may "
        "happen if there are no active subscriptions for the tenant."
    )


def _unknown_resource(resource: str, tenant: str) -> str:
    return (
        f"The resource principal named {resource} was not found in the tenant named "
        f"{tenant}. This can happen if the application has not been installed by the administrator "
        "of the tenant or consented to by any user in the tenant. You might have sent your "
        "authentication request to the wrong tenant."
    )


def _opaque(size: int) -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(size)).rstrip(b"=").decode()


type Document = Callable[[Entra, str], dict[str, Any]]
"""What is published of a tenant; its name is as the path has it."""

ISSUER: Service[Document | None] = Service(
    "Microsoft Entra ID, issuer of version 1",
    (STS, LOGIN),
    (Route("GET", "/{tenant}/.well-known/openid-configuration", _discovery_v1),),
)
SIGN_IN: Service[Document | None] = Service(
    "Microsoft Entra ID",
    (LOGIN,),
    (
        Route("GET", "/{tenant}/v2.0/.well-known/openid-configuration", _discovery_v2),
        Route("GET", "/{tenant}/discovery/keys", lambda entra, _: entra.key_set()),
        Route(
            "GET",
            "/{tenant}/discovery/v2.0/keys",
            lambda entra, tenant: entra.key_set(_issuer_v2(_tenant_in_text(tenant))),
        ),
        Route("GET", "/common/discovery/instance", lambda _, __: _INSTANCE),
        # Served by token_endpoint, who stands before this one.
        Route("POST", "/{tenant}/oauth2/v2.0/token", None, asks="a federated identity credential"),
    ),
    unserved=(
        Unserved("authorize, devicecode", "people sign in there; the callers are workloads"),
        Unserved("oauth2/token", "version 1 of the token endpoint, which no current library asks"),
        Unserved("client_secret, certificates", "nobody in the world has one"),
    ),
)
SERVICES = (ISSUER, SIGN_IN)
