"""Impersonation: a federated token into a service account's access token or ID token.

Refused: a service account name that is no email (it becomes part of a URL), an answer whose token
is already dead, and an ID token for another audience than was asked. Shapes: `wire.iamcredentials`.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from tokenvend.errors import Misconfigured, UpstreamUnavailable
from tokenvend.identifiers import is_service_account_email
from tokenvend.lifetimes import DEFAULT_LIFETIME
from tokenvend.model import AccessTokenSpec, VendedToken
from tokenvend.transport import Call
from tokenvend.wire.iamcredentials import method_of, read_answer, render_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.deadline import Deadline
    from tokenvend.model import FederatedToken, TokenSpec
    from tokenvend.transport import Sender

MAX_REASON = 200


def iamcredentials_host(universe: str = "googleapis.com") -> str:
    """The hostname of the IAM Service Account Credentials API."""
    return f"iamcredentials.{universe}"


def impersonate(
    federated: FederatedToken,
    spec: TokenSpec,
    deadline: Deadline,
    request_reason: str = "",
    *,
    sender: Sender,
    provider: str,
    host: str,
    now: Callable[[], float],
) -> VendedToken:
    """The token of the spec, of its service account.

    `request_reason` stands in Google's audit log beside the call. `provider`: Google's, that our
    identity came by, for the line that mends a refusal. `host`: see `iamcredentials_host`. `now`:
    epoch seconds. Raises UpstreamRefused (FederatedTokenRejected if the federated token is at
    fault), RateLimited, UpstreamUnavailable, DeadlineExceeded, Misconfigured.
    """
    email = _email(spec.service_account)
    granted = spec.lifetime if isinstance(spec, AccessTokenSpec) else None
    lifetime = DEFAULT_LIFETIME if granted is None else granted
    delegates = [f"projects/-/serviceAccounts/{_email(each)}" for each in spec.delegates]
    headers = {
        "Authorization": f"Bearer {federated.value.reveal()}",
        "Content-Type": "application/json",
    }
    if request_reason:
        headers["X-Goog-Request-Reason"] = re.sub(r"[^ -~]", "?", request_reason)[:MAX_REASON]
    url = f"https://{host}/v1/projects/-/serviceAccounts/{email}:{method_of(spec)}"
    call = Call("POST", url, headers, render_request(spec, lifetime, delegates))
    sent_at = int(now())
    # Repeatable: another token is another token, nothing at Google changes.
    answer = sender.send(call, deadline, repeatable=True)
    if answer.status != HTTPStatus.OK:
        from tokenvend.google.refusals import impersonation_refusal  # noqa: PLC0415 - of failures alone

        raise impersonation_refusal(answer, email, provider, now())
    document = answer.json()
    try:
        token, expires_at = read_answer(document, spec)
    except ValueError as wrong:
        raise UpstreamUnavailable(cause=f"impersonation: {wrong}") from None
    # Where the two clocks disagree the token is never thought to live longer than was asked.
    expires_at = min(expires_at, sent_at + lifetime)
    if expires_at <= now():
        raise UpstreamUnavailable(
            cause="impersonation: the token has already expired; is this machine's clock right?"
        )
    request_id = answer.headers.get("x-goog-request-id", "")
    if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", request_id):
        request_id = ""
    return VendedToken(token, spec, sent_at, expires_at, request_id)


def _email(service_account: str | None) -> str:
    # The policy has checked it already; here it enters a URL's path, where ../ would choose
    # another method of the API.
    if service_account is None or not is_service_account_email(service_account):
        raise Misconfigured(
            "The policy names no usable service account for this grant. Ask its operator.",
            cause="the grant's service account or a delegate is no email",
        )
    return service_account
