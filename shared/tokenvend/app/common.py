"""What the composition roots have in common: the machine, and the parts that no cloud changes."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING

from tokenvend.audit.chain import AuditLog
from tokenvend.cache import Cache
from tokenvend.caller.aws_request import verify_aws_request
from tokenvend.config.compiled import SettingsError
from tokenvend.deadline import Deadline
from tokenvend.endpoint import Endpoint
from tokenvend.errors import Misconfigured
from tokenvend.google.iamcredentials import IamCredentials
from tokenvend.google.sts import TokenExchange
from tokenvend.http import Api, Backend
from tokenvend.mint import Mint
from tokenvend.policy import check_platform, compile_policy
from tokenvend.policy_source import PackagedFile, PolicyStore
from tokenvend.service import Vending, owner_of_vended
from tokenvend.transport.egress import BYTE_CAP, Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.audit.chain import Sink
    from tokenvend.caller import Authenticator, VerifyAwsRequest
    from tokenvend.config.compiled import Settings
    from tokenvend.mint import Identity, SessionIdentity
    from tokenvend.model import FederatedToken, Session, TokenSpec, VendedToken
    from tokenvend.policy import CompiledPolicy
    from tokenvend.policy_source.store import Read
    from tokenvend.transport import Sender
    from tokenvend.transport.egress import Egress, Network


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine gives us. `now`: epoch seconds; `monotonic`, `sleep`: seconds; `random`: 0
    to 1. `network` None: real sockets.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # Not the `random` module's: processes restored from one snapshot share the state of that, and
    # would retry in step.
    random: Callable[[], float] = SystemRandom().random
    network: Network | None = None


MACHINE = Machine()


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a function runs in: where records go, who takes a line for the operator, the machine."""

    sink: Sink
    report: Callable[[str], None]
    machine: Machine


def open_transport(egress: Egress, machine: Machine, *, byte_cap: int = BYTE_CAP) -> Transport:
    """A door out; it opens nothing yet. `byte_cap`: of an answer."""
    return Transport(
        egress,
        now=machine.now,
        sleep=machine.sleep,
        random=machine.random,
        byte_cap=byte_cap,
        network=machine.network,
    )


def load_policy(
    settings: Settings, opened: Callable[[], Read], runtime: Runtime, *, no_attribution: str
) -> PolicyStore:
    """The policy, read for the first time: over the network where it is not packaged.

    `opened`: begins to read its source. `no_attribution`: why a grant may not say `attribute` here,
    empty where it may. Raises Misconfigured for a packaged policy that is none, which will not mend
    itself. A remote one may: an instance that was born in its source's bad minute refuses every
    request and tries again.
    """
    source = settings.policy

    def compiled(text: str) -> CompiledPolicy:
        policy = compile_policy(text, source=str(source))
        obstacles = {
            "attribute": no_attribution,
            "entra_user": "" if settings.allow_users else "needs TOKENVEND_ENTRA_ALLOW_USERS=true",
        }
        check_platform(policy, text, source=str(source), obstacles=obstacles)
        return policy

    store = PolicyStore(
        opened,
        compiled,
        now=runtime.machine.now,
        monotonic=runtime.machine.monotonic,
        report=runtime.report,
    )
    try:
        store.current(Deadline.after(settings.budget, runtime.machine.monotonic))
    except Misconfigured:
        if isinstance(source, PackagedFile):
            raise
    return store


def aws_requests(settings: Settings, sender: Sender) -> VerifyAwsRequest | None:
    """What verifies callers' signed AWS requests, None where none are taken."""
    if settings.aws_requests is None:
        return None
    return partial(verify_aws_request, settings=settings.aws_requests, sender=sender)


def endpoint(
    settings: Settings,
    runtime: Runtime,
    authenticator: Authenticator,
    store: PolicyStore,
    transport: Transport,
    identity: Identity,
    *,
    session_identity: SessionIdentity | None = None,
    on_restore: tuple[Callable[[], None], ...] = (),
) -> Api:
    """Everything put together. `on_restore`: what else must not outlive a snapshot."""
    machine = runtime.machine
    vended: Cache[tuple[str, TokenSpec], VendedToken] = Cache(
        life=lambda token: (token.issued_at, token.expires_at),
        now=machine.now,
        size=settings.cache_entries,
        owner=owner_of_vended,
    )
    federated: Cache[Session, FederatedToken] = Cache(
        life=lambda token: (token.issued_at, token.expires_at),
        now=machine.now,
        owner=lambda session: session,
        # One of our own, and one of every caller that a grant is attributed to.
        size=1 + settings.cache_entries,
    )
    mint = Mint(
        identity=identity,
        session_identity=session_identity,
        exchange=TokenExchange(
            transport, provider=settings.provider, host=settings.sts_host, now=machine.now
        ),
        iam_credentials=IamCredentials(
            transport,
            host=settings.iam_credentials_host,
            now=machine.now,
            provider=settings.provider,
        ),
        federated_tokens=federated,
    )
    vending = Vending(store.current, mint, vended)
    on_restore = (
        transport.close,
        vended.clear,
        federated.clear,
        authenticator.keys.restored,
        store.restored,
        *on_restore,
    )
    return Api(
        _life(
            runtime,
            audit_key=settings.audit_key,
            budget=settings.budget,
            fail_closed=settings.audit_required,
            on_restore=on_restore,
        ),
        Backend(authenticator, vending, settings.audience),
    )


def misconfigured(wrong: Misconfigured, runtime: Runtime) -> Api:
    """An endpoint that answers every route with why it cannot do better: one that did not load
    would show its callers nothing but the platform's own error.
    """
    if isinstance(wrong, SettingsError):
        # Of its policy's problems, the store has told the operator already.
        for problem in wrong.problems:
            runtime.report(problem)
    return Api(_life(runtime), wrong)


def _life(
    runtime: Runtime,
    *,
    audit_key: bytes = b"",
    budget: float = 1.0,
    fail_closed: bool = True,
    on_restore: tuple[Callable[[], None], ...] = (),
) -> Endpoint:
    return Endpoint(
        audit=AuditLog(runtime.sink, instance=str(uuid.uuid4()), fingerprint_key=audit_key),
        budget=budget,
        fail_closed=fail_closed,
        now=runtime.machine.now,
        monotonic=runtime.machine.monotonic,
        report=runtime.report,
        on_restore=on_restore,
    )
