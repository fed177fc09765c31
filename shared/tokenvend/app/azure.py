"""The composition root on Azure Functions."""

from __future__ import annotations

from dataclasses import replace
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
from tokenvend.config.compiled import azure_settings
from tokenvend.errors import Misconfigured
from tokenvend.identity.azure import azure_identity
from tokenvend.policy_source import AzureSource, open_source
from tokenvend.policy_source.text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.app.common import Machine
    from tokenvend.audit.chain import Sink
    from tokenvend.config.compiled import OnAzure, Settings
    from tokenvend.deadline import Deadline
    from tokenvend.http import Api
    from tokenvend.model import Secret
    from tokenvend.policy_source.store import Read

_ADVICE = (
    "Send exactly one header `Authorization: Bearer TOKEN`, with a token that Microsoft Entra, or "
    "another issuer this endpoint trusts, made for this endpoint."
)
_NO_ATTRIBUTION = (
    "cannot be held on Azure, where the managed identity's token names the endpoint and "
    "cannot carry the caller; remove it, or serve the grant from AWS"
)


def build_azure(
    environ: Mapping[str, str],
    *,
    sink: Sink,
    report: Callable[[str], None],
    machine: Machine = MACHINE,
) -> Api:
    """The endpoint on Azure Functions. `report` takes one line for the operator.

    Reads the policy, over the network where it is not packaged; asks nobody else.
    """
    runtime = Runtime(sink, report, machine)
    try:
        return _endpoint(*azure_settings(environ), runtime)
    except Misconfigured as wrong:
        return misconfigured(wrong, runtime)


def _endpoint(settings: Settings, azure: OnAzure, runtime: Runtime) -> Api:
    own = partial(
        azure_identity,
        settings.environ,
        client_id=azure.client_id,
        now=runtime.machine.now,
        sleep=runtime.machine.sleep,
    )
    source = settings.policy
    policy_hosts = (source.host,) if isinstance(source, AzureSource) else ()
    # A way out of its own: a policy may be longer than any other answer, and nothing else that
    # leaves may go to its host.
    policy_transport = open_transport(
        replace(settings.egress, hosts=policy_hosts), runtime.machine, byte_cap=MAX_BYTES
    )

    def opened() -> Read:
        bearer: Callable[[Deadline], Secret] | None = None
        if isinstance(source, AzureSource):
            reader = own(policy_transport, resource=source.resource)
            bearer = lambda deadline: reader.subject_token(deadline).value  # noqa: E731
        return open_source(
            source,
            root=settings.root,
            environ=settings.environ,
            sender=policy_transport,
            bearer=bearer,
        )

    store = load_policy(settings, opened, runtime, no_attribution=_NO_ATTRIBUTION)
    transport = open_transport(settings.egress, runtime.machine)
    authenticator = Authenticator(
        keys=KeySets(transport, runtime.machine.now),
        advice=_ADVICE,
        issuers=settings.issuers,
        easy_auth=azure.easy_auth,
        aws_requests=aws_requests(settings, transport),
    )
    return endpoint(
        settings,
        runtime,
        authenticator,
        store,
        transport,
        own(transport, resource=azure.federation_audience),
        on_restore=(policy_transport.close,),
    )
