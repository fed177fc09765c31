"""Providers of workload identity pools: AWS accounts and OIDC issuers.

https://cloud.google.com/iam/docs/reference/rest/v1/projects.locations.workloadIdentityPools.providers
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import (
    ALREADY_EXISTS,
    NOT_FOUND,
    GoogleError,
    invalid_argument,
)
from localcloud.google.core.masks import masked
from localcloud.google.core.messages import ANY, BOOL, STRING, message, repeated, string_map
from localcloud.google.core.paging import listed
from localcloud.google.iam import deletion, operations, pools
from localcloud.google.iam.provider_rules import check_provider
from localcloud.wire.routes import Route, Unserved
from localcloud.world import AwsConfig, OidcConfig, WorkloadIdentityPoolProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.api import Answer, Call

PATH = pools.PATH + "/{pool}/providers"
PROVIDER = {
    "name": STRING,
    "display_name": STRING,
    "description": STRING,
    "state": STRING,
    "disabled": BOOL,
    "expire_time": STRING,
    "attribute_mapping": string_map(),
    "attribute_condition": STRING,
    "aws": message({"account_id": STRING}),
    "oidc": message(
        {
            "issuer_uri": STRING,
            "allowed_audiences": repeated(STRING),
            "jwks_json": STRING,
            "discovery_uri": STRING,
        }
    ),
    "saml": ANY,
    "x509": ANY,
    "actor_providers": ANY,
}
_TEXTS = ("display_name", "description", "disabled", "attribute_mapping", "attribute_condition")
MUTABLE = (*_TEXTS, "aws", "oidc", "saml", "x509", "actor_providers")


def create(call: Call) -> Answer:
    """A new provider; its id is in the query."""
    field = "workload_identity_pool_provider_id"
    wanted = call.arguments(**{field: STRING}).get(field, "")
    pools.check_id(field, wanted)
    given = call.message(PROVIDER, "workload_identity_pool_provider")
    with call.cloud.world.lock:
        pool = pools.find(call)
        deletion.require_live(pool)
        name = f"{pool.name}/providers/{wanted}"
        if call.google.provider(name) is not None:
            raise GoogleError("ALREADY_EXISTS", ALREADY_EXISTS)
        provider = _built(name, given)
        call.google.workload_identity_pool_providers.append(provider)
    return operations.done(call, provider)


def get(call: Call) -> Answer:
    """A provider, deleted ones too."""
    call.arguments()
    return operations.shown(find(call))


def list_(call: Call) -> Answer:
    """The providers of a pool."""
    query = call.arguments(**pools.LIST)
    pool = pools.find(call)
    deleted = query.get("show_deleted", False)
    providers = [
        provider
        for provider in call.google.workload_identity_pool_providers
        if provider.pool == pool.name and (deleted or provider.state != "DELETED")
    ]
    return listed(
        "workloadIdentityPoolProviders",
        providers,
        lambda provider: provider.name,
        operations.shown,
        of=f"{pool.name} {deleted}",
        query=query,
        sizes=pools.PAGE_SIZES,
    )


def patch(call: Call) -> Answer:
    """Change what the mask names; the whole must be a provider that could be created."""
    mask = call.arguments(update_mask=STRING).get("update_mask", "")
    given = call.message(PROVIDER, "workload_identity_pool_provider")
    with call.cloud.world.lock:
        provider = find(call)
        deletion.require_live(provider)
        changed = _built(provider.name, masked(asdict(provider), given, mask, MUTABLE))
        if (changed.aws is None) != (provider.aws is None):
            raise invalid_argument("The type of a provider cannot be changed.", "update_mask")
        for field in (*_TEXTS, "aws", "oidc"):
            setattr(provider, field, getattr(changed, field))
    return operations.done(call, provider)


def delete(call: Call) -> Answer:
    """Stop new exchanges at once; tokens already out live on, as at Google."""
    call.arguments()
    with call.cloud.world.lock:
        provider = find(call)
        deletion.delete(provider, call.now)
    return operations.done(call, provider)


def undelete(call: Call) -> Answer:
    """Bring a deleted provider back."""
    call.message({})
    with call.cloud.world.lock:
        provider = find(call)
        deletion.undelete(provider)
    return operations.done(call, provider)


def find(call: Call) -> WorkloadIdentityPoolProvider:
    """The provider that a path names; raises the 404."""
    name = f"{pools.find(call).name}/providers/{call.parameters['provider']}"
    provider = call.google.provider(name)
    if provider is None:
        raise GoogleError("NOT_FOUND", NOT_FOUND)
    return provider


def _built(name: str, given: Mapping[str, Any]) -> WorkloadIdentityPoolProvider:
    pools.check_texts(given)
    check_provider(given)
    aws, oidc = given.get("aws"), given.get("oidc")
    return WorkloadIdentityPoolProvider(
        name,
        **{field: given[field] for field in _TEXTS if field in given},
        aws=None if aws is None else AwsConfig(aws["account_id"]),
        oidc=None if oidc is None else OidcConfig(**oidc),
    )


_ONE = PATH + "/{provider}"
_PERMISSION = "iam.workloadIdentityPoolProviders"

ROUTES = (
    Route("POST", PATH, create, f"{_PERMISSION}.create"),
    Route("GET", PATH, list_, f"{_PERMISSION}.list"),
    Route("GET", _ONE, get, f"{_PERMISSION}.get"),
    Route("PATCH", _ONE, patch, f"{_PERMISSION}.update"),
    Route("DELETE", _ONE, delete, f"{_PERMISSION}.delete"),
    Route("POST", f"{_ONE}:undelete", undelete, f"{_PERMISSION}.undelete"),
    Route("GET", _ONE + "/operations/{operation}", operations.get, f"{_PERMISSION}.get"),
)
UNSERVED = (
    Unserved(
        "iam.projects.locations.workloadIdentityPools.providers.keys.*",
        "keys that encrypt SAML assertions; no SAML provider is served",
    ),
)
