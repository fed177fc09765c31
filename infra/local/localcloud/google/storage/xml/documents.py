"""The XML API's documents: errors with Google's codes, and elements in order.

https://cloud.google.com/storage/docs/xml-api/reference-status
"""

from __future__ import annotations

import re
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localcloud.google.storage.errors import StorageError

type Element = tuple[str, str | int | Iterable[Element]]
"""A name, and its text or the elements in it."""

LISTING = "http://doc.s3.amazonaws.com/2006-03-01"
"""The namespace of listings."""
MULTIPART = "http://s3.amazonaws.com/doc/2006-03-01/"
"""The namespace of multipart uploads' documents."""
MAX_DOCUMENT = 2 * 1024 * 1024
"""Bytes of a request's document: 10,000 parts with their entity tags fit."""

_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MESSAGES = {
    "AccessDenied": "Access denied.",
    "AuthenticationRequired": "Authentication required.",
    "BadDigest": "The Content-MD5 or x-goog-hash you specified did not match what we received.",
    "EntityTooSmall": "Your proposed upload is smaller than the minimum allowed object size.",
    "InvalidArgument": "Invalid argument.",
    "InvalidPart": (
        "One or more of the specified parts could not be found. The part might not have been "
        "uploaded, or the specified entity tag might not have matched the part's entity tag."
    ),
    "InvalidPartOrder": (
        "The list of parts was not in ascending order. Parts list must be specified in order by "
        "part number."
    ),
    "InvalidRange": "The requested range cannot be satisfied.",
    "MalformedXML": (
        "The XML you provided was not well-formed or did not validate against our published schema."
    ),
    "MissingContentLength": "You must provide the Content-Length HTTP header.",
    "NoSuchBucket": "The specified bucket does not exist.",
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchUpload": (
        "The requested upload was not found. The upload ID may be invalid, or the upload may have "
        "been aborted or completed."
    ),
    "PreconditionFailed": "At least one of the pre-conditions you specified did not hold.",
}
_STATUSES = {
    "AccessDenied": HTTPStatus.FORBIDDEN,
    "AuthenticationRequired": HTTPStatus.UNAUTHORIZED,
    "InsufficientStorage": HTTPStatus.INSUFFICIENT_STORAGE,
    "InvalidRange": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "MethodNotAllowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "MissingContentLength": HTTPStatus.LENGTH_REQUIRED,
    "NoSuchBucket": HTTPStatus.NOT_FOUND,
    "NoSuchKey": HTTPStatus.NOT_FOUND,
    "NoSuchUpload": HTTPStatus.NOT_FOUND,
    "PreconditionFailed": HTTPStatus.PRECONDITION_FAILED,
}
# The JSON API's reasons, which the shared parts of both raise.
_CODES = {
    "authError": "AuthenticationRequired",
    "conditionNotMet": "PreconditionFailed",
    "forbidden": "AccessDenied",
    "insufficientStorage": "InsufficientStorage",
    "insufficientPermissions": "AccessDenied",
    "notImplemented": "MethodNotAllowed",
    "requestedRangeNotSatisfiable": "InvalidRange",
    # Of a caller without a token the XML API says what it says of any other: 403.
    "required": "AccessDenied",
}


class XmlError(Exception):
    """A refusal by its code; `details` say what of."""

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.details = details

    @classmethod
    def of(cls, refusal: StorageError) -> XmlError:
        """What the JSON API would refuse, in this API's words."""
        if refusal.code == HTTPStatus.NOT_FOUND:
            if refusal.message == _MESSAGES["NoSuchBucket"]:
                return cls("NoSuchBucket")
            return cls("NoSuchKey", refusal.message)
        code = _CODES.get(refusal.reason, "InvalidArgument")
        if code in ("PreconditionFailed", "InvalidRange"):
            return cls(code, refusal.location)
        return cls(code, refusal.message)

    def response(self) -> Response:
        """The refusal on the wire."""
        inside: list[Element] = [("Code", self.code)]
        inside.append(("Message", _MESSAGES.get(self.code, self.details)))
        if self.details and self.code in _MESSAGES:
            inside.append(("Details", self.details))
        status = _STATUSES.get(self.code, HTTPStatus.BAD_REQUEST)
        return document(("Error", inside), status=status)


def document(root: Element, *, namespace: str = "", status: int = HTTPStatus.OK) -> Response:
    """An answer whose body is one element."""
    name, inside = root
    opening = f"{name} xmlns='{namespace}'" if namespace else name
    text = f"<?xml version='1.0' encoding='UTF-8'?><{opening}>{_inside(inside)}</{name}>"
    kind = ("Content-Type", "application/xml; charset=UTF-8")
    return Response(status, text.encode(), (kind,))


def read_document(body: bytes, root: str) -> ET.Element:
    """A request's document, its namespace aside; raises the 400 of anything else than `root`."""
    # A document type could declare entities: no request has one.
    if len(body) > MAX_DOCUMENT or b"<!" in body:
        raise XmlError("MalformedXML")
    try:
        parsed = ET.fromstring(body)  # noqa: S314 -- no entities, see above
    except ET.ParseError:
        raise XmlError("MalformedXML") from None
    for element in parsed.iter():
        element.tag = element.tag.rpartition("}")[2]
    if parsed.tag != root:
        raise XmlError("MalformedXML")
    return parsed


def http_date(seconds: float) -> str:
    """RFC 9110's date."""
    return formatdate(seconds, usegmt=True)


def _inside(value: str | int | Iterable[Element]) -> str:
    if isinstance(value, str | int):
        # What XML has no way to say would make the whole document unreadable.
        return escape(_NOT_XML.sub("\ufffd", str(value)))
    return "".join(f"<{name}>{_inside(inside)}</{name}>" for name, inside in value)
