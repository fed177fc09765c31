"""How AWS's services say no: one exception, and its form in each protocol family.

AWS JSON and REST-JSON name the error in `x-amzn-ErrorType`, Query services in an XML element.
https://smithy.io/2.0/aws/protocols/ , "Common errors" of each service's API Reference.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from localcloud.aws.sigv4 import Reason, RefusedError
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

# What JSON services call what SigV4 verification refuses; Query services say the reason itself.
_JSON_KINDS = {
    Reason.MISSING: "MissingAuthenticationTokenException",
    Reason.INCOMPLETE: "IncompleteSignatureException",
    Reason.MISMATCH: "InvalidSignatureException",
    Reason.UNKNOWN_KEY: "UnrecognizedClientException",
    Reason.EXPIRED_SESSION: "ExpiredTokenException",
}


class ServiceError(Exception):
    """An error answer: HTTP status, AWS's name for it, message and further members."""

    def __init__(self, status: int, kind: str, message: str, **members: object) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.members = members


def refused_signature(refused: RefusedError, status: int) -> ServiceError:
    """What a JSON service answers to a request that is not authenticated."""
    return ServiceError(status, _JSON_KINDS[refused.reason], str(refused))


def as_json(error: ServiceError) -> Response:
    """The error on the wire; SDKs read its name from the header or from `__type`."""
    text = str(error)
    body = {"__type": error.kind, "Message": text, "message": text, **error.members}
    fields = (("Content-Type", "application/json"), ("x-amzn-ErrorType", error.kind), request_id())
    return Response(error.status, json.dumps(body).encode(), fields)


def as_query(error: ServiceError, namespace: str, identifier: str) -> Response:
    """The error of a Query service, with the id that its header names too."""
    details = {"Type": "Sender", "Code": error.kind, "Message": str(error)}
    body = (
        f'<ErrorResponse xmlns="{namespace}"><Error>{elements(details)}</Error>'
        f"<RequestId>{identifier}</RequestId></ErrorResponse>"
    )
    return xml(error.status, body, identifier)


def xml(status: int, body: str, identifier: str) -> Response:
    """An XML answer of a Query service."""
    kinds = (("x-amzn-RequestId", identifier), ("Content-Type", "text/xml"))
    return Response(status, body.encode(), kinds)


def elements(values: Mapping[str, str]) -> str:
    """XML elements of these names and texts."""
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())


def request_id() -> tuple[str, str]:
    """A fresh request id's header."""
    return "x-amzn-RequestId", str(uuid.uuid4())
