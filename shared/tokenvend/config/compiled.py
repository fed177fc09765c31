"""Settings, compiled once into what an endpoint is made of: nothing checks them again.

Every problem is reported at once and names its setting. Nobody else in the core reads one. Two
things stay live in the environment, because the platform rotates them while the process lives: AWS
keys, and the address and secret of Azure's identity endpoint. `Settings.environ` hands them to
`identity` and to the AWS policy source.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tokenvend.caller.aws import OwnFunction
from tokenvend.caller.entra import VERSIONS, TenantIssuer
from tokenvend.config import settings as table
from tokenvend.config.settings import SETTINGS
from tokenvend.errors import Misconfigured
from tokenvend.google.iamcredentials import iamcredentials_host
from tokenvend.google.sts import sts_host
from tokenvend.identity import aws_sts
from tokenvend.policy_source.setting import AwsSource, AzureSource
from tokenvend.transport.egress import Egress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.caller import Issuer
    from tokenvend.config.settings import Cloud, Setting
    from tokenvend.policy_source.setting import Source


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
    """What an endpoint is made of; of the other cloud's all is empty.

    `provider`: Google's, by its full name. `policy`: relative to `root` where it is packaged.
    `issuers`: whose tokens count, by their names. `audience`: this endpoint's name in token
    exchanges, empty where it takes none. `aws_regions`: those whose AWS STS may verify callers'
    signed requests, by its host. `budget`: seconds one request may take. `environ`: live, for
    credentials that rotate. `function`, `region`, `role`: our own on AWS, `role` by its ARN, empty
    where callers cannot be named to Google. `federation_audience`: what our managed identity's
    token for Google names; `client_id`: of a user-assigned identity, empty for the system-assigned
    one. `easy_auth`: see `Authenticator`.
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
    aws_regions: Mapping[str, str]
    require_signed_audience: bool
    budget: float
    cache_entries: int
    audit_required: bool
    audit_key: bytes = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    function: OwnFunction
    region: str
    role: str
    federation_audience: str
    client_id: str
    easy_auth: bool


# What means nothing without another.
_NEEDS = (
    (table.AWS_API_IDS, table.AWS_ACCOUNT),
    (table.AWS_GATEWAY_ALIAS, table.AWS_API_IDS),
    (table.ENTRA_TENANTS, table.ENTRA_AUDIENCES),
    (table.ENTRA_AUDIENCES, table.ENTRA_TENANTS),
    (table.ENTRA_ALLOW_USERS, table.ENTRA_TENANTS),
    (table.ENTRA_REQUIRED_ROLES, table.ENTRA_TENANTS),
    (table.EASY_AUTH, table.ENTRA_TENANTS),
    (table.AWS_REGIONS, table.AUDIENCE),
    (table.AWS_UNSIGNED_AUDIENCE, table.AWS_REGIONS),
)


def read_settings(environ: Mapping[str, str], cloud: Cloud) -> Settings:
    """The settings of an endpoint on this cloud. Raises SettingsError."""
    read = _Reader(environ, cloud)
    universe, region = read(table.UNIVERSE_DOMAIN), read(table.AWS_REGION)
    sts = sts_host(universe, read(table.GOOGLE_STS_REGION))
    iam_credentials = iamcredentials_host(universe)
    issuers, role = _issuers(read), _role(read, region)
    aws_regions = {aws_sts.host(each): each for each in read(table.AWS_REGIONS)}
    hosts = {*aws_regions, *(host for each in issuers.values() for host in each.source.hosts)}
    if role and region:
        hosts.add(aws_sts.host(region))
    settings = Settings(
        provider=read(table.GOOGLE_PROVIDER),
        sts_host=sts,
        iam_credentials_host=iam_credentials,
        policy=_policy(read),
        root=Path(environ.get("LAMBDA_TASK_ROOT") or environ.get("AzureWebJobsScriptRoot") or ""),
        egress=Egress(
            hosts=(sts, iam_credentials, *sorted(hosts)),
            proxy=read(table.HTTPS_PROXY) or read(replace(table.HTTPS_PROXY, name="https_proxy")),
            no_proxy=tuple((environ.get("NO_PROXY") or environ.get("no_proxy") or "").split(",")),
            ca_bundle=_ca_bundle(read),
        ),
        issuers=issuers,
        allow_users=read(table.ENTRA_ALLOW_USERS),
        audience=read(table.AUDIENCE),
        aws_regions=aws_regions,
        require_signed_audience=not read(table.AWS_UNSIGNED_AUDIENCE),
        budget=read(table.BUDGET),
        cache_entries=read(table.CACHE_ENTRIES),
        audit_required=read(table.AUDIT_REQUIRED),
        audit_key=read(table.AUDIT_KEY),
        environ=environ,
        function=OwnFunction(
            account=read(table.AWS_ACCOUNT),
            name=read(table.FUNCTION_NAME),
            api_ids=read(table.AWS_API_IDS),
            alias=read(table.AWS_GATEWAY_ALIAS),
        ),
        region=region,
        role=role,
        federation_audience=_federation_audience(read),
        client_id=read(table.AZURE_CLIENT_ID),
        easy_auth=read(table.EASY_AUTH),
    )
    _check_platform(read)
    if read.problems:
        raise SettingsError(list(read.problems))
    return settings


