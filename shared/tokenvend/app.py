"""The composition root: settings -> one `Api`, for either cloud.

The only place of the server that constructs, and the one that hands clock, randomness and
environment to the rest. Building opens no connection and reads no file but the policy.
"""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tokenvend.audit.chain import AuditLog
from tokenvend.cache import Cache
from tokenvend.caller import Authenticator, EntraSettings, FunctionBinding, GatewayBinding
from tokenvend.caller.aws_request import AwsSubjectTokenSettings, verify_aws_request
from tokenvend.caller.jwks import KeySets
from tokenvend.config.settings import Settings, SettingsError
from tokenvend.errors import Misconfigured
from tokenvend.google.iamcredentials import IamCredentials, iamcredentials_host
from tokenvend.google.sts import TokenExchange, sts_host
from tokenvend.http import Api, Ready
from tokenvend.mint import Mint
from tokenvend.policy import PolicyError, compile_policy
from tokenvend.policy.attribution import check_attribution
from tokenvend.policy_source import AzureSource, PackagedFile, PolicyStore, open_source
from tokenvend.service import Vending
from tokenvend.transport.egress import PLATFORM_NETWORKS, Egress, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.audit.chain import Sink
    from tokenvend.caller import VerifyAwsRequest
    from tokenvend.deadline import Deadline
    from tokenvend.mint import Identity, SessionIdentity
    from tokenvend.model import AwsCaller, FederatedToken, Secret, TokenSpec, VendedToken
    from tokenvend.policy import CompiledPolicy
    from tokenvend.policy_source import Source
    from tokenvend.transport import Sender


@dataclass(frozen=True)
class _Platform:
    """What differs between the clouds on the way to Google.

    `hosts`: what its subjects call, over https. `no_attribution`: why a grant may not say
    `attribute` with these settings, empty where it may.
    """

    identities: Callable[[Settings, Transport], tuple[Identity, SessionIdentity | None]]
    hosts: Callable[[Settings], tuple[str, ...]]
    no_attribution: Callable[[Settings], str]


def build_aws(environ: Mapping[str, str], *, sink: Sink, report: Callable[[str], None]) -> Api:
    """The endpoint on AWS Lambda. `report` takes one line for the operator."""

    def identities(
        settings: Settings, transport: Transport
    ) -> tuple[Identity, SessionIdentity | None]:
        from tokenvend.identity.aws import AwsIdentity  # noqa: PLC0415 -- the other cloud's stays out

        provider, region = settings.google_provider, settings.environ.get("AWS_REGION", "")
        own = AwsIdentity(settings.environ, provider=provider, region=region, now=time.time)
        if settings.aws_role_arn is None:
            return own, None
        from tokenvend.identity.aws_session import AwsSessionIdentity, OwnRole  # noqa: PLC0415

        return own, AwsSessionIdentity(
            own.credentials,
            transport,
            role=OwnRole(settings.aws_role_arn),
            provider=provider,
            region=region,
            now=time.time,
            size=settings.cache_entries,
        )

    def hosts(settings: Settings) -> tuple[str, ...]:
        from tokenvend.identity.sigv4 import sts_host as aws_sts_host  # noqa: PLC0415 -- as above

        if settings.aws_role_arn is None:
            return ()
        return (aws_sts_host(settings.environ.get("AWS_REGION", "")),)

    def no_attribution(settings: Settings) -> str:
        if settings.aws_role_arn is not None:
            return ""
        return (
            "needs the setting TOKENVEND_AWS_ROLE_ARN and a role that trusts itself: deploy "
            "template.yaml with its parameter RoleName"
        )

    return _build(environ, _Platform(identities, hosts, no_attribution), sink, report)


def build_azure(environ: Mapping[str, str], *, sink: Sink, report: Callable[[str], None]) -> Api:
    """The endpoint on Azure Functions. `report` takes one line for the operator."""

    def identities(settings: Settings, transport: Transport) -> tuple[Identity, None]:
        resource = settings.azure_federation_audience
        return _managed_identity(settings, transport, resource), None

    def no_attribution(_: Settings) -> str:
        return (
            "cannot be held on Azure, where the managed identity's token names the endpoint and "
            "cannot carry the caller; remove it, or serve the grant from AWS"
        )

    return _build(environ, _Platform(identities, lambda _: (), no_attribution), sink, report)


def _build(
    environ: Mapping[str, str],
    platform: _Platform,
    sink: Sink,
    report: Callable[[str], None],
) -> Api:
    budget, audit_required, audit_key = 1.0, True, b""
    state: Ready | Misconfigured
    try:
        settings = Settings.from_env(environ)
        budget, audit_required = settings.budget, settings.audit_required
        audit_key = settings.audit_key
        state = _ready(settings, platform, report)
    except Misconfigured as wrong:
        if isinstance(wrong, SettingsError):
            for problem in wrong.problems:
                report(problem)
        elif not isinstance(wrong, PolicyError):
            # The policy store has reported a policy's problems itself.
            report(wrong.cause or wrong.detail)
        state = wrong
    return Api(
        state=state,
        audit=AuditLog(sink, instance=str(uuid.uuid4()), fingerprint_key=audit_key),
        budget=budget,
        fail_closed=audit_required,
        now=time.time,
        monotonic=time.monotonic,
        report=report,
    )


