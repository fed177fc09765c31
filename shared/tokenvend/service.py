"""The whole story on one screen: decide, then serve from the cache or mint.

The cache sits behind the decision, so a policy change needs no invalidation: a caller who lost
a grant is refused before the cache is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tokenvend.errors import Misconfigured
from tokenvend.google.errors import FederatedTokenRejected
from tokenvend.model import AccessTokenGrant, IdTokenGrant, VendedToken
from tokenvend.policy import decide
from tokenvend.policy.attribution import session_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.audit import AuditRecord
    from tokenvend.cache import Cache
    from tokenvend.google.iamcredentials import IamCredentials
    from tokenvend.google.sts import TokenExchange
    from tokenvend.model import Caller, FederatedToken, Grant, SubjectToken, TokenRequest
    from tokenvend.policy_source import PolicyInForce
    from tokenvend.transport import Deadline

# Impersonation needs no more than this; cloud-platform would let a leaked federated token act.
# https://cloud.google.com/iam/docs/reference/credentials/rest
IMPERSONATION_SCOPE = "https://www.googleapis.com/auth/iam"


class Subject(Protocol):
    """Our own identity on the platform we run on."""

    def token(self, deadline: Deadline) -> SubjectToken:
        """A subject token for Google's STS."""
        ...


class SessionSubject(Protocol):
    """Our own identity in the name of somebody else, where the platform can do that."""

    def token(self, session_name: str, deadline: Deadline) -> SubjectToken:
        """A subject token for Google's STS that carries this name."""
        ...


@dataclass(frozen=True)
class Vending:
    """Turns a caller's request into a token. `policy` gives the policy now in force.

    `federated_tokens`: by the caller's session name (empty for our own identity) and scopes.
    `session_subject` None: the platform cannot name the caller, and attributed grants fail.
    """

    policy: Callable[[], PolicyInForce]
    subject: Subject
    exchange: TokenExchange
    iam_credentials: IamCredentials
    federated_tokens: Cache[tuple[str, ...], FederatedToken]
    vended_tokens: Cache[tuple[str, Grant], VendedToken]
    now: Callable[[], float]
    session_subject: SessionSubject | None = None

    def vend(
        self, caller: Caller, request: TokenRequest, deadline: Deadline, record: AuditRecord
    ) -> VendedToken:
        """The token the policy grants this caller; raises Denied or what went wrong upstream.

        One token belongs to one caller: the key holds the caller, so the fingerprint of a leaked
        token names who got it.
        """
        in_force = self.policy()
        record.policy, record.policy_checked_at = in_force.policy.digest, in_force.checked_at
        decision = decide(in_force.policy, caller, request, int(self.now()))
        record.grant, record.matched = decision.grant, decision.matched
        record.would_deny = decision.would_deny
        token, hit = self.vended_tokens.get_or_mint(
            (caller.id, decision.grant),
            lambda: self._mint(caller, decision.grant, deadline, record.request_id),
            deadline,
        )
        record.cache = "hit" if hit else "miss"
        record.upstream_request_id = token.upstream_request_id
        return token

    def _mint(self, caller: Caller, grant: Grant, deadline: Deadline, reason: str) -> VendedToken:
        session = session_name(caller) if grant.attributed else ""
        if isinstance(grant, AccessTokenGrant) and grant.service_account is None:
            direct = self._exchange(session, grant.scopes, deadline)
            return VendedToken(direct.value, grant, direct.issued_at, direct.expires_at)
        try:
            return self._impersonate(session, grant, deadline, reason)
        except FederatedTokenRejected:
            # The kept one no longer counts (its provider was made anew, say): once more, afresh.
            self.federated_tokens.clear()
            return self._impersonate(session, grant, deadline, reason)

    def _impersonate(
        self, session: str, grant: Grant, deadline: Deadline, reason: str
    ) -> VendedToken:
        federated = self._federated(session, deadline)
        match grant:
            case AccessTokenGrant():
                return self.iam_credentials.generate_access_token(
                    federated, grant, deadline, reason
                )
            case IdTokenGrant():
                return self.iam_credentials.generate_id_token(federated, grant, deadline, reason)

    def _federated(self, session: str, deadline: Deadline) -> FederatedToken:
        """Once per process and identity: Google's STS has the smallest quota of all we call.

        Without the session in the key, one caller's token would act in another's name.
        """
        scopes = (IMPERSONATION_SCOPE,)
        token, _ = self.federated_tokens.get_or_mint(
            (session, *scopes), lambda: self._exchange(session, scopes, deadline), deadline
        )
        return token

    def _exchange(
        self, session: str, scopes: tuple[str, ...], deadline: Deadline
    ) -> FederatedToken:
        return self.exchange.exchange(self._subject_token(session, deadline), scopes, deadline)

    def _subject_token(self, session: str, deadline: Deadline) -> SubjectToken:
        if not session:
            return self.subject.token(deadline)
        if self.session_subject is None:
            # Such a policy is refused at load; a token in our own name would break its promise.
            msg = "This endpoint cannot name its callers to Google, as the policy asks it to."
            raise Misconfigured(msg, cause="an attributed grant where there are no role sessions")
        return self.session_subject.token(session, deadline)
