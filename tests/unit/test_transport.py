"""The one door out, against real sockets on loopback."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
import trustme

from tests.unit.upstream import answer, upstream
from tokenvend.deadline import Deadline
from tokenvend.errors import DeadlineExceeded, Misconfigured, TokenvendError, UpstreamUnavailable
from tokenvend.transport import Answer, Call, retry_after
from tokenvend.transport.egress import MAX_TRIES, PLATFORM_NETWORKS, Egress, Transport, matches_host

NOW = 1_800_000_000
CANARY = "ya29.canary-that-must-not-leak"


class Pace:
    """Records how long the transport would have slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def open_transport(pace: Pace) -> Iterator[Callable[..., Transport]]:
    opened: list[Transport] = []

    def build(route: Egress | None = None, byte_cap: int = 1024 * 1024) -> Transport:
        route = route or Egress(hosts=(), plain_hosts=PLATFORM_NETWORKS)
        transport = Transport(
            route, now=lambda: NOW, sleep=pace.sleep, random=lambda: 0.5, byte_cap=byte_cap
        )
        opened.append(transport)
        return transport

    yield build
    for transport in opened:
        transport.close()


@pytest.fixture
def transport(open_transport: Callable[..., Transport]) -> Transport:
    return open_transport()


def soon(seconds: float = 5) -> Deadline:
    return Deadline.after(seconds, time.monotonic)


# --- what goes out, what comes back --------------------------------------------------------------


def test_a_call_arrives_as_it_was_given(transport: Transport) -> None:
    with upstream(answer(200, b'{"a": 1}', "X-Thing: Value")) as site:
        got = transport.send(
            Call("POST", f"{site.http}/v1/token?x=1", {"X-Mine": "yes"}, b"grant_type=x"),
            soon(),
            repeatable=False,
        )
    head, _, body = site.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/token?x=1 HTTP/1.1\r\n")
    assert b"X-Mine: yes" in head
    assert b"Accept-Encoding: identity" in head
    assert body == b"grant_type=x"
    assert (got.status, got.headers["x-thing"], got.json()) == (200, "Value", {"a": 1})


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 401, 403, 404, 418, 501])
def test_any_other_status_is_an_answer_at_once(
    transport: Transport, pace: Pace, status: int
) -> None:
    with upstream(answer(status, b"", "Location: http://127.0.0.1:1/elsewhere")) as site:
        got = transport.send(Call("GET", site.http), soon(), repeatable=True)
    assert got.status == status
    assert len(site.requests) == 1
    assert pace.slept == []


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


def test_cookies_are_not_kept(transport: Transport) -> None:
    with upstream(answer(200, b"", "Set-Cookie: session=1; Path=/")) as site:
        for _ in range(2):
            transport.send(Call("GET", site.http), soon(), repeatable=False)
    assert b"cookie" not in site.requests[1].lower()


def test_the_environment_changes_nothing(
    transport: Transport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    with upstream(answer(200)) as site:
        call = Call("GET", site.http, {"Authorization": "Bearer ours"})
        assert transport.send(call, soon(), repeatable=False).status == 200
    assert b"Authorization: Bearer ours\r\n" in site.requests[0]


# --- where a call may go -------------------------------------------------------------------------

ROUTE = Egress(hosts=("sts.googleapis.com", "*.amazonaws.com"), plain_hosts=PLATFORM_NETWORKS)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://sts.googleapis.com.evil.example/",
        "https://sts.googleapis.com@evil.example/",
        "https://evil.example\\@sts.googleapis.com/",
        "https://user:pass@sts.googleapis.com/",
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
    ],
)
def test_a_host_that_is_not_listed_is_not_called(
    open_transport: Callable[..., Transport], url: str
) -> None:
    with pytest.raises(Misconfigured):
        open_transport(ROUTE).send(Call("GET", url), soon(), repeatable=True)


@pytest.mark.parametrize(
    ("host", "pattern", "matches"),
    [
        ("sts.googleapis.com", "sts.googleapis.com", True),
        ("sts.us-east-1.amazonaws.com", "*.amazonaws.com", True),
        ("amazonaws.com", "*.amazonaws.com", False),
        ("xamazonaws.com", "*.amazonaws.com", False),
        ("sts.googleapis.com", "", False),
        ("sts.googleapis.com", "*", False),
    ],
)
def test_host_patterns_match_whole_names(host: str, pattern: str, matches: bool) -> None:
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


