"""Requests that two readers would understand differently are refused at the wire."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from localcloud.aws.instances import ec2
from localcloud.wire.web import Request, Response, Server
from tests.conformance.aws_lab import IDENTITY, STS, new_lab, signed

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "Host: a.example"
SECOND = f"GET /second HTTP/1.1\r\n{HOST}\r\nConnection: close\r\n\r\n"


def exchange(server: Server, data: str) -> str:
    """All that a server answers to some bytes."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(data.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer.decode("latin-1")


@pytest.fixture
def server() -> Iterator[Server]:
    def echo(request: Request) -> Response:
        host = request.headers.get("Host")
        return Response(200, f"{request.host}|{host}|{request.target}|".encode() + request.body)

    made = Server(echo).start()
    yield made
    made.stop()


def head(line: str, *fields: str) -> str:
    return "\r\n".join([line, *fields, "", ""])


HEADS = {
    "a line that is no field hides those behind it": head(
        "GET / HTTP/1.1", HOST, "nonsense", "X-Forwarded-For: 203.0.113.7"
    ),
    "a space before the colon hides the field": head(
        "GET / HTTP/1.1", HOST, "X-Forwarded-For : 203.0.113.7"
    ),
    "a folded line": head("GET / HTTP/1.1", HOST, "X-A: b", " X-Forwarded-For: 203.0.113.7"),
    "a multipart's head hides as much": head(
        "POST / HTTP/1.1", HOST, "Content-Type: multipart/related; boundary=b", "nonsense", "X-A: b"
    ),
    "a part in the head": head(
        "POST / HTTP/1.1", HOST, "Content-Type: multipart/related; boundary=b", "--b", "X-A: b"
    ),
    "a boundary in the head": head(
        "POST / HTTP/1.1", HOST, "Content-Type: multipart/mixed; boundary=b", "--b--", "X-A: b"
    ),
    "two hosts": head("GET / HTTP/1.1", HOST, "Host: b.example"),
    "no host": head("GET / HTTP/1.1", "Accept: */*"),
    "no version": "GET /\r\n\r\n",
    "a target of other characters": head("GET /\xfc HTTP/1.1", HOST),
    "a length that is no number": head("POST / HTTP/1.1", HOST, "Content-Length: +3") + "abc",
    "two lengths": head("POST / HTTP/1.1", HOST, "Content-Length: 0", "Content-Length: 9"),
    "a length and chunks": head(
        "POST / HTTP/1.1", HOST, "Content-Length: 5", "Transfer-Encoding: chunked"
    )
    + "0\r\n\r\n",
    "chunks under another coding": head("POST / HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked")
    + "0\r\n\r\n",
    "two codings": head(
        "POST / HTTP/1.1", HOST, "Transfer-Encoding: identity", "Transfer-Encoding: chunked"
    )
    + "0\r\n\r\n",
}


@pytest.mark.parametrize("case", HEADS)
def test_a_head_with_two_readings_is_refused_and_nothing_behind_it_is_read(
    server: Server, case: str
) -> None:
    answer = exchange(server, HEADS[case] + SECOND)
    assert "HTTP/1.1 200" not in answer
    assert answer.startswith("HTTP/1.1 400 ") or case == "no version"


def test_a_sound_head_and_the_request_behind_it_are_served(server: Server) -> None:
    chunks = (
        head("POST /first HTTP/1.1", HOST, "Transfer-Encoding: Chunked") + "1\r\nx\r\n0\r\n\r\n"
    )
    answer = exchange(server, chunks + SECOND)
    assert "a.example|a.example|/first|x" in answer
    assert answer.endswith("a.example|a.example|/second|")
    assert exchange(server, "GET / HTTP/1.0\r\n\r\n").startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/related; boundary=b",
        'multipart/related; boundary="==="',
        "multipart/mixed; boundary='b'",
        "multipart/form-data",
        "message/rfc822",
        "message/partial",
    ],
)
def test_a_body_of_any_type_is_served(server: Server, kind: str) -> None:
    """The parser's word on the parts, which come behind the head, is none on the head."""
    content = "--b\r\n\r\nx\r\n--b--"
    sent = head(
        "POST /parts HTTP/1.1", HOST, f"Content-Type: {kind}", f"Content-Length: {len(content)}"
    )
    answer = exchange(server, sent + content + SECOND)
    assert f"a.example|a.example|/parts|{content}" in answer
    assert answer.endswith("a.example|a.example|/second|")


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
def test_the_authority_of_an_absolute_target_is_the_host_that_everybody_reads(
    server: Server, scheme: str
) -> None:
    line = f"GET {scheme}://b.example:8080?q HTTP/1.1"
    answer = exchange(server, head(line, HOST, "Connection: close"))
    assert answer.endswith("b.example|b.example:8080|/?q|")


def test_a_proxied_request_gets_no_metadata_token_however_its_header_is_spelt() -> None:
    instance = ec2.Instance(new_lab().accounts, "etl")
    server = Server(instance.site).start()
    try:
        wanted = ("Host: 169.254.169.254", f"{ec2.TTL}: 60", "Connection: close")
        put = "PUT /latest/api/token HTTP/1.1"
        assert exchange(server, head(put, *wanted)).startswith("HTTP/1.1 200 ")
        for spelt in ("X-Forwarded-For: x", "x-forwarded-for :x", "-\r\nX-Forwarded-For: x"):
            answer = exchange(server, head(put, *wanted, spelt))
            assert answer.startswith(("HTTP/1.1 400 ", "HTTP/1.1 403 "))
    finally:
        server.stop()


def test_a_signature_for_one_host_does_not_count_at_another() -> None:
    lab = new_lab()
    server = Server(lab.router).start()
    try:
        request = signed(lab.accounts.session("etl", "s1"))
        fields = [f"{name}: {value}" for name, value in request.headers.fields]
        fields += ["Content-Length: 0", "Connection: close"]
        there = exchange(server, head(f"POST http://{STS}{IDENTITY} HTTP/1.1", *fields))
        assert there.startswith("HTTP/1.1 200 ")
        elsewhere = head(f"POST http://sts.amazonaws.com{IDENTITY} HTTP/1.1", *fields)
        assert "<Code>SignatureDoesNotMatch</Code>" in exchange(server, elsewhere)
    finally:
        server.stop()
