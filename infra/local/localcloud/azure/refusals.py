"""Entra's errors: one shape, told apart by the number behind AADSTS.

Source: "Microsoft Entra authentication and authorization error codes".
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from localcloud.wire.web import Response

LOGIN = "login.microsoftonline.com"


class EntraError(Exception):
    """What Entra refuses; `code` is its number, `error` OAuth's word, the text Entra's own."""

    def __init__(self, code: int, error: str, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.error = error
        self.status = status

    def answer(self, now: float) -> Response:
        """The error as an answer; `now` is epoch seconds."""
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        ids = f"Trace ID: {trace} Correlation ID: {correlation} Timestamp: {moment}"
        return Response.json(
            self.status,
            {
                "error": self.error,
                "error_description": f"AADSTS{self.code}: {self} {ids}",
                "error_codes": [self.code],
                "timestamp": moment,
                "trace_id": trace,
                "correlation_id": correlation,
                "error_uri": f"https://{LOGIN}/error?code={self.code}",
            },
        )
