"""The one door out, against real sockets on loopback."""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.unit.issuing import NOW
from tests.unit.upstream import answer, upstream
from tokenvend.deadline import Deadline
from tokenvend.errors import DeadlineExceeded, Misconfigured, TokenvendError, UpstreamUnavailable
from tokenvend.transport import Answer, Call, Sender, retry_after
from tokenvend.transport.connections import Connections
from tokenvend.transport.egress import (
    MAX_TRIES,
    Egress,
    Transport,
    bypasses_proxy,
    matches_host,
)

CANARY = "ya29.canary-that-must-not-leak"


class Pace:
    """The wall clock, and how long the transport would have slept."""

    def __init__(self) -> None:
        self.now = float(NOW)
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def open_transport(pace: Pace, bundle: str) -> Iterator[Callable[..., Transport]]:
    local = Egress(hosts=(), ca_bundle=bundle)
    with contextlib.ExitStack() as opened:

        def build(
            egress: Egress = local,
            *,
            byte_cap: int = 1024 * 1024,
            resolve: Callable[..., list[Any]] | None = None,
            network: Sender | None = None,
        ) -> Transport:
            def now() -> float:
                return pace.now

            if resolve is not None:
                network = Connections(egress, now=now, byte_cap=byte_cap, resolve=resolve)
                opened.callback(network.close)
            transport = Transport(
                egress,
                now=now,
                sleep=pace.sleep,
                random=lambda: 0.5,
                byte_cap=byte_cap,
                network=network,
            )
            opened.callback(transport.close)
            return transport

        yield build


@pytest.fixture
def transport(open_transport: Callable[..., Transport]) -> Transport:
    return open_transport()


def soon(seconds: float = 5) -> Deadline:
    return Deadline.after(seconds, time.monotonic)


# --- what goes out, what comes back --------------------------------------------------------------


def test_a_call_arrives_as_it_was_given(transport: Transport) -> None:
    body = b"grant_type=x" * 100_000
    with upstream(answer(200, b'{"a": 1}', "X-Thing: Value", "X-Thing: Other")) as site:
        got = transport.send(
            Call("POST", f"{site.http}/v1/token?x=1&y=%2F", {"X-Mine": "yes"}, body),
            soon(),
            repeatable=False,
        )
    head, _, sent = site.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"POST /v1/token?x=1&y=%2F HTTP/1.1",
        f"host: 127.0.0.1:{site.port}".encode(),
        b"user-agent: tokenvend",
        b"accept-encoding: identity",
        b"x-mine: yes",
        f"content-length: {len(body)}".encode(),
    ]
    assert sent == body
    assert (got.status, got.headers["x-thing"], got.json()) == (200, "Value, Other", {"a": 1})


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 404, 418, 501])
def test_any_other_status_is_an_answer_at_once(
    transport: Transport, pace: Pace, status: int
) -> None:
    with upstream(answer(status, b"", "Location: http://127.0.0.1:1/elsewhere")) as site:
        got = transport.send(Call("GET", site.http), soon(), repeatable=True)
    assert got.status == status
    assert len(site.requests) == 1
    assert pace.slept == []


def test_cookies_are_not_kept(transport: Transport) -> None:
    with upstream(answer(200, b"", "Set-Cookie: session=1; Path=/")) as site:
        for _ in range(2):
            transport.send(Call("GET", site.http), soon(), repeatable=False)
    assert b"cookie" not in site.requests[1].lower()


