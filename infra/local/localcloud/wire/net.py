"""The wire between callers and the stand-ins: a certificate authority and a CONNECT proxy.

The authority issues a leaf certificate for each served hostname when a client first names it (SNI);
its own key is made at start and never leaves memory, so its certificate is useless to anyone once
the cloud has stopped. The proxy tunnels CONNECT (RFC 9110 section 9.3.6) to the stand-ins, only for
hostnames they serve and only for port 443, and relays plain http to the named loopback ports.
Everything else is refused: a program under test never reaches the real internet by accident.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_HEAD = 8 * 1024
HEAD_SECONDS = 10
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_PLAIN = re.compile(rb"[A-Z]{1,16} http://127\.0\.0\.1:(\d{1,5})/[!-~]* HTTP/1\.1")
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]")


class Authority:
    """A certificate authority whose key lives as long as this object."""

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="tokenvend embedded cloud")
        self._leaves: dict[str, ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def write_bundle(self, path: Path) -> None:
        """Write the authority's certificate as PEM; clients trust it and nothing else."""
        path.write_bytes(self._ca.cert_pem.bytes())

    def server_context(self, serves: Callable[[str], bool]) -> ssl.SSLContext:
        """A server's TLS context that answers for every hostname that `serves` accepts."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            if name is None or not serves(name):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            tls.context = self._leaf(name.lower())
            return None

        context.sni_callback = choose
        return context

    def _leaf(self, name: str) -> ssl.SSLContext:
        with self._lock:
            found = self._leaves.get(name)
            if found is None:
                found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._ca.issue_cert(name).configure_cert(found)
                self._leaves[name] = found
            return found


class Proxy:
    """A CONNECT proxy on a free loopback port.

    Args:
        serves: whether a stand-in answers for a hostname.
        port: the loopback port of the TLS server behind every tunnel.
        plain: loopback ports that plain http is relayed to, for programs that send everything
            through a proxy once they have one (gcloud, whatever NO_PROXY says).

    """

    def __init__(
        self, serves: Callable[[str], bool], port: int, plain: Collection[int] = ()
    ) -> None:
        self._serves = serves
        self._behind = port
        self._plain = frozenset(plain)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """What HTTPS_PROXY holds."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Proxy:
        """Accept in the background."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop accepting and cut every tunnel."""
        _shut(self._listener, socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for tunnel in self._open:
                _shut(tunnel, socket.SHUT_RDWR)
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # stopped
            name = f"tunnel-{self.port}"
            threading.Thread(target=self._serve, args=(client,), name=name, daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            with client:
                self._tunnel(client)
        except OSError as failure:
            log.debug("a tunnel ended early: %s", failure)
        finally:
            with self._lock:
                self._open.discard(client)

    def _tunnel(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(HEAD_SECONDS)
        head, surplus = _read_head(client)
        client.settimeout(None)
        relayed = self._relayed(head)
        status = "200 Connection established" if relayed else self._judge(head)
        if not status.startswith("200"):
            # Said, not only done: a client that kept the connection would send into a closed one.
            refusal = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            client.sendall(refusal.encode())
            return
        with socket.create_connection(("127.0.0.1", relayed or self._behind)) as stand_in:
            stand_in.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if relayed:
                # One exchange each: the next request of a kept connection may be for another host.
                line, _, fields = head.partition(b"\r\n")
                surplus = b"\r\n".join([line, b"Connection: close", fields, b"", surplus])
            else:
                client.sendall(f"HTTP/1.1 {status}\r\n\r\n".encode())
            stand_in.sendall(surplus)
            name = f"tunnel-{self.port}-back"
            back = threading.Thread(target=_pump, args=(stand_in, client), name=name, daemon=True)
            back.start()
            _pump(client, stand_in)
            # Both directions end before either socket closes: an answer that is still on its way
            # to a client which has sent everything must arrive whole.
            back.join()

    def _relayed(self, head: bytes) -> int:
        """The port that a plain request goes to; 0 for anything else."""
        match = _PLAIN.fullmatch(head.split(b"\r\n", 1)[0])
        port = int(match[1]) if match else 0
        return port if port in self._plain else 0

    def _judge(self, head: bytes) -> str:
        if not head:
            return "400 Bad Request"
        match = _CONNECT.fullmatch(head.split(b"\r\n", 1)[0])
        if match is None or match[2] != b"443" or not self._serves(match[1].decode().lower()):
            log.info("refused %r", head.split(b" HTTP/", 1)[0][:200])
            return "403 Forbidden"
        return "200 Connection established"


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    """The request's head and what came after it; an empty head when it never ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = client.recv(MAX_HEAD)
        if not chunk or len(data) + len(chunk) > MAX_HEAD:
            return b"", b""
        data += chunk
    head, _, surplus = data.partition(b"\r\n\r\n")
    return head, surplus


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copy until the source ends, then pass that end on (half-close); on an error end both."""
    try:
        while data := source.recv(65536):
            if _QUICKACK is not None:
                # urllib3 leaves Nagle on towards a proxy: a body sent behind its headers would wait
                # 40 ms for our delayed acknowledgement. Linux forgets the option with every read.
                source.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            sink.sendall(data)
        _shut(sink, socket.SHUT_WR)
    except OSError:
        _shut(source, socket.SHUT_RDWR)
        _shut(sink, socket.SHUT_RDWR)


def _shut(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError as already:
        log.debug("already closed: %s", already)
