"""Our AWS identity in the name of a caller: a session of our own role that is named after it.

The endpoint assumes its own role with the caller as RoleSessionName and SourceIdentity and signs
GetCallerIdentity with that session's keys, so that the ARN which Google reads says who asked. It is
role chaining, whose sessions live an hour at most.

The keys could do on AWS whatever the role may; they stay in this process, and Google gets only what
they signed. Refused: an answer that is not exactly AWS's XML, or that is about another session.
AWS STS API Reference 2011-06-15, AssumeRole; IAM User Guide, "Monitor and control actions taken
with assumed roles".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tokenvend.cache import Cache
from tokenvend.errors import (
    Misconfigured,
    TokenvendError,
    UpstreamRefused,
)
from tokenvend.identity import aws_sts
from tokenvend.identity.aws import sign_get_caller_identity
from tokenvend.identity.sigv4 import SETUP, AwsCredentials, signed_headers
from tokenvend.model import Secret, Session, SubjectToken
from tokenvend.transport import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.deadline import Deadline
    from tokenvend.transport import Answer, Sender

# The most that role chaining gives, in seconds, and what every role allows.
SESSION_LIFE = 3600
MAX_SESSIONS = 1024
_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_ACCESS_KEY = re.compile(r"[A-Z0-9]{16,128}")
_KEY = re.compile(r"[A-Za-z0-9+/=_-]{1,8192}")
_MOMENT = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}Z")
_ACTION = re.compile(rb"not authorized to perform: (sts:[A-Za-z]{1,64})")
_REFUSED = (
    "AWS refused this endpoint a session in the caller's name. Its operator has to mend this: pass "
    "on the request id."
)
# What to mend, by AWS's error code.
_MENDING = {
    "AccessDenied": (
        "the role's trust policy must let the role assume itself (sts:AssumeRole and "
        "sts:SetSourceIdentity), and so must its own permissions"
    ),
    "ExpiredToken": "the function's own credentials have expired; is its clock right?",
    "ExpiredTokenException": "the function's own credentials have expired; is its clock right?",
    "InvalidClientTokenId": "the function's own credentials are not valid (any more)",
    "SignatureDoesNotMatch": "the signature is not accepted; is the function's clock right?",
    "RequestExpired": "the request was signed too long ago; is the function's clock right?",
    "RegionDisabledException": "AWS STS is off in this region; activate it for the account",
    "ValidationError": "a value of the request; is TOKENVEND_AWS_ROLE_ARN the function's own role?",
}


@dataclass(frozen=True, slots=True)
class OwnRole:
    """The role the endpoint runs as, and assumes again. `arn`: `arn:aws:iam::ACCOUNT:role/NAME`."""

    arn: str

    def session_arn(self, name: str) -> str:
        """The ARN of one of its sessions; AWS leaves the role's path out."""
        _, partition, _, _, account, resource = self.arn.split(":")
        role = resource.rpartition("/")[2]
        return f"arn:{partition}:sts::{account}:assumed-role/{role}/{name}"


