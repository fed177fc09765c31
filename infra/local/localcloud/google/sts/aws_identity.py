"""AWS callers: a signed GetCallerIdentity request, made by Google on the caller's behalf.

The request is rebuilt from named parts, never forwarded as given: only AWS STS over https, only
POST, only the action GetCallerIdentity. The header `x-goog-cloud-target-resource` must name the
provider, or a request signed for another one could be replayed here. AWS's answer is parsed
without DTDs and must be of the provider's account.
https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from localcloud.google.core.errors import OAuthError
from localcloud.wire.web import Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TOKEN = 64 * 1024
MAX_ANSWER = 64 * 1024
MAX_HEADERS = 32
_HOST = re.compile(r"sts(\.[a-z]{2}(-[a-z]+)+-[0-9])?\.amazonaws\.com")
_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_QUERY = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")]
_TARGET = "x-goog-cloud-target-resource"
_REQUIRED = ("authorization", "host", "x-amz-date", _TARGET)


@dataclass(frozen=True, slots=True)
class AwsIdentity:
    """GetCallerIdentity's answer."""

    account: str
    arn: str
    user_id: str


def verify(
    subject_token: str, provider: str, account: str, fetch: Callable[[Request], Response]
) -> AwsIdentity:
    """The identity that AWS STS confirms; raises OAuthError.

    `provider` is the provider's resource name, `account` the AWS account that it trusts.
    """
    request = _request(subject_token, provider)
    identity = _parse(fetch(request))
    if identity.account != account:
        text = "The AWS account of the given credential does not match the provider's account."
        raise OAuthError("unauthorized_client", text)
    return identity


def _request(subject_token: str, provider: str) -> Request:
    if len(subject_token) > MAX_TOKEN:
        _refuse("it is too long")
    try:
        token = json.loads(unquote_plus(subject_token, errors="strict"))
    except (ValueError, RecursionError):
        _refuse("it is not URL-encoded JSON")
    if not isinstance(token, dict) or not {"url", "method", "headers"} <= token.keys():
        _refuse("url, method and headers are required")
    if token["method"] != "POST":
        _refuse("the method must be POST")
    host, target = _destination(token["url"])
    headers = _headers(token["headers"])
    for name in _REQUIRED:
        if not headers.get(name):
            _refuse(f"the header {name} is required")
    if headers["host"].lower() != host:
        _refuse("the header host does not match the url")
    resource = f"//iam.googleapis.com/{provider}"
    if headers[_TARGET] not in (resource, f"https:{resource}"):
        _refuse(f"the header {_TARGET} does not match the audience")
    return Request("POST", host, target, Headers(headers.items()))


def _destination(url: Any) -> tuple[str, str]:
    if not isinstance(url, str) or not url.isascii() or re.search(r"[\x00-\x20\x7f\\#]", url):
        _refuse("the url is not valid")
    try:
        parts = urlsplit(url)
    except ValueError:
        _refuse("the url is not valid")
    # netloc, not hostname: userinfo, a port or capital letters must not slip through.
    if parts.scheme != "https" or not _HOST.fullmatch(parts.netloc):
        _refuse("the url is not an AWS STS endpoint")
    if parts.path not in ("", "/") or "%" in parts.query:
        _refuse("the url is not a GetCallerIdentity request")
    if sorted(parse_qsl(parts.query, keep_blank_values=True)) != _QUERY:
        _refuse("the url is not a GetCallerIdentity request")
    return parts.netloc, f"/?{parts.query}"


def _headers(entries: Any) -> dict[str, str]:
    if not isinstance(entries, list) or len(entries) > MAX_HEADERS:
        _refuse("the headers must be a list")
    headers: dict[str, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.keys() != {"key", "value"}:
            _refuse("each header must have a key and a value")
        name, value = entry["key"], entry["value"]
        if not isinstance(name, str) or not _FIELD.fullmatch(name):
            _refuse("a header has an invalid name")
        if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f]", value):
            _refuse("a header has an invalid value")
        # Java lists the target resource twice; two different values would be a smuggled request.
        if headers.setdefault(name.lower(), value) != value:
            _refuse(f"the header {name.lower()} is repeated with different values")
    if headers.keys() & {"transfer-encoding", "content-length", "connection"}:
        _refuse("it carries a header of the connection")
    return headers


def _refuse(reason: str) -> NoReturn:
    text = f"The subject_token is not a valid AWS GetCallerIdentity token: {reason}."
    raise OAuthError("invalid_request", text)


class _NoDoctype(ET.TreeBuilder):
    """Entities are how XML answers attack their readers; AWS never sends a DTD."""

    def doctype(self, name: str, *_: str | None) -> NoReturn:
        message = f"unexpected DTD {name}"
        raise ValueError(message)


def _parse(answer: Response) -> AwsIdentity:
    root = _xml(answer)
    if answer.status != HTTPStatus.OK:
        error = {_local(node.tag): (node.text or "").strip() for node in root.iter()}
        text = (
            f"Received invalid AWS response of type {error.get('Code', 'Unknown')} "
            f"with error message: {error.get('Message', '')}"
        )
        raise OAuthError("invalid_grant", text)
    results = [node for node in root if _local(node.tag) == "GetCallerIdentityResult"]
    if _local(root.tag) != "GetCallerIdentityResponse" or len(results) != 1:
        raise _unreadable()
    found = [(_local(node.tag), (node.text or "").strip()) for node in results[0]]
    fields = dict(found)
    if sorted(name for name, text in found if text) != ["Account", "Arn", "UserId"]:
        raise _unreadable()
    return AwsIdentity(fields["Account"], fields["Arn"], fields["UserId"])


def _xml(answer: Response) -> ET.Element:
    if len(answer.body) > MAX_ANSWER:
        raise _unreadable()
    try:
        parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314 - it refuses a DTD
        return ET.fromstring(answer.body, parser)  # noqa: S314
    except (ET.ParseError, ValueError):
        raise _unreadable() from None


def _unreadable() -> OAuthError:
    return OAuthError("invalid_grant", "Received invalid AWS response.")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
