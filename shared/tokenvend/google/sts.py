"""Token exchange at Google's Security Token Service (RFC 8693, in Google's dialect: `wire.sts`).

Refused: an answer without a usable token, or with a life that is no life. Nothing of a subject
token or an answer's body enters an error.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from tokenvend.errors import UpstreamUnavailable
from tokenvend.transport import Call
from tokenvend.wire.sts import FORM, exchange_form, read_federated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tokenvend.deadline import Deadline
    from tokenvend.model import FederatedToken, SubjectToken
    from tokenvend.transport import Sender


def sts_host(universe: str = "googleapis.com", region: str = "") -> str:
    """The hostname of Google's STS; `region` empty means the global endpoint."""
    return f"sts.{region}.rep.{universe}" if region else f"sts.{universe}"


def exchange(
    subject: SubjectToken,
    scopes: Iterable[str],
    deadline: Deadline,
    *,
    sender: Sender,
    provider: str,
    host: str,
    now: Callable[[], float],
) -> FederatedToken:
    """The federated token for `scopes`.

    `provider`: its full resource name; `host`: see `sts_host`; `now`: epoch seconds. Raises
    UpstreamRefused, RateLimited, UpstreamUnavailable, DeadlineExceeded.
    """
    body = exchange_form(provider, subject, scopes)
    call = Call("POST", f"https://{host}/v1/token", {"Content-Type": FORM}, body)
    # Read before sending: the token's life began later, so it is never thought too long.
    sent_at = int(now())
    # Repeatable: an exchange changes nothing at Google, it only gives another token.
    answer = sender.send(call, deadline, repeatable=True)
    if answer.status != HTTPStatus.OK:
        from tokenvend.google.refusals import exchange_refusal  # noqa: PLC0415 - of failures alone

        raise exchange_refusal(answer, now())
    document = answer.json()
    try:
        return read_federated(document, subject, sent_at)
    except ValueError as wrong:
        raise UpstreamUnavailable(cause=f"token exchange: {wrong}") from None
