"""The HTTP frame every stand-in is written against.

A site is a function from `Request` to `Response`; a `Router` picks the site by hostname, so
the same table serves sockets (`Server`) and in-process calls from one cloud to another. Bodies are
read as a site asks for them, so that one which streams carries objects larger than memory.
"""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

from localcloud.wire import grpc
from localcloud.wire.framing import Head, is_sound, located

log = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024
"""What a site may read whole, in bytes; more must be streamed."""
# What an answer that was given early still reads of the request, so that its sender hears it.
MAX_DRAIN = 1024 * 1024
_PIECE = 64 * 1024


class BodyTooLargeError(Exception):
    """A body that must be held whole is longer than `MAX_BODY`."""


class BodyCutError(ConnectionError):
    """The sender stopped in the middle of its body."""


class Body:
    """A request's body as it arrives; `length` is None when it is chunked.

    Raises BodyCutError when the connection ends before the body does.
    """

    def __init__(self, source: io.BufferedIOBase, length: int | None) -> None:
        self._source = source
        self.length = length
        self._left = length or 0
        self._ended = length == 0
        self._whole: bytes | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left on the wire."""
        return self._ended

    def read(self, size: int = _PIECE) -> bytes:
        """The next bytes, at most `size` of them; empty at the end."""
        if self._ended:
            return b""
        if self.length is None and self._left == 0 and not self._next_chunk():
            return b""
        piece = self._source.read(min(size, self._left))
        if not piece:
            self._ended = True
            raise BodyCutError("the body ended early")
        self._left -= len(piece)
        if self.length is None and self._left == 0:
            if self._source.read(2) != b"\r\n":
                self._ended = True
                raise BodyCutError("a chunk is longer than its size")
        elif self._left == 0:
            self._ended = True
        return piece

    def whole(self) -> bytes:
        """All of it, the same at every call; raises BodyTooLargeError."""
        if self._whole is None:
            pieces, total = [], 0
            if (self.length or 0) > MAX_BODY:
                raise BodyTooLargeError
            while piece := self.read():
                pieces.append(piece)
                total += len(piece)
                if total > MAX_BODY:
                    raise BodyTooLargeError
            self._whole = b"".join(pieces)
        return self._whole

    def drain(self) -> bool:
        """Read what the site left; whether the connection can serve another request."""
        read = 0
        while not self._ended and read <= MAX_DRAIN:
            read += len(self.read())
        return self._ended

    def _next_chunk(self) -> bool:
        """RFC 9112 section 7.1: the next chunk's size, or the trailers and the end."""
        line = self._source.readline(_PIECE)
        size = line.split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
            self._ended = True
            raise BodyCutError("a chunk has no size")
        self._left = int(size, 16)
        if self._left == 0:
            while self._source.readline(_PIECE).strip():
                continue
            self._ended = True
        return self._left > 0


