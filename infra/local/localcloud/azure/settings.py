"""The app settings that a deployment gives the function app, worked out from the world.

On Azure these come from Terraform; here the world plays its part. Only names and ids: identity,
proxy and CA are added by whoever starts the function app.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.azure.entra import VERSION_2

if TYPE_CHECKING:
    from localcloud.world import Azure, EntraApplication, OidcConfig, World


def app_settings(world: World, policy: str) -> dict[str, str]:
    """TOKENVEND_* of the function app; `policy` as its setting takes it.

    Raises LookupError when the world lacks the tenant's provider or one of the two applications.
    """
    provider, oidc = _provider(world)
    azure = world.azure
    federation = _federation(azure, oidc)
    own = _own(azure, federation)
    audiences = (
        [own.app_id]
        if own.requested_access_token_version == VERSION_2
        else [*own.identifier_uris, own.app_id]
    )
    return {
        "TOKENVEND_GOOGLE_PROVIDER": f"//iam.googleapis.com/{provider}",
        "TOKENVEND_POLICY": policy,
        "TOKENVEND_AZURE_FEDERATION_AUDIENCE": federation.identifier_uris[0],
        "TOKENVEND_ENTRA_TENANTS": azure.tenant,
        "TOKENVEND_ENTRA_AUDIENCES": ",".join(audiences),
    }


def _provider(world: World) -> tuple[str, OidcConfig]:
    for provider in world.google.workload_identity_pool_providers:
        if provider.oidc is not None and world.azure.tenant in provider.oidc.issuer_uri:
            return provider.name, provider.oidc
    raise LookupError("no workload identity pool provider trusts the tenant")


def _federation(azure: Azure, oidc: OidcConfig) -> EntraApplication:
    for audience in oidc.allowed_audiences:
        application = azure.application(audience)
        if application is not None:
            return application
    raise LookupError("no application is the audience of the tenant's provider")


def _own(azure: Azure, federation: EntraApplication) -> EntraApplication:
    # A caller's token must never be for Google's audience: it could be replayed at the exchange.
    for application in azure.applications:
        if application.display_name == azure.function_app and application is not federation:
            return application
    raise LookupError(f"no application is called {azure.function_app}")