class Drip:
    """Sends a byte every 50 ms; `finished` tells that somebody listened to the end, 5 s later."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.finished = False

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self.prefix)
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)
        self.finished = True


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
        route = Egress(hosts=("sts.googleapis.com",), proxy=proxy.http, ca_bundle=bundle)
        transport = open_transport(route)
        call = Call("GET", "https://sts.googleapis.com/v1", {"Authorization": f"Bearer {CANARY}"})
        assert transport.send(call, soon(), repeatable=False).body == b"ok"
        transport.close()
    assert proxy.requests[0].startswith(b"CONNECT sts.googleapis.com:443 ")
    assert CANARY.encode() not in proxy.requests[0]
    assert CANARY.encode() in site.requests[0]


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_is_named(
    open_transport: Callable[..., Transport], status: int
) -> None:
    with upstream(answer(status, b"", "Connection: close")) as proxy:
        transport = open_transport(Egress(hosts=("sts.googleapis.com",), proxy=proxy.http))
        with pytest.raises(UpstreamUnavailable) as caught:
            transport.send(Call("GET", "https://sts.googleapis.com/"), soon(), repeatable=False)
    assert "is the proxy running" in caught.value.cause


@pytest.mark.parametrize("through_proxy", [False, True])
def test_a_handshake_that_never_ends_cannot_hold_past_the_deadline(
    open_transport: Callable[..., Transport], *, through_proxy: bool
) -> None:
    # As a site it waits for a request that the TLS hello is not; as a proxy it drips its consent.
    drip = Drip(b"HTTP/1.1 2")
    with upstream(drip) as site:
        host = "sts.googleapis.com" if through_proxy else f"localhost:{site.port}"
        proxy = site.http if through_proxy else ""
        transport = open_transport(Egress(hosts=(host,), proxy=proxy))
        with pytest.raises(DeadlineExceeded):
            transport.send(Call("GET", f"https://{host}/"), soon(0.3), repeatable=True)
    assert not drip.finished


def test_the_identity_endpoint_is_never_asked_through_the_proxy(
    open_transport: Callable[..., Transport],
) -> None:
    with upstream(answer(200, b"ok")) as site, upstream(answer(502)) as proxy:
        route = Egress(hosts=(), plain_hosts=PLATFORM_NETWORKS, proxy=proxy.http)
        got = open_transport(route).send(Call("GET", site.http), soon(), repeatable=False)
    assert got.body == b"ok"
    assert proxy.connections == 0


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


@pytest.mark.parametrize("chunked", [False, True])
def test_an_endless_answer_ends_at_the_cap(
    open_transport: Callable[..., Transport], chunked: bool
) -> None:
    def endless(connection: socket.socket) -> None:
        kind = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n\r\n")
        block = (b"400\r\n" if chunked else b"") + b"x" * 1024 + (b"\r\n" if chunked else b"")
        for _ in range(10_000):
            connection.sendall(block)

    with upstream(endless) as site, pytest.raises(UpstreamUnavailable) as caught:
        open_transport(byte_cap=20_000).send(Call("GET", site.http), soon(), repeatable=True)
    assert "larger than 20000 bytes" in caught.value.cause
    assert len(site.requests) == 1


def test_the_cap_itself_still_fits(open_transport: Callable[..., Transport]) -> None:
    with upstream(answer(200, b"x" * 1000)) as site:
        got = open_transport(byte_cap=1000).send(Call("GET", site.http), soon(), repeatable=True)
    assert len(got.body) == 1000


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "identity, gzip"])
def test_a_compressed_answer_is_not_unpacked(transport: Transport, encoding: str) -> None:
    bomb = gzip.compress(b"0" * 1_000_000)
    with (
        upstream(answer(200, bomb, f"Content-Encoding: {encoding}")) as site,
        pytest.raises(UpstreamUnavailable, match="cannot be used"),
    ):
        transport.send(Call("GET", site.http), soon(), repeatable=True)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b"[" * 100_000])
def test_garbage_is_not_json(body: bytes) -> None:
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


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
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
    ],
)
def test_retry_after_is_read_strictly(value: str, seconds: int | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == seconds


# --- deadlines -----------------------------------------------------------------------------------


def test_a_passed_deadline_sends_nothing(transport: Transport) -> None:
    with upstream(answer()) as site, pytest.raises(DeadlineExceeded):
        transport.send(Call("GET", site.http), soon(0), repeatable=True)
    assert site.connections == 0


@pytest.mark.parametrize(
    "prefix",
    [
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
    ],
    ids=["status line", "headers", "body"],
)
def test_a_dripping_server_cannot_hold_past_the_deadline(
    transport: Transport, prefix: bytes
) -> None:
    drip = Drip(prefix)
    with upstream(drip) as site, pytest.raises(DeadlineExceeded):
        transport.send(Call("GET", site.http), soon(0.3), repeatable=True)
    assert not drip.finished


def test_a_silent_server_cannot_hold_past_the_deadline(transport: Transport) -> None:
    released = threading.Event()

    def silent(_: socket.socket) -> None:
        released.wait(5)

    with upstream(silent) as site, pytest.raises(DeadlineExceeded):
        transport.send(Call("GET", site.http), soon(0.2), repeatable=True)
    released.set()


def test_a_deadline_counts_down_to_zero_and_not_below() -> None:
    clock = [100.0]
    deadline = Deadline.after(5, lambda: clock[0])
    assert deadline.remaining() == 5
    clock[0] = 200.0
    assert deadline.remaining() == 0


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
