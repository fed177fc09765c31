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
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tokenvend.cache import Cache
from tokenvend.errors import Misconfigured, UpstreamRefused, UpstreamUnavailable
from tokenvend.identity import aws_sts
from tokenvend.identity.sigv4 import AwsCredentials, signed_headers
from tokenvend.model import Secret, Session, SubjectToken
from tokenvend.transport import Call

if TYPE_CHECKING:
    from tokenvend.deadline import Deadline
    from tokenvend.identity.aws import AwsIdentity
    from tokenvend.transport import Sender

# The most that role chaining gives, in seconds, and what every role allows.
SESSION_LIFE = 3600
_SESSION_NAME = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")
_ACCESS_KEY = re.compile(r"[A-Z0-9]{16,128}")
_KEY = re.compile(r"[A-Za-z0-9+/=_-]{1,8192}")
_ACTION = re.compile(rb"not authorized to perform: (sts:[A-Za-z]{1,64})")
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


class AwsSessionIdentity:
    """Subject tokens of sessions of our own role.

    `role`: the ARN of the role that `own` is. At most `size` sessions are kept.
    """

    def __init__(self, own: AwsIdentity, sender: Sender, *, role: str, size: int) -> None:
        self._own = own
        self._sender = sender
        self._role = role
        # A session's keys, its beginning and its end.
        self._sessions: Cache[Session, tuple[AwsCredentials, int, int]] = Cache(
            life=lambda assumed: assumed[1:],
            now=own.now,
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
        return replace(self._own.sign(cached.value[0]), bridged=cached.cause)

    def restored(self) -> None:
        """Forget every session: a snapshot's belong to all processes that are restored from it."""
        self._sessions.clear()

    def _assume(self, name: str, deadline: Deadline) -> tuple[AwsCredentials, int, int]:
        if not _SESSION_NAME.fullmatch(name):
            raise Misconfigured(cause="a role session's name has characters AWS refuses")
        body = urlencode(
            {
                "Action": "AssumeRole",
                "Version": "2011-06-15",
                "RoleArn": self._role,
                "RoleSessionName": name,
                # The session name could be chosen anew by whoever holds the keys; this one stays.
                "SourceIdentity": name,
                "DurationSeconds": str(SESSION_LIFE),
            }
        ).encode()
        headers = signed_headers(
            self._own.credentials(deadline),
            region=self._own.region,
            now=self._own.now(),
            headers={"content-type": "application/x-www-form-urlencoded"},
            body=body,
        )
        # The transport sets Host from the URL, to the value that was signed.
        del headers["host"]
        call = Call("POST", f"https://{aws_sts.host(self._own.region)}/", headers, body)
        answer = self._sender.send(call, deadline, repeatable=True)
        now = int(self._own.now())
        result = aws_sts.result(answer, "AssumeRole", now, partial(_refusal, answer.body))
        if aws_sts.text(result, "AssumedRoleUser/Arn") != session_arn(self._role, name):
            raise UpstreamUnavailable(cause="AWS STS answered with the session of somebody else")
        if aws_sts.text(result, "SourceIdentity") != name:
            raise UpstreamUnavailable(cause="AWS STS answered with another source identity")
        access_key, secret_key, session_token, expiration = (
            aws_sts.text(result, f"Credentials/{part}")
            for part in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        )
        keys = _KEY.fullmatch(secret_key) and _KEY.fullmatch(session_token)
        if not keys or not _ACCESS_KEY.fullmatch(access_key):
            raise UpstreamUnavailable(cause="AWS STS answered with malformed credentials")
        try:
            end = datetime.strptime(expiration, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            cause = "AWS STS answered with a malformed expiration"
            raise UpstreamUnavailable(cause=cause) from None
        # However late our clock is: never longer than the hour that was asked for.
        expires_at = min(int(end.timestamp()), now + SESSION_LIFE)
        credentials = AwsCredentials(
            access_key, Secret(secret_key), Secret(session_token), expires_at
        )
        return credentials, now, expires_at


def session_arn(role: str, name: str) -> str:
    """The ARN of one of a role's sessions; AWS leaves the role's path out."""
    _, partition, _, _, account, resource = role.split(":")
    return f"arn:{partition}:sts::{account}:assumed-role/{resource.rpartition('/')[2]}/{name}"


def _refusal(body: bytes, status: int, code: str) -> UpstreamRefused:
    """What a refused AssumeRole means; of AWS's text only its code and the action are taken."""
    action = _ACTION.search(body[: aws_sts.MAX_ANSWER])
    refused = f" ({action[1].decode()} is refused)" if action else ""
    mending = _MENDING.get(code, "no known cause; look the request up in CloudTrail")
    return UpstreamRefused(
        cause=f"AssumeRole of our own role: AWS STS answered {status} {code}{refused}: {mending}"
    )