class AwsSessionIdentity:
    """Subject tokens of sessions of our own role.

    `own`: the keys that we run with, at that moment. `provider`, `region`: as of
    `sign_get_caller_identity`. `now`: epoch seconds. Sessions are kept, at most `size` of them.
    """

    def __init__(
        self,
        own: Callable[[Deadline], AwsCredentials],
        sender: Sender,
        *,
        role: OwnRole,
        provider: str,
        region: str,
        now: Callable[[], float],
        size: int = MAX_SESSIONS,
    ) -> None:
        self._own = own
        self._sender = sender
        self._role = role
        self._provider = provider
        self._region = region
        self._now = now
        self._sessions: Cache[Session, _Assumed] = Cache(
            life=lambda assumed: (assumed.issued_at, assumed.expires_at),
            now=now,
            owner=lambda session: session,
            size=size,
        )

    def subject_token(self, session: Session, deadline: Deadline) -> SubjectToken:
        """A freshly signed subject token of this session.

        Raises UpstreamRefused, RateLimited, UpstreamUnavailable, Misconfigured, DeadlineExceeded.
        """
        cached = self._sessions.get_or_mint(
            session, lambda lent: self._assume(session.name, lent), deadline
        )
        token = sign_get_caller_identity(
            cached.value.credentials, region=self._region, provider=self._provider, now=self._now()
        )
        return replace(token, bridged=cached.cause)

    def restored(self) -> None:
        """Forget every session: a snapshot's belong to all processes that are restored from it."""
        self._sessions.clear()

    def _assume(self, name: str, deadline: Deadline) -> _Assumed:
        if not _SESSION_NAME.fullmatch(name):
            raise Misconfigured(SETUP, cause="a role session's name has characters AWS refuses")
        body = urlencode(
            {
                "Action": "AssumeRole",
                "Version": "2011-06-15",
                "RoleArn": self._role.arn,
                "RoleSessionName": name,
                # The session name could be chosen anew by whoever holds the keys; this one stays.
                "SourceIdentity": name,
                "DurationSeconds": str(SESSION_LIFE),
            }
        ).encode()
        headers = signed_headers(
            self._own(deadline),
            region=self._region,
            now=self._now(),
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=body,
        )
        # The transport sets Host from the URL, to the value that was signed.
        del headers["host"]
        call = Call("POST", f"https://{aws_sts.host(self._region)}/", headers, body)
        answer = self._sender.send(call, deadline, repeatable=True)
        if answer.status != HTTPStatus.OK:
            raise _refusal(answer, self._now())
        return self._session(answer, name)

    def _session(self, answer: Answer, name: str) -> _Assumed:
        result = aws_sts.result(answer, "AssumeRole")
        if aws_sts.text(result, "AssumedRoleUser/Arn") != self._role.session_arn(name):
            raise aws_sts.unusable("AWS STS answered with the session of somebody else")
        if aws_sts.text(result, "SourceIdentity") != name:
            raise aws_sts.unusable("AWS STS answered with another source identity")
        now = int(self._now())
        # However late our clock is: never longer than the hour that was asked for.
        expires_at = min(
            _moment(aws_sts.text(result, "Credentials/Expiration")), now + SESSION_LIFE
        )
        return _Assumed(
            AwsCredentials(
                _matching(_ACCESS_KEY, aws_sts.text(result, "Credentials/AccessKeyId")),
                Secret(_matching(_KEY, aws_sts.text(result, "Credentials/SecretAccessKey"))),
                Secret(_matching(_KEY, aws_sts.text(result, "Credentials/SessionToken"))),
                expires_at,
            ),
            now,
            expires_at,
        )


@dataclass(frozen=True, slots=True)
class _Assumed:
    """Keys of one session. `issued_at`, `expires_at`: epoch seconds."""

    credentials: AwsCredentials
    issued_at: int
    expires_at: int


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise aws_sts.unusable("AWS STS answered with malformed credentials")
    return text


def _moment(text: str) -> int:
    try:
        _matching(_MOMENT, text)
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise aws_sts.unusable("AWS STS answered with a malformed expiration") from None


def _refusal(answer: Answer, now: float) -> TokenvendError:
    """What a failed AssumeRole means; of AWS's text only its code and the action are taken."""
    throttled = aws_sts.throttling(answer, now)
    if throttled is not None:
        return throttled
    code = aws_sts.error_code(answer)
    cause = f"AssumeRole of our own role: AWS STS answered {answer.status} {code}"
    if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        action = _ACTION.search(answer.body[: aws_sts.MAX_ANSWER])
        refused = f" ({action[1].decode()} is refused)" if action else ""
        mending = _MENDING.get(code, "no known cause; look the request up in CloudTrail")
        return UpstreamRefused(_REFUSED, cause=f"{cause}{refused}: {mending}")
    return aws_sts.unusable(cause)
