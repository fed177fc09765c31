"""GetCallerIdentity, GetSessionToken and AssumeRole: who asks, and as whom it may go on.

AssumeRole asks IAM up to three questions, each of the role's trust policy and of the caller's own:
may it take on the role, may it set (or carry on) a source identity, may it pass session tags.
Session policies are refused: they could not be enforced.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.aws.authorization import DeniedError, Question, authorize
from localcloud.aws.errors import ServiceError, elements
from localcloud.aws.identities import trust
from localcloud.aws.sts.query import NAME, Call, credentials, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.aws.accounts import AccessKey, Principal
    from localcloud.world import AwsRole

_LONGEST_SESSION, _LONGEST_TOKEN = 43200, 129600
# A session made from a session ("role chaining") lives an hour at most.
_CHAINED = 3600
_MAX_TAGS = 50
_TAG = re.compile(r"[\w\s.:/=+@-]+", re.UNICODE)
_PARAMETERS = (
    r"RoleArn|RoleSessionName|DurationSeconds|SourceIdentity|ExternalId"
    r"|Tags\.member\.\d+\.(Key|Value)|TransitiveTagKeys\.member\.\d+"
)


def get_caller_identity(call: Call) -> str:
    """The signer's ARN, unique id and account."""
    call.only("")
    who = _signer(call).principal
    return elements({"Arn": who.arn, "UserId": who.user_id, "Account": who.account})


def get_session_token(call: Call) -> str:
    """A temporary key of a user, 12 hours long if not asked otherwise."""
    call.only("DurationSeconds")
    key = _signer(call)
    seconds = call.seconds(_LONGEST_TOKEN, 43200)
    if key.token:
        text = "Cannot call GetSessionToken with session credentials"
        raise ServiceError(403, "AccessDenied", text)
    return credentials(call.accounts.renew(key.principal, seconds=seconds))


def assume_role(call: Call) -> str:
    """A session of a role that trusts the signer."""
    call.only(_PARAMETERS)
    key = _signer(call)
    role_arn = call.role_arn()
    asked = _asked(call, key.principal)
    role = call.accounts.role_of(role_arn)
    if role is None:
        # Nobody learns which roles exist.
        raise DeniedError(key.principal.arn, "sts:AssumeRole", role_arn)
    for action in asked.actions:
        question = Question(action, role_arn, asked.keys, [trust(role)], trust=True)
        authorize(call.accounts, key, question, call.request)
    session = call.accounts.issue(
        role_arn,
        asked.session,
        seconds=_seconds(call, key, role),
        source_identity=asked.source_identity,
        tags=asked.tags,
        transitive=asked.transitive,
    )
    user = {"AssumedRoleId": session.principal.user_id, "Arn": session.principal.arn}
    source = {"SourceIdentity": asked.source_identity} if asked.source_identity else {}
    return (
        credentials(session)
        + f"<AssumedRoleUser>{elements(user)}</AssumedRoleUser>"
        + elements(source)
    )


@dataclass(frozen=True)
class _Asked:
    """What is to become of the session, and the condition keys of the question."""

    session: str
    source_identity: str
    tags: Mapping[str, str]
    transitive: tuple[str, ...]
    keys: Mapping[str, tuple[str, ...]]

    @property
    def actions(self) -> list[str]:
        """The questions, in the order in which a refusal names them."""
        more = {"sts:SetSourceIdentity": self.source_identity, "sts:TagSession": self.tags}
        return ["sts:AssumeRole", *(action for action, needed in more.items() if needed)]


def _asked(call: Call, who: Principal) -> _Asked:
    session = call.text("RoleSessionName", NAME, 2, 64)
    parameters = call.parameters
    wanted = call.text("SourceIdentity", NAME, 2, 64) if "SourceIdentity" in parameters else ""
    external: tuple[str, ...] = ()
    if "ExternalId" in parameters:
        external = (call.text("ExternalId", r"[\w+=,.@:/-]*", 2, 1224),)
    if who.source_identity and wanted not in {"", who.source_identity}:
        # A source identity stays for the whole chain of sessions.
        raise DeniedError(who.arn, "sts:SetSourceIdentity", call.role_arn())
    tags, transitive = _tags(parameters)
    inherited = {name: who.tags[name] for name in who.transitive}
    if taken := {name for name in tags if name.lower() in {n.lower() for n in inherited}}:
        text = f"One of the specified transitive tag keys can't be set: {min(taken)}"
        raise ServiceError(400, "InvalidParameterValue", text)
    keys = {
        "aws:RequestedRegion": (call.region,),
        "sts:RoleSessionName": (session,),
        "sts:SourceIdentity": (wanted,) if wanted else (),
        "sts:ExternalId": external,
        "sts:TransitiveTagKeys": transitive,
        "aws:TagKeys": tuple(tags),
        **{f"aws:RequestTag/{name}": (value,) for name, value in tags.items()},
    }
    return _Asked(
        session,
        wanted or who.source_identity,
        {**inherited, **tags},
        (*who.transitive, *transitive),
        keys,
    )


def _tags(parameters: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The session's tags, and which of them go on to the next session."""
    pairs: dict[str, dict[str, str]] = {}
    transitive = []
    for name, value in parameters.items():
        if match := re.fullmatch(r"Tags\.member\.(\d+)\.(Key|Value)", name):
            pairs.setdefault(match[1], {})[match[2]] = value
        elif name.startswith("TransitiveTagKeys."):
            transitive.append(value)
    tags = {pair.get("Key", ""): pair.get("Value", "") for pair in pairs.values()}
    if len({name.lower() for name in tags}) != len(pairs) or len(pairs) > _MAX_TAGS:
        raise invalid("tags", "…", f"hold at most {_MAX_TAGS} keys, each once")
    for name, value in tags.items():
        if not (_TAG.fullmatch(name) and len(name) <= 128):  # noqa: PLR2004 - STS's own limits
            raise invalid("tags.key", name, "have length between 1 and 128")
        if name.lower().startswith("aws:"):
            text = f"Tag key {name} is reserved: no key begins with aws:"
            raise ServiceError(400, "InvalidParameterValue", text)
        if len(value) > 256 or (value and not _TAG.fullmatch(value)):  # noqa: PLR2004 - the same
            raise invalid("tags.value", value, "have length less than or equal to 256")
    if set(transitive) - tags.keys():
        text = "One of the specified transitive tag keys is not a tag of the request"
        raise ServiceError(400, "InvalidParameterValue", text)
    return tags, tuple(transitive)


def _seconds(call: Call, key: AccessKey, role: AwsRole) -> int:
    seconds = call.seconds(_LONGEST_SESSION, 3600)
    if key.principal.role and seconds > _CHAINED:
        raise ServiceError(
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining",
        )
    if seconds > role.max_session_duration:
        raise ServiceError(
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )
    return seconds


def _signer(call: Call) -> AccessKey:
    if call.key is None:  # Only a wrong table could bring this about.
        raise ServiceError(403, "MissingAuthenticationToken", "Request is missing a signature")
    return call.key
