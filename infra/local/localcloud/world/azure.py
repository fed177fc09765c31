"""One Entra tenant: applications, managed identities and the function app."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AppRole:
    """A role that an application defines; `value` is what a token's `roles` claim shows."""

    id: str
    value: str


@dataclass
class AppRoleAssignment:
    """That an identity holds a role of the application of this display name."""

    resource_display_name: str
    app_role_id: str


@dataclass
class EntraApplication:
    """An Entra app registration; version 2 gives v2 tokens, None or 1 gives v1 tokens."""

    display_name: str
    app_id: str
    identifier_uris: list[str] = field(default_factory=list)
    requested_access_token_version: int | None = None
    app_roles: list[AppRole] = field(default_factory=list)


@dataclass
class FederatedIdentityCredential:
    """Whose tokens stand for an identity: `issuer`, `subject` and audience match exactly."""

    name: str
    issuer: str
    subject: str
    audiences: list[str]


@dataclass
class ManagedIdentity:
    """A workload's identity; `principal_id` is its object id.

    `user_assigned_identities` names further identities that the same workload carries.
    `resource_id` is the Azure resource of a user-assigned one; a system-assigned one has none.
    """

    name: str
    principal_id: str
    client_id: str
    app_role_assignments: list[AppRoleAssignment] = field(default_factory=list)
    user_assigned_identities: list[str] = field(default_factory=list)
    resource_id: str = ""
    federated_identity_credentials: list[FederatedIdentityCredential] = field(default_factory=list)


@dataclass
class Azure:
    """One Entra tenant with its function app and its Kubernetes cluster, if it has one."""

    tenant: str
    applications: list[EntraApplication] = field(default_factory=list)
    managed_identities: list[ManagedIdentity] = field(default_factory=list)
    function_app: str = ""
    aks_oidc_issuer: str = ""

    def application(self, resource: str) -> EntraApplication | None:
        """The application that a resource names: an identifier URI, or the bare app id."""
        for application in self.applications:
            if resource == application.app_id or resource in application.identifier_uris:
                return application
        return None

    def has_identity(self, name: str) -> bool:
        """Whether an identity of this name exists."""
        return any(identity.name == name for identity in self.managed_identities)

    def managed_identity(self, name: str) -> ManagedIdentity | None:
        """The identity of this name, client id or object id."""
        for identity in self.managed_identities:
            if name in (identity.name, identity.client_id, identity.principal_id):
                return identity
        return None
