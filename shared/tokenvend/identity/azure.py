"""The Azure subject token: a JWT that Entra, or an AKS cluster, issues to our workload identity.

Three places give one, all over plain http on this machine or from a file: App Service and
Functions (`IDENTITY_ENDPOINT`), the VM's metadata service (IMDS), and AKS (a projected service
account token). Google verifies the token; here it is only carried, so nothing is decoded but the
expiry of a token from a file.

azure-identity would do the same at 300 ms of import.
"""

from __future__ import annotations

import base64
import json
import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode, urlsplit

from tokenvend.cache import Cache, half_left
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    RateLimited,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.model import Secret, SubjectToken, SubjectTokenType
from tokenvend.transport import Answer, Call, Sender, retry_after
from tokenvend.transport.egress import is_platform_host

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.deadline import Deadline

# https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
APP_SERVICE_VERSION = "2019-08-01"
IMDS_URL = "http://169.254.169.254/metadata/identity/oauth2/token"
IMDS_VERSION = "2018-02-01"
MAX_TOKEN = 32 * 1024
# Microsoft's guidance for IMDS: wait 1, 2, 4 s; while it is being updated (410), 10 s for 70 s.
_IMDS_WAITS = (1, 2, 4)
_IMDS_GONE_WAITS = (10,) * 7
_IMDS_RETRIED = frozenset({404, 408, 410, 429})
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SETUP = "This endpoint has no usable Azure identity. Ask its operator to look at the log."


class Subject(Protocol):
    """Our own identity on Azure."""

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        """A subject token for Google's STS."""
        ...


