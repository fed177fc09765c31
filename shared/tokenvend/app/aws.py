"""The composition root on AWS Lambda."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tokenvend.app.common import build, endpoint, load_policy, open_transport
from tokenvend.identity.aws import AwsIdentity
from tokenvend.policy_source import open_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.app.common import Machine
    from tokenvend.config.compiled import Settings
    from tokenvend.http import Api

_ADVICE = "Send exactly one header `Authorization: Bearer TOKEN`, or sign the request (SigV4)."
_NO_ATTRIBUTION = (
    "needs the setting TOKENVEND_AWS_ROLE_ARN and a role that trusts itself: deploy "
    "template.yaml with its parameter RoleName"
)


def build_aws(environ: Mapping[str, str], machine: Machine) -> Api:
    """The endpoint on AWS Lambda.

    Reads the policy, over the network where it is not packaged; asks nobody else.
    """
    return build(_compose, environ, "AWS", machine)


def _compose(settings: Settings, machine: Machine) -> Api:
    transport = open_transport(settings.egress, machine)
    opened = partial(
        open_source,
        settings.policy,
        root=settings.root,
        environ=settings.environ,
        sender=transport,
        bearer=None,
        egress=settings.egress,
        now=machine.now,
    )
    no_attribution = "" if settings.role else _NO_ATTRIBUTION
    store = load_policy(settings, opened, machine, no_attribution=no_attribution)
    identity = AwsIdentity(
        settings.environ, provider=settings.provider, region=settings.region, now=machine.now
    )
    session_identity, on_restore = None, [identity.restored]
    if settings.role:
        from tokenvend.identity.aws_session import AwsSessionIdentity  # noqa: PLC0415 - few need it

        sessions = AwsSessionIdentity(
            identity, transport, role=settings.role, size=settings.cache_entries
        )
        session_identity = sessions.subject_token
        on_restore.append(sessions.restored)
    return endpoint(
        settings,
        machine,
        store,
        transport,
        identity.subject_token,
        session_identity,
        advice=_ADVICE,
        on_restore=on_restore,
    )