def test_the_environment_changes_nothing(
    open_transport: Callable[..., Transport],
    authority: trustme.CA,
    bundle: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with upstream(answer(200), tls=server_tls(authority, "localhost")) as site:
        host = f"localhost:{site.port}"
        call = Call("GET", f"https://{host}", {"Authorization": "Bearer ours"})
        transport = open_transport(Egress((host,), ca_bundle=bundle))
        assert transport.send(call, soon(), repeatable=False).status == 200
    assert b"authorization: Bearer ours\r\n" in site.requests[0]
    assert not (tmp_path / "keys").exists()


# --- where a call may go -------------------------------------------------------------------------

EGRESS = Egress(hosts=("sts.googleapis.com", "*.amazonaws.com"))


def test_a_host_that_is_not_listed_is_not_called(
    open_transport: Callable[..., Transport], subtests: pytest.Subtests
) -> None:
    for url in [
        "https://evil.example/",
        "https://sts.googleapis.com.evil.example/",
        "https://sts.googleapis.com@evil.example/",
        "https://evil.example\\@sts.googleapis.com/",
        "https://user:pass@sts.googleapis.com/",
        "https://user:pass@sts.eu-west-1.amazonaws.com/",
        "https://sts.googleapis.com:8443/",
        "https://sts.googleapis.com./",
        "https://STS.googleapis.com/",
        "https://\u0455ts.googleapis.com/",
        "https://amazonaws.com/",
        "https://evilamazonaws.com/",
        "https://sts.googleapis.com/#fragment",
        "https://sts.googleapis.com/ space",
        "https://sts.googleapis.com/\r\nX: y",
        "https://127.0.0.1/",
        "http://sts.googleapis.com/",
        "http://10.0.0.1/",
        "http://localhost.evil.example/",
        "http://2130706433/",
        "http://[::ffff:10.0.0.1]/",
        "ftp://sts.googleapis.com/",
        "file:///etc/passwd",
        "https:///v1/token",
        "",
    ]:
        with subtests.test(url=url), pytest.raises(Misconfigured):
            open_transport(EGRESS).send(Call("GET", url), soon(), repeatable=True)


def test_host_patterns_match_whole_names(subtests: pytest.Subtests) -> None:
    for host, pattern, matches in [
        ("sts.googleapis.com", "sts.googleapis.com", True),
        ("sts.us-east-1.amazonaws.com", "*.amazonaws.com", True),
        ("amazonaws.com", "*.amazonaws.com", False),
        ("xamazonaws.com", "*.amazonaws.com", False),
        ("sts.googleapis.com", "", False),
        ("sts.googleapis.com", "*", False),
    ]:
        with subtests.test(host=host, pattern=pattern, matches=matches):
            assert matches_host(host, (pattern,)) is matches


@pytest.mark.parametrize("value", ["Bearer ya29.ü", "a\r\nX-Other: b", "a\x00"])
def test_a_header_that_is_no_plain_text_is_named_but_not_quoted(
    transport: Transport, value: str
) -> None:
    with upstream(answer()) as site, pytest.raises(Misconfigured) as caught:
        transport.send(Call("GET", site.http, {"Authorization": value}), soon(), repeatable=True)
    assert "Authorization" in caught.value.cause
    assert value not in caught.value.cause
    assert site.requests == []


# --- TLS and proxy -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def bundle(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(tls)
    return tls


def test_https_verifies_name_and_authority(
    open_transport: Callable[..., Transport], authority: trustme.CA, bundle: str
) -> None:
    for name, trusted, works in [
        ("localhost", bundle, True),
        ("other.example", bundle, False),
        ("localhost", "", False),
    ]:
        with upstream(answer(200, b"ok"), tls=server_tls(authority, name)) as site:
            host = f"localhost:{site.port}"
            transport = open_transport(Egress(hosts=(host,), ca_bundle=trusted))
            call = Call("GET", f"https://{host}/")
            if works:
                for _ in range(2):
                    assert transport.send(call, soon(), repeatable=True).body == b"ok"
                assert site.connections == 1
            else:
                with pytest.raises(UpstreamUnavailable, match="did not answer") as caught:
                    transport.send(call, soon(), repeatable=False)
                assert "CA bundle" in caught.value.cause
                assert site.requests == []


def test_a_missing_ca_bundle_is_a_setting_to_mend(
    open_transport: Callable[..., Transport], tmp_path: Path
) -> None:
    transport = open_transport(Egress(hosts=("a.test",), ca_bundle=str(tmp_path / "none.pem")))
    with pytest.raises(Misconfigured) as caught:
        transport.send(Call("GET", "https://a.test/"), soon(), repeatable=True)
    assert "CA bundle" in caught.value.cause


def relay_to(port: int) -> Callable[[socket.socket], None]:
    """A CONNECT proxy's tunnel to one port of this machine."""

    def tunnel(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        with socket.create_connection(("127.0.0.1", port)) as site:
            back = threading.Thread(target=copy, args=(site, client), daemon=True)
            back.start()
            copy(client, site)
            back.join(5)

    return tunnel


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_https_goes_through_the_proxy_under_its_real_name(
    open_transport: Callable[..., Transport], authority: trustme.CA, bundle: str
) -> None:
    with (
        upstream(answer(200, b"ok"), tls=server_tls(authority, "sts.googleapis.com")) as site,
        upstream(relay_to(site.port)) as proxy,
    ):
        egress = Egress(
            hosts=("sts.googleapis.com",),
            proxy=proxy.http.replace("//", "//us%40er:pa%3Ass@"),
            ca_bundle=bundle,
        )
        transport = open_transport(egress)
        call = Call("GET", "https://sts.googleapis.com/v1", {"Authorization": f"Bearer {CANARY}"})
        for _ in range(2):
            assert transport.send(call, soon(), repeatable=False).body == b"ok"
        transport.close()
    password = base64.b64encode(b"us@er:pa:ss").decode()
    (asked,) = proxy.requests
    assert asked.decode().split("\r\n") == [
        "CONNECT sts.googleapis.com:443 HTTP/1.1",
        "host: sts.googleapis.com:443",
        f"proxy-authorization: Basic {password}",
        "",
        "",
    ]
    assert CANARY.encode() in site.requests[0]
    assert password not in site.requests[0].decode()


@pytest.mark.parametrize("status", [0, 301, 403, 407, 502])
def test_a_proxy_that_refuses_is_named(
    open_transport: Callable[..., Transport], status: int
) -> None:
    with upstream(answer(status, b"", "Connection: close") if status else hang_up) as proxy:
        transport = open_transport(Egress(hosts=("sts.googleapis.com",), proxy=proxy.http))
        with pytest.raises(UpstreamUnavailable) as caught:
            transport.send(Call("GET", "https://sts.googleapis.com/"), soon(), repeatable=False)
    assert "is the proxy running" in caught.value.cause


def test_the_identity_endpoint_is_never_asked_through_the_proxy(
    open_transport: Callable[..., Transport],
) -> None:
    with upstream(answer(200, b"ok")) as site, upstream(answer(502)) as proxy:
        egress = Egress(hosts=(), proxy=proxy.http)
        got = open_transport(egress).send(Call("GET", site.http), soon(), repeatable=False)
    assert got.body == b"ok"
    assert proxy.connections == 0


def test_what_no_proxy_names_is_reached_without_it(
    open_transport: Callable[..., Transport], authority: trustme.CA, bundle: str
) -> None:
    tls = server_tls(authority, "localhost")
    with upstream(answer(200, b"ok"), tls=tls) as site, upstream(answer(502)) as proxy:
        host = f"localhost:{site.port}"
        egress = Egress((host,), proxy=proxy.http, no_proxy=("localhost",), ca_bundle=bundle)
        call = Call("GET", f"https://{host}/")
        assert open_transport(egress).send(call, soon(), repeatable=False).body == b"ok"
    assert proxy.connections == 0


def test_no_proxy_is_read_as_curl_and_requests_read_it(subtests: pytest.Subtests) -> None:
    for entry, covered, others in [
        ("*", ["a.example", "10.0.0.1"], []),
        ("", [], ["a.example", "10.0.0.1"]),
        ("a.example", ["a.example", "b.a.example"], ["xa.example", "a.example.evil", "example"]),
        (".a.example", ["a.example", "b.a.example"], ["xa.example"]),
        ("*.a.example", ["b.a.example"], ["xa.example"]),
        (" A.Example ", ["a.example"], []),
        ("a.example:443", ["a.example", "b.a.example"], ["b.example"]),
        ("a.example:8443", [], ["a.example"]),
        (".", [], ["a.example"]),
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.11", "110.0.0.1"]),
        ("10.0.0.1:443", ["10.0.0.1"], ["10.0.0.2"]),
        ("10.0.0.0/8", ["10.9.9.9"], ["11.0.0.1", "10.example", "::a00:1"]),
        ("fd00::/8", ["fd12::1"], ["fe80::1", "10.0.0.1"]),
        ("[::1]", ["::1"], ["::2"]),
        ("[::1]:443", ["::1"], ["::2"]),
    ]:
        with subtests.test(entry=entry, covered=covered, others=others):
            assert [
                host for host in covered if not bypasses_proxy(host, 443, ("x.test", entry))
            ] == []
            assert [host for host in others if bypasses_proxy(host, 443, ("x.test", entry))] == []


# --- answers that are not to be had --------------------------------------------------------------


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


def truncated(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def garbage(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def broken_chunks(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")


def many_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n")


BROKEN = [reset, truncated, garbage, hang_up, broken_chunks, many_headers]


@pytest.mark.parametrize("fault", BROKEN)
def test_half_an_answer_is_none(
    transport: Transport, fault: Callable[[socket.socket], None]
) -> None:
    with upstream(fault) as site, pytest.raises(UpstreamUnavailable) as caught:
        transport.send(Call("POST", site.http, body=b"x"), soon(), repeatable=False)
    assert len(site.requests) == 1
    assert caught.value.cause.startswith("127.0.0.1: ")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_repeatable_call_gets_over_a_broken_connection(
    transport: Transport, fault: Callable[[socket.socket], None]
) -> None:
    with upstream(fault, fault, answer(200, b"ok")) as site:
        got = transport.send(Call("POST", site.http, body=b"x"), soon(), repeatable=True)
    assert got.body == b"ok"
    assert len(site.requests) == 3


def test_nobody_listening_is_unavailable(transport: Transport, pace: Pace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpstreamUnavailable):
        transport.send(Call("GET", f"http://127.0.0.1:{port}"), soon(), repeatable=True)
    assert len(pace.slept) == MAX_TRIES - 1


@pytest.mark.parametrize("framing", [b"Transfer-Encoding: chunked", b"Connection: close"])
def test_an_endless_answer_ends_at_the_cap(
    open_transport: Callable[..., Transport], framing: bytes
) -> None:
    sent = 0

    def endless(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
        # Of chunks, one that says it has no end: its size is -1 to a careless reader.
        block = b"ffffffff\r\n" if b"chunked" in framing else b""
        for _ in range(100_000):
            connection.sendall(block + b"x" * 1024)
            sent, block = sent + 1024, b""

    with upstream(endless) as site, pytest.raises(UpstreamUnavailable) as caught:
        open_transport(byte_cap=20_000).send(Call("GET", site.http), soon(), repeatable=True)
    assert "larger than 20000 bytes" in caught.value.cause
    assert len(site.requests) == 1
    assert sent < 50_000_000


def test_the_cap_itself_still_fits(open_transport: Callable[..., Transport]) -> None:
    with upstream(answer(200, b"x" * 1000)) as site:
        got = open_transport(byte_cap=1000).send(Call("GET", site.http), soon(), repeatable=True)
    assert len(got.body) == 1000


@pytest.mark.parametrize(
    "fields",
    [
        ["Content-Encoding: gzip"],
        ["Content-Encoding: GZIP"],
        ["Content-Encoding: br"],
        ["Content-Encoding: identity", "Content-Encoding: gzip"],
    ],
)
def test_a_compressed_answer_is_not_unpacked(transport: Transport, fields: list[str]) -> None:
    bomb = gzip.compress(b"0" * 1_000_000)
    with (
        upstream(answer(200, bomb, *fields)) as site,
        pytest.raises(UpstreamUnavailable) as caught,
    ):
        transport.send(Call("GET", site.http), soon(), repeatable=True)
    assert "compressed" in caught.value.cause


def test_garbage_is_not_json(subtests: pytest.Subtests) -> None:
    for body in [b"", b"{", b"<html>", b"\xff", b"[" * 100_000]:
        with subtests.test(body=body):
            with pytest.raises(UpstreamUnavailable) as caught:
                Answer(200, {}, body).json()
            assert caught.value.__context__ is None


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_three_times(
    transport: Transport, pace: Pace, status: int
) -> None:
    with upstream(answer(status, b"busy")) as site:
        got = transport.send(Call("POST", site.http), soon(), repeatable=True)
    assert (got.status, got.body) == (status, b"busy")
    assert len(site.requests) == MAX_TRIES
    assert pace.slept == [0.05, 0.1]


def test_what_is_not_repeatable_is_sent_once(transport: Transport) -> None:
    with upstream(answer(503), answer(200)) as site:
        assert transport.send(Call("POST", site.http), soon(), repeatable=False).status == 503
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("field", "wait"),
    [
        ("Retry-After: 1", 1.05),
        (f"Retry-After: {formatdate(NOW + 2, usegmt=True)}", 2.05),
        (f"Retry-After: {formatdate(NOW - 60, usegmt=True)}", 0.05),
        ("Retry-After: soon", 0.05),
    ],
)
def test_retry_after_is_honoured(transport: Transport, pace: Pace, field: str, wait: float) -> None:
    with upstream(answer(429, b"", field), answer(200)) as site:
        assert transport.send(Call("GET", site.http), soon(), repeatable=True).status == 200
    assert pace.slept == [pytest.approx(wait)]


def test_retry_after_beyond_the_deadline_ends_the_tries(transport: Transport, pace: Pace) -> None:
    with upstream(answer(429, b"", "Retry-After: 30"), answer(200)) as site:
        got = transport.send(Call("GET", site.http), soon(), repeatable=True)
    assert got.status == 429
    assert retry_after(got.headers, NOW) == 30
    assert pace.slept == []


def test_retry_after_is_read_strictly(subtests: pytest.Subtests) -> None:
    for value, seconds in [
        ("0", 0),
        ("120", 120),
        ("9999999999", 3600),
        ("99999999999999999999", None),
        ("-1", None),
        ("1.5", None),
        ("\u0661", None),
        ("", None),
        (formatdate(NOW + 10, usegmt=True), 10),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ("Fri, 99 Dec 9999 23:59:59 GMT", None),
    ]:
        with subtests.test(value=value, seconds=seconds):
            assert retry_after({"retry-after": value}, NOW) == seconds


# --- kept connections ----------------------------------------------------------------------------


def test_connections_are_used_again_until_closed(transport: Transport) -> None:
    with upstream(answer(200, b"hello"), answer(200), answer(404, b"x"), answer()) as site:
        for _ in range(4):
            transport.send(Call("POST", site.http, body=b"x"), soon(), repeatable=False)
        assert site.connections == 1
        transport.close()
        transport.send(Call("POST", site.http, body=b"x"), soon(), repeatable=False)
        assert site.connections == 2


def test_twenty_threads_share_one_transport(transport: Transport) -> None:
    with upstream(answer(200, b"ok")) as site, ThreadPoolExecutor(20) as pool:
        calls = [
            pool.submit(transport.send, Call("GET", site.http), soon(), repeatable=True)
            for _ in range(60)
        ]
        assert {call.result().body for call in calls} == {b"ok"}
    assert site.connections <= 20


def test_a_connection_whose_end_is_announced_is_not_used_again(transport: Transport) -> None:
    with upstream(answer(200, b"", "Connection: close")) as site:
        for _ in range(2):
            transport.send(Call("GET", site.http), soon(), repeatable=False)
        assert site.connections == 2


@pytest.mark.parametrize(("passed", "connections"), [(59, 1), (61, 2), (-1, 2)])
def test_a_connection_that_idled_over_a_minute_is_not_used_again(
    transport: Transport, pace: Pace, passed: float, connections: int
) -> None:
    with upstream(answer()) as site:
        for _ in range(2):
            transport.send(Call("GET", site.http), soon(), repeatable=False)
            pace.now += passed
        assert site.connections == connections


def idle_pair(transport: Transport, url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        calls = [
            pool.submit(transport.send, Call("GET", url), soon(), repeatable=False)
            for _ in range(2)
        ]
        assert {call.result().status for call in calls} == {200}


def test_two_connections_that_died_silently_in_a_freeze_cost_no_time(
    transport: Transport, pace: Pace
) -> None:
    both = threading.Barrier(2)
    thawed = threading.Event()

    def then_dead(connection: socket.socket) -> None:
        both.wait(5)
        connection.sendall(answer())
        thawed.wait(5)

    with upstream(then_dead, then_dead, answer(200, b"fresh")) as site:
        idle_pair(transport, site.http)
        pace.now += 3600
        started = time.monotonic()
        got = transport.send(Call("GET", site.http), soon(), repeatable=False)
        assert time.monotonic() - started < 2, "a dead one was waited for"
        thawed.set()
    assert got.body == b"fresh"
    assert site.connections == 3


def test_what_the_peer_closed_while_it_idled_is_not_used_again(transport: Transport) -> None:
    closed = threading.Event()

    def once(connection: socket.socket) -> None:
        connection.sendall(answer())
        connection.shutdown(socket.SHUT_RDWR)
        closed.set()

    with upstream(once, answer(200, b"fresh")) as site:
        transport.send(Call("GET", site.http), soon(), repeatable=False)
        assert closed.wait(5)
        got = transport.send(Call("GET", site.http), soon(), repeatable=False)
    assert got.body == b"fresh"
    assert len(site.requests) == 2


@pytest.mark.parametrize("fault", [reset, hang_up])
def test_a_kept_connection_that_fails_is_replaced_once_if_the_call_may_be_repeated(
    transport: Transport, pace: Pace, fault: Callable[[socket.socket], None]
) -> None:
    with upstream(answer(), fault, answer(200, b"fresh"), fault) as site:
        for body in (b"", b"fresh"):
            got = transport.send(Call("POST", site.http), soon(), repeatable=True)
            assert got.body == body
        assert (site.connections, pace.slept) == (2, [])
        with pytest.raises(UpstreamUnavailable):
            transport.send(Call("POST", site.http), soon(), repeatable=False)
        assert len(site.requests) == 4


def test_a_kept_connection_that_died_in_silence_leaves_time_for_a_fresh_one(
    transport: Transport,
) -> None:
    both = threading.Barrier(2)
    over = threading.Event()

    def then_dead(connection: socket.socket) -> None:
        both.wait(5)
        connection.sendall(answer())
        over.wait(5)

    fresh = answer(200, b"fresh", "Connection: close")
    with upstream(then_dead, then_dead, fresh, answer(200, b"later")) as site:
        idle_pair(transport, site.http)
        got = transport.send(Call("GET", site.http), soon(3), repeatable=True)
        # Its sibling went with it: what may not be sent twice does not meet that one.
        after = transport.send(Call("GET", site.http), soon(3), repeatable=False)
        over.set()
    assert (got.body, after.body) == (b"fresh", b"later")


def test_an_interim_answer_does_not_leave_the_final_one_to_the_next_caller(
    transport: Transport,
) -> None:
    def early(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.05)
        connection.sendall(answer(200, b"the first caller's"))

    with upstream(early, answer(200, b"the second caller's")) as site:
        with pytest.raises(UpstreamUnavailable):
            transport.send(Call("GET", site.http), soon(), repeatable=False)
        got = transport.send(Call("GET", site.http), soon(), repeatable=False)
    assert got.body == b"the second caller's"


# --- deadlines -----------------------------------------------------------------------------------


def test_a_passed_deadline_asks_nobody(open_transport: Callable[..., Transport]) -> None:
    asked: list[Call] = []

    class Recording:
        def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
            asked.append(call)
            return Answer(200)

    with pytest.raises(DeadlineExceeded):
        open_transport(network=Recording()).send(
            Call("GET", "http://127.0.0.1/"), soon(0), repeatable=True
        )
    assert asked == []


class Drip:
    """Sends a byte every 20 ms; `finished` tells that somebody listened to the end, 4 s later."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.finished = False

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self.prefix)
        for _ in range(200):
            connection.sendall(b"1")
            time.sleep(0.02)
        self.finished = True


DRIPS = {
    "status line": b"HTTP/1.1 2",
    "headers": b"HTTP/1.1 200 OK\r\nX-Slow: ",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n",
    "chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    # The header of a TLS record of 16 kB: the server's hello that never ends.
    "TLS handshake": b"\x16\x03\x03\x40\x00",
    "proxy's consent": b"HTTP/1.1 2",
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_dripping_server_cannot_hold_past_the_deadline(
    open_transport: Callable[..., Transport], where: str
) -> None:
    drip = Drip(DRIPS[where])
    with upstream(greeting=drip) as site:
        transport, url = open_transport(), site.http
        if where == "TLS handshake":
            url = f"https://localhost:{site.port}"
            transport = open_transport(Egress((f"localhost:{site.port}",)))
        if where == "proxy's consent":
            url = "https://a.test"
            transport = open_transport(Egress(("a.test",), proxy=site.http))
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            transport.send(Call("GET", url), soon(0.2), repeatable=True)
    assert time.monotonic() - started < 2
    assert not drip.finished


def test_a_flood_of_interim_answers_cannot_hold_past_the_deadline(transport: Transport) -> None:
    finished = threading.Event()

    def flood(connection: socket.socket) -> None:
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
        finished.set()

    with upstream(greeting=flood) as site, pytest.raises(DeadlineExceeded):
        transport.send(Call("GET", site.http), soon(0.2), repeatable=True)
    assert not finished.is_set()


def test_who_takes_no_byte_of_a_call_cannot_hold_past_the_deadline(transport: Transport) -> None:
    released = threading.Event()

    def deaf(_: socket.socket) -> None:
        released.wait(5)

    with upstream(greeting=deaf) as site:
        call = Call("POST", site.http, body=bytes(32 * 1024 * 1024))
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            transport.send(call, soon(0.2), repeatable=True)
        assert time.monotonic() - began < 2
        released.set()


@pytest.fixture
def dead() -> Iterator[tuple[Any, ...]]:
    """An address, as a resolver gives it, that answers no SYN: its queue is full."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield (socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())


def test_eight_dead_addresses_cannot_hold_past_the_deadline(
    open_transport: Callable[..., Transport], dead: tuple[Any, ...]
) -> None:
    transport = open_transport(resolve=lambda *_, **__: [dead] * 8)
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        transport.send(Call("GET", "http://localhost"), soon(0.4), repeatable=True)
    assert 0.3 < time.monotonic() - started < 1.5


def test_a_living_address_behind_dead_ones_is_reached(
    open_transport: Callable[..., Transport], dead: tuple[Any, ...]
) -> None:
    with upstream(answer(200, b"ok")) as site:
        living = (*dead[:4], ("127.0.0.1", site.port))
        transport = open_transport(resolve=lambda *_, **__: [dead, dead, dead, living])
        got = transport.send(Call("GET", "http://localhost"), soon(1), repeatable=False)
    assert got.body == b"ok"


def test_a_try_that_hangs_leaves_time_for_a_second_one(
    open_transport: Callable[..., Transport], dead: tuple[Any, ...]
) -> None:
    over = threading.Event()

    def hang(_: socket.socket) -> None:
        over.wait(9)

    with upstream(answer(200, b"ok")) as site, upstream(hang, answer(200, b"ok")) as slow:
        living = (*dead[:4], ("127.0.0.1", site.port))
        found = iter([[dead], [living]])
        connecting = open_transport(resolve=lambda *_, **__: next(found))

        def seconds(transport: Transport, url: str) -> float:
            started = time.monotonic()
            got = transport.send(Call("GET", url), soon(9), repeatable=True)
            assert got.body == b"ok"
            return time.monotonic() - started

        with ThreadPoolExecutor(2) as pool:
            connect = pool.submit(seconds, connecting, "http://localhost")
            read = pool.submit(seconds, open_transport(), slow.http)
            # One hung, and the second try was answered.
            assert 2 <= connect.result() < 4
            assert 4 <= read.result() < 8
        over.set()


def test_a_name_lookup_that_hangs_cannot_hold_past_the_deadline(
    open_transport: Callable[..., Transport],
) -> None:
    asked: list[str] = []
    released = threading.Event()

    def hang(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        released.wait(5)
        raise socket.gaierror

    transport = open_transport(resolve=hang)
    started = time.monotonic()
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            transport.send(Call("GET", "http://localhost"), soon(0.1), repeatable=True)
    assert time.monotonic() - started < 3
    # An outage must not leave a thread behind with every request.
    assert asked == ["localhost"]
    released.set()
    with pytest.raises(UpstreamUnavailable) as caught:
        transport.send(Call("GET", "http://localhost"), soon(), repeatable=True)
    assert caught.value.cause == "localhost: gaierror"
    assert len(asked) > 1


def test_a_deadline_counts_down_to_zero_and_not_below() -> None:
    clock = [100.0]
    deadline = Deadline.after(5, lambda: clock[0])
    assert deadline.remaining() == 5
    assert deadline.share(0.5).remaining() == 2.5
    assert deadline.share(1) == deadline
    clock[0] = 200.0
    assert deadline.remaining() == deadline.share(0.5).remaining() == 0


# --- secrets -------------------------------------------------------------------------------------


def test_no_failure_tells_url_header_or_body(
    transport: Transport, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    echo = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + CANARY.encode()
    for fault in (*BROKEN, lambda connection: connection.sendall(echo)):
        with upstream(fault) as site:
            call = Call("POST", site.http, {"Authorization": f"Bearer {CANARY}"}, CANARY.encode())
            with pytest.raises(TokenvendError) as caught:
                transport.send(call, soon(), repeatable=True)
        told = f"{caught.value!r} {caught.value} {caught.value.cause} {call!r}"
        assert CANARY not in told
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
    assert CANARY not in caplog.text
    assert CANARY not in repr(Answer(200, {"x": CANARY}, CANARY.encode()))


@pytest.mark.parametrize(
    "error",
    [TimeoutError(CANARY), socket.gaierror(CANARY), ValueError(CANARY), IncompleteRead(b"half")],
)
def test_a_networks_failures_have_one_vocabulary(
    open_transport: Callable[..., Transport], pace: Pace, error: Exception
) -> None:
    class Failing:
        def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
            raise error

    with pytest.raises(UpstreamUnavailable) as caught:
        open_transport(network=Failing()).send(
            Call("GET", "http://127.0.0.1/"), soon(), repeatable=True
        )
    assert caught.value.cause == f"127.0.0.1: {type(error).__name__}"
    assert len(pace.slept) == MAX_TRIES - 1
