"""Impersonation: a federated token into a service account's access token or ID token.

Refused: a service account name that is no email (it becomes part of a URL), an answer whose token
is already dead, and an ID token for another audience than was asked.
https://cloud.google.com/iam/docs/reference/credentials/rest
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from tokenvend.errors import Misconfigured, UpstreamUnavailable
from tokenvend.google.refusals import impersonation_refusal
from tokenvend.google.sts import checked_token
from tokenvend.identifiers import is_service_account_email
from tokenvend.lifetimes import DEFAULT_LIFETIME
from tokenvend.model import AccessTokenSpec, FederatedToken, IdTokenSpec, TokenSpec, VendedToken
from tokenvend.transport import Answer, Call, Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.deadline import Deadline

MAX_REASON = 200
_JWT_DOTS = 2
_ANY_PROVIDER = (
    "//iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/ID"
)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})"
)


def iamcredentials_host(universe: str = "googleapis.com") -> str:
    """The hostname of the IAM Service Account Credentials API."""
    return f"iamcredentials.{universe}"


class IamCredentials:
    """The IAM Service Account Credentials API. `now`: epoch seconds.

    `provider`: Google's provider that our identity came by, for the line that mends a refusal.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        host: str,
        now: Callable[[], float],
        provider: str = _ANY_PROVIDER,
    ) -> None:
        self._sender = sender
        self._provider = provider
        self._base = f"https://{host}/v1/projects/-/serviceAccounts"
        self._now = now

    def generate_access_token(
        self,
        federated: FederatedToken,
        spec: AccessTokenSpec,
        deadline: Deadline,
        request_reason: str = "",
    ) -> VendedToken:
        """An access token of the grant's service account, scopes and lifetime.

        `request_reason` stands in Google's audit log beside the call. Raises UpstreamRefused
        (FederatedTokenRejected if the federated token is at fault), RateLimited,
        UpstreamUnavailable, DeadlineExceeded, Misconfigured.
        """
        lifetime = DEFAULT_LIFETIME if spec.lifetime is None else spec.lifetime
        body: dict[str, object] = {"scope": list(spec.scopes), "lifetime": f"{lifetime}s"}
        sent_at = int(self._now())
        answer = self._post("generateAccessToken", federated, spec, body, deadline, request_reason)
        fields = _object(answer)
        token = checked_token(fields.get("accessToken"), "generateAccessToken")
        expires_at = _epoch(fields.get("expireTime"))
        if expires_at is None:
            raise _unusable("expireTime is not an RFC 3339 time")
        # Where the two clocks disagree the token is never thought to live longer than was asked.
        expires_at = self._alive(min(expires_at, sent_at + lifetime))
        return VendedToken(token, spec, sent_at, expires_at, _request_id(answer))

    def generate_id_token(
        self,
        federated: FederatedToken,
        spec: IdTokenSpec,
        deadline: Deadline,
        request_reason: str = "",
    ) -> VendedToken:
        """An ID token of the grant's service account for its audience; raises the same."""
        body: dict[str, object] = {"audience": spec.audience, "includeEmail": spec.include_email}
        sent_at = int(self._now())
        answer = self._post("generateIdToken", federated, spec, body, deadline, request_reason)
        token = checked_token(_object(answer).get("token"), "generateIdToken")
        claims = _claims(token.reveal())
        expires_at = claims.get("exp")
        if claims.get("aud") != spec.audience:
            raise _unusable("the ID token is for another audience")
        if type(expires_at) is not int:
            raise _unusable("the ID token has no expiry")
        expires_at = self._alive(min(expires_at, sent_at + DEFAULT_LIFETIME))
        return VendedToken(token, spec, sent_at, expires_at, _request_id(answer))

    def _post(
        self,
        method: str,
        federated: FederatedToken,
        spec: TokenSpec,
        body: dict[str, object],
        deadline: Deadline,
        request_reason: str,
    ) -> Answer:
        email = _email(spec.service_account)
        if spec.delegates:
            body["delegates"] = [
                f"projects/-/serviceAccounts/{_email(delegate)}" for delegate in spec.delegates
            ]
        headers = {
            "Authorization": f"Bearer {federated.value.reveal()}",
            "Content-Type": "application/json",
        }
        if request_reason:
            headers["X-Goog-Request-Reason"] = re.sub(r"[^ -~]", "?", request_reason)[:MAX_REASON]
        url = f"{self._base}/{quote(email, safe='@')}:{method}"
        call = Call("POST", url, headers, json.dumps(body).encode())
        # Repeatable: another token is another token, nothing at Google changes.
        answer = self._sender.send(call, deadline, repeatable=True)
        if answer.status != HTTPStatus.OK:
            raise impersonation_refusal(answer, email, self._provider, self._now())
        return answer

    def _alive(self, expires_at: int) -> int:
        if expires_at <= self._now():
            raise _unusable("the token has already expired; is this machine's clock right?")
        return expires_at


def _email(service_account: str | None) -> str:
    # The policy has checked it already; here it enters a URL's path, where ../ would choose
    # another method of the API.
    if service_account is None or not is_service_account_email(service_account):
        msg = "The policy names no usable service account for this grant. Ask its operator."
        raise Misconfigured(msg, cause="the grant's service account or a delegate is no email")
    return service_account


def _object(answer: Answer) -> dict[str, object]:
    fields = answer.json()
    if not isinstance(fields, dict):
        raise _unusable("not an object")
    return fields


def _epoch(value: object) -> int | None:
    found = _RFC3339.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    seconds, zone = found.groups()
    try:
        return int(datetime.fromisoformat(seconds + zone).timestamp())
    except (ValueError, OverflowError):
        return None


def _claims(jwt: str) -> dict[str, object]:
    """The claims of a token that came from Google over TLS: read, not verified."""
    payload = jwt.split(".")[1] if jwt.count(".") == _JWT_DOTS else ""
    try:
        padded = payload + "=" * (-len(payload) % 4)
        claims = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise _unusable("the ID token is no JWT")
    return claims


def _request_id(answer: Answer) -> str:
    value = answer.headers.get("x-goog-request-id", "")
    return value if re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", value) else ""


def _unusable(cause: str) -> UpstreamUnavailable:
    msg = "Google sent an answer that cannot be used. Try again shortly."
    return UpstreamUnavailable(msg, cause=f"impersonation: {cause}")
