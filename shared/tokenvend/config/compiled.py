"""Settings, compiled once into what an endpoint is made of: nothing checks them again.

Every problem is reported at once and names its setting: a text that cannot be, two settings that
contradict each other, one that means nothing without another or on this cloud, one that this cloud
needs. Nobody else in the core reads a setting. Two things stay live in the environment, because
the platform rotates them while the process lives: AWS keys, and the address and secret of Azure's
identity endpoint. `Settings.environ` hands them to `identity` and to the AWS policy source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokenvend.caller.aws import FunctionBinding, GatewayBinding
from tokenvend.caller.aws_request import AwsSubjectTokenSettings
from tokenvend.caller.entra import EntraSettings
from tokenvend.config import settings as table
from tokenvend.config.settings import SETTINGS
from tokenvend.config.values import aws_region, function_name, proxy
from tokenvend.errors import Misconfigured
from tokenvend.google.iamcredentials import iamcredentials_host
from tokenvend.google.sts import sts_host
from tokenvend.identity import aws_sts
from tokenvend.policy_source import AzureSource, PackagedFile
from tokenvend.transport.egress import PLATFORM_NETWORKS, Egress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tokenvend.caller import Issuer
    from tokenvend.config.settings import Cloud, Setting
    from tokenvend.identity.aws_session import OwnRole
    from tokenvend.policy_source import Source


class SettingsError(Misconfigured):
    """One or more settings are wrong; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(
            "The endpoint's settings are wrong; the operator finds each one in its log.",
            cause="; ".join(problems),
        )
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What both clouds' endpoints are made of. `budget`: seconds one request may take.

    `provider`: Google's, by its full name. `audience`: this endpoint's name in token exchanges,
    empty where it takes none. `issuers`: whose tokens count, by their names. `root`: what a
    packaged policy's path is relative to. `environ`: live, for credentials that rotate.
    """

    provider: str
    sts_host: str
    iam_credentials_host: str
    policy: Source
    root: Path
    egress: Egress
    issuers: Mapping[str, Issuer]
    allow_users: bool
    audience: str
    aws_requests: AwsSubjectTokenSettings | None
    budget: float
    cache_entries: int
    audit_required: bool
    audit_key: bytes = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAws:
    """What an endpoint on AWS has besides. `role` None: callers cannot be named to Google."""

    region: str
    gateway: GatewayBinding | None
    function: FunctionBinding | None
    role: OwnRole | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnAzure:
    """What an endpoint on Azure has besides.

    `federation_audience`: what our managed identity's token for Google names. `client_id`: of a
    user-assigned identity, empty for the system-assigned one. `easy_auth`: see `Authenticator`.
    """

    federation_audience: str
    client_id: str
    easy_auth: bool


def aws_settings(environ: Mapping[str, str]) -> tuple[Settings, OnAws]:
    """The settings of an endpoint on AWS. Raises SettingsError."""
    read = _Reader(environ, "AWS")
    region = read.given("AWS_REGION", aws_region, "Lambda sets it to the function's region")
    name = read.given("AWS_LAMBDA_FUNCTION_NAME", function_name)
    account, api_ids = read(table.AWS_ACCOUNT), read(table.AWS_API_IDS)
    alias, role = read(table.AWS_GATEWAY_ALIAS), read(table.AWS_ROLE_ARN)
    read.needs(table.AWS_API_IDS, table.AWS_ACCOUNT)
    read.needs(table.AWS_GATEWAY_ALIAS, table.AWS_API_IDS)
    _, partition, _, _, role_account, _ = role.arn.split(":", 5) if role else [""] * 6
    if role and account and role_account != account:
        read.problem(table.AWS_ROLE_ARN, "is of another account than TOKENVEND_AWS_ACCOUNT")
    if role and region and partition != aws_sts.partition(region):
        read.problem(table.AWS_ROLE_ARN, "is of another partition than AWS_REGION")
    settings = _settings(read, [aws_sts.host(region)] if role and region else [])
    read.finish()
    return settings, OnAws(
        region=region,
        gateway=GatewayBinding(account, api_ids, alias or "") if account and api_ids else None,
        function=FunctionBinding(account, name) if account and name else None,
        role=role,
    )


def azure_settings(environ: Mapping[str, str]) -> tuple[Settings, OnAzure]:
    """The settings of an endpoint on Azure. Raises SettingsError."""
    read = _Reader(environ, "Azure")
    federation = read(table.AZURE_FEDERATION_AUDIENCE)
    client_id, easy_auth = read(table.AZURE_CLIENT_ID), read(table.EASY_AUTH)
    read.needs(table.EASY_AUTH, table.ENTRA_TENANTS)
    # A token that callers may get would be worth something at Google, and ours here.
    for setting, audiences in {
        table.ENTRA_AUDIENCES: read(table.ENTRA_AUDIENCES),
        table.AUDIENCE: {read(table.AUDIENCE)},
        table.OIDC_ISSUERS: {
            name for issuer in read(table.OIDC_ISSUERS) for name in issuer.audiences
        },
    }.items():
        if federation and federation in audiences:
            read.problem(
                setting,
                "holds TOKENVEND_AZURE_FEDERATION_AUDIENCE: callers need an audience of their own",
            )
    settings = _settings(read, [])
    read.finish()
    return settings, OnAzure(
        federation_audience=federation, client_id=client_id or "", easy_auth=easy_auth
    )


def _settings(read: _Reader, hosts: Iterable[str]) -> Settings:
    environ = read.environ
    universe, sts_region = read(table.UNIVERSE_DOMAIN), read(table.GOOGLE_STS_REGION)
    sts, iam_credentials = sts_host(universe, sts_region or ""), iamcredentials_host(universe)
    policy, issuers, aws_requests = _policy(read), _issuers(read), _aws_requests(read)
    key_hosts = {host for issuer in issuers.values() for host in issuer.source.hosts}
    return Settings(
        provider=read(table.GOOGLE_PROVIDER),
        sts_host=sts,
        iam_credentials_host=iam_credentials,
        policy=policy,
        root=Path(environ.get("LAMBDA_TASK_ROOT") or environ.get("AzureWebJobsScriptRoot") or ""),
        egress=Egress(
            hosts=(
                sts,
                iam_credentials,
                *sorted(key_hosts),
                *(sorted(aws_requests.hosts) if aws_requests else []),
                *hosts,
            ),
            plain_hosts=PLATFORM_NETWORKS,
            proxy=read.given("HTTPS_PROXY", proxy) or read.given("https_proxy", proxy),
            no_proxy=tuple((environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(",")),
            ca_bundle=environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or "",
        ),
        issuers=issuers,
        allow_users=read(table.ENTRA_ALLOW_USERS),
        audience=read(table.AUDIENCE) or "",
        aws_requests=aws_requests,
        budget=read(table.BUDGET),
        cache_entries=read(table.CACHE_ENTRIES),
        audit_required=read(table.AUDIT_REQUIRED),
        audit_key=read(table.AUDIT_KEY),
        environ=environ,
    )


def _policy(read: _Reader) -> Source:
    source = read(table.POLICY)
    of = "Azure" if isinstance(source, AzureSource) else "AWS"
    if not isinstance(source, PackagedFile) and of != read.cloud:
        read.problem(table.POLICY, f"names a source that a function on {read.cloud} cannot read")
    return source


def _issuers(read: _Reader) -> Mapping[str, Issuer]:
    entra = EntraSettings(
        tenants=read(table.ENTRA_TENANTS),
        audiences=read(table.ENTRA_AUDIENCES),
        allow_users=read(table.ENTRA_ALLOW_USERS),
        required_roles=read(table.ENTRA_REQUIRED_ROLES),
    )
    for setting in (table.ENTRA_AUDIENCES, table.ENTRA_ALLOW_USERS, table.ENTRA_REQUIRED_ROLES):
        read.needs(setting, table.ENTRA_TENANTS)
    read.needs(table.ENTRA_TENANTS, table.ENTRA_AUDIENCES)
    every: list[Issuer] = [*entra.issuers, *read(table.OIDC_ISSUERS)]
    by_name = {issuer.source.issuer: issuer for issuer in every}
    if len(by_name) < len(every):
        read.problem(
            table.OIDC_ISSUERS,
            "holds an issuer twice, or a tenant of TOKENVEND_ENTRA_TENANTS: give one entry all its "
            "audiences",
        )
    return by_name


def _aws_requests(read: _Reader) -> AwsSubjectTokenSettings | None:
    regions, unsigned = read(table.AWS_REGIONS), read(table.AWS_UNSIGNED_AUDIENCE)
    read.needs(table.AWS_REGIONS, table.AUDIENCE)
    read.needs(table.AWS_UNSIGNED_AUDIENCE, table.AWS_REGIONS)
    return (
        AwsSubjectTokenSettings(regions, require_signed_audience=not unsigned) if regions else None
    )


class _Reader:
    """Reads settings and keeps every problem until `finish`."""

    def __init__(self, environ: Mapping[str, str], cloud: Cloud) -> None:
        self.environ = environ
        self.cloud = cloud
        known = {setting.name for setting in SETTINGS}
        # In the order they are met, each once: a setting may be read more than once.
        self._problems = dict.fromkeys(
            f"{name} is not a setting of tokenvend: is it misspelt?"
            for name in sorted(environ)
            if name.startswith("TOKENVEND_") and name not in known
        )
        for setting in SETTINGS:
            if setting.only not in {None, cloud} and self._is_given(setting):
                self.problem(setting, f"is for {setting.only} only, and this is {cloud}: remove it")

    def __call__[T](self, setting: Setting[T]) -> T:
        """The value of a setting; of a wrong one the default's, which nobody gets to see."""
        text = self.environ.get(setting.name) or setting.default
        if text is None:
            self.problem(setting, f"is missing: set it to {setting.meaning}")
        else:
            try:
                return setting.parse(text)
            except ValueError as wrong:
                self.problem(setting, str(wrong))
        return cast("T", None) if setting.default is None else setting.parse(setting.default)

    def given(self, name: str, parse: Callable[[str], str], missing: str = "") -> str:
        """A variable that is not ours, empty where it is not set and need not be."""
        text = self.environ.get(name, "")
        try:
            if text:
                return parse(text)
            if missing:
                self._problems[f"{name} is missing: {missing}"] = None
        except ValueError as wrong:
            self._problems[f"{name} {wrong}"] = None
        return ""

    def needs(self, setting: Setting[Any], other: Setting[Any]) -> None:
        """A setting that means nothing without another."""
        if self._is_given(setting) and not self._is_given(other):
            self.problem(setting, f"needs {other.name} too: {other.meaning}")

    def problem(self, setting: Setting[Any], what: str) -> None:
        """What is wrong with a setting, for the operator."""
        self._problems[f"{setting.name} {what}"] = None

    def finish(self) -> None:
        """Raises SettingsError if there was any problem."""
        if self._problems:
            raise SettingsError(list(self._problems))

    def _is_given(self, setting: Setting[Any]) -> bool:
        return self.environ.get(setting.name, "") not in {"", setting.default}
