"""AWS in the embedded cloud: STS, API Gateway, Function URLs and Lambda, as strict as AWS.

`Accounts` holds identities and keys, `Functions` runs the template's functions, `sites` is what a
router needs.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from botocore.session import Session

from localcloud.aws import appconfigdata, gateway, invoke, ssm, sts
from localcloud.aws.accounts import (
    FUNCTION_ROLE,
    AccessKey,
    Accounts,
    Principal,
    UnknownIdentityError,
)
from localcloud.aws.appconfigdata import Profiles
from localcloud.aws.functions import Functions
from localcloud.aws.runtime import Outcome, RuntimeMissingError, WorkerError
from localcloud.aws.ssm import Parameters
from localcloud.aws.template import Function, Template, TemplateError, declared, load

if TYPE_CHECKING:
    from localcloud.wire.web import Site

__all__ = [
    "FUNCTION_ROLE",
    "AccessKey",
    "Accounts",
    "Function",
    "Functions",
    "Outcome",
    "Parameters",
    "Principal",
    "Profiles",
    "RuntimeMissingError",
    "Template",
    "TemplateError",
    "UnknownIdentityError",
    "WorkerError",
    "configuration_sites",
    "declared",
    "load",
    "sites",
]


def sites(accounts: Accounts, functions: Functions | None = None) -> dict[str, Site]:
    """Hostnames to sites: STS at every endpoint, and every door to a function."""
    table: dict[str, Site] = {"sts.amazonaws.com": sts.site(accounts, sts.GLOBAL_REGION)}
    for region in _regions():
        table[f"sts.{region}.amazonaws.com"] = sts.site(accounts, region)
    if functions is None:
        return table
    template = functions.template
    table[f"lambda.{accounts.aws.region}.amazonaws.com"] = invoke.site(functions, accounts)
    for api in template.apis:
        table[api.domain] = gateway.http_api(api, functions, accounts)
        table[api.rest_domain] = gateway.rest_api(api, functions, accounts)
    for function in template.functions:
        table[function.url_domain] = gateway.function_url(function, functions, accounts)
    return table


def configuration_sites(
    accounts: Accounts, parameters: Parameters, profiles: Profiles
) -> dict[str, Site]:
    """Hostnames to sites: Parameter Store and AppConfig Data in the function's region."""
    return {**ssm.sites(accounts, parameters), **appconfigdata.sites(accounts, profiles)}


@cache
def _regions() -> tuple[str, ...]:
    """Every region that has an STS endpoint; reading botocore's tables takes a while."""
    return tuple(Session().get_available_regions("sts"))
