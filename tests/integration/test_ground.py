"""The ground of the embedded cloud: proxy, authority, faults, files, and that it ends cleanly."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from localcloud.cloud import Cloud
from localcloud.wire.faults import Fault, Kind
from localcloud.wire.net import Authority, Proxy
from localcloud.wire.web import Request, Response, Router, Server
from localcloud.workloads import UnknownCallerError
from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HOST = "sts.us-east-1.amazonaws.com"
URL = f"https://{HOST}/?Action=GetCallerIdentity&Version=2011-06-15"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The three clouds without the functions: nothing here needs them."""
    with Cloud(World.load(), tmp_path_factory.mktemp("ground"), functions=()) as running:
        yield running


@pytest.fixture
def session(ground: Cloud) -> Iterator[requests.Session]:
    environment = ground.network_environment
    with requests.Session() as made:
        made.trust_env = False
        made.proxies = {"https": environment["HTTPS_PROXY"]}
        made.verify = environment["REQUESTS_CA_BUNDLE"]
        made.mount("https://", HTTPAdapter(max_retries=0))
        yield made
    ground.faults.clear()
    ground.clock.skew = 0.0


def connect(ground: Cloud, head: bytes) -> socket.socket:
    """A connection to the proxy on which `head` was sent."""
    port = int(str(ground.endpoints["proxy"]).rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(head)
    return connection


@pytest.mark.parametrize(
    "host",
    [
        HOST,
        "sts.amazonaws.com",
        "sts.googleapis.com",
        "iamcredentials.googleapis.com",
        "storage.googleapis.com",
        "login.microsoftonline.com",
        "sts.windows.net",
        "orders-4x7k2q9d1a-uc.a.run.app",
    ],
)
def test_a_real_hostname_answers_under_a_certificate_of_its_own(
    session: requests.Session, host: str
) -> None:
    assert session.get(f"https://{host}/", timeout=30).status_code < 600


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT sts.amazonaws.com.example.com:443 HTTP/1.1\r\n\r\n",
        b"CONNECT sts.amazonaws.com:80 HTTP/1.1\r\n\r\n",
        b"CONNECT 169.254.169.254:443 HTTP/1.1\r\n\r\n",
        b"CONNECT user@sts.amazonaws.com:443 HTTP/1.1\r\n\r\n",
        b"GET http://sts.amazonaws.com/ HTTP/1.1\r\nHost: sts.amazonaws.com\r\n\r\n",
        b"\x16\x03\x01\x00\r\n\r\n",
    ],
)
def test_the_proxy_lets_through_nothing_but_the_stand_ins(ground: Cloud, head: bytes) -> None:
    with connect(ground, head) as connection:
        assert connection.recv(1024).startswith(b"HTTP/1.1 403 ")
        assert connection.recv(1024) == b""


def test_a_refusal_is_logged_without_what_a_url_may_hold(
    ground: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "localcloud.wire.net")
    head = b"GET http://example.com/secret-path?access_token=ya29.secret HTTP/1.1\r\n\r\n"
    with connect(ground, head) as connection:
        assert connection.recv(1024).startswith(b"HTTP/1.1 403 ")
    assert "GET example.com" in caplog.text
    assert "secret" not in caplog.text


def test_an_endless_head_is_refused(ground: Cloud) -> None:
    with connect(ground, b"CONNECT sts.amazonaws.com:443 HTTP/1.1\r\n" + b"a" * 9000) as connection:
        assert connection.recv(1024).startswith(b"HTTP/1.1 400 ")


def test_a_hostname_that_nobody_serves_gets_no_certificate(ground: Cloud) -> None:
    trust = ssl.create_default_context(cafile=str(ground.endpoints["ca_bundle"]))
    head = f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode()
    with connect(ground, head) as connection:
        assert connection.recv(1024).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ssl.SSLError):
            trust.wrap_socket(connection, server_hostname="example.com")


def test_a_client_without_our_authority_trusts_nothing(session: requests.Session) -> None:
    session.verify = True
    with pytest.raises(requests.exceptions.SSLError):
        session.get(URL, timeout=30)


def test_an_answer_arrives_whole_after_the_client_has_sent_its_last_byte() -> None:
    whole = b"x" * 2_000_000
    # The backend answers only once it has seen the client's end, which the proxy must pass on.
    with socket.create_server(("127.0.0.1", 0)) as backend:
        proxy = Proxy(Router({HOST: _never}).knows, backend.getsockname()[1]).start()
        with socket.create_connection(("127.0.0.1", proxy.port), 30) as client:
            client.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\nearly".encode())
            assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
            inner, _ = backend.accept()
            client.sendall(b" late")
            client.shutdown(socket.SHUT_WR)
            assert _all(inner) == b"early late"
            inner.settimeout(30)
            _answer_in_background(inner, whole)
            assert _all(client) == whole
        proxy.stop()


