"""The composition root on Azure Functions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tokenvend.app.common import build, endpoint, load_policy, open_transport
from tokenvend.identity.azure import azure_identity
from tokenvend.policy_source import open_source
from tokenvend.policy_source.setting import AzureSource
from tokenvend.policy_source.text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.app.common import Machine
    from tokenvend.config.compiled import Settings
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


def build_azure(environ: Mapping[str, str], machine: Machine) -> Api:
    """The endpoint on Azure Functions.

    Reads the policy, over the network where it is not packaged; asks nobody else.
    """
    return build(_compose, environ, "Azure", machine)


def _compose(settings: Settings, machine: Machine) -> Api:
    identity = partial(
        azure_identity,
        settings.environ,
        client_id=settings.client_id,
        now=machine.now,
        sleep=machine.sleep,
    )
    source = settings.policy
    policy_hosts = (source.host,) if isinstance(source, AzureSource) else ()
    # A way out of its own: a policy may be longer than any other answer, and nothing else that
    # leaves may go to its host.
    policy_transport = open_transport(
        replace(settings.egress, hosts=policy_hosts), machine, byte_cap=MAX_BYTES
    )

    def opened() -> Read:
        bearer: Callable[[Deadline], Secret] | None = None
        if isinstance(source, AzureSource):
            reader = identity(policy_transport, resource=source.resource)
            bearer = lambda deadline: reader(deadline).value  # noqa: E731
        return open_source(
            source,
            root=settings.root,
            environ=settings.environ,
            sender=policy_transport,
            bearer=bearer,
            egress=settings.egress,
            now=machine.now,
        )

    store = load_policy(settings, opened, machine, no_attribution=_NO_ATTRIBUTION)
    transport = open_transport(settings.egress, machine)
    return endpoint(
        settings,
        machine,
        store,
        transport,
        identity(transport, resource=settings.federation_audience),
        advice=_ADVICE,
        on_restore=[policy_transport.close],
    )
