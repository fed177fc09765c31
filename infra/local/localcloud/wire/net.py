"""The wire between callers and the stand-ins: a certificate authority and a CONNECT proxy.

The authority issues a leaf certificate for each served hostname when a client first names it (SNI);
its own key is made at start and never leaves memory, so its certificate is useless to anyone once
the cloud has stopped. The proxy tunnels CONNECT (RFC 9110 section 9.3.6) to the stand-ins, only for
hostnames they serve and only for port 443. Each machine has a port of its own there, so that the
link-local addresses of instance metadata, which plain http is relayed for, know whose they are.
Everything else is refused: a program under test never reaches the real internet by accident.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from localcloud.wire import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

MAX_HEAD = 8 * 1024
HEAD_SECONDS = 10
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_PLAIN = re.compile(
    rb"[A-Z]{1,16} http://([A-Za-z0-9.-]{1,253})(?::(\d{1,5}))?(?:/[!-~]*)? HTTP/1\.1"
)
_CONNECT = re.compile(rb"CONNECT ([A-Za-z0-9.-]{1,253}):(\d{1,5}) HTTP/1\.[01]")


class Authority:
    """A certificate authority whose key lives as long as this object."""

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="tokenvend embedded cloud")
        self._leaves: dict[tuple[str, bool], ssl.SSLContext] = {}
        self._lock = threading.Lock()

    def write_bundle(self, path: Path) -> None:
        """Write the authority's certificate as PEM; clients trust it and nothing else."""
        path.write_bytes(self._ca.cert_pem.bytes())

    def write_truststore(self, path: Path, password: str) -> None:
        """Write the certificate as a PKCS #12 file that Java takes for a truststore."""
        certificate = x509.load_pem_x509_certificate(self._ca.cert_pem.bytes())
        entry = pkcs12.PKCS12Certificate(certificate, b"tokenvend")
        encryption = BestAvailableEncryption(password.encode())
        path.write_bytes(pkcs12.serialize_java_truststore([entry], encryption))

    def server_context(
        self, serves: Callable[[str], bool], untrusted: Callable[[str], bool] = lambda _: False
    ) -> ssl.SSLContext:
        """A server's TLS context that answers for every hostname that `serves` accepts.

        `untrusted`: whether a hostname shows a certificate of somebody else's just now.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

        def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            if name is None or not serves(name):
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            tls.context = self._leaf(name.lower(), foreign=untrusted(name.lower()))
            return None

        context.sni_callback = choose
        return context

    def _leaf(self, name: str, *, foreign: bool) -> ssl.SSLContext:
        with self._lock:
            found = self._leaves.get((name, foreign))
            if found is None:
                authority = trustme.CA(organization_name="somebody else") if foreign else self._ca
                found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                # Whoever offers both is given the first; clients of gRPC offer h2 alone.
                found.set_alpn_protocols(["http/1.1", grpc.PROTOCOL])
                authority.issue_cert(name).configure_cert(found)
                self._leaves[name, foreign] = found
            return found


class Proxy:
    """A CONNECT proxy with a loopback port for each machine that goes through it.

    Args:
        serves: whether a stand-in answers for a hostname.
        behind: the loopback port of the TLS server behind every tunnel.
        plain: what the first port relays of plain http; see `listen`.
        refuses: whether a connection to a hostname is refused just now.

    """

    def __init__(
        self,
        serves: Callable[[str], bool],
        behind: int,
        plain: Mapping[str, int] | None = None,
        refuses: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._serves = serves
        self._behind = behind
        self._refuses = refuses
        self._open: set[socket.socket] = set()
        self._listening: list[tuple[socket.socket, threading.Thread]] = []
        self._lock = threading.Lock()
        self._plain = dict(plain or {})
        self.port = 0

    def start(self) -> Proxy:
        """Open the first port, for a program on no machine in particular."""
        self.port = self.listen(self._plain)
        return self

    @property
    def url(self) -> str:
        """What HTTPS_PROXY holds for a user of the first port."""
        return f"http://127.0.0.1:{self.port}"

    def listen(self, plain: Mapping[str, int]) -> int:
        """Open a port for one machine, and return it.

        `plain`: the authorities (``169.254.169.254:80``) that plain http is relayed to from there,
        and the loopback port behind each. Link-local addresses mean another thing on every machine,
        which the port tells apart; a program that sends everything through a proxy once it has one
        (gcloud, whatever NO_PROXY says) is relayed to loopback ports in the same way.
        """
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        port: int = listener.getsockname()[1]
        thread = threading.Thread(
            target=self._accept, args=(listener, dict(plain)), name=f"proxy-{port}", daemon=True
        )
        with self._lock:
            self._listening.append((listener, thread))
        thread.start()
        return port

    def stop(self) -> None:
        """Stop accepting and cut every tunnel."""
        with self._lock:
            listening, self._listening = self._listening, []
        for listener, _ in listening:
            _shut(listener, socket.SHUT_RDWR)
            listener.close()
        with self._lock:
            for tunnel in self._open:
                _shut(tunnel, socket.SHUT_RDWR)
        for _, thread in listening:
            thread.join(5)

    def _accept(self, listener: socket.socket, plain: Mapping[str, int]) -> None:
        port = listener.getsockname()[1]
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # stopped
            threading.Thread(
                target=self._serve, args=(client, plain), name=f"tunnel-{port}", daemon=True
            ).start()

    def _serve(self, client: socket.socket, plain: Mapping[str, int]) -> None:
        with self._lock:
            self._open.add(client)
        try:
            with client:
                self._tunnel(client, plain)
        except OSError as failure:
            log.debug("a tunnel ended early: %s", failure)
        finally:
            with self._lock:
                self._open.discard(client)

    def _tunnel(self, client: socket.socket, plain: Mapping[str, int]) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(HEAD_SECONDS)
        head, surplus = _read_head(client)
        client.settimeout(None)
        authority = _authority(head)
        relayed = plain.get(authority, 0)
        if relayed and self._refuses(authority.rpartition(":")[0]):
            reset(client)
            return
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
            name = f"{threading.current_thread().name}-back"
            back = threading.Thread(target=_pump, args=(stand_in, client), name=name, daemon=True)
            back.start()
            _pump(client, stand_in)
            # Both directions end before either socket closes: an answer that is still on its way
            # to a client which has sent everything must arrive whole.
            back.join()

    def _judge(self, head: bytes) -> str:
        if not head:
            return "400 Bad Request"
        match = _CONNECT.fullmatch(head.split(b"\r\n", 1)[0])
        host = match[1].decode().lower() if match else ""
        if match is None or match[2] != b"443" or not self._serves(host):
            log.info("refused %r", _addressed(head))
            return "403 Forbidden"
        if self._refuses(host):
            return "503 Service Unavailable"
        return "200 Connection established"


def reset(connection: socket.socket) -> None:
    """Close so that the peer is told of a reset, as when nobody listens."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _authority(head: bytes) -> str:
    """`HOST:PORT` of a plain request, in small letters; empty for anything else."""
    match = _PLAIN.fullmatch(head.split(b"\r\n", 1)[0])
    return f"{match[1].decode().lower()}:{int(match[2] or 80)}" if match else ""


def _addressed(head: bytes) -> bytes:
    """Method and authority of a request; what is behind them may hold a token."""
    method, _, target = head[:300].partition(b" ")
    return method + b" " + re.split(rb"[/? ]", target.removeprefix(b"http://"), maxsplit=1)[0]


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
