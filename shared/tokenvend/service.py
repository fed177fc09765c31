"""The whole story on one screen: decide, then serve from the cache or mint.

The cache sits behind the decision, so a policy change needs no invalidation: a caller who lost
a grant is refused before the cache is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tokenvend.google.errors import FederatedTokenRejected
from tokenvend.model import AccessTokenGrant, IdTokenGrant, VendedToken
from tokenvend.policy import decide

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


@dataclass(frozen=True)
class Vending:
    """Turns a caller's request into a token. `policy` gives the policy now in force."""

    policy: Callable[[], PolicyInForce]
    subject: Subject
    exchange: TokenExchange
    iam_credentials: IamCredentials
    federated_tokens: Cache[tuple[str, ...], FederatedToken]
    vended_tokens: Cache[tuple[str, Grant], VendedToken]
    now: Callable[[], float]

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
            lambda: self._mint(decision.grant, deadline, record.request_id),
            deadline,
        )
        record.cache = "hit" if hit else "miss"
        record.upstream_request_id = token.upstream_request_id
        return token

    def _mint(self, grant: Grant, deadline: Deadline, reason: str) -> VendedToken:
        if isinstance(grant, AccessTokenGrant) and grant.service_account is None:
            direct = self._exchange(grant.scopes, deadline)
            return VendedToken(direct.value, grant, direct.issued_at, direct.expires_at)
        try:
            return self._impersonate(grant, deadline, reason)
        except FederatedTokenRejected:
            # The kept one no longer counts (its provider was made anew, say): once more, afresh.
            self.federated_tokens.clear()
            return self._impersonate(grant, deadline, reason)

    def _impersonate(self, grant: Grant, deadline: Deadline, reason: str) -> VendedToken:
        federated = self._federated(deadline)
        match grant:
            case AccessTokenGrant():
                return self.iam_credentials.generate_access_token(
                    federated, grant, deadline, reason
                )
            case IdTokenGrant():
                return self.iam_credentials.generate_id_token(federated, grant, deadline, reason)

    def _federated(self, deadline: Deadline) -> FederatedToken:
        """Once per process: Google's STS has the smallest quota of all the services we call."""
        scopes = (IMPERSONATION_SCOPE,)
        token, _ = self.federated_tokens.get_or_mint(
            scopes, lambda: self._exchange(scopes, deadline), deadline
        )
        return token

    def _exchange(self, scopes: tuple[str, ...], deadline: Deadline) -> FederatedToken:
        return self.exchange.exchange(self.subject.token(deadline), scopes, deadline)
