"""Pooled connections whose every step knows the deadline, on http.client, ssl and socket alone.

A socket's timeout starts anew with each byte, and with each address of a host: a server that drips
its headers, or a name with eight dead addresses, could hold a caller far beyond its time. Here name
lookup, connecting, the proxy's consent, the TLS handshake and each read or write get what is left
of the deadline, no more.

Only `egress` imports this, once a request has to leave; it has checked what leaves.
"""

from __future__ import annotations

import base64
import io
import socket
import ssl
import threading
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

import certifi

from tokenvend.background import Background
from tokenvend.deadline import Deadline
from tokenvend.transport import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.transport import Call
    from tokenvend.transport.egress import Egress

# Seconds. What hangs must leave time for a second try within a request's budget.
CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 4.0
# Beyond it nobody knows whether a NAT, or the peer while we were frozen, forgot the connection.
MAX_IDLE = 60.0
# Idle connections kept for one origin.
POOL_SIZE = 32
_CHUNK = 64 * 1024
_Origin = tuple[str, str, int]


class ProxyError(OSError):
    """The proxy could not be reached, or did not let us through."""


class Connections:
    """A thread-safe `Sender` of one try each, usable again after `close()`.

    `now`: epoch seconds, by which an idle connection ages (a monotonic clock may stand still while
    a function is frozen). `resolve`: in place of `socket.getaddrinfo`. Raises OSError when the CA
    bundle cannot be loaded.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        now: Callable[[], float],
        byte_cap: int,
        resolve: Callable[..., list[Any]] = socket.getaddrinfo,
    ) -> None:
        self._egress = egress
        self._now = now
        self._byte_cap = byte_cap
        self._resolve = resolve
        self._lock = threading.Lock()
        self._idle: dict[_Origin, list[tuple[_Wire, float]]] = {}
        self._lookups: dict[tuple[str, int], Background[list[Any]]] = {}
        # Loaded once for all hosts: parsing the bundle costs as much as a handshake.
        self._tls = _tls(egress.ca_bundle or certifi.where())

    def __del__(self) -> None:
        self.close()

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """One try; of a body beyond the byte cap just so much is read that it shows."""
        url = urlsplit(call.url)
        default = 443 if url.scheme == "https" else 80
        origin = (url.scheme, url.hostname or "", url.port or default)
        wire = self._take(origin)
        if wire is not None:
            try:
                # It may have died in silence, and then a fresh one needs time too.
                return self._ask(wire, call, url, deadline.share() if repeatable else deadline)
            except OSError:
                # Lost while it idled, and its siblings with it: no try shall meet those too.
                self._drop([origin])
                # The peer may have acted on the call nevertheless.
                if not repeatable:
                    raise
        return self._ask(self._open(origin, deadline), call, url, deadline)

    def close(self) -> None:
        """Drop every idle connection, and whatever a name lookup is still waiting for."""
        self._drop(list(self._idle))
        self._lookups = {}

    def _ask(self, wire: _Wire, call: Call, url: SplitResult, deadline: Deadline) -> Answer:
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        fields = {"host": url.netloc, "user-agent": "tokenvend", "accept-encoding": "identity"}
        fields |= {name.lower(): value for name, value in call.headers.items()}
        if call.body or call.method != "GET":
            fields["content-length"] = str(len(call.body))
        reusable = False
        try:
            wire.deadline = deadline
            response = _response(wire, f"{call.method} {target}", fields, call.body)
            body = bytearray()
            while len(body) <= self._byte_cap and (chunk := response.read1(_CHUNK)):
                body += chunk
            if response.isclosed() and response.length:
                raise IncompleteRead(b"", response.length)
            reusable = response.isclosed() and not response.will_close
            names = response.headers.keys()
            # Fields of one name are one (RFC 9110 section 5.3), so that none hides another.
            headers = {n.lower(): ", ".join(response.headers.get_all(n, ())) for n in names}
            return Answer(response.status, headers, bytes(body))
        finally:
            if not (reusable and self._keep(wire)):
                wire.sock.close()

    def _take(self, origin: _Origin) -> _Wire | None:
        with self._lock:
            pool = self._idle.get(origin, [])
            while pool:
                wire, since = pool.pop()
                if 0 <= self._now() - since <= MAX_IDLE and wire.is_quiet():
                    return wire
                wire.sock.close()
        return None

    def _keep(self, wire: _Wire) -> bool:
        with self._lock:
            pool = self._idle.setdefault(wire.origin, [])
            if len(pool) < POOL_SIZE:
                pool.append((wire, self._now()))
                return True
        return False

    def _drop(self, origins: list[_Origin]) -> None:
        with self._lock:
            dropped = [kept for origin in origins for kept in self._idle.pop(origin, [])]
        for wire, _ in dropped:
            wire.sock.close()

    def _open(self, origin: _Origin, deadline: Deadline) -> _Wire:
        scheme, host, port = origin
        latest = deadline.monotonic() + CONNECT_TIMEOUT
        deadline = Deadline(min(deadline.at, latest), deadline.monotonic)
        proxy = self._egress.proxy_for(host, port) if scheme == "https" else ""
        if proxy:
            wire = self._tunnel(urlsplit(proxy), origin, deadline)
        else:
            wire = _Wire(self._connect(host, port, deadline), origin, deadline)
        if scheme == "https":
            wire.sock = self._tls.wrap_socket(wire.ready(), server_hostname=host)
        return wire

    def _tunnel(self, proxy: SplitResult, origin: _Origin, deadline: Deadline) -> _Wire:
        """A connection to `origin` through an http proxy (RFC 9110 section 9.3.6)."""
        _, host, port = origin
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        fields = {"host": target}
        if proxy.username is not None:
            pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
            fields["proxy-authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        try:
            sock = self._connect(proxy.hostname or "", proxy.port or 80, deadline)
            wire = _Wire(sock, origin, deadline)
            status = _response(wire, f"CONNECT {target}", fields).status
        except (OSError, HTTPException) as error:
            raise ProxyError from error
        if status != HTTPStatus.OK:
            wire.sock.close()
            raise ProxyError
        return wire

    def _connect(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        # The resolver knows no deadline. All who ask for one name wait for one thread: an outage
        # of DNS leaves few behind.
        resolve = partial(self._resolve, host, port, type=socket.SOCK_STREAM)
        lookup = self._lookups.setdefault((host, port), Background(resolve))
        addresses = lookup.join(deadline, late=TimeoutError())
        failure = OSError()
        for tried, (*_, address) in enumerate(addresses):
            # An equal share for each: dead addresses leave a living one its time.
            share = deadline.share(1 / (len(addresses) - tried)).remaining()
            try:
                # Zero would mean not to wait at all, which is another error than being late.
                sock = socket.create_connection(address[:2], share or 0.001)
            except OSError as error:
                failure = error
            else:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return sock
        raise failure


class _Wire(io.RawIOBase):
    """A connected socket each step of which gets what is left of the deadline it serves.

    HTTPResponse reads from it, and closes it at an answer's end: only `sock` really closes.
    """

    def __init__(self, sock: socket.socket, origin: _Origin, deadline: Deadline) -> None:
        self.sock = sock
        self.origin = origin
        self.deadline = deadline

    def ready(self) -> socket.socket:
        left = self.deadline.remaining()
        if left <= 0:
            self.sock.close()
            raise TimeoutError
        self.sock.settimeout(min(READ_TIMEOUT, left))
        return self.sock

    def is_quiet(self) -> bool:
        """Whether the peer is there and has said nothing since its last answer."""
        self.sock.settimeout(0)
        try:
            # Past TLS, whose recv takes no flags: any byte, and any end, is one too many.
            socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
        except OSError as error:
            return isinstance(error, BlockingIOError)
        return False

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self.ready().recv_into(buffer)

    def close(self) -> None:
        """The connection outlives the answer."""


def _response(
    wire: _Wire, request: str, fields: Mapping[str, str], body: bytes = b""
) -> HTTPResponse:
    """The answer up to its body; without one the connection is closed."""
    head = [f"{request} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    left = memoryview("\r\n".join([*head, "", ""]).encode("ascii") + body)
    try:
        while left:
            left = left[wire.ready().send(left) :]
        response = HTTPResponse(cast("socket.socket", wire), method=request.partition(" ")[0])
        response.begin()
        if response.status < HTTPStatus.OK:
            # RFC 9110 section 15.2: the final answer follows, and the next call would be given it.
            raise HTTPException("an interim answer that nobody asked for")  # noqa: TRY301
    except BaseException:
        wire.sock.close()
        raise
    return response


def _tls(ca_bundle: str) -> ssl.SSLContext:
    """Names and chains verified. `create_default_context` would obey SSLKEYLOGFILE."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    tls.set_alpn_protocols(["http/1.1"])
    tls.load_verify_locations(ca_bundle)
    return tls