def _ca_bundle(read: _Reader) -> str:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        path = read.environ.get(name, "")
        if path and not Path(path).is_file():
            read.tell(name, "names no file")
        if path:
            return path
    return ""


def _check_platform(read: _Reader) -> None:
    """What the platform sets together, or not at all; the values are read live."""
    for one, other in (
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"),
    ):
        if read.environ.get(one) and not read.environ.get(other):
            read.tell(one, f"is set without {other}")


def _policy(read: _Reader) -> Source:
    source = read(table.POLICY)
    if isinstance(source, AwsSource if read.cloud == "Azure" else AzureSource):
        read.problem(table.POLICY, f"names a source that a function on {read.cloud} cannot read")
    return source


def _issuers(read: _Reader) -> Mapping[str, Issuer]:
    audiences, allow_users = read(table.ENTRA_AUDIENCES), read(table.ENTRA_ALLOW_USERS)
    roles = read(table.ENTRA_REQUIRED_ROLES)
    every: list[Issuer] = [
        TenantIssuer(tenant, version, audiences, allow_users, roles)
        for tenant in read(table.ENTRA_TENANTS)
        for version in VERSIONS
    ]
    every += read(table.OIDC_ISSUERS)
    by_name = {issuer.source.issuer: issuer for issuer in every}
    if len(by_name) < len(every):
        read.problem(
            table.OIDC_ISSUERS,
            "holds an issuer twice, or a tenant of TOKENVEND_ENTRA_TENANTS: give one entry all its "
            "audiences",
        )
    return by_name


def _role(read: _Reader, region: str) -> str:
    role, account = read(table.AWS_ROLE_ARN), read(table.AWS_ACCOUNT)
    if role:
        _, partition, _, _, its_account, _ = role.split(":", 5)
        if account and its_account != account:
            read.problem(table.AWS_ROLE_ARN, "is of another account than TOKENVEND_AWS_ACCOUNT")
        if region and partition != aws_sts.partition(region):
            read.problem(table.AWS_ROLE_ARN, "is of another partition than AWS_REGION")
    return role


def _federation_audience(read: _Reader) -> str:
    federation = read(table.AZURE_FEDERATION_AUDIENCE)
    # A token that callers may get would be worth something at Google, and ours here.
    for setting, audiences in (
        (table.ENTRA_AUDIENCES, read(table.ENTRA_AUDIENCES)),
        (table.AUDIENCE, {read(table.AUDIENCE)}),
        (
            table.OIDC_ISSUERS,
            {name for each in read(table.OIDC_ISSUERS) for name in each.audiences},
        ),
    ):
        if federation and federation in audiences:
            read.problem(
                setting,
                "holds TOKENVEND_AZURE_FEDERATION_AUDIENCE: callers need an audience of their own",
            )
    return federation


class _Reader:
    """Reads settings and keeps every problem."""

    def __init__(self, environ: Mapping[str, str], cloud: Cloud) -> None:
        self.environ = environ
        self.cloud = cloud
        known = {setting.name for setting in SETTINGS}
        # In the order they are met, each once: a setting may be read more than once.
        self.problems = dict.fromkeys(
            f"{name} is not a setting of tokenvend: is it misspelt?"
            for name in sorted(environ)
            if name.startswith("TOKENVEND_") and name not in known
        )
        for setting in SETTINGS:
            if setting.only not in {None, cloud} and self._is_given(setting):
                self.problem(setting, f"is for {setting.only} only, and this is {cloud}: remove it")
        for setting, other in _NEEDS:
            if self._is_given(setting) and not self._is_given(other):
                self.problem(setting, f"needs {other.name} too: {other.meaning}")

    def __call__[T](self, setting: Setting[T]) -> T:
        """The value of a setting; of the other cloud's and of a wrong one the default's."""
        if setting.only in {None, self.cloud}:
            text = self.environ.get(setting.name) or setting.default
            if text is not None:
                try:
                    return setting.parse(text)
                except ValueError as wrong:
                    self.problem(setting, str(wrong))
            else:
                self.problem(setting, f"is missing: set it to {setting.meaning}")
        # Of a setting without a default nobody gets to see this.
        return cast("T", "") if setting.default is None else setting.parse(setting.default)

    def problem(self, setting: Setting[Any], what: str) -> None:
        """What is wrong with a setting, for the operator."""
        self.tell(setting.name, what)

    def tell(self, name: str, what: str) -> None:
        """What is wrong with a variable of the environment."""
        self.problems[f"{name} {what}"] = None

    def _is_given(self, setting: Setting[Any]) -> bool:
        return self.environ.get(setting.name, "") not in {"", setting.default}
