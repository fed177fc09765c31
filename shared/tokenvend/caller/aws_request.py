"""Callers that prove an AWS identity with a signed GetCallerIdentity request as subject token.

The caller sends, in Google's form, a request to AWS STS that it signed and did not send (RFC 8693
token type `urn:ietf:params:aws:token-type:aws4_request`). We rebuild that request from the few
fields we know, never forward it: the host comes from our own table, method, path and parameters are
ours, and only headers that the signature covers go along (CVE-2020-16250, CVE-2022-2385).

Refused without a call: everything that is not exactly that request, regions that are not
configured, dates outside MAX_AGE and MAX_SKEW, a target resource that is not ours or not signed. A
request without a signed target was meant for nobody in particular, and whoever sees it can send it
here: without `require_signed_audience` it counts, for google-auth in Python and Node, which do
not sign it. Inside MAX_AGE the same request may come more than once, as Google's Node client sends
it.

Formats: Google Cloud "Workload identity federation with AWS"; AWS "Signature Version 4 for API
requests"; AWS STS API Reference 2011-06-15.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from tokenvend.caller.aws import principal
from tokenvend.errors import InvalidRequest, Unauthenticated, UpstreamUnavailable
from tokenvend.identity import aws_sts
from tokenvend.transport import Call
from tokenvend.wire.objects import read_object

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tokenvend.deadline import Deadline
    from tokenvend.model import AwsCaller, Secret
    from tokenvend.transport import Sender

MAX_TOKEN = 16 * 1024
"""Characters of the URL-encoded token; a session token takes 1 to 4 KB of it."""
MAX_AGE = 300
"""Seconds after its date that a request counts. AWS itself would take it for 15 minutes."""
MAX_SKEW = 60
"""Seconds that its date may lie ahead of our clock."""

TARGET = "x-goog-cloud-target-resource"

# Compared as text, not parsed: every other spelling of these two parameters is another request.
_QUERIES = (
    "?Action=GetCallerIdentity&Version=2011-06-15",
    "?Version=2011-06-15&Action=GetCallerIdentity",
)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[A-Za-z0-9]{16,128})/(?P<day>[0-9]{8})/"
    r"(?P<region>[a-z0-9-]{1,32})/(?P<service>[a-z0-9-]{1,32})/aws4_request, ?"
    r"SignedHeaders=(?P<signed>[a-z0-9-]+(?:;[a-z0-9-]+)*), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_HEADERS = {
    "authorization": re.compile(r"[ -~]{1,1024}"),
    "host": re.compile(r"[a-z0-9.-]{1,128}"),
    "x-amz-date": re.compile(r"[0-9]{8}T[0-9]{6}Z"),
    "x-amz-security-token": re.compile(r"[A-Za-z0-9+/=_-]{1,8192}"),
    # Of nothing: the request has no body.
    "x-amz-content-sha256": re.compile(hashlib.sha256().hexdigest()),
    TARGET: re.compile(r"[!-~]{1,2048}"),
}
_REQUIRED = ("authorization", "host", "x-amz-date", TARGET)
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")


def verify_aws_request(
    token: Secret,
    audience: str,
    now: float,
    deadline: Deadline,
    *,
    regions: Mapping[str, str],
    require_signed_audience: bool,
    sender: Sender,
) -> AwsCaller:
    """The IAM principal that signed the request. `now`: epoch seconds.

    `token` is the subject token as the form or JSON field held it, still URL-encoded itself.
    `audience`: what it must name in x-goog-cloud-target-resource, this endpoint or a grant of its.
    `regions`: whose AWS STS we ask, by its host. Raises InvalidRequest for what is not such a
    request, Unauthenticated for one that proves nothing to us, RateLimited, UpstreamUnavailable or
    DeadlineExceeded for AWS STS's part.
    """
    document = _read(token)
    host = _host_of(document, regions)
    headers = _headers(document.get("headers"), host)
    signed = _check_signature(headers, regions[host], now)
    _check_target(headers[TARGET], audience)
    if require_signed_audience and TARGET not in signed:
        raise Unauthenticated(
            f"The request's {TARGET} must be among its signed headers.",
            cause="AWS subject token with an unsigned audience",
        )
    call = Call(
        "POST",
        f"https://{host}/{_QUERIES[0]}",
        # The transport sets Host from the URL, to the value that was signed.
        {name: headers[name] for name in ("authorization", *signed) if name != "host"},
    )
    answer = sender.send(call, deadline, repeatable=True)
    result = aws_sts.result(answer, "GetCallerIdentity", now, _refused)
    arn = aws_sts.text(result, "Arn")
    if arn.split(":")[1:2] != [aws_sts.partition(regions[host])]:
        raise UpstreamUnavailable(cause="AWS STS named a principal of another partition")
    return principal(arn, aws_sts.text(result, "Account"))


def _read(token: Secret) -> dict[str, Any]:
    text = token.reveal()
    if len(text) > MAX_TOKEN:
        raise InvalidRequest(f"The subject token is longer than {MAX_TOKEN} characters.")
    try:
        document = read_object(unquote_to_bytes(text.replace("+", " ")))
    except ValueError:
        document = {}
    if document.keys() != {"url", "method", "headers"}:
        raise InvalidRequest(
            "The subject token must be URL-encoded JSON with `url`, `method` and `headers`."
        )
    return document


def _host_of(document: Mapping[str, Any], hosts: Collection[str]) -> str:
    """The host of a configured region's AWS STS that the request is for."""
    for host in hosts:
        urls = [f"https://{host}{slash}{query}" for slash in ("", "/") for query in _QUERIES]
        if document["method"] == "POST" and document["url"] in urls:
            return host
    raise InvalidRequest(
        f"The signed request must be POST https://sts.REGION.amazonaws.com{_QUERIES[0]}, in a "
        "region that this endpoint accepts."
    )


