"""A gRPC client's connection, on which every call is answered at once: UNIMPLEMENTED.

No stand-in speaks gRPC. A client that could not even connect would take that for an outage and try
again for a minute; told that the method is not there it goes on without, or says so. Nothing of a
call is read, for the answer is the same to all, so this is the part of HTTP/2 (RFC 9113) that has
to be there: settings, pings, windows and one block of trailers.
"""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io
    import socket

log = logging.getLogger(__name__)

PROTOCOL = "h2"
"""The ALPN name that a client of gRPC offers alone; whoever offers http/1.1 too is given that."""
IDLE_SECONDS = 60

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_MAX_FRAME = 16_384
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    *(0, 1, 3, 4, 6, 7, 8, 9),
)
_ACK, _END_STREAM, _END_HEADERS = 0x1, 0x1, 0x4
_UNIMPLEMENTED = "12"
_MESSAGE = "The embedded cloud does not serve gRPC."


def refuse(connection: socket.socket) -> None:
    """Answer calls until the client is gone."""
    connection.settimeout(IDLE_SECONDS)
    with connection.makefile("rwb") as stream:
        if stream.read(len(_PREFACE)) != _PREFACE:
            return
        _send(stream, _SETTINGS, 0, 0)
        while (frame := _frame(stream)) is not None:
            kind, flags, number, payload = frame
            if kind == _GOAWAY:
                return
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                _send(stream, kind, _ACK, 0, payload if kind == _PING else b"")
            elif kind == _DATA and payload:
                _send(stream, _WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload)))
            elif kind in (_HEADERS, _CONTINUATION) and flags & _END_HEADERS:
                _send(stream, _HEADERS, _END_STREAM | _END_HEADERS, number, _TRAILERS)
                _send(stream, _RST_STREAM, 0, number, bytes(4))


def _frame(stream: io.BufferedRWPair) -> tuple[int, int, int, bytes] | None:
    """The next frame's type, flags, stream and payload; None at the end."""
    head = stream.read(9)
    if len(head) < 9:  # noqa: PLR2004 -- RFC 9113 section 4.1
        return None
    high, low, kind, flags, number = struct.unpack(">BHBBI", head)
    length = high << 16 | low
    if length > _MAX_FRAME:
        log.debug("a frame of %d bytes ends a gRPC connection", length)
        return None
    payload = stream.read(length)
    return (kind, flags, number & 0x7FFFFFFF, payload) if len(payload) == length else None


def _send(
    stream: io.BufferedRWPair, kind: int, flags: int, number: int, payload: bytes = b""
) -> None:
    length = len(payload)
    stream.write(struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, number))
    stream.write(payload)
    stream.flush()


def _literal(name: str, value: str) -> bytes:
    """A field without compression (RFC 7541 section 6.2.2); both texts shorter than 127 bytes."""
    return b"\0%c%s%c%s" % (len(name), name.encode(), len(value), value.encode())


# 0x88 is `:status: 200` in HPACK's static table.
_TRAILERS = b"\x88" + b"".join(
    _literal(name, value)
    for name, value in (
        ("content-type", "application/grpc"),
        ("grpc-status", _UNIMPLEMENTED),
        ("grpc-message", _MESSAGE),
    )
)