def _ready(settings: Settings, platform: _Platform, report: Callable[[str], None]) -> Ready:
    entra = _entra(settings)
    transport = _transport(settings, [*_caller_hosts(settings, entra), *platform.hosts(settings)])
    store = _policy_store(settings, transport, platform.no_attribution(settings), report)
    authenticator = Authenticator(
        keys=KeySets(transport, time.time),
        now=time.time,
        gateway=_gateway(settings),
        function=_function(settings),
        entra=entra,
        issuers=settings.oidc_issuers,
        aws_requests=_aws_requests(settings, transport),
    )
    vended: Cache[tuple[str, TokenSpec], VendedToken] = Cache(
        life=lambda token: (token.issued_at, token.expires_at),
        now=time.time,
        size=settings.cache_entries,
        owner=lambda key: key[0],
    )
    mint = _mint(settings, platform, transport)
    vending = Vending(store.current, mint, vended, now=time.time)
    return Ready(authenticator, vending, settings.audience or "")


def _mint(settings: Settings, platform: _Platform, transport: Transport) -> Mint:
    identity, session_identity = platform.identities(settings, transport)
    federated: Cache[tuple[str, ...], FederatedToken] = Cache(
        life=lambda token: (token.issued_at, token.expires_at),
        now=time.time,
        # One of our own, and one of every caller that a grant is attributed to.
        size=1 + settings.cache_entries,
    )
    return Mint(
        identity=identity,
        session_identity=session_identity,
        exchange=TokenExchange(
            transport,
            provider=settings.google_provider,
            sts_host=_exchange_host(settings),
            now=time.time,
        ),
        iam_credentials=IamCredentials(
            transport,
            host=iamcredentials_host(settings.universe_domain),
            now=time.time,
            provider=settings.google_provider,
        ),
        federated_tokens=federated,
    )


def _transport(settings: Settings, hosts: list[str]) -> Transport:
    google = (_exchange_host(settings), iamcredentials_host(settings.universe_domain))
    policy = [settings.policy.host] if isinstance(settings.policy, AzureSource) else []
    return Transport(
        Egress(
            hosts=(*google, *policy, *hosts),
            plain_hosts=PLATFORM_NETWORKS,
            proxy=settings.proxy or "",
            ca_bundle=settings.ca_bundle or "",
        ),
        now=time.time,
        sleep=time.sleep,
        random=random.random,
    )


def _exchange_host(settings: Settings) -> str:
    return sts_host(settings.universe_domain, settings.google_sts_region or "")


def _entra(settings: Settings) -> EntraSettings | None:
    if not settings.entra_tenants:
        return None
    return EntraSettings(
        tenants=frozenset(settings.entra_tenants),
        audiences=frozenset(settings.entra_audiences),
        allow_users=settings.entra_allow_users,
        required_roles=frozenset(settings.entra_required_roles),
        easy_auth=settings.easy_auth,
    )


def _policy_store(
    settings: Settings, sender: Sender, no_attribution: str, report: Callable[[str], None]
) -> PolicyStore:
    source = settings.policy

    def compiled(text: str) -> CompiledPolicy:
        policy = compile_policy(text, source=str(source))
        check_attribution(policy, text, source=str(source), obstacle=no_attribution)
        return policy

    store = PolicyStore(
        open_source(
            source,
            root=settings.root,
            environ=settings.environ,
            sender=sender,
            bearer=_own_bearer(settings, source, sender),
            proxy=settings.proxy or "",
            ca_bundle=settings.ca_bundle or "",
        ),
        compiled,
        now=time.time,
        monotonic=time.monotonic,
        report=report,
    )
    try:
        store.current()
    except Misconfigured:
        # A packaged policy will not mend itself. A remote one may: an instance that was born in
        # its source's bad minute refuses every request until a policy is there, and tries again.
        if isinstance(source, PackagedFile):
            raise
    return store


def _own_bearer(
    settings: Settings, source: Source, sender: Sender
) -> Callable[[Deadline], Secret] | None:
    """Our managed identity's token for the policy's source, where that is on Azure."""
    if not isinstance(source, AzureSource):
        return None
    identity = _managed_identity(settings, sender, source.resource)
    return lambda deadline: identity.subject_token(deadline).value


def _managed_identity(settings: Settings, sender: Sender, resource: str) -> Identity:
    from tokenvend.identity.azure import azure_identity  # noqa: PLC0415 -- the other cloud's stays out

    return azure_identity(
        settings.environ,
        sender,
        resource=resource,
        client_id=settings.azure_client_id or "",
        now=time.time,
        sleep=time.sleep,
    )


def _caller_hosts(settings: Settings, entra: EntraSettings | None) -> set[str]:
    """Where the keys and answers come from that prove who is calling."""
    hosts = set(entra.hosts) if entra else set()
    for issuer in settings.oidc_issuers:
        hosts |= issuer.hosts
    if settings.audience and settings.aws_regions:
        hosts |= _aws_settings(settings).hosts.keys()
    return hosts


def _aws_settings(settings: Settings) -> AwsSubjectTokenSettings:
    return AwsSubjectTokenSettings(
        settings.audience or "",
        frozenset(settings.aws_regions),
        require_signed_audience=not settings.aws_unsigned_audience,
    )


def _aws_requests(settings: Settings, sender: Sender) -> VerifyAwsRequest | None:
    if not settings.audience or not settings.aws_regions:
        return None
    ours = _aws_settings(settings)

    def verify(token: Secret, audience: str, deadline: Deadline) -> AwsCaller:
        # `audience` is ours or names a grant of ours: the route has checked it.
        return verify_aws_request(
            token, replace(ours, audience=audience), sender, time.time(), deadline
        )

    return verify


def _gateway(settings: Settings) -> GatewayBinding | None:
    if settings.aws_account is None or not settings.aws_api_ids:
        return None
    return GatewayBinding(
        settings.aws_account, frozenset(settings.aws_api_ids), settings.aws_gateway_alias or ""
    )


def _function(settings: Settings) -> FunctionBinding | None:
    name = settings.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    if settings.aws_account is None or not name:
        return None
    return FunctionBinding(settings.aws_account, name)
