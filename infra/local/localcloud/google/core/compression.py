"""Answers are compressed for whoever accepts gzip, as Google's front ends do.

https://cloud.google.com/storage/docs/json_api#gzip
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING

from localcloud.wire.web import Response

if TYPE_CHECKING:
    from localcloud.wire.web import Request

SHORTEST = 256
"""Bytes below which nothing is gained."""


def compressed(request: Request, answer: Response) -> Response:
    """The answer, in gzip if the request accepts it and the answer is long enough."""
    names = {name.lower() for name, _ in answer.headers}
    if (
        not _accepts_gzip(request)
        or answer.stream
        or len(answer.body) < SHORTEST
        or "content-encoding" in names
    ):
        return answer
    headers = (*answer.headers, ("Content-Encoding", "gzip"))
    return Response(answer.status, gzip.compress(answer.body, mtime=0), headers)


def _accepts_gzip(request: Request) -> bool:
    entries = request.headers.get("Accept-Encoding").lower().replace(" ", "").split(",")
    return any(re.fullmatch(r"gzip(;q=(1(\.0*)?|0\.0*[1-9][0-9]*))?", entry) for entry in entries)
