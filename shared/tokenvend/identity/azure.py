"""The Azure subject token: a JWT that Entra, or an AKS cluster, issues to our workload identity.

Three places give one, all over plain http on this machine or from a file: App Service and
Functions (`IDENTITY_ENDPOINT`), the VM's metadata service (IMDS), and AKS (a projected service
account token). Google verifies the token; here it is only carried, so nothing is decoded but the
expiry of a token from a file.

azure-identity would do the same, and is heavy to import.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
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
from tokenvend.transport import Call, retry_after
from tokenvend.transport.egress import is_platform_host
from tokenvend.wire import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.deadline import Deadline
    from tokenvend.transport import Answer, Sender

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


def azure_identity(
    environ: Mapping[str, str],
    sender: Sender,
    *,
    resource: str,
    client_id: str = "",
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> Callable[[Deadline], SubjectToken]:
    """The identity this process has: App Service, else an AKS token file, else the VM's.

    `resource`: the Application ID URI that Google's provider has as its audience. `client_id`:
    of a user-assigned identity; without it the system-assigned one answers. `now`: epoch seconds.
    What it gives raises Misconfigured, UpstreamRefused, RateLimited, UpstreamUnavailable,
    DeadlineExceeded.
    """

    def app_service(deadline: Deadline) -> SubjectToken:
        # Endpoint and header are read at each fetch: the platform rotates them.
        call = _app_service_call(environ, _query(APP_SERVICE_VERSION, resource, client_id))
        return _managed_identity_token(sender.send(call, deadline, repeatable=True), now())

    def virtual_machine(deadline: Deadline) -> SubjectToken:
        url = f"{IMDS_URL}?{_query(IMDS_VERSION, resource, client_id)}"
        answer = _ask_imds(Call("GET", url, {"Metadata": "true"}), sender, sleep, deadline)
        return _managed_identity_token(answer, now())

    if environ.get("IDENTITY_ENDPOINT"):
        return kept(app_service, now)
    if environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        # The kubelet keeps the file fresh, and reading it costs nothing: no copy of ours.
        return partial(_read_token_file, environ, now)
    return kept(virtual_machine, now)


def kept(
    fetch: Callable[[Deadline], SubjectToken], now: Callable[[], float]
) -> Callable[[Deadline], SubjectToken]:
    """What `fetch` gives, kept until half of its life is over and fetched once at a time.

    A token that is still valid is served while fetching a new one fails.
    """
    tokens: Cache[None, tuple[int, SubjectToken]] = Cache(
        life=lambda entry: (entry[0], entry[1].expires_at),
        now=now,
        owner=lambda _: ("", ""),
        size=1,
        renew_left=half_left,
    )

    def subject_token(deadline: Deadline) -> SubjectToken:
        cached = tokens.get_or_mint(None, lambda lent: (int(now()), fetch(lent)), deadline)
        return replace(cached.value[1], bridged=cached.cause)

    return subject_token


def _read_token_file(
    environ: Mapping[str, str], now: Callable[[], float], deadline: Deadline
) -> SubjectToken:
    if deadline.remaining() <= 0:
        raise DeadlineExceeded(cause="no time left to read the federated token file")
    try:
        with Path(environ["AZURE_FEDERATED_TOKEN_FILE"]).open("rb") as file:
            text = file.read(MAX_TOKEN + 1).decode("ascii").strip()
    except (OSError, ValueError) as error:
        cause = f"AZURE_FEDERATED_TOKEN_FILE cannot be read: {type(error).__name__}"
        raise Misconfigured(cause=cause) from None
    expires_at = _unverified_expiry(text) if len(text) <= MAX_TOKEN else None
    if expires_at is None:
        cause = "AZURE_FEDERATED_TOKEN_FILE does not hold a JWT with an expiry"
        raise Misconfigured(cause=cause)
    if expires_at <= now():
        cause = "the token in AZURE_FEDERATED_TOKEN_FILE has expired; is the file projected?"
        raise Misconfigured(cause=cause)
    return SubjectToken(Secret(text), SubjectTokenType.JWT, expires_at)


def _unverified_expiry(text: str) -> int | None:
    """The `exp` of a JWT, in epoch seconds; None if there is none."""
    try:
        _, claims = jwt.read_unverified(text)
    except ValueError:
        return None
    expires_at = claims.get("exp")
    return expires_at if type(expires_at) is int else None


def _app_service_call(environ: Mapping[str, str], query: str) -> Call:
    endpoint = environ.get("IDENTITY_ENDPOINT", "")
    header = environ.get("IDENTITY_HEADER", "")
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "http" or not is_platform_host(parts.hostname or "") or parts.query:
        cause = "IDENTITY_ENDPOINT is no http address of this machine; only the platform sets it"
        raise Misconfigured(cause=cause)
    if not header:
        cause = (
            "IDENTITY_ENDPOINT is set without IDENTITY_HEADER: not App Service or Functions "
            "(Azure Arc is not supported), or the identity is switched off"
        )
        raise Misconfigured(cause=cause)
    return Call("GET", f"{endpoint}?{query}", {"X-IDENTITY-HEADER": header})


def _ask_imds(
    call: Call, sender: Sender, sleep: Callable[[float], None], deadline: Deadline
) -> Answer:
    waits, gone_waits = iter(_IMDS_WAITS), iter(_IMDS_GONE_WAITS)
    while True:
        try:
            # Not repeatable: IMDS wants a schedule of its own.
            answer = sender.send(call, deadline, repeatable=False)
        except UpstreamUnavailable:
            wait = next(waits, math.inf)
            if wait >= deadline.remaining():
                raise
        else:
            status = answer.status
            passing = status in _IMDS_RETRIED or status >= HTTPStatus.INTERNAL_SERVER_ERROR
            wait = next(gone_waits if status == HTTPStatus.GONE else waits, math.inf)
            if not passing or wait >= deadline.remaining():
                return answer
        sleep(wait)


def _query(version: str, resource: str, client_id: str) -> str:
    fields = {"api-version": version, "resource": resource}
    if client_id:
        fields["client_id"] = client_id
    return urlencode(fields)


def _managed_identity_token(answer: Answer, now: float) -> SubjectToken:
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer, now)
    document = answer.json()
    fields = document if isinstance(document, dict) else {}
    # App Service and IMDS write the epoch seconds as a string.
    token, expires_on = fields.get("access_token"), str(fields.get("expires_on"))
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise UpstreamUnavailable(cause="managed identity endpoint: no JWT in access_token")
    if not re.fullmatch(r"[0-9]{1,11}", expires_on) or int(expires_on) <= now:
        cause = "managed identity endpoint: expires_on is missing, not epoch seconds, or past"
        raise UpstreamUnavailable(cause=cause)
    return SubjectToken(Secret(token), SubjectTokenType.JWT, int(expires_on))


def _refusal(answer: Answer, now: float) -> TokenvendError:
    status, wait = answer.status, retry_after(answer.headers, now)
    cause = f"managed identity endpoint: status {status}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(cause=cause, retry_after=wait)
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if not refused or status in {408, 410}:
        return UpstreamUnavailable(cause=cause, retry_after=wait)
    causes = {
        400: "no such identity or resource: is the managed identity assigned, is the client id "
        "its own, and does the Application ID URI exist in the tenant?",
        401: "IDENTITY_HEADER was not accepted: restart the app if this lasts",
        403: "access was refused: is something between the app and its identity endpoint?",
        404: "nothing answers there: is a managed identity assigned to this app or VM?",
    }
    return UpstreamRefused(cause=f"{cause}: {causes.get(status, 'the request was refused')}")
