"""A tiny upstream on a real socket: each connection's requests are answered by a script."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

Step = bytes | Callable[[socket.socket], None]


def answer(status: int = 200, body: bytes = b"", *headers: str) -> bytes:
    """An HTTP/1.1 answer on the wire."""
    fields = [f"HTTP/1.1 {status} Whatever", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + body


def container_keys(key: str, seconds: float) -> bytes:
    """Container credentials (ECS, EKS Pod Identity, SnapStart) that expire in `seconds`."""
    expiry = datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC)
    body = {
        "AccessKeyId": key,
        "SecretAccessKey": "secret",
        "Token": "session",
        "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return answer(200, json.dumps(body).encode(), "Content-Type: application/json")


@dataclass
class Upstream:
    """Answers one step per request, the last step for ever; records what it was sent.

    `greeting` speaks in place of all that, as soon as somebody connects.
    """

    steps: list[Step]
    tls: ssl.SSLContext | None = None
    greeting: Callable[[socket.socket], None] | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            # As real servers do: no answer waits for the acknowledgement of a TLS ticket.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with contextlib.suppress(OSError), connection:
            if self.greeting is not None:
                self.greeting(connection)
                return
            if self.tls is None:
                self.converse(connection)
                return
            with self.tls.wrap_socket(connection, server_side=True) as secured:
                self.converse(secured)

    def converse(self, connection: socket.socket) -> None:
        while request := receive(connection):
            self.requests.append(request)
            step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
            if not isinstance(step, bytes):
                step(connection)
                return
            connection.sendall(step)


def receive(connection: socket.socket) -> bytes:
    """One request: its head, and as much body as it announces."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        body += chunk
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def upstream(
    *steps: Step,
    tls: ssl.SSLContext | None = None,
    greeting: Callable[[socket.socket], None] | None = None,
) -> Iterator[Upstream]:
    """A listening upstream with these steps."""
    listener = socket.create_server(("127.0.0.1", 0))
    site = Upstream(list(steps), tls, greeting, port=listener.getsockname()[1])
    thread = threading.Thread(target=site.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        # A plain close would leave the thread in accept().
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
