"""One token spec into one token: our identity, the token exchange, impersonation.

The federated token is kept once per process and identity: Google's STS has the smallest quota of
all that we call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenvend.errors import FederatedTokenRejected, Misconfigured
from tokenvend.model import AccessTokenSpec, Session, VendedToken
from tokenvend.policy.attribution import session_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.audit.record import AuditRecord
    from tokenvend.cache import Cache
    from tokenvend.deadline import Deadline
    from tokenvend.model import Caller, FederatedToken, SubjectToken, TokenSpec
    from tokenvend.policy import Decision

# Impersonation needs no more than this; cloud-platform would let a leaked federated token act.
# https://cloud.google.com/iam/docs/reference/credentials/rest
IMPERSONATION_SCOPE = "https://www.googleapis.com/auth/iam"


@dataclass(frozen=True)
class Mint:
    """Makes the token of a spec; never decides.

    `identity`: our own on the platform we run on; `session_identity`: the same in the name of a
    caller, None where the platform cannot do that, and attributed grants fail. `exchange` and
    `impersonate`: Google's. `federated_tokens`: for impersonation, by the session that they were
    had in.
    """

    identity: Callable[[Deadline], SubjectToken]
    exchange: Callable[[SubjectToken, tuple[str, ...], Deadline], FederatedToken]
    impersonate: Callable[[FederatedToken, TokenSpec, Deadline, str], VendedToken]
    federated_tokens: Cache[Session, FederatedToken]
    session_identity: Callable[[Session, Deadline], SubjectToken] | None = None

    def __call__(
        self, caller: Caller, decision: Decision, deadline: Deadline, record: AuditRecord
    ) -> VendedToken:
        """A new token; `record` gets the time that each step took, and Google our request id.

        Raises Misconfigured, RateLimited, UpstreamRefused, UpstreamUnavailable, DeadlineExceeded.
        """
        spec, session = decision.spec, Session()
        if spec.attributed:
            session = Session(decision.group, session_name(caller))
        if isinstance(spec, AccessTokenSpec) and spec.service_account is None:
            direct = self._exchange(session, spec.scopes, deadline, record)
            return VendedToken(direct.value, spec, direct.issued_at, direct.expires_at)
        federated = self._federated(session, deadline, record)
        try:
            return self._impersonate(federated, spec, deadline, record)
        except FederatedTokenRejected:
            # The kept one no longer counts (its provider was made anew, say): once more, afresh.
            self.federated_tokens.drop(session, federated)
            federated = self._federated(session, deadline, record)
            return self._impersonate(federated, spec, deadline, record)

    def _impersonate(
        self, federated: FederatedToken, spec: TokenSpec, deadline: Deadline, record: AuditRecord
    ) -> VendedToken:
        with record.steps.timed("impersonation"):
            return self.impersonate(federated, spec, deadline, record.request_id)

    def _federated(
        self, session: Session, deadline: Deadline, record: AuditRecord
    ) -> FederatedToken:
        # Without the session in the key, one caller's token would act in another's name.
        cached = self.federated_tokens.get_or_mint(
            session,
            lambda lent: self._exchange(session, (IMPERSONATION_SCOPE,), lent, record),
            deadline,
        )
        record.bridged = cached.cause or record.bridged
        return cached.value

    def _exchange(
        self, session: Session, scopes: tuple[str, ...], deadline: Deadline, record: AuditRecord
    ) -> FederatedToken:
        with record.steps.timed("subject_token"):
            subject_token = self._subject_token(session, deadline)
        record.bridged = subject_token.bridged or record.bridged
        with record.steps.timed("token_exchange"):
            return self.exchange(subject_token, scopes, deadline)

    def _subject_token(self, session: Session, deadline: Deadline) -> SubjectToken:
        if not session.name:
            return self.identity(deadline)
        if self.session_identity is None:
            # Such a policy is refused at load; a token in our own name would break its promise.
            raise Misconfigured(
                "This endpoint cannot name its callers to Google, as the policy asks it to.",
                cause="an attributed grant where there are no role sessions",
            )
        return self.session_identity(session, deadline)
