"""Verifies AWS Signature Version 4 in the Authorization header, as strictly as AWS.

Botocore's own canonicalisation is the reference; around it stand the checks that a signer never
makes: credential scope, clock skew, session token and its end, required and forbidden unsigned
headers, the payload hash. Presigned queries are refused: nothing here is called with one.
Specification: "AWS Signature Version 4 for API requests", IAM User Guide.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

if TYPE_CHECKING:
    from localcloud.aws.accounts import AccessKey, Accounts, Principal
    from localcloud.wire.web import Request

# How far a request's date may be from now, by service; the others take five minutes.
WINDOWS = {"sts": timedelta(minutes=15)}
WINDOW = timedelta(minutes=5)
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([A-Za-z0-9]{16,128})/(\d{8})/([a-z0-9-]+)/([a-z0-9-]+)"
    r"/aws4_request, *SignedHeaders=([a-z0-9;._-]+), *Signature=([0-9a-f]{64})"
)
# Proxies may add or join these on the way; every other repeated header would let a second,
# unseen value ride along with a signed one.
_ONCE = ("authorization", "host", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256")


class Reason(StrEnum):
    """Why a request is refused; each service spells these in codes of its own."""

    MISSING = "MissingAuthenticationToken"
    INCOMPLETE = "IncompleteSignature"
    MISMATCH = "SignatureDoesNotMatch"
    UNKNOWN_KEY = "InvalidClientTokenId"
    EXPIRED_SESSION = "ExpiredToken"


class RefusedError(Exception):
    """The request is not authenticated; the text is AWS's own message."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Signed:
    """A verified request's signer."""

    key: AccessKey

    @property
    def principal(self) -> Principal:
        """Whose key it is."""
        return self.key.principal


def verify(request: Request, accounts: Accounts, *, service: str, region: str) -> Signed:
    """The signer of a request to one service in one region; raises RefusedError."""
    claim = _Claim.of(request)
    claim.check_headers(request)
    claim.check_scope(service, region)
    now = datetime.fromtimestamp(accounts.clock(), UTC)
    claim.check_date(now, WINDOWS.get(service, WINDOW))
    key = accounts.find(claim.key_id)
    if key is None or not _same(key.token, request.headers.get("X-Amz-Security-Token")):
        raise RefusedError(
            Reason.UNKNOWN_KEY, "The security token included in the request is invalid."
        )
    if key.expires is not None and accounts.clock() >= key.expires:
        raise RefusedError(
            Reason.EXPIRED_SESSION, "The security token included in the request is expired"
        )
    _check_payload_hash(request)
    if not _same(_signature(request, claim, key, service, region), claim.signature):
        raise _mismatch()
    return Signed(key)


@dataclass(frozen=True)
class _Claim:
    """What the Authorization header says, none of it believed yet."""

    key_id: str
    day: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str
    date: str

    @classmethod
    def of(cls, request: Request) -> _Claim:
        header = request.headers.get("Authorization").strip()
        if not header:
            raise RefusedError(Reason.MISSING, "Request is missing Authentication Token")
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            # The header itself holds a credential's name: it is not repeated as AWS would.
            raise RefusedError(
                Reason.INCOMPLETE,
                "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' "
                "parameters of AWS4-HMAC-SHA256.",
            )
        key_id, day, region, service, signed, signature = match.groups()
        date = request.headers.get("X-Amz-Date").strip()
        return cls(key_id, day, region, service, tuple(signed.split(";")), signature, date)

    def check_headers(self, request: Request) -> None:
        present = {name.lower() for name, _ in request.headers.fields}
        if any(len(request.headers.all(name)) > 1 for name in _ONCE):
            raise RefusedError(Reason.INCOMPLETE, "A header of the signature appears twice.")
        if list(self.signed) != sorted(set(self.signed)) or not set(self.signed) <= present:
            raise _mismatch()
        if "host" not in self.signed:
            raise RefusedError(
                Reason.MISMATCH,
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            )
        for name in sorted(present):
            if name.startswith("x-amz-") and name not in self.signed:
                raise RefusedError(
                    Reason.MISMATCH, f"'{name}' must be a 'SignedHeader' in the AWS Authorization."
                )

    def check_scope(self, service: str, region: str) -> None:
        if self.region != region:
            text = f"Credential should be scoped to a valid region, not '{self.region}'. "
            raise RefusedError(Reason.MISMATCH, text)
        if self.service != service:
            text = f"Credential should be scoped to correct service: '{service}'. "
            raise RefusedError(Reason.MISMATCH, text)

    def check_date(self, now: datetime, window: timedelta) -> None:
        try:
            when = datetime.strptime(self.date, _TIMESTAMP).replace(tzinfo=UTC)
        except ValueError:
            raise RefusedError(
                Reason.INCOMPLETE,
                "Date must be in ISO-8601 'basic format'. Got no usable 'X-Amz-Date'.",
            ) from None
        if self.date[:8] != self.day:
            raise RefusedError(
                Reason.MISMATCH,
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date "
                f"from HTTP: '{self.day}' != '{self.date[:8]}', from '{self.date}'.",
            )
        clock, earliest, latest = (
            t.strftime(_TIMESTAMP) for t in (now, now - window, now + window)
        )
        minutes = int(window.total_seconds()) // 60
        if when < now - window:
            text = f"Signature expired: {self.date} is now earlier than {earliest}"
            raise RefusedError(Reason.MISMATCH, f"{text} ({clock} - {minutes} min.)")
        if when > now + window:
            text = f"Signature not yet current: {self.date} is still later than {latest}"
            raise RefusedError(Reason.MISMATCH, f"{text} ({clock} + {minutes} min.)")


class _Canonical(SigV4Auth):
    """Botocore's canonical request over the headers that were signed, whichever they are."""

    def __init__(self, key: AccessKey, service: str, region: str, fields: HTTPHeaders) -> None:
        super().__init__(Credentials(key.id, key.secret, key.token), service, region)
        self._fields = fields

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:  # noqa: ARG002
        return self._fields


def _signature(request: Request, claim: _Claim, key: AccessKey, service: str, region: str) -> str:
    fields = HTTPHeaders()
    for name, value in request.headers.fields:
        if name.lower() in claim.signed:
            fields[name.lower()] = value
    signed = AWSRequest(
        method=request.method,
        url=f"https://{request.host}{request.path}?{_decoded_once(request.query)}",
        data=request.body,
    )
    signed.context["timestamp"] = claim.date
    auth = _Canonical(key, service, region, fields)
    text = auth.string_to_sign(signed, auth.canonical_request(signed))
    signature: str = auth.signature(text, signed)
    return signature


def _decoded_once(query: str) -> str:
    """The query as AWS spells it: decoded, then encoded its own way; `+` is a plus, not a space."""
    parts = [part.partition("=") for part in query.split("&") if part]
    return "&".join(f"{_encoded(name)}={_encoded(value)}" for name, _, value in parts)


def _encoded(text: str) -> str:
    return quote(unquote(text), safe="-_.~")


def _check_payload_hash(request: Request) -> None:
    stated = request.headers.get("X-Amz-Content-Sha256")
    if stated and not _same(stated, hashlib.sha256(request.body).hexdigest()):
        raise _mismatch()


def _mismatch() -> RefusedError:
    return RefusedError(
        Reason.MISMATCH,
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method. Consult the service documentation for "
        "details.",
    )


def _same(ours: str, theirs: str) -> bool:
    return hmac.compare_digest(ours.encode(), theirs.encode())