def azure_identity(
    environ: Mapping[str, str],
    sender: Sender,
    *,
    resource: str,
    client_id: str = "",
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> Subject:
    """The identity this process has: App Service, else an AKS token file, else the VM's.

    `resource`: the Application ID URI that Google's provider has as its audience. `client_id`:
    of a user-assigned identity; without it the system-assigned one answers.
    """
    if environ.get("IDENTITY_ENDPOINT"):
        source: Subject = AppService(
            environ, sender, resource=resource, client_id=client_id, now=now
        )
        return Kept(source, now=now)
    if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        # The kubelet keeps the file fresh, and reading it costs nothing: no copy of ours.
        return FederatedTokenFile(environ, now=now)
    vm = VirtualMachine(sender, resource=resource, client_id=client_id, now=now, sleep=sleep)
    return Kept(vm, now=now)


class Kept:
    """A source's token, kept until half of its life is over and fetched once at a time.

    A token that is still valid is served while fetching a new one fails.
    """

    def __init__(self, source: Subject, *, now: Callable[[], float]) -> None:
        self._source = source
        self._now = now
        self._tokens: Cache[str, tuple[int, SubjectToken]] = Cache(
            life=lambda entry: (entry[0], entry[1].expires_at),
            now=now,
            size=1,
            renew_left=half_left,
        )

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        """See the source's own `token`."""

        def fetch() -> tuple[int, SubjectToken]:
            return int(self._now()), self._source.subject_token(deadline)

        return self._tokens.get_or_mint("", fetch, deadline)[0][1]


class AppService:
    """Managed identity in App Service and Functions.

    Endpoint and header are read at each fetch: the platform rotates them in a living process.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        sender: Sender,
        *,
        resource: str,
        client_id: str,
        now: Callable[[], float],
    ) -> None:
        self._environ = environ
        self._sender = sender
        self._resource = resource
        self._client_id = client_id
        self._now = now

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        """Raises Misconfigured, UpstreamRefused, RateLimited, UpstreamUnavailable,
        DeadlineExceeded.
        """
        endpoint = self._environ.get("IDENTITY_ENDPOINT", "")
        header = self._environ.get("IDENTITY_HEADER", "")
        parts = urlsplit(endpoint)
        if parts.scheme != "http" or not is_platform_host(parts.hostname or "") or parts.query:
            cause = (
                "IDENTITY_ENDPOINT is no http address of this machine; only the platform sets it"
            )
            raise Misconfigured(_SETUP, cause=cause)
        if not header:
            cause = (
                "IDENTITY_ENDPOINT is set without IDENTITY_HEADER: not App Service or Functions "
                "(Azure Arc is not supported), or the identity is switched off"
            )
            raise Misconfigured(_SETUP, cause=cause)
        query = _query(APP_SERVICE_VERSION, self._resource, self._client_id)
        call = Call("GET", f"{endpoint}?{query}", {"X-IDENTITY-HEADER": header})
        answer = self._sender.send(call, deadline, repeatable=True)
        return _managed_identity_token(answer, self._now())


class VirtualMachine:
    """Managed identity of a VM or scale set, from its metadata service (IMDS)."""

    def __init__(
        self,
        sender: Sender,
        *,
        resource: str,
        client_id: str,
        now: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._sender = sender
        self._resource = resource
        self._client_id = client_id
        self._now = now
        self._sleep = sleep

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        """Raises UpstreamRefused, RateLimited, UpstreamUnavailable, DeadlineExceeded."""
        query = _query(IMDS_VERSION, self._resource, self._client_id)
        call = Call("GET", f"{IMDS_URL}?{query}", {"Metadata": "true"})
        waits, gone_waits = iter(_IMDS_WAITS), iter(_IMDS_GONE_WAITS)
        while True:
            outcome = self._ask(call, deadline)
            gone = isinstance(outcome, Answer) and outcome.status == HTTPStatus.GONE
            wait = next(gone_waits if gone else waits, None)
            if not _is_imds_passing(outcome) or wait is None or wait >= deadline.remaining():
                break
            self._sleep(wait)
        if isinstance(outcome, UpstreamUnavailable):
            raise outcome
        return _managed_identity_token(outcome, self._now())

    def _ask(self, call: Call, deadline: Deadline) -> Answer | UpstreamUnavailable:
        try:
            # Not repeatable: IMDS wants a schedule of its own.
            return self._sender.send(call, deadline, repeatable=False)
        except UpstreamUnavailable as error:
            return error


class FederatedTokenFile:
    """An AKS workload identity: the JWT in the file that AZURE_FEDERATED_TOKEN_FILE names."""

    def __init__(self, environ: Mapping[str, str], *, now: Callable[[], float]) -> None:
        self._environ = environ
        self._now = now

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        """Raises Misconfigured when there is no JWT in the file or it has expired."""
        if deadline.remaining() <= 0:
            msg = "The request took too long. Try again."
            raise DeadlineExceeded(msg, cause="no time left to read the federated token file")
        path = self._environ.get("AZURE_FEDERATED_TOKEN_FILE", "")
        try:
            with Path(path).open("rb") as file:
                text = file.read(MAX_TOKEN + 1).decode("ascii").strip()
        except (OSError, ValueError) as error:
            cause = f"AZURE_FEDERATED_TOKEN_FILE cannot be read: {type(error).__name__}"
            raise Misconfigured(_SETUP, cause=cause) from None
        expires_at = unverified_expiry(text) if len(text) <= MAX_TOKEN else None
        if expires_at is None:
            cause = "AZURE_FEDERATED_TOKEN_FILE does not hold a JWT with an expiry"
            raise Misconfigured(_SETUP, cause=cause)
        if expires_at <= self._now():
            cause = "the token in AZURE_FEDERATED_TOKEN_FILE has expired; is the file projected?"
            raise Misconfigured(_SETUP, cause=cause)
        return SubjectToken(Secret(text), SubjectTokenType.JWT, expires_at)


def unverified_expiry(jwt: str) -> int | None:
    """The `exp` of a JWT nobody has verified yet, in epoch seconds; None if there is none."""
    if not _TOKEN.fullmatch(jwt):
        return None
    payload = jwt.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    expires_at = claims.get("exp") if isinstance(claims, dict) else None
    return expires_at if type(expires_at) is int else None


def _is_imds_passing(outcome: Answer | UpstreamUnavailable) -> bool:
    if isinstance(outcome, UpstreamUnavailable):
        return True
    status = outcome.status
    return status in _IMDS_RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _query(version: str, resource: str, client_id: str) -> str:
    fields = {"api-version": version, "resource": resource}
    if client_id:
        fields["client_id"] = client_id
    return urlencode(fields)


def _managed_identity_token(answer: Answer, now: float) -> SubjectToken:
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer, now)
    fields = answer.json()
    token = fields.get("access_token") if isinstance(fields, dict) else None
    expires_on = str(fields.get("expires_on")) if isinstance(fields, dict) else ""
    # App Service and IMDS write the epoch seconds as a string.
    whole = re.fullmatch(r"[0-9]{1,11}", expires_on)
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise _unusable("no JWT in access_token")
    if not whole or int(expires_on) <= now:
        raise _unusable("expires_on is missing, not epoch seconds, or past")
    return SubjectToken(Secret(token), SubjectTokenType.JWT, int(expires_on))


def _unusable(cause: str) -> UpstreamUnavailable:
    msg = "This endpoint could not fetch its own identity. Try again shortly."
    return UpstreamUnavailable(msg, cause=f"managed identity endpoint: {cause}")


def _refusal(answer: Answer, now: float) -> TokenvendError:
    status = answer.status
    wait = retry_after(answer.headers, now)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        msg = "This endpoint fetches its own identity too often. Try again shortly."
        return RateLimited(msg, cause="managed identity endpoint: 429", retry_after=wait or 5)
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if not refused or status in {408, 410}:
        msg = "This endpoint could not fetch its own identity. Try again shortly."
        cause = f"managed identity endpoint: status {status}"
        return UpstreamUnavailable(msg, cause=cause, retry_after=wait)
    causes = {
        400: "no such identity or resource: is the managed identity assigned, is the client id "
        "its own, and does the Application ID URI exist in the tenant?",
        401: "IDENTITY_HEADER was not accepted: restart the app if this lasts",
        403: "access was refused: is something between the app and its identity endpoint?",
        404: "nothing answers there: is a managed identity assigned to this app or VM?",
    }
    cause = causes.get(status, "the request was refused")
    msg = "Azure refused this endpoint its own identity. Ask its operator to look at the log."
    return UpstreamRefused(msg, cause=f"managed identity endpoint: status {status}: {cause}")