class Headers:
    """Header fields in wire order; names compare case-insensitively, duplicates are kept."""

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self.fields = tuple(fields)

    def get(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        return next(iter(self.all(name)), default)

    def all(self, name: str) -> list[str]:
        """Every value of a field, in wire order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


@dataclass(frozen=True)
class Request:
    """One request as it came off the wire; `target` is the undecoded path and query."""

    method: str
    host: str
    target: str
    headers: Headers = field(default_factory=Headers)
    content: bytes | Body = b""
    peer: str = "127.0.0.1"

    @property
    def body(self) -> bytes:
        """The whole body; raises BodyTooLargeError, which is answered with 413."""
        return self.content.whole() if isinstance(self.content, Body) else self.content

    @property
    def stream(self) -> Body:
        """The body to be read piece by piece."""
        if isinstance(self.content, Body):
            return self.content
        return Body(io.BytesIO(self.content), len(self.content))

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query string, still percent-encoded."""
        return self.target.partition("?")[2]

    @property
    def params(self) -> dict[str, str]:
        """Decoded query parameters; of a repeated name, the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def segments(self) -> list[str]:
        """The path's segments, each decoded on its own."""
        return [unquote(part) for part in self.path.strip("/").split("/")]


@dataclass(frozen=True)
class Response:
    """One answer; `Content-Length` is added on the wire.

    With `stream` the body is its pieces; a site that knows their length says so in Content-Length,
    else they are sent in chunks. The iterator is closed when the answer has been sent, or lost.
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    stream: Generator[bytes] | None = None

    @classmethod
    def json(cls, status: int, value: Any, *headers: tuple[str, str]) -> Response:
        """An answer with a JSON body."""
        kind = ("Content-Type", "application/json; charset=UTF-8")
        return cls(status, json.dumps(value).encode(), (kind, *headers))


Site = Callable[[Request], Response]


class Router:
    """Hostname patterns (``*.run.app``) to sites; an unknown host answers 405."""

    def __init__(self, sites: Mapping[str, Site] | None = None) -> None:
        self._sites: dict[str, Site] = dict(sites or {})
        self._lock = threading.Lock()

    def add(self, sites: Mapping[str, Site]) -> None:
        """Add or replace sites."""
        # A new table each time: requests in other threads are reading the old one.
        with self._lock:
            self._sites = {**self._sites, **sites}

    @property
    def hosts(self) -> list[str]:
        """Every hostname and hostname pattern that is served, in order."""
        return sorted(self._sites)

    def knows(self, host: str) -> bool:
        """Whether any site serves this hostname."""
        return self.site(host) is not None

    def __call__(self, request: Request) -> Response:
        """The site's answer, or 405."""
        site = self.site(request.host)
        if site is None:
            return Response.json(405, {"error": f"no stand-in serves {request.host}"})
        return site(request)

    def site(self, host: str) -> Site | None:
        """The site that serves a hostname."""
        host = host.lower()
        exact = self._sites.get(host)
        if exact is not None:
            return exact
        return next((s for p, s in self._sites.items() if "*" in p and fnmatchcase(host, p)), None)


class Server:
    """A threaded HTTP/1.1 server on a free loopback port for one site; `tls` None: plain."""

    def __init__(self, site: Site, tls: ssl.SSLContext | None = None) -> None:
        handler = type("BoundHandler", (_Handler,), {"site": staticmethod(site)})
        self._http = _HTTPServer(("127.0.0.1", 0), handler)
        self._http.tls = tls
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    def start(self) -> Server:
        """Serve in the background."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop accepting and release the port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake runs here, in the connection's own thread: done while accepting,
        # one silent client would hold up every other.
        if self.tls is not None:
            try:
                request = self.tls.wrap_socket(request, server_side=True)
            except OSError as failure:
                log.debug("TLS handshake failed: %s", failure)
                return
        try:
            if self.tls is not None and request.selected_alpn_protocol() == grpc.PROTOCOL:
                grpc.refuse(request)
                return
            super().finish_request(request, client_address)
        finally:
            if self.tls is not None:
                # The base class closes the socket it accepted, which the handshake replaced.
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("connection from %s ended early: %r", client_address, sys.exception())


class _Handler(BaseHTTPRequestHandler):
    MessageClass = Head
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60
    site: Site

    def _serve(self) -> None:
        if not is_sound(self.request_version, self.path, self.headers):
            self.close_connection = True
            self._write(Response(400))
            return
        body = self._body()
        authority, target, fields = located(self.path, self.headers)
        request = Request(
            method=self.command,
            host=authority.rsplit(":", 1)[0],
            target=target,
            headers=Headers(fields),
            content=body,
            peer=self.client_address[0],
        )
        try:
            response = self.site(request)
        except BodyTooLargeError:
            response = Response(413)
        except BodyCutError as cut:
            log.debug("%s %s%s: %s", request.method, request.host, request.path, cut)
            self.close_connection = True
            return
        except ConnectionAbortedError:
            # An injected reset: the peer sees the connection die without an answer.
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        except Exception:
            log.exception("%s %s%s failed", request.method, request.host, request.path)
            response = Response.json(500, {"error": "the stand-in failed; see its log"})
        try:
            self.close_connection |= not body.drain()
        except BodyCutError:
            self.close_connection = True
        self._write(response)

    def _body(self) -> Body:
        """The body that the header fields announce."""
        if "Transfer-Encoding" in self.headers:
            return Body(self.rfile, None)
        return Body(self.rfile, int(self.headers.get("Content-Length") or 0))

    def _write(self, response: Response) -> None:
        names = {name.lower() for name, _ in response.headers}
        chunked = response.stream is not None and "content-length" not in names
        self.send_response_only(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not names & {"content-length", "transfer-encoding"}:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if response.stream is not None:
            self._write_stream(response.stream, chunked=chunked)
        elif self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def _write_stream(self, stream: Generator[bytes], *, chunked: bool) -> None:
        try:
            for piece in stream if self.command != "HEAD" else ():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
                self.wfile.flush()
            if chunked and self.command != "HEAD":
                self.wfile.write(b"0\r\n\r\n")
        finally:
            stream.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug("%s %s", self.client_address[0], format % args)
