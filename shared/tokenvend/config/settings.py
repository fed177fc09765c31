"""The one table of settings; docs/operations.md shows the same, and a test compares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tokenvend.audit.chain import MIN_KEY_TEXT
from tokenvend.config import values
from tokenvend.policy_source.setting import parse_source

Cloud = Literal["AWS", "Azure"]


@dataclass(frozen=True, slots=True)
class Setting[T]:
    """One environment variable. `parse` raises ValueError with what its text must be.

    `default`: the text that stands for a missing or empty one, None where it has to be set. `only`:
    the one cloud on which it means anything.
    """

    name: str
    text: str
    parse: Callable[[str], T]
    default: str | None = ""
    only: Cloud | None = None

    @property
    def meaning(self) -> str:
        """What it is for, in a line."""
        return f"{self.only} only: {self.text}" if self.only else self.text


GOOGLE_PROVIDER = Setting(
    "TOKENVEND_GOOGLE_PROVIDER",
    "full name of the workload identity pool provider: "
    "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/ID",
    values.provider,
    None,
)
POLICY = Setting(
    "TOKENVEND_POLICY",
    "where the policy is: policy.toml (packaged, relative to the function's root), on AWS "
    "appconfig:APPLICATION/ENVIRONMENT/PROFILE or ssm:/NAME, on Azure "
    "azure-appconfig:https://NAME.azconfig.io/KEY or "
    "azure-blob:https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB",
    parse_source,
    None,
)
GOOGLE_STS_REGION = Setting(
    "TOKENVEND_GOOGLE_STS_REGION",
    "region of Google's STS; empty for the global endpoint",
    values.optional(values.google_region),
)
UNIVERSE_DOMAIN = Setting(
    "TOKENVEND_UNIVERSE_DOMAIN", "the Google Cloud universe", values.domain, "googleapis.com"
)
AWS_ACCOUNT = Setting(
    "TOKENVEND_AWS_ACCOUNT",
    "the account of the function and its gateway; empty: neither its gateway's events nor direct "
    "invokes are believed",
    values.optional(values.account),
    only="AWS",
)
AWS_API_IDS = Setting(
    "TOKENVEND_AWS_API_IDS",
    "ids of the APIs and Function URLs whose events are believed, comma-separated",
    values.list_of(values.api_id),
    only="AWS",
)
AWS_GATEWAY_ALIAS = Setting(
    "TOKENVEND_AWS_GATEWAY_ALIAS",
    "the alias that the gateways invoke; empty where they invoke the function "
    "itself. Their events are believed through no other",
    values.optional(values.alias),
    only="AWS",
)
AWS_ROLE_ARN = Setting(
    "TOKENVEND_AWS_ROLE_ARN",
    "the role that the function runs as, which then has to trust itself; empty: "
    "grants with `attribute` are refused",
    values.optional(values.role),
    only="AWS",
)
AZURE_FEDERATION_AUDIENCE = Setting(
    "TOKENVEND_AZURE_FEDERATION_AUDIENCE",
    "Application ID URI that the managed identity's token is for; the audience of "
    "Google's provider, never the audience callers use",
    values.resource,
    None,
    only="Azure",
)
AZURE_CLIENT_ID = Setting(
    "TOKENVEND_AZURE_CLIENT_ID",
    "client id of the user-assigned identity; empty for the system-assigned one",
    values.optional(values.guid),
    only="Azure",
)
ENTRA_TENANTS = Setting(
    "TOKENVEND_ENTRA_TENANTS",
    "tenants whose tokens authenticate callers, comma-separated",
    values.list_of(values.guid),
)
ENTRA_AUDIENCES = Setting(
    "TOKENVEND_ENTRA_AUDIENCES",
    "audiences of callers' Entra tokens: the API's client id (v2 tokens), its Application ID "
    "URI (v1 tokens), comma-separated",
    values.list_of(values.audience_of_callers),
)
ENTRA_ALLOW_USERS = Setting(
    "TOKENVEND_ENTRA_ALLOW_USERS",
    "true: people's tokens authenticate too, not applications' alone",
    values.flag,
    "false",
)
ENTRA_REQUIRED_ROLES = Setting(
    "TOKENVEND_ENTRA_REQUIRED_ROLES",
    "app roles that every caller's Entra token must have, comma-separated",
    values.list_of(values.app_role),
)
EASY_AUTH = Setting(
    "TOKENVEND_EASY_AUTH",
    "true: App Service authentication is enforced in front of the function, so its "
    "X-MS-CLIENT-PRINCIPAL is believed; anybody can send that header where it is not",
    values.flag,
    "false",
    only="Azure",
)
OIDC_ISSUERS = Setting(
    "TOKENVEND_OIDC_ISSUERS",
    'further issuers whose tokens authenticate callers: JSON list of {"issuer", "audiences", '
    '"jwks_uri"?, "jwks_hosts"?}',
    values.issuers,
)
AUDIENCE = Setting(
    "TOKENVEND_AUDIENCE",
    "this endpoint's name in token exchanges, such as //tokenvend.example.com; empty: "
    "POST /v1/token takes none",
    values.optional(values.audience),
)
AWS_REGIONS = Setting(
    "TOKENVEND_AWS_REGIONS",
    "regions whose AWS STS may verify callers' signed requests at POST /v1/token, "
    "comma-separated; empty: such requests are refused",
    values.list_of(values.aws_region),
)
AWS_UNSIGNED_AUDIENCE = Setting(
    "TOKENVEND_AWS_UNSIGNED_AUDIENCE",
    "true: accept signed requests that do not sign their audience, as google-auth for Python "
    "and Node send them; whoever sees such a request can send it here",
    values.flag,
    "false",
)
BUDGET = Setting(
    "TOKENVEND_BUDGET", "seconds one request may take", values.number(float, 0.5, 25), "10"
)
CACHE_ENTRIES = Setting(
    "TOKENVEND_CACHE_ENTRIES", "vended tokens kept at once", values.number(int, 1, 100_000), "1024"
)
AUDIT_REQUIRED = Setting(
    "TOKENVEND_AUDIT_REQUIRED",
    "true: no token leaves unless its audit record was written",
    values.flag,
    "false",
)
AUDIT_KEY = Setting(
    "TOKENVEND_AUDIT_KEY",
    "secret under which the audit record fingerprints tokens (HMAC-SHA-256), at least "
    f"{MIN_KEY_TEXT} characters; empty: plain SHA-256",
    values.audit_key,
)

SETTINGS: tuple[Setting[Any], ...] = tuple(
    each for each in list(globals().values()) if isinstance(each, Setting)
)

# --- what is not ours to name --------------------------------------------------------------------
AWS_REGION = Setting(
    "AWS_REGION", "the function's region, which Lambda sets", values.aws_region, None, only="AWS"
)
FUNCTION_NAME = Setting(
    "AWS_LAMBDA_FUNCTION_NAME",
    "the function's name, which Lambda sets",
    values.optional(values.function_name),
    only="AWS",
)
HTTPS_PROXY = Setting("HTTPS_PROXY", "http proxy that https calls take", values.proxy)
