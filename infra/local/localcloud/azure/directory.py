"""What Entra and Azure refuse of a tenant's applications and managed identities.

A world that passes here could stand in a real tenant: ids and identifier URIs are nobody else's,
what is assigned exists, and federated identity credentials are those of a user-assigned identity,
with one audience each and no two for the same subject.
Specification: "Workload identity federation", considerations; Microsoft Graph, `application`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.world import WorldError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.world import Azure, FederatedIdentityCredential, ManagedIdentity

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
_MAX_CREDENTIALS, _MAX_TEXT = 20, 600


def check(azure: Azure) -> None:
    """Whether a tenant could hold these; raises WorldError that says what is wrong."""
    identities, applications = azure.managed_identities, azure.applications
    _differ("name", (each.name for each in identities))
    _differ("principalId", (each.principal_id.lower() for each in identities))
    ids = [each.client_id.lower() for each in identities]
    _differ("clientId or appId", [*ids, *(each.app_id.lower() for each in applications)])
    _differ("resourceId", (each.resource_id.lower() for each in identities if each.resource_id))
    _differ("identifier URI", (uri for each in applications for uri in each.identifier_uris))
    for application in applications:
        if application.requested_access_token_version not in (None, 1, 2):
            raise _wrong(application.display_name, "requestedAccessTokenVersion is null, 1 or 2")
    for identity in identities:
        _check_assigned(azure, identity)
        _check_credentials(identity, identity.federated_identity_credentials)


def _check_assigned(azure: Azure, identity: ManagedIdentity) -> None:
    roles = {(a.display_name, role.id) for a in azure.applications for role in a.app_roles}
    for each in identity.app_role_assignments:
        if (each.resource_display_name, each.app_role_id) not in roles:
            raise _wrong(identity.name, f"{each.resource_display_name} has no such app role")
    assignable = {each.name for each in azure.managed_identities if each.resource_id}
    for name in identity.user_assigned_identities:
        if name not in assignable:
            raise _wrong(identity.name, f"{name} is no user-assigned identity")


def _check_credentials(
    identity: ManagedIdentity, credentials: list[FederatedIdentityCredential]
) -> None:
    if credentials and not identity.resource_id:
        raise _wrong(identity.name, "a system-assigned identity has no federated credentials")
    if len(credentials) > _MAX_CREDENTIALS:
        raise _wrong(identity.name, f"more than {_MAX_CREDENTIALS} federated credentials")
    _differ(f"credential of {identity.name}", (each.name for each in credentials))
    _differ(f"issuer and subject of {identity.name}", ((c.issuer, c.subject) for c in credentials))
    for each in credentials:
        texts = each.issuer, each.subject, *each.audiences
        if not _NAME.fullmatch(each.name) or not all(0 < len(t) <= _MAX_TEXT for t in texts):
            raise _wrong(identity.name, f"{each.name}: a name or a text of another length")
        if not each.issuer.startswith("https://") or len(each.audiences) != 1:
            raise _wrong(identity.name, f"{each.name} has an https issuer and one audience")


def _differ(what: str, values: Iterable[object]) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise WorldError(f"azure: two have the {what} {value}")
        seen.add(value)


def _wrong(who: str, text: str) -> WorldError:
    return WorldError(f"azure: {who}: {text}")
