"""Settings from the environment: every one documented, all problems reported at once.

This is the only module that reads the environment. Managed identity and AWS credentials rotate
their variables while the process lives, so `Settings.environ` is handed on live to what reads them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenvend.audit.chain import MIN_KEY_TEXT
from tokenvend.config.values import (
    account,
    alias,
    api_id,
    audience,
    audit_key,
    count,
    domain,
    flag,
    guid,
    is_googles,
    issuers,
    list_of,
    optional,
    provider,
    region,
    role,
    seconds,
)
from tokenvend.errors import Misconfigured
from tokenvend.policy_source import Source, parse_source

if TYPE_CHECKING:
    from tokenvend.caller.oidc import OidcIssuer


class SettingsError(Misconfigured):
    """One or more settings are wrong; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            "The endpoint's settings are wrong; the operator finds each one in its log.",
            cause="; ".join(problems),
        )
        self.problems = problems


@dataclass(frozen=True)
class Setting:
    """One environment variable. `parse` raises ValueError with what the value must be."""

    name: str
    meaning: str
    parse: Callable[[str], Any]
    default: str | None = None


def _audiences_of_google(values: Mapping[str, Any]) -> list[str]:
    """A caller's token would be worth something at Google, and one meant for Google here."""
    federation = values.get("azure_federation_audience")
    of_callers = {
        "TOKENVEND_ENTRA_AUDIENCES": values.get("entra_audiences", ()),
        "TOKENVEND_OIDC_ISSUERS": [
            name for issuer in values.get("oidc_issuers", ()) for name in issuer.audiences
        ],
    }
    return [
        f"{name} holds TOKENVEND_AZURE_FEDERATION_AUDIENCE or a Google provider's name: callers "
        "need an audience of their own"
        for name, audiences in of_callers.items()
        if any(each == federation or is_googles(each) for each in audiences)
    ]


# The one table of settings; docs/operations.md shows the same, and a test compares them.
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "TOKENVEND_GOOGLE_PROVIDER",
        "full name of the workload identity pool provider: "
        "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/ID",
        provider,
    ),
    Setting(
        "TOKENVEND_POLICY",
        "where the policy is: policy.toml (packaged, relative to the function's root), "
        "appconfig:APPLICATION/ENVIRONMENT/PROFILE, ssm:/NAME, "
        "azure-appconfig:https://NAME.azconfig.io/KEY or "
        "azure-blob:https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB",
        parse_source,
    ),
    Setting(
        "TOKENVEND_GOOGLE_STS_REGION",
        "region of Google's STS; empty for the global endpoint",
        optional(region),
        "",
    ),
    Setting(
        "TOKENVEND_UNIVERSE_DOMAIN",
        "the Google Cloud universe",
        domain,
        "googleapis.com",
    ),
    Setting(
        "TOKENVEND_AWS_ACCOUNT",
        "AWS only: the account of the function and its gateway",
        optional(account),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_API_IDS",
        "AWS only: ids of the APIs and Function URLs whose events are believed, comma-separated",
        list_of(api_id),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_GATEWAY_ALIAS",
        "AWS only: the alias that the gateways invoke; empty where they invoke the function "
        "itself. Their events are believed through no other",
        optional(alias),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_ROLE_ARN",
        "AWS only: the role that the function runs as, which then has to trust itself; empty: "
        "grants with `attribute` are refused",
        optional(role),
        "",
    ),
    Setting(
        "TOKENVEND_AZURE_FEDERATION_AUDIENCE",
        "Azure only: Application ID URI that the managed identity's token is for; the audience of "
        "Google's provider, never the audience callers use",
        str,
        "",
    ),
    Setting(
        "TOKENVEND_AZURE_CLIENT_ID",
        "Azure only: client id of the user-assigned identity; empty for the system-assigned one",
        optional(guid),
        "",
    ),
    Setting(
        "TOKENVEND_ENTRA_TENANTS",
        "tenants whose tokens authenticate callers, comma-separated",
        list_of(guid),
        "",
    ),
    Setting(
        "TOKENVEND_ENTRA_AUDIENCES",
        "audiences of callers' Entra tokens: the API's client id (v2 tokens), its Application ID "
        "URI (v1 tokens), comma-separated",
        list_of(str),
        "",
    ),
    Setting(
        "TOKENVEND_ENTRA_ALLOW_USERS",
        "true: people's tokens authenticate too, not applications' alone",
        flag,
        "false",
    ),
    Setting(
        "TOKENVEND_ENTRA_REQUIRED_ROLES",
        "app roles that every caller's Entra token must have, comma-separated",
        list_of(str),
        "",
    ),
    Setting(
        "TOKENVEND_EASY_AUTH",
        "true: App Service authentication is enforced in front of the function, so its "
        "X-MS-CLIENT-PRINCIPAL is believed; anybody can send that header where it is not",
        flag,
        "false",
    ),
    Setting(
        "TOKENVEND_OIDC_ISSUERS",
        'further issuers whose tokens authenticate callers: JSON list of {"issuer", "audiences", '
        '"jwks_uri"?, "jwks_hosts"?}',
        issuers,
        "",
    ),
    Setting(
        "TOKENVEND_AUDIENCE",
        "this endpoint's name in token exchanges, such as //tokenvend.example.com; empty: "
        "POST /v1/token takes none",
        optional(audience),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_REGIONS",
        "regions whose AWS STS may verify callers' signed requests at POST /v1/token, "
        "comma-separated; empty: such requests are refused",
        list_of(region),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_UNSIGNED_AUDIENCE",
        "true: accept signed requests that do not sign their audience, as google-auth for Python "
        "and Node send them; whoever sees such a request can send it here",
        flag,
        "false",
    ),
    Setting("TOKENVEND_BUDGET", "seconds one request may take", seconds(0.5, 25), "10"),
    Setting("TOKENVEND_CACHE_ENTRIES", "vended tokens kept at once", count(1, 100_000), "1024"),
    Setting(
        "TOKENVEND_AUDIT_REQUIRED",
        "true: no token leaves unless its audit record was written",
        flag,
        "false",
    ),
    Setting(
        "TOKENVEND_AUDIT_KEY",
        "secret under which the audit record fingerprints tokens (HMAC-SHA-256), at least "
        f"{MIN_KEY_TEXT} characters; empty: plain SHA-256",
        audit_key,
        "",
    ),
)