def _never(_: Request) -> Response:
    raise AssertionError


def _all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


def _answer_in_background(connection: socket.socket, data: bytes) -> None:
    def answer() -> None:
        with connection:
            connection.sendall(data)

    threading.Thread(target=answer, daemon=True).start()


def test_tunnels_leave_no_thread_behind(ground: Cloud, session: requests.Session) -> None:
    session.get(URL, timeout=30)
    session.close()
    port = str(ground.endpoints["proxy"]).rpartition(":")[2]
    end = time.monotonic() + 30
    while _tunnels(port) and time.monotonic() < end:
        time.sleep(0.01)
    assert _tunnels(port) == []
    assert ground.endpoints["ready"] is True


def _tunnels(port: str) -> list[str]:
    """Of the proxy on this port: another test's cloud may have tunnels of its own."""
    return [t.name for t in threading.enumerate() if t.name.startswith(f"tunnel-{port}")]


def test_stopping_cuts_an_open_tunnel() -> None:
    backend = Server(_never).start()
    proxy = Proxy(lambda _: True, backend.port).start()
    with socket.create_connection(("127.0.0.1", proxy.port), 30) as client:
        client.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
        assert client.recv(1024).startswith(b"HTTP/1.1 200 ")
        proxy.stop()
        assert client.recv(1024) == b""
    backend.stop()


def test_each_start_has_an_authority_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Authority().write_bundle(tmp_path / name)
    one, two = ((tmp_path / name).read_text() for name in ("one", "two"))
    assert one != two
    assert "PRIVATE KEY" not in one + two


def test_a_status_fault_hits_as_often_as_it_says(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(
        Fault("sts.*.amazonaws.com", Kind.STATUS, status=429, retry_after="7", times=2)
    )
    answers = [session.get(URL, timeout=30) for _ in range(3)]
    assert [a.status_code for a in answers] == [429, 429, 403]
    assert [a.headers.get("Retry-After") for a in answers] == ["7", "7", None]


def test_a_fault_hits_its_host_and_path_only(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault("sts.googleapis.com", Kind.STATUS, path="/v1/token"))
    assert session.get(URL, timeout=30).status_code == 403
    assert session.post("https://sts.googleapis.com/v1/token", timeout=30).status_code == 503
    assert session.post("https://sts.googleapis.com/v1/introspect", timeout=30).status_code != 503


def test_a_reset_is_a_connection_that_dies(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault(HOST, Kind.RESET, times=1))
    with pytest.raises(requests.exceptions.ConnectionError):
        session.get(URL, timeout=30)
    assert session.get(URL, timeout=30).status_code == 403


def test_a_truncated_answer_ends_before_its_length(
    ground: Cloud, session: requests.Session
) -> None:
    ground.faults.add(Fault(HOST, Kind.TRUNCATED, times=1))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        session.get(URL, timeout=30)


def test_a_garbage_answer_keeps_its_status(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault(HOST, Kind.GARBAGE, times=1))
    answer = session.get(URL, timeout=30)
    assert answer.status_code == 403
    assert answer.content == b"\x00\xff<{not json"


def test_latency_outlasts_an_impatient_client(ground: Cloud, session: requests.Session) -> None:
    ground.faults.add(Fault(HOST, Kind.LATENCY, seconds=0.3, times=1))
    with pytest.raises(requests.exceptions.ReadTimeout):
        session.get(URL, timeout=0.1)
    assert session.get(URL, timeout=30).status_code == 403


def admin(ground: Cloud, method: str, path: str, body: object = None, **headers: str) -> Any:
    opened = json.loads((ground.directory / "admin.json").read_text())
    given = {"Authorization": f"Bearer {opened['token']}", **headers}
    with requests.Session() as made:
        made.trust_env = False
        return made.request(method, opened["url"] + path, json=body, headers=given, timeout=30)


def test_another_process_gets_a_callers_environment(
    ground: Cloud, session: requests.Session
) -> None:
    environment = admin(ground, "GET", "/env/etl").json()
    key = ground.accounts.find(environment["AWS_ACCESS_KEY_ID"])
    assert key is not None
    assert key.principal.arn == "arn:aws:sts::111122223333:assumed-role/etl/local"
    assert environment["AWS_SESSION_TOKEN"] == key.token
    # A port of its own at the proxy: link-local addresses are its machine's there.
    assert environment["HTTPS_PROXY"] != ground.endpoints["proxy"]
    identity = admin(ground, "GET", "/env/reporting").json()
    answer = session.get(
        identity["IDENTITY_ENDPOINT"],
        params={"api-version": "2019-08-01", "resource": "api://tokenvend"},
        headers={"X-IDENTITY-HEADER": identity["IDENTITY_HEADER"]},
        timeout=30,
    )
    assert answer.status_code == 200
    assert admin(ground, "GET", "/env/nobody").status_code == 404
    with pytest.raises(UnknownCallerError):
        ground.environment_for("nobody")


def test_another_process_is_the_person_who_owns_the_projects(
    ground: Cloud, session: requests.Session
) -> None:
    environment = admin(ground, "GET", "/env/admin").json()
    token = environment["CLOUDSDK_AUTH_ACCESS_TOKEN"]
    assert environment["GOOGLE_OAUTH_ACCESS_TOKEN"] == token
    assert environment["CLOUDSDK_CORE_PROJECT"] == "acme"
    info = session.get(
        "https://oauth2.googleapis.com/tokeninfo", params={"access_token": token}, timeout=30
    ).json()
    assert (info["email"], info["expires_in"]) == ("admin@acme.example", "3600")
    assert "https://www.googleapis.com/auth/cloud-platform" in info["scope"].split()
    person = ground.world.google.users.pop()
    try:
        gone = {"access_token": token}
        answer = session.get("https://oauth2.googleapis.com/tokeninfo", params=gone, timeout=30)
        assert answer.json()["error"] == "invalid_token"
    finally:
        ground.world.google.users.append(person)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": ""}, 401),
        ({"Host": "evil.example"}, 403),
    ],
    ids=str,
)
def test_who_has_not_read_admin_json_gets_nothing(
    ground: Cloud, headers: dict[str, str], status: int
) -> None:
    answer = admin(ground, "GET", "/env/etl", **headers)
    assert answer.status_code == status
    assert "AWS" not in answer.text


