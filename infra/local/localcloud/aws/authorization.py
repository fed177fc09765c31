"""Asks IAM about a request: who may do it, by which policies, in AWS's own words if not.

Every service calls `authorize` with the action and resource that the Service Authorization
Reference names, the keys of its own that conditions may use, and the policies of the resource.
Specification: "Policy evaluation logic" and "AWS global condition context keys", IAM User Guide.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from localcloud.aws import iam

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from localcloud.aws.accounts import AccessKey, Accounts
    from localcloud.wire.web import Request

log = logging.getLogger(__name__)


class DeniedError(Exception):
    """IAM does not allow it; the text is AWS's own message."""

    def __init__(self, who: str, action: str, resource: str, reason: str = "") -> None:
        # What services say that keep the reason to themselves.
        self.brief = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
        super().__init__(self.brief + reason)


@dataclass(frozen=True)
class Question:
    """What a service asks IAM.

    `keys`: the service's own condition keys, each with what the request holds, and nothing for one
    that the request lacks; `policies`: those of the resource; `trust`: the resource is a role.
    """

    action: str
    resource: str
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    policies: Sequence[iam.Policy] = ()
    trust: bool = False


def authorize(
    accounts: Accounts, key: AccessKey, question: Question, request: Request | None = None
) -> None:
    """Whether the identity that signed with this key may do it; raises DeniedError."""
    who = key.principal
    context = {**_globals(accounts, request), **_of_principal(accounts, key)}
    decision = _decide(accounts, who.requester, question, context, accounts.policies(who))
    if not decision.allowed:
        raise DeniedError(who.arn, question.action, question.resource, decision.reason)


def authorize_service(accounts: Accounts, service: str, question: Question) -> None:
    """Whether a service of AWS may do it, by the resource's policies; raises DeniedError."""
    context = {
        **_globals(accounts, None),
        "aws:principalisawsservice": ("true",),
        "aws:principalservicename": (service,),
    }
    requester = iam.Requester(iam.Kind.SERVICE, (service,))
    decision = _decide(accounts, requester, question, context, [])
    if not decision.allowed:
        raise DeniedError(service, question.action, question.resource, decision.reason)


def authorize_stranger(
    accounts: Accounts, requester: iam.Requester, question: Question, request: Request
) -> None:
    """Whether somebody who signed nothing may do it, or who brought a token of another issuer."""
    context = _globals(accounts, request)
    decision = _decide(accounts, requester, question, context, [])
    if not decision.allowed:
        name = "anonymous" if requester.kind is iam.Kind.ANONYMOUS else requester.names[0]
        raise DeniedError(name, question.action, question.resource, decision.reason)


def _decide(
    accounts: Accounts,
    requester: iam.Requester,
    question: Question,
    context: Mapping[str, tuple[str, ...]],
    identity: Sequence[iam.Policy],
) -> iam.Decision:
    own = {name.lower(): tuple(values) for name, values in question.keys.items()}
    asked = iam.Asked(
        requester,
        question.action,
        question.resource,
        {**context, **{name: values for name, values in own.items() if values}},
        frozenset(own),
    )
    decision = iam.evaluate(
        asked,
        identity=identity,
        resource=question.policies,
        account=accounts.aws.account,
        trust=question.trust,
    )
    log.debug("%s on %s: %s", question.action, question.resource, decision)
    return decision


def _globals(accounts: Accounts, request: Request | None) -> dict[str, tuple[str, ...]]:
    now = accounts.clock()
    found: dict[str, tuple[str, ...]] = {
        "aws:currenttime": (_iso(now),),
        "aws:epochtime": (str(int(now)),),
        "aws:securetransport": ("true",),
        "aws:viaawsservice": ("false",),
        "aws:requestedregion": (accounts.aws.region,),
        "aws:resourceaccount": (accounts.aws.account,),
    }
    if request is not None:
        found["aws:sourceip"] = (request.peer,)
        if agent := request.headers.get("User-Agent"):
            found["aws:useragent"] = (agent,)
    return found


def _of_principal(accounts: Accounts, key: AccessKey) -> dict[str, tuple[str, ...]]:
    who = key.principal
    found: dict[str, tuple[str, ...]] = {
        "aws:principalarn": (who.role_arn or who.arn,),
        "aws:principalaccount": (who.account,),
        "aws:principaltype": ("AssumedRole" if who.role else "User",),
        "aws:principalisawsservice": ("false",),
        "aws:userid": (who.user_id,),
    }
    if who.account == accounts.aws.account:
        found["aws:principalorgid"] = (accounts.aws.organization,)
    if not who.role:
        found["aws:username"] = (who.arn.rpartition("/")[2],)
    if key.expires is not None:
        # Only who signs with a long-term key has no such key at all.
        found["aws:multifactorauthpresent"] = ("false",)
        found["aws:tokenissuetime"] = (_iso(key.issued),)
    if who.source_identity:
        found["aws:sourceidentity"] = (who.source_identity,)
    identity = accounts.identity(who)
    # A session's own tag takes the place of its role's.
    for name, value in [*(identity.tags.items() if identity else ()), *who.tags.items()]:
        found[f"aws:principaltag/{name}".lower()] = (value,)
    return found


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
