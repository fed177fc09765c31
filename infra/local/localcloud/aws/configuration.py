"""What AWS's two configuration services share: who may read, and how a refusal looks.

Only sessions of the function's own role may: the template gives it that right and nobody else.
Error shapes: AWS JSON and REST-JSON protocols (https://smithy.io/2.0/aws/protocols/).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from localcloud.aws.accounts import FUNCTION_ROLE
from localcloud.aws.sigv4 import Reason, RefusedError, verify
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts
    from localcloud.wire.web import Request

_KINDS = {
    Reason.MISSING: "MissingAuthenticationTokenException",
    Reason.INCOMPLETE: "IncompleteSignatureException",
    Reason.MISMATCH: "InvalidSignatureException",
    Reason.UNKNOWN_KEY: "UnrecognizedClientException",
    Reason.EXPIRED_SESSION: "ExpiredTokenException",
}


class ServiceError(Exception):
    """An error answer: AWS's name for it, HTTP status, message and further members."""

    def __init__(self, status: int, kind: str, message: str, **members: object) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.members = members

    def answer(self) -> Response:
        """The error on the wire; SDKs read its name from the header or from `__type`."""
        body = {"__type": self.kind, "Message": str(self), "message": str(self), **self.members}
        return Response.json(self.status, body, ("x-amzn-ErrorType", self.kind), request_id())


def authenticate(request: Request, accounts: Accounts, service: str, *, status: int) -> str:
    """The signer's ARN; a refused signature answers `status`. Raises ServiceError."""
    try:
        signed = verify(request, accounts, service=service, region=accounts.aws.region)
    except RefusedError as refused:
        raise ServiceError(status, _KINDS[refused.reason], str(refused)) from None
    return signed.principal.arn


def authorize(accounts: Accounts, arn: str, action: str, resource: str, *, status: int) -> None:
    """Raises ServiceError unless the signer is the function itself."""
    own = f"arn:aws:sts::{accounts.aws.account}:assumed-role/{FUNCTION_ROLE}/"
    if not arn.startswith(own):
        text = (
            f"User: {arn} is not authorized to perform: {action} on resource: {resource} because "
            f"no identity-based policy allows the {action} action"
        )
        raise ServiceError(status, "AccessDeniedException", text)


def request_id() -> tuple[str, str]:
    """A fresh request id's header."""
    return "x-amzn-RequestId", str(uuid.uuid4())
