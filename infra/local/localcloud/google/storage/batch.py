"""Batches of JSON API calls: one request whose parts are requests, each answered on its own.

Every part passes the guard like a request that came alone, under its own Authorization where it has
one, else under the batch's. Refused are uploads, downloads and batches in a batch.
https://cloud.google.com/storage/docs/batch
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from email import message_from_bytes
from http import HTTPStatus
from typing import TYPE_CHECKING

from localcloud.google.storage import json_api
from localcloud.google.storage.errors import StorageError, not_served
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Headers, Request, Response

if TYPE_CHECKING:
    from email.message import Message

    from localcloud.wire.web import Site

PATH = "/batch/storage/v1"
MAX_CALLS = 100
MAX_BYTES = 10 * 1000 * 1000

type Handler = Callable[[Request, Site], Response]

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"([A-Z]{1,16}) (?:https://([a-z0-9.-]+))?(/[!-~]*) HTTP/1\.1")


def answer(request: Request, behind: Site) -> Response:
    """Each part's answer, in order; raises the 400 of what is no batch."""
    body = request.body
    kind = request.headers.get("Content-Type")
    if len(body) >= MAX_BYTES or "\n" in kind:
        raise _refused("The batch request is too large.")
    try:
        message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    except RecursionError:
        raise _refused("A batch has no batches in it.") from None
    parts = message.get_payload() if message.get_content_type() == "multipart/mixed" else ""
    if isinstance(parts, str) or not parts:
        raise _refused("Failed to parse batch request, error: 0 items.")
    if len(parts) > MAX_CALLS:
        raise _refused(f"The batch request has more than {MAX_CALLS} calls.")
    boundary = f"batch_{secrets.token_urlsafe(24)}"
    pieces = [
        b"--%s\r\n%s\r\n%s\r\n"
        % (boundary.encode(), _label(part), _answered(request, part, behind))
        for part in parts
        if not isinstance(part, str)
    ]
    whole = b"".join([*pieces, f"--{boundary}--\r\n".encode()])
    return Response(200, whole, (("Content-Type", f"multipart/mixed; boundary={boundary}"),))


SERVICE: Service[Handler] = Service(
    title="Cloud Storage JSON API, batches",
    hosts=json_api.HOSTS,
    routes=(Route("POST", PATH, answer, asks="what each of its calls asks"),),
)


def site(behind: Site) -> Site:
    """Batches of calls to the JSON API's site."""

    def serve(request: Request) -> Response:
        try:
            found = SERVICE.find(request.method, request.path)
            if found is None:
                raise not_served(f"{request.method} {PATH}")
            return found[0].handler(request, behind)
        except StorageError as refusal:
            return refusal.response()

    return serve


def _label(part: Message) -> bytes:
    label = "Content-Type: application/http\r\n"
    known = str(part.get("Content-ID", "")).strip()
    if re.fullmatch("<[ -;=?-~]{1,200}>", known):
        label += f"Content-ID: <response-{known[1:-1]}>\r\n"
    return label.encode()


def _answered(outer: Request, part: Message, behind: Site) -> bytes:
    try:
        given = behind(_inner(outer, part))
    except StorageError as refusal:
        given = refusal.response()
    body = given.body if given.stream is None else b"".join(given.stream)
    lines = [f"HTTP/1.1 {given.status} {HTTPStatus(given.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in given.headers if name != "Content-Length"]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _inner(outer: Request, part: Message) -> Request:
    payload = part.get_payload(decode=True)
    if part.get_content_type() != "application/http" or not isinstance(payload, bytes):
        raise _refused("A part of a batch is of the type application/http.")
    head, *rest = _HEAD_END.split(payload.lstrip(b"\r\n"), maxsplit=1)
    first, *lines = re.split(rb"\r?\n", head)
    match = _LINE.fullmatch(first.strip())
    if match is None or (match[2] or outer.host.encode()) != outer.host.encode():
        raise _refused("A part of a batch begins with the line of its request.")
    method, target = match[1].decode(), match[3].decode()
    # Some clients leave out the empty line behind the header, and its end is a line too many.
    own = [_field(line) for line in lines if line.strip()]
    names = {name.lower() for name, _ in own}
    inherited = [
        (name, value)
        for name, value in outer.headers.fields
        if name.lower() not in names
        and not name.lower().startswith(("content-", "accept-encoding"))
    ]
    if outer.query:
        target += ("&" if "?" in target else "?") + outer.query
    inner = Request(method, outer.host, target, Headers([*own, *inherited]), b"", outer.peer)
    content = b"".join(rest)
    length = inner.headers.get("Content-Length")
    if length.isascii() and length.isdigit():
        content = content[: int(length)]
    inner = Request(method, outer.host, target, inner.headers, content, outer.peer)
    if not inner.path.startswith("/storage/v1/") or inner.params.get("alt") == "media":
        raise _refused("A batch has neither uploads nor downloads.")
    return inner


def _field(line: bytes) -> tuple[str, str]:
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not re.fullmatch("[A-Za-z0-9-]+", name):
        raise _refused("A part of a batch has a header field that cannot be read.")
    return name, value.strip()


def _refused(text: str) -> StorageError:
    return StorageError(HTTPStatus.BAD_REQUEST, text, "badRequest")
