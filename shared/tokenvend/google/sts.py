"""Token exchange at Google's Security Token Service (RFC 8693, in Google's dialect).

Refused: an answer without a usable token, or with a life that is no life. Nothing of a subject
token or an answer's body enters an error.
https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from tokenvend.errors import UpstreamUnavailable
from tokenvend.google.refusals import exchange_refusal
from tokenvend.model import FederatedToken, Secret, SubjectToken
from tokenvend.transport import Call, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tokenvend.deadline import Deadline

# Google's tokens reach 12,288 bytes today, and it reserves the right to change that.
MAX_TOKEN = 16 * 1024
# No federated token lives longer than an hour; a day is beyond any change of that.
MAX_EXPIRES_IN = 86_400
DEFAULT_EXPIRES_IN = 3600
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name
_TOKEN = re.compile(r"[!-~]+")


def sts_host(universe: str = "googleapis.com", region: str = "") -> str:
    """The hostname of Google's STS; `region` empty means the global endpoint."""
    return f"sts.{region}.rep.{universe}" if region else f"sts.{universe}"


class TokenExchange:
    """Subject tokens into federated tokens, at one provider.

    `provider`: its full resource name; `host`: see `sts_host`; `now`: epoch seconds.
    """

    def __init__(
        self, sender: Sender, *, provider: str, sts_host: str, now: Callable[[], float]
    ) -> None:
        self._sender = sender
        self._provider = provider
        self._url = f"https://{sts_host}/v1/token"
        self._now = now

    def exchange(
        self, subject: SubjectToken, scopes: Iterable[str], deadline: Deadline
    ) -> FederatedToken:
        """The federated token for `scopes`.

        Raises UpstreamRefused, RateLimited, UpstreamUnavailable, DeadlineExceeded.
        """
        form = {
            "grant_type": GRANT_TYPE,
            "audience": self._provider,
            "scope": " ".join(scopes),
            "requested_token_type": ACCESS_TOKEN_TYPE,
            "subject_token": subject.value.reveal(),
            "subject_token_type": subject.type.value,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        call = Call("POST", self._url, headers, urlencode(form).encode())
        # Read before sending: the token's life began later, so it is never thought too long.
        sent_at = int(self._now())
        # Repeatable: an exchange changes nothing at Google, it only gives another token.
        answer = self._sender.send(call, deadline, repeatable=True)
        if answer.status != HTTPStatus.OK:
            raise exchange_refusal(answer, self._now())
        fields = answer.json()
        if not isinstance(fields, dict):
            raise _unusable("not an object")
        if str(fields.get("token_type")).lower() != "bearer":
            raise _unusable("token_type is not Bearer")
        token = checked_token(fields.get("access_token"), "token exchange")
        life = _expires_in(fields, subject.expires_at - sent_at)
        return FederatedToken(token, sent_at, sent_at + life)


def checked_token(value: object, step: str) -> Secret:
    """A token out of an answer: visible ASCII of at most 16 KiB, or UpstreamUnavailable."""
    if not isinstance(value, str) or len(value) > MAX_TOKEN or not _TOKEN.fullmatch(value):
        msg = "Google sent an answer that cannot be used. Try again shortly."
        raise UpstreamUnavailable(msg, cause=f"{step}: the answer holds no usable token")
    return Secret(value)


def _expires_in(fields: dict[object, object], subject_left: int) -> int:
    if "expires_in" not in fields:
        # Google leaves it out at times. It never gives more than an hour, nor more than the
        # subject token has left: the smaller of the two is safe.
        life: object = min(DEFAULT_EXPIRES_IN, subject_left)
    else:
        life = fields["expires_in"]
    if type(life) is not int or not 0 < life <= MAX_EXPIRES_IN:
        raise _unusable("expires_in is no life in seconds")
    return life


def _unusable(cause: str) -> UpstreamUnavailable:
    msg = "Google sent an answer that cannot be used. Try again shortly."
    return UpstreamUnavailable(msg, cause=f"token exchange: {cause}")
