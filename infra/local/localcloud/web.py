"""The HTTP frame every stand-in is written against.

A site is a function from `Request` to `Response`; a `Router` picks the site by hostname, so
the same table serves sockets (`Server`) and in-process calls from one cloud to another.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

log = logging.getLogger(__name__)

MAX_BODY = 32 * 1024 * 1024


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
    body: bytes = b""
    peer: str = "127.0.0.1"

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
    """One answer; `Content-Length` is added on the wire."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, status: int, value: Any, *headers: tuple[str, str]) -> Response:
        """An answer with a JSON body."""
        kind = ("Content-Type", "application/json; charset=UTF-8")
        return cls(status, json.dumps(value).encode(), (kind, *headers))


Site = Callable[[Request], Response]


class Router:
    """Hostname patterns (``*.run.app``) to sites; an unknown host answers 501."""

    def __init__(self, sites: Mapping[str, Site] | None = None) -> None:
        self._sites: dict[str, Site] = dict(sites or {})

    def add(self, sites: Mapping[str, Site]) -> None:
        """Add or replace sites."""
        self._sites.update(sites)

    @property
    def hosts(self) -> list[str]:
        """Every hostname and hostname pattern that is served, in order."""
        return sorted(self._sites)

    def knows(self, host: str) -> bool:
        """Whether any site serves this hostname."""
        return self._find(host) is not None

    def __call__(self, request: Request) -> Response:
        """The site's answer, or 501."""
        site = self._find(request.host)
        if site is None:
            return Response.json(501, {"error": f"no stand-in serves {request.host}"})
        return site(request)

    def _find(self, host: str) -> Site | None:
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
            super().finish_request(request, client_address)
        finally:
            if self.tls is not None:
                # The base class closes the socket it accepted, which the handshake replaced.
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("connection from %s ended early: %r", client_address, sys.exception())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60
    site: Site

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            return
        # RFC 9112 section 3.2.2: a client that was told to use us as its proxy for plain http
        # sends the target in absolute form.
        target = re.sub(r"^http://[^/]*", "", self.path)
        request = Request(
            method=self.command,
            host=(self.headers.get("Host") or "").rsplit(":", 1)[0],
            target=target,
            headers=Headers(self.headers.items()),
            body=body,
            peer=self.client_address[0],
        )
        try:
            response = self.site(request)
        except ConnectionAbortedError:
            # An injected reset: the peer sees the connection die without an answer.
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        except Exception:
            log.exception("%s %s%s failed", request.method, request.host, request.path)
            response = Response.json(500, {"error": "the stand-in failed; see its log"})
        self._write(response)

    def _read_body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._read_chunks()
        length = self.headers.get("Content-Length") or "0"
        if not length.isdecimal() or int(length) > MAX_BODY:
            self.close_connection = True
            self._write(Response(413 if length.isdecimal() else 400))
            return None
        return self.rfile.read(int(length))

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return b"".join(parts)

    def _write(self, response: Response) -> None:
        self.send_response_only(response.status)
        names = {name.lower() for name, _ in response.headers}
        for name, value in response.headers:
            self.send_header(name, value)
        if not names & {"content-length", "transfer-encoding"}:
            self.send_header("Content-Length", str(len(response.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        log.debug("%s %s", self.client_address[0], format % args)
