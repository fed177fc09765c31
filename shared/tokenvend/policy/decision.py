"""May this caller have this? A plain function of policy, caller, request and time.

Deny by default. Grants are tried in the file's order and the first that permits the whole request
wins, except that one in shadow mode gives way to any that permits it by right.

Threat: a denied caller times its answers to learn which grants exist. So a request that names a
grant costs what one without a name costs, whatever the name: the caller's own grants are found
first, and chosen from by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokenvend.errors import Denied
from tokenvend.policy.callers import facts_of
from tokenvend.policy.compiled import Mode
from tokenvend.policy.limits import weigh
from tokenvend.policy.reading.problems import shown

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest, TokenSpec
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.compiled import CompiledPolicy, Grant
    from tokenvend.policy.limits import Refusal


class Decision(NamedTuple):
    """A yes. `matcher`: the one that named the caller. `would_deny`: what shadow mode let pass, for
    the operator; empty where nothing was.
    """

    spec: TokenSpec
    matcher: Matcher
    would_deny: str = ""

    @property
    def matched(self) -> tuple[str, ...]:
        """The fields by which the caller was named."""
        return self.matcher.fields()

    @property
    def group(self) -> tuple[str, Matcher]:
        """Whom the operator named together: no caller can multiply it by calling itself anew."""
        return self.spec.grant_name, self.matcher


def decide(policy: CompiledPolicy, caller: Caller, request: TokenRequest, now: int) -> Decision:
    """The token that the policy gives this caller for this request. `now`: epoch seconds.

    Raises Denied, whose `cause` names the nearest grant and the first condition that failed.
    """
    in_shadow: Decision | None = None
    nearest: tuple[Refusal, Grant] | None = None
    for grant, matcher in candidates_of(policy, caller):
        if request.grant_name not in (None, grant.name):
            continue
        spec, against = weigh(grant, request, now)
        if spec is None:
            if nearest is None or against[0].condition > nearest[0].condition:
                nearest = against[0], grant
            continue
        relaxed = "; ".join(refusal.reason for refusal in against)
        would_deny = relaxed and f"grant {shown(grant.name)}: {relaxed}"
        decision = Decision(spec, matcher, would_deny)
        if grant.mode is Mode.ENFORCE:
            return decision
        if in_shadow is None or (in_shadow.would_deny and not against):
            in_shadow = decision
    if in_shadow is not None:
        return in_shadow
    raise Denied(cause=_cause(policy, caller, request, nearest))


def grants_of(policy: CompiledPolicy, caller: Caller, now: int) -> tuple[Grant, ...]:
    """What this caller may have now, in the policy's order. `now`: epoch seconds."""
    return tuple(
        grant
        for grant, _ in candidates_of(policy, caller)
        if (grant.not_before is None or grant.not_before <= now)
        and (grant.expires is None or now < grant.expires)
    )


def candidates_of(policy: CompiledPolicy, caller: Caller) -> list[tuple[Grant, Matcher]]:
    """Every grant that names the caller, in the policy's order, and its matcher that does."""
    places: dict[int, Matcher] = {}
    facts = facts_of(caller)
    for place, matcher in policy.by_fact.entries(facts):
        if place not in places and matcher.fits(facts):
            places[place] = matcher
    return [(policy.grants[place], places[place]) for place in sorted(places)]


def _cause(
    policy: CompiledPolicy,
    caller: Caller,
    request: TokenRequest,
    nearest: tuple[Refusal, Grant] | None,
) -> str:
    if nearest is not None:
        refusal, grant = nearest
        return f"nearest grant {shown(grant.name)}: {refusal.reason}"
    if request.grant_name is None:
        return f"no grant names the caller {shown(caller.id)}"
    # One form, so that a name that exists takes no longer to tell.
    verb = "does not name" if request.grant_name in policy.names else "does not exist, asked for by"
    return f"the grant {shown(request.grant_name)} {verb} the caller {shown(caller.id)}"
