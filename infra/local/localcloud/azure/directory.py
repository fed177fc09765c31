"""What the tenant's directory holds: applications, managed identities and their app roles.

The shapes are Microsoft Graph's, taken from the `azure` part of the world: an application has
`appId`, `identifierUris`, `requestedAccessTokenVersion` and `appRoles`; a managed identity has
`principalId`, `clientId`, `appRoleAssignments` and, for a workload that carries more than one,
`userAssignedIdentities`. The world is read at every question, so a test that changes it is heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Application:
    """A resource that tokens can be asked for."""

    name: str
    app_id: str
    identifier_uris: tuple[str, ...]
    token_version: int
    roles: tuple[tuple[str, str], ...]
    """Pairs of app role id and the value that a token's `roles` claim shows."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A managed identity, and the workload that has it as its system-assigned one."""

    name: str
    principal_id: str
    client_id: str
    assignments: tuple[tuple[str, str], ...] = ()
    """Pairs of application name and app role id."""
    user_assigned: tuple[str, ...] = ()


class Directory:
    """One tenant, as the world describes it at this moment."""

    def __init__(self, azure: Mapping[str, Any]) -> None:
        self._azure = azure

    @property
    def tenant(self) -> str:
        """The tenant's GUID, in lower case as every issuer spells it."""
        return str(self._azure["tenant"]).lower()

    def application(self, resource: str) -> Application | None:
        """The application that a `resource` names by identifier URI or by appId, if any."""
        for entry in self._azure.get("applications", ()):
            found = _application(entry)
            if resource in found.identifier_uris or resource.lower() == found.app_id.lower():
                return found
        return None

    def identities(self) -> tuple[Identity, ...]:
        """Every managed identity."""
        return tuple(_identity(entry) for entry in self._azure.get("managedIdentities", ()))

    def identity(self, name: str) -> Identity:
        """The managed identity of this name; KeyError when there is none."""
        for found in self.identities():
            if found.name == name:
                return found
        raise KeyError(name)

    def roles(self, identity: Identity, application: Application) -> list[str]:
        """Values of the application's roles that the identity is assigned."""
        held = {role for name, role in identity.assignments if name == application.name}
        return [value for role, value in application.roles if role in held]


def _application(entry: Mapping[str, Any]) -> Application:
    roles = entry.get("appRoles") or ()
    return Application(
        name=entry["displayName"],
        app_id=entry["appId"],
        identifier_uris=tuple(entry.get("identifierUris") or ()),
        # Graph: null and 1 both mean version 1.
        token_version=entry.get("requestedAccessTokenVersion") or 1,
        roles=tuple((role["id"], role["value"]) for role in roles),
    )


def _identity(entry: Mapping[str, Any]) -> Identity:
    assigned = entry.get("appRoleAssignments") or ()
    return Identity(
        name=entry["name"],
        principal_id=entry["principalId"],
        client_id=entry["clientId"],
        assignments=tuple((a["resourceDisplayName"], a["appRoleId"]) for a in assigned),
        user_assigned=tuple(entry.get("userAssignedIdentities") or ()),
    )
