"""A POST that stands for another method, by `X-HTTP-Method-Override`.

Java's client sends PATCH so; Python's sends every GET whose address is longer than 2,048
characters, with its query as a form in the body. Asked of the caller is what the method that is
meant asks. https://cloud.google.com/apis/docs/system-parameters
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from localcloud.wire.web import Headers

if TYPE_CHECKING:
    from localcloud.wire.web import Request

_FIELD = "x-http-method-override"
_FORM = "application/x-www-form-urlencoded"


def meant(request: Request) -> Request:
    """The request that is meant; itself, if it is no POST or names no other method."""
    method = request.headers.get(_FIELD).strip().upper()
    if request.method != "POST" or not method:
        return request
    kept = Headers((name, text) for name, text in request.headers.fields if name.lower() != _FIELD)
    overridden = replace(request, method=method, headers=kept)
    if method != "GET" or not request.headers.get("Content-Type").lower().startswith(_FORM):
        return overridden
    query = "&".join(filter(None, (request.query, request.body.decode("latin-1"))))
    return replace(overridden, target=f"{request.path}?{query}", content=b"")
