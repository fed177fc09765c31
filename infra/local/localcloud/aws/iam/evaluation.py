"""Whether policies let a request through: an explicit Deny, then an Allow, else no.

Within an account it is enough that the identity's policy or the resource's allows it. A role's
trust policy is stricter: it must allow, and unless it names who asks in person the identity's own
policy must too. From another account both must allow; what the other account lets its identities do
is its own affair, and taken as everything, since whoever owns it can write that.
Specification: "Policy evaluation logic", IAM User Guide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from localcloud.aws.iam.policy import Reach

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localcloud.aws.iam.patterns import Context
    from localcloud.aws.iam.policy import Policy

# Global keys that a request holds or rightly lacks; those of a service come with the request.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
_GLOBAL = frozenset(
    (
        *("aws:currenttime", "aws:epochtime", "aws:multifactorauthage"),
        *("aws:multifactorauthpresent", "aws:principalaccount", "aws:principalarn"),
        *("aws:principalisawsservice", "aws:principalorgid", "aws:principalservicename"),
        *("aws:principaltype", "aws:requestedregion", "aws:resourceaccount", "aws:securetransport"),
        *("aws:sourceaccount", "aws:sourcearn", "aws:sourceidentity", "aws:sourceip"),
        *("aws:tagkeys", "aws:tokenissuetime", "aws:useragent", "aws:userid", "aws:username"),
        *("aws:viaawsservice", "aws:sourcevpce", "aws:sourcevpc", "aws:federatedprovider"),
        *("aws:calledvia", "aws:calledviafirst", "aws:calledvialast", "aws:vpcsourceip"),
    )
)
_TAGS = ("aws:requesttag/", "aws:principaltag/")


class Kind(StrEnum):
    """What a requester is, in the words of a policy's Principal element."""

    AWS = "AWS"
    SERVICE = "Service"
    FEDERATED = "Federated"
    ANONYMOUS = "*"


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks.

    `names`: what a Principal may call it in person: its ARNs, the service, the provider's ARN;
    `account`: its AWS account, empty for who has none.
    """

    kind: Kind
    names: tuple[str, ...] = ()
    account: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question to IAM: `keys` names the service's condition keys beside the context's."""

    requester: Requester
    action: str
    resource: str
    context: Context = field(default_factory=dict)
    keys: frozenset[str] = frozenset()

    def modelled(self, key: str) -> bool:
        """Whether a key that the context lacks is truly absent from the request."""
        return key in _GLOBAL or key in self.keys or key.startswith(_TAGS)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer; `reason` continues AWS's sentence "… is not authorized to perform …"."""

    allowed: bool
    reason: str = ""


def evaluate(
    asked: Asked,
    *,
    identity: Sequence[Policy] = (),
    resource: Sequence[Policy] = (),
    account: str,
    trust: bool = False,
) -> Decision:
    """Decide on a request for a resource of an account.

    `identity`: the policies of who asks; `resource`: those of what is asked for; `trust`: the
    resource is a role, and its policy decides who may take it on.
    """
    who = asked.requester
    foreign = who.kind == Kind.AWS and who.account != account
    denied = _denied_by(asked, identity), _denied_by(asked, resource)
    for kind, policy in zip(("identity", "resource"), denied, strict=True):
        if policy:
            return Decision(allowed=False, reason=f" with an explicit deny in {_a(kind)} policy")
    by_identity = foreign or bool(_allowed_by(asked, identity))
    reach = _allowed_by(asked, resource)
    if who.kind != Kind.AWS:
        allowed, lacking = reach is Reach.DIRECT, "resource"
    elif foreign:
        allowed, lacking = bool(reach), "resource"
    elif trust:
        allowed = reach is Reach.DIRECT or bool(reach and by_identity)
        lacking = "identity" if reach else "resource"
    else:
        allowed, lacking = by_identity or reach is Reach.DIRECT, "identity"
    if allowed:
        return Decision(allowed=True)
    return Decision(
        allowed=False,
        reason=f" because no {lacking}-based policy allows the {asked.action} action",
    )


def _denied_by(asked: Asked, policies: Sequence[Policy]) -> bool:
    return any(
        statement.reach(asked)
        for policy in policies
        for statement in policy.statements
        if not statement.allows
    )


def _allowed_by(asked: Asked, policies: Sequence[Policy]) -> Reach:
    return max(
        (s.reach(asked) for policy in policies for s in policy.statements if s.allows),
        default=Reach.NOT,
    )


def _a(kind: str) -> str:
    return f"an {kind}-based" if kind == "identity" else f"a {kind}-based"
