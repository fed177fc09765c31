"""Google's two error shapes: google.rpc.Status for APIs, RFC 6749 for the token endpoint.

The texts are Google's own where they are known. No text carries a token or a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    # What the embedded cloud leaves out. google/rpc/code.proto says 501, which clients retry.
    "UNIMPLEMENTED": 405,
}
"""google.rpc.Code names to HTTP statuses (google/rpc/code.proto)."""

NOT_FOUND = "Requested entity was not found."
ALREADY_EXISTS = "Requested entity already exists"
FAILED_PRECONDITION = "Precondition check failed."

MISSING_CREDENTIALS = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login "
    "cookie or other valid authentication credential. See "
    "https://developers.google.com/identity/sign-in/web/devconsole-project."
)
INVALID_CREDENTIALS = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie "
    "or other valid authentication credential. See "
    "https://developers.google.com/identity/sign-in/web/devconsole-project."
)


@dataclass(eq=False)
class GoogleError(Exception):
    """A refusal in google.rpc.Status form."""

    status: str
    message: str
    details: tuple[Mapping[str, Any], ...] = ()

    @property
    def code(self) -> int:
        """The HTTP status."""
        return CODES[self.status]

    def response(self) -> Response:
        """The refusal on the wire."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = list(self.details)
        extra = (("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"'),)
        return Response.json(
            self.code, {"error": error}, *(extra if self.status == "UNAUTHENTICATED" else ())
        )


@dataclass(eq=False)
class OAuthError(Exception):
    """A refusal of the token endpoint (RFC 6749 section 5.2)."""

    error: str
    description: str
    code: int = 400

    def response(self) -> Response:
        """The refusal on the wire."""
        body = {"error": self.error, "error_description": self.description}
        return Response.json(self.code, body)


def error_info(reason: str, domain: str, **metadata: str) -> dict[str, Any]:
    """A google.rpc.ErrorInfo detail."""
    kind = "type.googleapis.com/google.rpc.ErrorInfo"
    return {"@type": kind, "reason": reason, "domain": domain, "metadata": metadata}


def invalid_argument(message: str, *fields: str) -> GoogleError:
    """A 400; `fields` are named as google.rpc.BadRequest violations."""
    if not fields:
        return GoogleError("INVALID_ARGUMENT", message)
    violations = [{"field": name, "description": message} for name in fields]
    kind = "type.googleapis.com/google.rpc.BadRequest"
    return GoogleError(
        "INVALID_ARGUMENT", message, ({"@type": kind, "fieldViolations": violations},)
    )


def permission_denied(permission: str, resource: str = "") -> GoogleError:
    """The 403 of IAM, which does not tell a missing grant from a missing resource."""
    on = f"resource '{resource}'" if resource else "resource"
    metadata = {"permission": permission} | ({"resource": resource} if resource else {})
    return GoogleError(
        "PERMISSION_DENIED",
        f"Permission '{permission}' denied on {on} (or it may not exist).",
        (error_info("IAM_PERMISSION_DENIED", "iam.googleapis.com", **metadata),),
    )


def not_served(request: Request) -> GoogleError:
    """The answer for a route that this stand-in does not serve: it never pretends."""
    text = (
        f"The embedded cloud does not serve {request.method} {request.host}{request.path}; "
        "`tokenvend local routes` lists what it serves."
    )
    return GoogleError("UNIMPLEMENTED", text)
