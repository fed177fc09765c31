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
from tokenvend.caller import Authenticator
from tokenvend.caller.jwks import KeySets
from tokenvend.config.compiled import SettingsError, read_settings
from tokenvend.deadline import Deadline
from tokenvend.endpoint import Endpoint
from tokenvend.errors import Misconfigured
from tokenvend.google.iamcredentials import impersonate
from tokenvend.google.sts import exchange
from tokenvend.http import Api, Backend
from tokenvend.mint import Mint
from tokenvend.policy import check_platform, compile_policy
from tokenvend.policy_source.setting import PackagedFile
from tokenvend.policy_source.store import PolicyStore
from tokenvend.service import Vending, owner_of_vended
from tokenvend.transport.egress import BYTE_CAP, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tokenvend.audit.chain import Sink
    from tokenvend.caller import VerifyAwsRequest
    from tokenvend.config.compiled import Settings
    from tokenvend.config.settings import Cloud
    from tokenvend.model import FederatedToken, Session, SubjectToken, TokenSpec, VendedToken
    from tokenvend.policy import CompiledPolicy
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy_source.store import Read
    from tokenvend.transport import Sender
    from tokenvend.transport.egress import Egress


@dataclass(frozen=True, slots=True)
class Machine:
    """What a function runs in.

    `sink`: where audit records go. `report` takes one line for the operator. `now`: epoch seconds;
    `monotonic`, `sleep`: seconds; `random`: 0 to 1. `network` None: real sockets.
    """

    sink: Sink
    report: Callable[[str], None]
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    # Not the `random` module's: processes restored from one snapshot share the state of that, and
    # would retry in step.
    random: Callable[[], float] = SystemRandom().random
    network: Sender | None = None


def build(
    compose: Callable[[Settings, Machine], Api],
    environ: Mapping[str, str],
    cloud: Cloud,
    machine: Machine,
) -> Api:
    """What `compose` makes of the settings, or an endpoint that answers every route with why it
    cannot: one that did not load would show its callers nothing but the platform's own error.
    """
    try:
        return compose(read_settings(environ, cloud), machine)
    except Misconfigured as wrong:
        if isinstance(wrong, SettingsError):
            # Of its policy's problems, the store has told the operator already.
            for problem in wrong.problems:
                machine.report(problem)
        return Api(_life(machine), wrong)


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
    settings: Settings, opened: Callable[[], Read], machine: Machine, *, no_attribution: str
) -> PolicyStore:
    """The policy, read for the first time: over the network where it is not packaged.

    `opened`: begins to read its source. `no_attribution`: why a grant may not say `attribute` here,
    empty where it may. Raises Misconfigured for a packaged policy that is none, which will not mend
    itself. A remote one may: an instance that was born in its source's bad minute refuses every
    request and tries again.
    """
    source = settings.policy

    def compiled(text: str) -> CompiledPolicy:
        policy = compile_policy(text, source=source.text)
        obstacles = {
            "attribute": no_attribution,
            "entra_user": "" if settings.allow_users else "needs TOKENVEND_ENTRA_ALLOW_USERS=true",
        }
        check_platform(policy, text, source=source.text, obstacles=obstacles)
        return policy

    store = PolicyStore(
        opened, compiled, now=machine.now, monotonic=machine.monotonic, report=machine.report
    )
    try:
        store.current(Deadline.after(settings.budget, machine.monotonic))
    except Misconfigured:
        if isinstance(source, PackagedFile):
            raise
    return store


def endpoint(
    settings: Settings,
    machine: Machine,
    store: PolicyStore,
    transport: Transport,
    identity: Callable[[Deadline], SubjectToken],
    session_identity: Callable[[Session, Deadline], SubjectToken] | None = None,
    *,
    advice: str,
    on_restore: Iterable[Callable[[], None]],
) -> Api:
    """Everything put together. `advice`: see `Authenticator`. `on_restore`: what else must not
    outlive a snapshot.
    """
    verify: VerifyAwsRequest | None = None
    if settings.aws_regions:
        from tokenvend.caller.aws_request import verify_aws_request  # noqa: PLC0415 - few need it

        verify = partial(
            verify_aws_request,
            regions=settings.aws_regions,
            require_signed_audience=settings.require_signed_audience,
            sender=transport,
        )
    keys = KeySets(transport, machine.now, machine.report)
    vended: Cache[tuple[str, TokenSpec, Matcher], VendedToken] = Cache(
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
    mint = _mint(settings, machine, transport, identity, session_identity, federated)
    on_restore = (
        transport.close,
        vended.clear,
        federated.clear,
        keys.restored,
        store.restored,
        *on_restore,
    )
    authenticator = Authenticator(
        keys,
        advice,
        settings.issuers,
        easy_auth=settings.easy_auth,
        function=settings.function,
        aws_requests=verify,
    )
    vending = Vending(store.current, mint, vended)
    backend = Backend(authenticator, vending, settings.audience, store.loaded)
    return Api(_life(machine, settings, on_restore), backend)


def _mint(
    settings: Settings,
    machine: Machine,
    transport: Transport,
    identity: Callable[[Deadline], SubjectToken],
    session_identity: Callable[[Session, Deadline], SubjectToken] | None,
    federated: Cache[Session, FederatedToken],
) -> Mint:
    return Mint(
        identity=identity,
        session_identity=session_identity,
        exchange=partial(
            exchange,
            sender=transport,
            provider=settings.provider,
            host=settings.sts_host,
            now=machine.now,
        ),
        impersonate=partial(
            impersonate,
            sender=transport,
            provider=settings.provider,
            host=settings.iam_credentials_host,
            now=machine.now,
        ),
        federated_tokens=federated,
    )


def _life(
    machine: Machine,
    settings: Settings | None = None,
    on_restore: tuple[Callable[[], None], ...] = (),
) -> Endpoint:
    key = settings.audit_key if settings else b""
    return Endpoint(
        audit=AuditLog(machine.sink, instance=str(uuid.uuid4()), fingerprint_key=key),
        budget=settings.budget if settings else 1.0,
        fail_closed=settings.audit_required if settings else True,
        now=machine.now,
        monotonic=machine.monotonic,
        report=machine.report,
        on_restore=on_restore,
    )
