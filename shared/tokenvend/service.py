"""The whole story on one screen: decide, then serve from the cache or mint.

The cache sits behind the decision, so a policy change needs no invalidation: a caller who lost
a grant is refused before the cache is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenvend.policy import decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.audit.record import AuditRecord
    from tokenvend.cache import Cache
    from tokenvend.deadline import Deadline
    from tokenvend.mint import Mint
    from tokenvend.model import Caller, TokenRequest, TokenSpec, VendedToken
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy_source.store import PolicyInForce


@dataclass(frozen=True)
class Vending:
    """Turns a caller's request into a token. `policy` gives the policy now in force."""

    policy: Callable[[Deadline], PolicyInForce]
    mint: Mint
    vended_tokens: Cache[tuple[str, TokenSpec, Matcher], VendedToken]

    def vend(
        self,
        caller: Caller,
        request: TokenRequest,
        now: int,
        deadline: Deadline,
        record: AuditRecord,
    ) -> VendedToken:
        """The token the policy grants this caller; raises Denied or what went wrong upstream.

        One token belongs to one caller: the key holds the caller, so the fingerprint of a leaked
        token names who got it. `now`: epoch seconds.
        """
        in_force = self.policy(deadline)
        record.policy, record.policy_checked_at = in_force.policy.digest, in_force.checked_at
        with record.steps.timed("decision"):
            decision = decide(in_force.policy, caller, request, now)
        record.spec, record.matched = decision.spec, decision.matched
        record.would_deny = decision.would_deny
        cached = self.vended_tokens.get_or_mint(
            (caller.id, decision.spec, decision.matcher),
            lambda lent: self.mint(caller, decision, lent, record),
            deadline,
        )
        record.cache = cached.how
        record.bridged = cached.cause or record.bridged
        record.upstream_request_id = cached.value.upstream_request_id
        return cached.value


def owner_of_vended(key: tuple[str, TokenSpec, Matcher]) -> tuple[tuple[str, Matcher], str]:
    """Whose a vended token is when room has to be made: `Decision.group`, and in it the caller.

    Some callers can choose who they are (each branch of a repository is another OIDC subject, an
    account's administrator makes roles), but none by how many entries of `callers` it is named.
    """
    caller_id, spec, matcher = key
    return (spec.grant_name, matcher), caller_id
