"""No stand-in speaks gRPC: its clients are told so at once, and nobody else is led to it."""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from localcloud.cloud import Cloud
from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "storage.googleapis.com"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(World.load(), tmp_path_factory.mktemp("grpc"), functions=()) as running:
        yield running


@contextmanager
def connected(ground: Cloud, *protocols: str) -> Iterator[ssl.SSLSocket]:
    """A connection to Cloud Storage whose client offers these protocols."""
    port = int(str(ground.endpoints["proxy"]).rpartition(":")[2])
    trust = ssl.create_default_context(cafile=str(ground.endpoints["ca_bundle"]))
    trust.set_alpn_protocols(list(protocols))
    with ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
        assert plain.recv(1024).startswith(b"HTTP/1.1 200 ")
        yield stack.enter_context(trust.wrap_socket(plain, server_hostname=HOST))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    length = len(payload)
    return struct.pack(">BHBBI", length >> 16, length & 0xFFFF, kind, flags, stream) + payload


def frames(connection: ssl.SSLSocket, count: int) -> list[tuple[int, int, int, bytes]]:
    """The next frames: type, flags, stream and payload."""
    found = []
    with connection.makefile("rb") as source:
        for _ in range(count):
            high, low, kind, flags, stream = struct.unpack(">BHBBI", source.read(9))
            found.append((kind, flags, stream, source.read(high << 16 | low)))
    return found


@pytest.mark.parametrize("offered", [("h2", "http/1.1"), ("http/1.1", "h2"), ("http/1.1",)])
def test_who_can_speak_http_1_is_given_it(ground: Cloud, offered: tuple[str, ...]) -> None:
    with connected(ground, *offered) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        connection.sendall(f"HEAD /x/y HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 404 ")


def test_every_call_is_unimplemented_and_the_connection_stays(ground: Cloud) -> None:
    with connected(ground, "grpc-exp", "h2") as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        assert [each[:3] for each in frames(connection, 2)] == [(SETTINGS, 0, 0), (SETTINGS, 1, 0)]
        for stream in (1, 3):
            connection.sendall(frame(HEADERS, 0, stream, b"?") + frame(9, 4, stream, b"?"))
            trailers, reset = frames(connection, 2)
            assert trailers[:3] == (HEADERS, 5, stream)
            assert b"\x0bgrpc-status\x0212" in trailers[3]
            assert reset == (RST_STREAM, 0, stream, bytes(4))
        connection.sendall(frame(DATA, 1, 3, b"12345") + frame(PING, 0, 0, b"12345678"))
        assert frames(connection, 2) == [
            (WINDOW_UPDATE, 0, 0, b"\0\0\0\5"),
            (PING, 1, 0, b"12345678"),
        ]
        connection.sendall(frame(GOAWAY, 0, 0, bytes(8)))
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: storage.googleapis.com\r\n\r\n",
        PREFACE + struct.pack(">BHBBI", 0xFF, 0xFFFF, DATA, 0, 1),
    ],
)
def test_what_is_not_http_2_ends_the_connection(ground: Cloud, sent: bytes) -> None:
    with connected(ground, "h2") as connection:
        connection.sendall(sent)
        left = b""
        while piece := connection.recv(1024):
            left += piece
        assert left in (b"", frame(SETTINGS, 0, 0))
