"""One class per outcome that a caller can act on.

`detail` is safe to show and says what to do next. `cause` is for the operator alone: it goes to
the audit record and the log, never into an answer. Neither ever holds a token, a key or the body
of an upstream's answer; `str()` of an error is its detail, so a stray traceback leaks nothing.
Each class brings its own words for a caller; whoever knows better what to do next says so.
"""

from __future__ import annotations

from typing import ClassVar


class TokenvendError(Exception):
    """An outcome other than a token. `retry_after`: seconds, where trying again makes sense."""

    code: ClassVar[str] = "internal"
    words: ClassVar[str] = "The endpoint failed. Quote the request id to the operator."

    def __init__(
        self, detail: str = "", *, cause: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(detail or self.words)
        self.detail = detail or self.words
        self.cause = cause
        self.retry_after = retry_after


class InvalidRequest(TokenvendError):
    """The request cannot be understood, or asks for what no policy could give."""

    code = "invalid_request"
    words = "The request cannot be understood."


class Unauthenticated(TokenvendError):
    """Nobody proved who is calling."""

    code = "unauthenticated"
    words = "Send exactly one proof of who is calling."


class Denied(TokenvendError):
    """The caller is known and may not have this. The detail never tells the policy."""

    code = "denied"
    words = "This caller may not have that. Quote the request id to the operator."


class NotFound(TokenvendError):
    """No such route."""

    code = "not_found"
    words = "There is no such route; GET /openapi.json lists them."


class MethodNotAllowed(TokenvendError):
    """The route exists under another method."""

    code = "method_not_allowed"

    def __init__(self, detail: str = "", *, allowed: str = "") -> None:
        super().__init__(detail or f"This route takes {allowed}.")
        self.allowed = allowed


class PayloadTooLarge(TokenvendError):
    """The body is larger than any request of ours."""

    code = "payload_too_large"


class UnsupportedMediaType(TokenvendError):
    """The body is not in a format the route reads."""

    code = "unsupported_media_type"


class RateLimited(TokenvendError):
    """A quota is spent, ours or an upstream's."""

    code = "rate_limited"
    words = "A quota is spent. Try again after the time given."


class UpstreamRefused(TokenvendError):
    """Google (or our own platform) said no to *us*: the operator has to mend something."""

    code = "upstream_refused"
    words = (
        "An upstream refused this endpoint. Its operator has to mend this: pass on the request id."
    )


class FederatedTokenRejected(UpstreamRefused):
    """IAM Credentials does not take the federated token: it has to be exchanged anew."""


class UpstreamUnavailable(TokenvendError):
    """An upstream did not answer, or not sensibly; the same request may work later."""

    code = "upstream_unavailable"
    words = "An upstream did not answer sensibly. Try again shortly."


class NotReady(TokenvendError):
    """The endpoint could not vend now. Why is for the operator alone."""

    code = "not_ready"
    words = "This endpoint cannot vend now."


class DeadlineExceeded(TokenvendError):
    """The request's time ran out before an answer was there."""

    code = "deadline_exceeded"
    words = "The request took too long. Try again."


class Misconfigured(TokenvendError):
    """A setting or the policy is wrong; nothing the caller sends can help."""

    code = "misconfigured"
    words = "This endpoint is set up wrongly. Ask its operator to look at the log."
