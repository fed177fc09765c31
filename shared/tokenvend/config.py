"""Settings from the environment: every one documented, all problems reported at once.

This is the only module that reads the environment. Managed identity and AWS credentials rotate
their variables while the process lives, so `Settings.environ` is handed on live to what reads them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenvend.audit import MIN_KEY_TEXT, fingerprint_key
from tokenvend.caller.oidc import OidcIssuer
from tokenvend.errors import Misconfigured
from tokenvend.policy_source import Source, parse_source

_PROVIDER = re.compile(
    r"//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}"
    r"/providers/[a-z0-9-]{4,32}"
)
_GOOGLE_IAM = "//iam.googleapis.com/"
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-?[0-9]+")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ACCOUNT = re.compile(r"[0-9]{12}")
# The name goes into google.subject together with a session's, and that has 127 bytes.
_ROLE = re.compile(
    r"arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]{1,510}/)*"
    r"[A-Za-z0-9_+=,.@-]{1,43}"
)


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


def _matching(pattern: re.Pattern[str], must: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(must)
        return text

    return parse


def _list_of(item: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        return tuple(item(part.strip()) for part in text.split(",") if part.strip())

    return parse


def _optional(item: Callable[[str], str]) -> Callable[[str], str | None]:
    return lambda text: item(text) if text else None


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        must = f"must be a number of seconds from {low:g} to {high:g}"
        if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or not low <= float(text) <= high:
            raise ValueError(must)
        return float(text)

    return parse


def _count(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        must = f"must be a whole number from {low} to {high}"
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(must)
        return int(text)

    return parse


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        msg = "must be true or false"
        raise ValueError(msg)
    return text == "true"


def _guid(text: str) -> str:
    if not _GUID.fullmatch(text):
        msg = "must be a GUID"
        raise ValueError(msg)
    # Portals show GUIDs in either case; tokens hold them in lower case.
    return text.lower()


def _issuers(text: str) -> tuple[OidcIssuer, ...]:
    must = 'must be a JSON list of {"issuer", "audiences", "jwks_uri"?, "jwks_hosts"?}'
    try:
        entries = json.loads(text or "[]")
        return tuple(
            OidcIssuer(
                entry.pop("issuer"),
                _names(entry.pop("audiences")),
                entry.pop("jwks_uri", None),
                jwks_hosts=_names(entry.pop("jwks_hosts", [])),
                **entry,
            )
            for entry in entries
        )
    except Misconfigured as wrong:
        raise ValueError(f"holds a wrong entry: {wrong.detail}") from None
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(must) from None


def _names(value: object) -> frozenset[str]:
    # A text is made of texts too: "https://x" alone would make "h" and "/" audiences of ours.
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        msg = "must be a list of texts"
        raise ValueError(msg)
    return frozenset(value)


def _audience(text: str) -> str:
    must = (
        "must be a name of your own such as //tokenvend.example.com; not Google's, and without "
        "/projects/ and a number, which Google's clients would look up"
    )
    if not re.fullmatch(r"[!-~]{4,200}", text) or re.search(
        r"iam\.googleapis\.com|/projects/[0-9]|/grants/", text
    ):
        raise ValueError(must)
    return text


def _audit_key(text: str) -> bytes:
    return fingerprint_key(text) if text else b""


def _audiences_of_google(values: Mapping[str, Any]) -> list[str]:
    """A caller's token would be worth something at Google, and one meant for Google here."""
    federation = values.get("azure_federation_audience")
    of_callers = {
        "TOKENVEND_ENTRA_AUDIENCES": values.get("entra_audiences", ()),
        "TOKENVEND_OIDC_ISSUERS": [
            audience for issuer in values.get("oidc_issuers", ()) for audience in issuer.audiences
        ],
    }
    return [
        f"{name} holds TOKENVEND_AZURE_FEDERATION_AUDIENCE or a Google provider's name: callers "
        "need an audience of their own"
        for name, audiences in of_callers.items()
        if any(
            audience == federation or audience.removeprefix("https:").startswith(_GOOGLE_IAM)
            for audience in audiences
        )
    ]


_account = _matching(_ACCOUNT, "must be an AWS account number of 12 digits")
_region = _matching(_REGION, "must be a region such as us-central1 or eu-west-1")