def _headers(entries: object, host: str) -> dict[str, str]:
    """The headers we know, each once, lower case."""
    if not isinstance(entries, list):
        raise InvalidRequest("The signed request's `headers` must be a list of {key, value}.")
    headers: dict[str, str] = {}
    for entry in entries:
        name, value = _header(entry)
        # Google's Java client lists the target resource twice; the same value twice is one value.
        if name in headers and (name != TARGET or headers[name] != value):
            raise InvalidRequest(f"The signed request has the header {name} more than once.")
        headers[name] = value
    missing = [name for name in _REQUIRED if name not in headers]
    if missing or headers["host"] != host:
        raise InvalidRequest(
            f"The signed request needs the headers {', '.join(_REQUIRED)}, host as in its URL."
        )
    return headers


def _header(entry: object) -> tuple[str, str]:
    pair = entry if isinstance(entry, dict) else {}
    name, value = pair.get("key"), pair.get("value")
    if pair.keys() != {"key", "value"} or not isinstance(name, str) or not isinstance(value, str):
        raise InvalidRequest("Every header of the signed request must be {key, value}, both text.")
    pattern = _HEADERS.get(name.lower())
    if pattern is None:
        shown = name if _HEADER_NAME.fullmatch(name) else "that this endpoint does not know"
        raise InvalidRequest(f"The signed request has a header {shown}: leave it out.")
    if not pattern.fullmatch(value):
        raise InvalidRequest(f"The signed request's header {name.lower()} is malformed.")
    return name.lower(), value


def _check_signature(headers: Mapping[str, str], region: str, now: float) -> tuple[str, ...]:
    """The signed headers' names, once scope and date fit; AWS alone can check the signature."""
    authorization = _AUTHORIZATION.fullmatch(headers["authorization"])
    if authorization is None:
        raise InvalidRequest("The signed request's header authorization is malformed.")
    signed = tuple(authorization["signed"].split(";"))
    covered = {name for name in headers if name == "host" or name.startswith("x-amz-")}
    if len(set(signed)) != len(signed) or not covered <= set(signed) <= headers.keys():
        raise InvalidRequest(
            "The signature must cover host and every x-amz- header, and only headers given."
        )
    if (authorization["region"], authorization["service"]) != (region, "sts"):
        raise InvalidRequest(
            "The signature must be for the service sts in the region of the request's host."
        )
    date = headers["x-amz-date"]
    try:
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise InvalidRequest("The signed request's header x-amz-date is malformed.") from None
    if date[:8] != authorization["day"] or not -MAX_SKEW <= now - signed_at <= MAX_AGE:
        raise Unauthenticated(
            f"The request was not signed within the last {MAX_AGE} seconds: sign a new one.",
            cause="AWS subject token out of its time",
        )
    return signed


def _check_target(target: str, audience: str) -> None:
    if target.startswith(("//iam.googleapis.com/", "https://iam.googleapis.com/")):
        # A request for Google's provider is a Google subject token: it must not work twice.
        raise Unauthenticated(
            "The request is signed for a Google provider: sign one for this endpoint.",
            cause="AWS subject token meant for Google",
        )
    if target != audience:
        raise Unauthenticated(
            f"The request's {TARGET} must be this endpoint's audience.",
            cause="AWS subject token for another audience",
        )


def _refused(status: int, code: str) -> Unauthenticated:
    return Unauthenticated(
        "AWS does not accept the signed request: sign a new one with valid credentials.",
        cause=f"AWS STS answered {status}, {code}",
    )
