"""Callers with a Microsoft Entra token: a managed identity's or another service principal's.

The tenant decides, before any key is fetched: an issuer that is not exactly one of a configured
tenant's two never leads to a request. Refused: `common` and every other tenant, a version that does
not fit the issuer, users and ID tokens where only applications may call, an audience that is not
ours alone. The caller is its object id; names and addresses decide nothing, their owners choose
them. Microsoft identity platform, "Access token claims reference" and "Secure applications and APIs
by validating claims".
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tokenvend.caller.jwks import KeySource
from tokenvend.caller.signed_jwt import (
    check_issuer_and_audience,
    check_times,
    refused,
    text_claim,
    verified_claims,
)
from tokenvend.errors import Misconfigured
from tokenvend.model import EntraCaller
from tokenvend.wire.objects import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.caller.jwks import KeySets
    from tokenvend.caller.signed_jwt import UnverifiedToken
    from tokenvend.deadline import Deadline

LOGIN_HOST = "login.microsoftonline.com"
MAX_CLIENT_PRINCIPAL = 32 * 1024

_V1, _V2 = "1.0", "2.0"
# As Entra's multi-tenant documents spell them, placeholder included.
_ISSUERS = ("https://sts.windows.net/{tenantid}/", f"https://{LOGIN_HOST}/{{tenantid}}/v2.0")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The tenant may be any text here: it is only looked up among the configured ones.
_ISSUER = re.compile(
    rf"https://(?:sts\.windows\.net/(?P<v1>[^/]+)/|{re.escape(LOGIN_HOST)}/(?P<v2>[^/]+)/v2\.0)"
)
# App Service hands some claims on under the names of .NET's claim types.
_CLAIM_TYPES = {
    "http://schemas.microsoft.com/identity/claims/objectidentifier": "oid",
    "http://schemas.microsoft.com/identity/claims/tenantid": "tid",
    "http://schemas.microsoft.com/identity/claims/scope": "scp",
    "http://schemas.microsoft.com/ws/2008/06/identity/claims/role": "roles",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": "sub",
}


@dataclass(frozen=True, slots=True)
class EntraSettings:
    """Which Entra tokens count.

    `tenants`: tenant ids, lower-case GUIDs. `audiences`: our own application's client id and
    identifier URIs; never the audience of Google's provider, whose tokens Google would take.
    `allow_users`: accept people's tokens too. `required_roles`: app roles that every caller needs.
    `easy_auth`: App Service enforces its authentication in front of us, so that its
    X-MS-CLIENT-PRINCIPAL header can be believed; anybody can send that header where it does not.
    """

    tenants: frozenset[str]
    audiences: frozenset[str]
    allow_users: bool = False
    required_roles: frozenset[str] = frozenset()
    easy_auth: bool = False

    def __post_init__(self) -> None:
        if not self.tenants or not all(_GUID.fullmatch(tenant) for tenant in self.tenants):
            msg = "Entra tenants must be tenant ids (lower-case GUIDs); `common` is no tenant."
            raise Misconfigured(msg)
        if not self.audiences or not all(self.audiences):
            msg = "Entra needs this endpoint's own audience: its client id or identifier URI."
            raise Misconfigured(msg)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that keys come from, for the transport's list."""
        return frozenset({LOGIN_HOST})


@dataclass(frozen=True, slots=True)
class TenantIssuer:
    """One of a configured tenant's two issuers; `version`: what its tokens' `ver` says."""

    name: str
    tenant: str
    version: str

    @property
    def source(self) -> KeySource:
        """Where its keys are."""
        path = "discovery/keys" if self.version == _V1 else "discovery/v2.0/keys"
        # Storm-0558 signed enterprise tokens with a key of the consumer service: a key that names
        # its issuer verifies that issuer's tokens and no others.
        own = {form.format(tenantid=self.tenant) for form in _ISSUERS} | set(_ISSUERS)
        uri = f"https://{LOGIN_HOST}/{self.tenant}/{path}"
        return KeySource(self.name, uri, key_issuers=frozenset(own))