@dataclass(frozen=True)
class Settings:
    """All settings, parsed. Times in seconds; what the table calls empty is None or ()."""

    google_provider: str
    policy: Source
    root: Path
    google_sts_region: str | None
    universe_domain: str
    aws_account: str | None
    aws_api_ids: tuple[str, ...]
    aws_role_arn: str | None
    aws_gateway_alias: str | None
    azure_federation_audience: str
    azure_client_id: str | None
    entra_tenants: tuple[str, ...]
    entra_audiences: tuple[str, ...]
    entra_allow_users: bool
    entra_required_roles: tuple[str, ...]
    easy_auth: bool
    oidc_issuers: tuple[OidcIssuer, ...]
    audience: str | None
    aws_regions: tuple[str, ...]
    aws_unsigned_audience: bool
    budget: float
    cache_entries: int
    audit_required: bool
    audit_key: bytes = field(repr=False)
    proxy: str | None
    ca_bundle: str | None
    environ: Mapping[str, str]

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Settings from environment variables; raises SettingsError with every problem at once."""
        problems: list[str] = []
        values: dict[str, Any] = {}
        for setting in SETTINGS:
            text = environ.get(setting.name, setting.default)
            if text is None or (not text and setting.default is None):
                problems.append(f"{setting.name} is missing: set it to {setting.meaning}")
                continue
            try:
                values[setting.name.removeprefix("TOKENVEND_").lower()] = setting.parse(text)
            except ValueError as wrong:
                problems.append(f"{setting.name} {wrong}")
        known = {setting.name for setting in SETTINGS}
        problems += [
            f"{name} is not a setting of tokenvend: is it misspelt?"
            for name in sorted(environ)
            if name.startswith("TOKENVEND_") and name not in known
        ]
        problems += _audiences_of_google(values)
        if problems:
            raise SettingsError(problems)
        root = environ.get("LAMBDA_TASK_ROOT") or environ.get("AzureWebJobsScriptRoot") or ""
        return cls(
            **values,
            root=Path(root),
            proxy=environ.get("HTTPS_PROXY") or environ.get("https_proxy") or None,
            ca_bundle=environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or None,
            environ=environ,
        )
