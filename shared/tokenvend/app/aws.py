"""The composition root on AWS Lambda."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tokenvend.app.common import (
    MACHINE,
    Runtime,
    aws_requests,
    endpoint,
    load_policy,
    misconfigured,
    open_transport,
)
from tokenvend.caller import Authenticator
from tokenvend.caller.jwks import KeySets
from tokenvend.config.compiled import aws_settings
from tokenvend.errors import Misconfigured
from tokenvend.identity.aws import AwsIdentity
from tokenvend.policy_source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.app.common import Machine
    from tokenvend.audit.chain import Sink
    from tokenvend.config.compiled import OnAws, Settings
    from tokenvend.http import Api

_ADVICE = "Send exactly one header `Authorization: Bearer TOKEN`, or sign the request (SigV4)."
_NO_ATTRIBUTION = (
    "needs the setting TOKENVEND_AWS_ROLE_ARN and a role that trusts itself: deploy "
    "template.yaml with its parameter RoleName"
)


def build_aws(
    environ: Mapping[str, str],
    *,
    sink: Sink,
    report: Callable[[str], None],
    machine: Machine = MACHINE,
) -> Api:
    """The endpoint on AWS Lambda. `report` takes one line for the operator.

    Reads the policy, over the network where it is not packaged; asks nobody else.
    """
    runtime = Runtime(sink, report, machine)
    try:
        return _endpoint(*aws_settings(environ), runtime)
    except Misconfigured as wrong:
        return misconfigured(wrong, runtime)


def _endpoint(settings: Settings, aws: OnAws, runtime: Runtime) -> Api:
    transport = open_transport(settings.egress, runtime.machine)
    store = load_policy(
        settings,
        partial(
            open_source,
            settings.policy,
            root=settings.root,
            environ=settings.environ,
            sender=transport,
            bearer=None,
            proxy=settings.egress.proxy,
            ca_bundle=settings.egress.ca_bundle,
        ),
        runtime,
        no_attribution="" if aws.role else _NO_ATTRIBUTION,
    )
    authenticator = Authenticator(
        keys=KeySets(transport, runtime.machine.now),
        advice=_ADVICE,
        issuers=settings.issuers,
        gateway=aws.gateway,
        function=aws.function,
        aws_requests=aws_requests(settings, transport),
    )
    identity = AwsIdentity(
        settings.environ, provider=settings.provider, region=aws.region, now=runtime.machine.now
    )
    sessions = None
    if aws.role is not None:
        from tokenvend.identity.aws_session import AwsSessionIdentity  # noqa: PLC0415 - few need it

        sessions = AwsSessionIdentity(
            identity.credentials,
            transport,
            role=aws.role,
            provider=settings.provider,
            region=aws.region,
            now=runtime.machine.now,
            size=settings.cache_entries,
        )
    return endpoint(
        settings,
        runtime,
        authenticator,
        store,
        transport,
        identity,
        session_identity=sessions,
        on_restore=(identity.restored, *((sessions.restored,) if sessions else ())),
    )
