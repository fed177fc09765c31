"""Azure's part of the embedded cloud: Entra ID, managed identity and the function app.

`Entra(world.azure, clock)` signs; `IdentityEndpoint(entra)` hands its tokens to workloads;
`FunctionsHost(root, …)` runs the function app under `app_settings(world, policy)` and a managed
identity; `sites(entra, function)` is what a router needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.azure import appconfiguration, blob
from localcloud.azure.appconfiguration import KeyValues
from localcloud.azure.blob import Blobs
from localcloud.azure.entra import LOGIN, STS, Entra, UnknownResourceError
from localcloud.azure.functions import FunctionsHost, FunctionsHostError
from localcloud.azure.identity import METADATA, IdentityEndpoint, vm_metadata
from localcloud.azure.settings import app_settings

if TYPE_CHECKING:
    from localcloud.wire.web import Site

__all__ = [
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
    "vm_metadata",
]


def sites(
    entra: Entra, function: FunctionsHost | None = None, *, vm_identity: str | None = None
) -> dict[str, Site]:
    """Hostnames to sites: Entra's two, the function app's, and a VM's metadata if it has one."""
    table: dict[str, Site] = {LOGIN: entra.site, STS: entra.site}
    if function is not None:
        table[function.host] = function
    if vm_identity is not None:
        table[METADATA] = vm_metadata(entra, vm_identity)
    return table


def configuration_sites(entra: Entra, key_values: KeyValues, blobs: Blobs) -> dict[str, Site]:
    """Hostnames to sites: every App Configuration store and every account's blobs."""
    return {**appconfiguration.sites(entra, key_values), **blob.sites(entra, blobs)}
