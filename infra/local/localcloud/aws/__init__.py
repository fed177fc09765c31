"""AWS in the embedded cloud: STS, IAM's decisions, API Gateway, Function URLs, Lambda, instances.

`Accounts` holds identities and keys, `Functions` runs the template's functions, `sites` is what a
router needs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.aws import appconfigdata, function_url, gateway, instances, invoke, ssm, sts
from localcloud.aws.accounts import AccessKey, Accounts, Principal, UnknownIdentityError
from localcloud.aws.appconfigdata import Profiles
from localcloud.aws.functions import Functions
from localcloud.aws.runtime import Outcome, RuntimeMissingError, WorkerError
from localcloud.aws.ssm import Parameters
from localcloud.aws.sts.query import unreachable
from localcloud.aws.template import Function, Template, TemplateError, declared, load
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.wire.web import Site

__all__ = [
    "FUNCTION_ROLE",
    "SERVICES",
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

# The name that the stack gives the function's role, so that the role may assume itself.
FUNCTION_ROLE = "tokenvend"
SERVICES = (
    sts.SERVICE,
    gateway.SERVICE,
    function_url.SERVICE,
    invoke.SERVICE,
    ssm.SERVICE,
    appconfigdata.SERVICE,
    *instances.SERVICES,
)
"""Everything of AWS's that is served."""
_REGION = re.compile(
    r"sts\.((?:af|ap|ca|cn|eu|il|me|mx|sa|us)(?:-gov)?"
    r"-(?:central|north|northeast|northwest|south|southeast|southwest|east|west)-[1-9])"
    r"\.amazonaws\.com"
)


def sites(
    accounts: Accounts, functions: Functions | None = None, *, fetch: Site = unreachable
) -> dict[str, Site]:
    """Hostnames to sites: STS at every endpoint, and every door to a function.

    `fetch` reaches the issuers of web identities.
    """
    table: dict[str, Site] = {
        "sts.amazonaws.com": sts.site(accounts, sts.GLOBAL_REGION, fetch),
        "sts.*.amazonaws.com": _regional(accounts, fetch),
    }
    if functions is None:
        return table
    template = functions.template
    table[f"lambda.{accounts.aws.region}.amazonaws.com"] = invoke.site(functions, accounts)
    for api in template.apis:
        table[api.domain] = gateway.http_api(api, functions, accounts)
        table[api.rest_domain] = gateway.rest_api(api, functions, accounts)
    for function in template.functions:
        table[function.url.domain] = function_url.site(function, functions, accounts)
    return table


def configuration_sites(
    accounts: Accounts, parameters: Parameters, profiles: Profiles
) -> dict[str, Site]:
    """Hostnames to sites: Parameter Store and AppConfig Data in the function's region."""
    return {**ssm.sites(accounts, parameters), **appconfigdata.sites(accounts, profiles)}


def _regional(accounts: Accounts, fetch: Site) -> Site:
    """STS at each region's own endpoint; what has not the shape of a region has none."""

    def serve(request: Request) -> Response:
        match = _REGION.fullmatch(request.host.lower())
        if match is None:
            return Response.json(405, {"error": f"no stand-in serves {request.host}"})
        return sts.site(accounts, match[1], fetch)(request)

    return serve