def test_another_process_sets_faults_and_the_clock(
    ground: Cloud, session: requests.Session
) -> None:
    fault = {"host": HOST, "kind": "status", "status": 500}
    assert admin(ground, "POST", "/faults", fault).status_code == 204
    assert session.get(URL, timeout=30).status_code == 500
    assert [each["host"] for each in admin(ground, "GET", "/faults").json()] == [HOST]
    assert admin(ground, "DELETE", "/faults").status_code == 204
    assert session.get(URL, timeout=30).status_code == 403
    assert admin(ground, "PUT", "/clock", {"skew": 3600}).status_code == 204
    assert ground.clock.skew == 3600


@pytest.mark.parametrize(
    "fault",
    [
        {"host": HOST},
        {"host": "sts.google.com", "kind": "reset"},
        {"host": HOST, "kind": "explode"},
        {"kind": "reset"},
        {"host": HOST, "kind": "reset", "colour": "red"},
        {"host": HOST, "kind": "status", "status": "500"},
        {"host": HOST, "kind": "reset", "times": "1"},
        [],
    ],
    ids=str,
)
def test_a_fault_that_makes_no_sense_is_refused(ground: Cloud, fault: object) -> None:
    assert admin(ground, "POST", "/faults", fault).status_code == 400


def test_the_files_are_the_users_alone(ground: Cloud) -> None:
    assert stat.S_IMODE(ground.directory.stat().st_mode) == 0o700
    for name in ("endpoints.json", "admin.json"):
        assert stat.S_IMODE((ground.directory / name).stat().st_mode) == 0o600
    endpoints = json.loads((ground.directory / "endpoints.json").read_text())
    assert endpoints["ready"] is True
    assert endpoints == ground.endpoints


_CHILD = """
import sys, time
from pathlib import Path
from localcloud.cloud import Cloud
from localcloud.workloads import UnknownCallerError
from localcloud.world import World
directory, root = map(Path, sys.argv[1:])
with Cloud(World.load(), directory, functions=("aws",), root=root) as cloud:
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_cloud_takes_its_children_with_it(tmp_path: Path) -> None:
    app = ROOT / "tests/conformance/aws_app"
    command = [sys.executable, "-c", _CHILD, str(tmp_path), str(app)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        endpoints = json.loads((tmp_path / "endpoints.json").read_text())
        with requests.Session() as made:
            made.trust_env = False
            answer = made.post(f"{endpoints['aws_http']}/open", json={}, timeout=10)
        pid = answer.json()["pid"]
        os.kill(pid, 0)
        parent.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while _lives(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that ended but was not yet collected does not."""
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_plain_http_is_relayed_to_the_identity_endpoint_and_nowhere_else(ground: Cloud) -> None:
    environment = ground.environment_for("reporting")
    proxied = requests.Session()
    proxied.trust_env = False
    proxied.proxies = {"http": environment["HTTPS_PROXY"]}
    answer = proxied.get(
        environment["IDENTITY_ENDPOINT"],
        params={"api-version": "2019-08-01", "resource": "api://tokenvend"},
        headers={"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
        timeout=30,
    )
    assert answer.json()["token_type"] == "Bearer"
    admin = json.loads((ground.directory / "admin.json").read_text())["url"]
    for elsewhere in (admin, "http://example.com"):
        assert proxied.get(f"{elsewhere}/env/etl", timeout=30).status_code == 403
