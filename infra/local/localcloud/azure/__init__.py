"""Azure's part of the embedded cloud: Entra ID, managed identity and the function app.

`Entra(world.azure, clock)` signs; `IdentityEndpoint(entra)` hands its tokens to workloads;
`FunctionsHost(root, …)` runs the function app under `app_settings(world, policy)` and a managed
identity; `sites(entra, function)` is what a router needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.azure import (
    appconfiguration,
    blob,
    entra,
    functions,
    identity,
    token_endpoint,
    virtual_machine,
)
from localcloud.azure.appconfiguration import KeyValues
from localcloud.azure.blob import Blobs
from localcloud.azure.entra import STS, Entra, UnknownResourceError
from localcloud.azure.functions import FunctionsHost, FunctionsHostError
from localcloud.azure.identity import IdentityEndpoint
from localcloud.azure.refusals import LOGIN
from localcloud.azure.settings import app_settings

if TYPE_CHECKING:
    from localcloud.wire.web import Site

__all__ = [
    "SERVICES",
    "Blobs",
    "Entra",
    "FunctionsHost",
    "FunctionsHostError",
    "IdentityEndpoint",
    "KeyValues",
    "UnknownResourceError",
    "app_settings",
    "configuration_sites",
    "sites",
]


SERVICES = (
    *entra.SERVICES,
    identity.SERVICE,
    virtual_machine.SERVICE,
    functions.SERVICE,
    appconfiguration.SERVICE,
    blob.SERVICE,
)
"""Everything of Azure's that is served."""


def sites(entra: Entra, internet: Site, function: FunctionsHost | None = None) -> dict[str, Site]:
    """Hostnames to sites: Entra's two, and the function app's.

    `internet`: how Entra reaches the issuers that its federated identity credentials name.
    """
    table: dict[str, Site] = {LOGIN: token_endpoint.site(entra, internet), STS: entra.site}
    if function is not None:
        table[function.host] = function
    return table


def configuration_sites(entra: Entra, key_values: KeyValues, blobs: Blobs) -> dict[str, Site]:
    """Hostnames to sites: every App Configuration store and every account's blobs."""
    return {**appconfiguration.sites(entra, key_values), **blob.sites(entra, blobs)}
