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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from tokenvend.caller.jwks import KeySource
from tokenvend.caller.signed_jwt import (
    check_issuer_and_audience,
    check_recordable,
    refused,
    text_claim,
)
from tokenvend.identifiers import APP_ROLE, GUID
from tokenvend.model import EntraCaller
from tokenvend.wire.objects import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.caller import Issuer

LOGIN_HOST = "login.microsoftonline.com"
MAX_CLIENT_PRINCIPAL = 32 * 1024

_V1, _V2 = VERSIONS = ("1.0", "2.0")
# By what its tokens' `ver` says, as Entra's multi-tenant documents spell them.
_ISSUERS = {
    _V1: "https://sts.windows.net/{tenantid}/",
    _V2: f"https://{LOGIN_HOST}/{{tenantid}}/v2.0",
}
# App Service hands some claims on under the names of .NET's claim types.
_CLAIM_TYPES = {
    "http://schemas.microsoft.com/identity/claims/objectidentifier": "oid",
    "http://schemas.microsoft.com/identity/claims/tenantid": "tid",
    "http://schemas.microsoft.com/identity/claims/scope": "scp",
    "http://schemas.microsoft.com/ws/2008/06/identity/claims/role": "roles",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": "sub",
}


@dataclass(frozen=True, slots=True)
class TenantIssuer:
    """One of a configured tenant's two issuers; `version`: what its tokens' `ver` says.

    `tenant`: a lower-case GUID. `audiences`: our own application's client id and identifier URIs;
    never the audience of Google's provider, whose tokens Google would take. `allow_users`: accept
    people's tokens too. `required_roles`: app roles that every caller needs.
    """

    algorithms: ClassVar[frozenset[str]] = frozenset({"RS256"})
    times: ClassVar[tuple[str, ...]] = ("exp", "iat", "nbf")

    tenant: str
    version: str
    audiences: frozenset[str]
    allow_users: bool = False
    required_roles: frozenset[str] = frozenset()

    @property
    def source(self) -> KeySource:
        """Where its keys are."""
        path = "discovery/keys" if self.version == _V1 else "discovery/v2.0/keys"
        # Storm-0558 signed enterprise tokens with a key of the consumer service: a key that names
        # its issuer verifies that issuer's tokens and no others.
        own = {form.format(tenantid=self.tenant) for form in _ISSUERS.values()}
        return KeySource(
            _ISSUERS[self.version].format(tenantid=self.tenant),
            f"https://{LOGIN_HOST}/{self.tenant}/{path}",
            frozenset({LOGIN_HOST}),
            key_issuers=frozenset(own.union(_ISSUERS.values())),
        )

    def caller(self, claims: Mapping[str, Any]) -> EntraCaller:
        """The caller in claims that someone we believe has verified. Raises Unauthenticated."""
        check_issuer_and_audience(claims, self.source.issuer, self.audiences)
        if claims.get("ver") != self.version:
            raise refused(cause="token version does not fit its issuer")
        if claims.get("tid") != self.tenant:
            raise refused(cause="tid does not fit the issuer")
        # An ID token names no client application: without this, one would pass as an access token.
        app_id = _guid(claims, "appid" if self.version == _V1 else "azp")
        object_id = _guid(claims, "oid")
        is_user = not _is_application(claims)
        if is_user and not self.allow_users:
            raise refused(cause="token of a user where only applications may call")
        roles = _roles(claims)
        if not self.required_roles <= roles:
            raise refused(cause="token lacks a required app role")
        return EntraCaller(self.tenant, object_id, app_id, roles, is_user)


def from_client_principal(header: str, issuers: Mapping[str, Issuer]) -> EntraCaller:
    """The caller in App Service's X-MS-CLIENT-PRINCIPAL header; who calls this must have reason to
    believe it. `issuers`: by their names. Raises Unauthenticated.
    """
    if len(header) > MAX_CLIENT_PRINCIPAL:
        raise refused(cause="client principal header is too long")
    try:
        document = read_object(base64.b64decode(header, validate=True))
    except ValueError:
        raise refused(cause="client principal header is not JSON in base64") from None
    if document.get("auth_typ") != "aad":
        raise refused(cause="client principal is not Entra's")
    claims = _flat(document.get("claims"), document.get("role_typ"))
    issuer = issuers.get(text_claim(claims, "iss"))
    if not isinstance(issuer, TenantIssuer):
        raise refused(cause="client principal of a tenant that is not configured")
    return issuer.caller(claims)


def _is_application(claims: Mapping[str, Any]) -> bool:
    # `idtyp` is optional; without it, only an application's subject is its own object id (a user's
    # is another one for every application).
    if "scp" in claims or claims.get("idtyp", "app") != "app":
        return False
    return "idtyp" in claims or claims.get("sub") == claims.get("oid")


def _guid(claims: Mapping[str, Any], name: str) -> str:
    value = text_claim(claims, name)
    if not GUID.fullmatch(value):
        raise refused(cause=f"{name} is not a GUID")
    return value


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    roles = claims.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise refused(cause="roles are not a list of names")
    # What is no app role's value fits no condition.
    known = frozenset(role for role in roles if APP_ROLE.fullmatch(role))
    check_recordable(known)
    return known


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