# The one table of settings; docs/operations.md shows the same, and a test compares them.
SETTINGS: tuple[Setting, ...] = (
    Setting(
        "TOKENVEND_GOOGLE_PROVIDER",
        "full name of the workload identity pool provider: "
        "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/ID",
        _matching(
            _PROVIDER,
            "must be //iam.googleapis.com/projects/NUMBER/locations/global/"
            "workloadIdentityPools/POOL/providers/ID, without https: and with the project's number",
        ),
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
        _optional(_region),
        "",
    ),
    Setting(
        "TOKENVEND_UNIVERSE_DOMAIN",
        "the Google Cloud universe",
        _matching(_DOMAIN, "must be a domain such as googleapis.com"),
        "googleapis.com",
    ),
    Setting(
        "TOKENVEND_AWS_ACCOUNT",
        "AWS only: the account of the function and its gateway",
        _optional(_account),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_API_IDS",
        "AWS only: ids of the APIs and Function URLs whose events are believed, comma-separated",
        _list_of(_matching(re.compile(r"[a-z0-9]{1,40}"), "must be API ids, comma-separated")),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_GATEWAY_ALIAS",
        "AWS only: the alias that the gateways invoke; empty where they invoke the function "
        "itself. Their events are believed through no other",
        _optional(_matching(re.compile(r"[A-Za-z0-9_-]{1,128}"), "must be an alias's name")),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_ROLE_ARN",
        "AWS only: the role that the function runs as, which then has to trust itself; empty: "
        "grants with `attribute` are refused",
        _optional(
            _matching(
                _ROLE, "must be arn:aws:iam::ACCOUNT:role/NAME, at most 43 characters of NAME"
            )
        ),
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
        _optional(_guid),
        "",
    ),
    Setting(
        "TOKENVEND_ENTRA_TENANTS",
        "tenants whose tokens authenticate callers, comma-separated",
        _list_of(_guid),
        "",
    ),
    Setting(
        "TOKENVEND_ENTRA_AUDIENCES",
        "audiences of callers' Entra tokens: the API's client id (v2 tokens), its Application ID "
        "URI (v1 tokens), comma-separated",
        _list_of(str),
        "",
    ),
    Setting(
        "TOKENVEND_ENTRA_ALLOW_USERS",
        "true: people's tokens authenticate too, not applications' alone",
        _flag,
        "false",
    ),
    Setting(
        "TOKENVEND_ENTRA_REQUIRED_ROLES",
        "app roles that every caller's Entra token must have, comma-separated",
        _list_of(str),
        "",
    ),
    Setting(
        "TOKENVEND_EASY_AUTH",
        "true: App Service authentication is enforced in front of the function, so its "
        "X-MS-CLIENT-PRINCIPAL is believed; anybody can send that header where it is not",
        _flag,
        "false",
    ),
    Setting(
        "TOKENVEND_OIDC_ISSUERS",
        'further issuers whose tokens authenticate callers: JSON list of {"issuer", "audiences", '
        '"jwks_uri"?, "jwks_hosts"?}',
        _issuers,
        "",
    ),
    Setting(
        "TOKENVEND_AUDIENCE",
        "this endpoint's name in token exchanges, such as //tokenvend.example.com; empty: "
        "POST /v1/token takes none",
        _optional(_audience),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_REGIONS",
        "regions whose AWS STS may verify callers' signed requests at POST /v1/token, "
        "comma-separated; empty: such requests are refused",
        _list_of(_region),
        "",
    ),
    Setting(
        "TOKENVEND_AWS_UNSIGNED_AUDIENCE",
        "true: accept signed requests that do not sign their audience, as google-auth for Python "
        "and Node send them; whoever sees such a request can send it here",
        _flag,
        "false",
    ),
    Setting("TOKENVEND_BUDGET", "seconds one request may take", _seconds(0.5, 25), "10"),
    Setting("TOKENVEND_CACHE_ENTRIES", "vended tokens kept at once", _count(1, 100_000), "1024"),
    Setting(
        "TOKENVEND_AUDIT_REQUIRED",
        "true: no token leaves unless its audit record was written",
        _flag,
        "false",
    ),
    Setting(
        "TOKENVEND_AUDIT_KEY",
        "secret under which the audit record fingerprints tokens (HMAC-SHA-256), at least "
        f"{MIN_KEY_TEXT} characters; empty: plain SHA-256",
        _audit_key,
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