def issuer_of(settings: EntraSettings, unverified_issuer: str) -> TenantIssuer | None:
    """The configured tenant's issuer of exactly this name, None where there is none."""
    match = _ISSUER.fullmatch(unverified_issuer)
    tenant = (match["v1"] or match["v2"]) if match else None
    if match is None or tenant not in settings.tenants:
        return None
    return TenantIssuer(unverified_issuer, tenant, _V1 if match["v1"] else _V2)


def verify(
    token: UnverifiedToken,
    issuer: TenantIssuer,
    settings: EntraSettings,
    keys: KeySets,
    now: float,
    deadline: Deadline,
) -> EntraCaller:
    """The caller an Entra token proves. `now`: epoch seconds.

    Raises Unauthenticated, and UpstreamUnavailable where Entra's keys cannot be had.
    """
    claims = verified_claims(token, issuer.source, {"RS256"}, keys, deadline)
    check_times(claims, now, ("exp", "iat", "nbf"))
    return caller_of(claims, issuer, settings)


def caller_of(
    claims: Mapping[str, Any], issuer: TenantIssuer, settings: EntraSettings
) -> EntraCaller:
    """The caller in claims that someone we believe has verified. Raises Unauthenticated."""
    check_issuer_and_audience(claims, issuer.name, settings.audiences)
    if claims.get("ver") != issuer.version:
        raise refused(cause="token version does not fit its issuer")
    if claims.get("tid") != issuer.tenant:
        raise refused(cause="tid does not fit the issuer")
    # An ID token names no client application: without this, one would pass as an access token.
    app_id = _guid(claims, "appid" if issuer.version == _V1 else "azp")
    object_id = _guid(claims, "oid")
    if not settings.allow_users and not _is_application(claims):
        raise refused(cause="token of a user where only applications may call")
    roles = _roles(claims)
    if not settings.required_roles <= roles:
        raise refused(cause="token lacks a required app role")
    return EntraCaller(issuer.tenant, object_id, app_id, roles)


def from_client_principal(header: str, settings: EntraSettings) -> EntraCaller:
    """The caller in App Service's X-MS-CLIENT-PRINCIPAL header, which `easy_auth` lets us believe.

    Raises Unauthenticated.
    """
    if not settings.easy_auth or len(header) > MAX_CLIENT_PRINCIPAL:
        raise refused(cause="client principal header is not to be believed, or too long")
    try:
        document = read_object(base64.b64decode(header, validate=True))
    except ValueError:
        raise refused(cause="client principal header is not JSON in base64") from None
    if document.get("auth_typ") != "aad":
        raise refused(cause="client principal is not Entra's")
    claims = _flat(document.get("claims"), document.get("role_typ"))
    issuer = issuer_of(settings, text_claim(claims, "iss"))
    if issuer is None:
        raise refused(cause="client principal of a tenant that is not configured")
    return caller_of(claims, issuer, settings)


def _is_application(claims: Mapping[str, Any]) -> bool:
    # `idtyp` is optional; without it, only an application's subject is its own object id (a user's
    # is another one for every application).
    if "scp" in claims or claims.get("idtyp", "app") != "app":
        return False
    return "idtyp" in claims or claims.get("sub") == claims.get("oid")


def _guid(claims: Mapping[str, Any], name: str) -> str:
    value = text_claim(claims, name)
    if not _GUID.fullmatch(value):
        raise refused(cause=f"{name} is not a GUID")
    return value


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise refused(cause="roles are not a list of names")
    return frozenset(roles)


def _flat(entries: object, role_type: object) -> dict[str, Any]:
    """App Service's list of `{typ, val}` as claims. Raises Unauthenticated."""
    if not isinstance(entries, list):
        raise refused(cause="client principal without claims")
    claims: dict[str, Any] = {}
    roles: list[str] = []
    for entry in entries:
        kind, value = (
            (entry.get("typ"), entry.get("val")) if isinstance(entry, dict) else (None, None)
        )
        if not isinstance(kind, str) or not isinstance(value, str):
            raise refused(cause="client principal has a claim that is not text")
        name = "roles" if kind == role_type else _CLAIM_TYPES.get(kind, kind)
        if name == "roles":
            roles.append(value)
        elif claims.setdefault(name, value) != value:
            # Which of the two would count is a matter of reading order: neither does.
            claims[name] = None
    return {**claims, "roles": roles}
