"""Cloud Storage through the real doors: sockets, the proxy, an unmodified client, big bodies.

What a site in process cannot show: that bytes stream, that a broken connection keeps what came, and
that no client waits for another's transfer.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPSConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import google_crc32c
import pytest
import requests
from google.auth.credentials import Credentials
from google.cloud import storage
from requests.adapters import HTTPAdapter

from localcloud.cloud import Cloud
from localcloud.google.core.principals import ServiceAccountPrincipal
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken
from localcloud.google.storage.sessions import QUANTUM
from localcloud.wire.faults import Fault, Kind
from localcloud.world import World
from tests.conformance.google_lab import LANDING

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "storage.googleapis.com"
OBJECTS = "/storage/v1/b/acme-landing/o"
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(World.load(), tmp_path_factory.mktemp("storage"), functions=()) as running:
        yield running


@pytest.fixture(autouse=True)
def no_faults(cloud: Cloud) -> Iterator[None]:
    yield
    cloud.faults.clear()


@pytest.fixture(scope="module")
def token(cloud: Cloud) -> str:
    account = cloud.world.google.service_account(LANDING)
    assert account is not None
    principal, now = ServiceAccountPrincipal(account.email, account.unique_id), time.time()
    issued = IssuedToken(principal, frozenset({CLOUD_PLATFORM}), int(now) + 3600)
    return cloud.google.tokens.issue(issued, now)


class _Static(Credentials):  # type: ignore[no-untyped-call]
    def refresh(self, request: Any) -> None:
        """Never asked: the token is set."""


@pytest.fixture
def bucket(cloud: Cloud, token: str) -> Iterator[Any]:
    """The bucket by google-cloud-storage, which finds the cloud by nothing but its environment."""
    credentials = _Static()
    credentials.token = token
    session = requests.Session()
    environment = cloud.network_environment
    session.trust_env = False
    session.proxies = {"https": environment["HTTPS_PROXY"]}
    session.verify = environment["REQUESTS_CA_BUNDLE"]
    session.headers["Authorization"] = f"Bearer {token}"
    session.mount("https://", HTTPAdapter(max_retries=0))
    session.is_mtls = False  # type: ignore[attr-defined]
    with session:
        client = storage.Client(project="acme", credentials=credentials, _http=session)
        yield client.bucket("acme-landing")


@contextmanager
def connection(cloud: Cloud, token: str) -> Iterator[tuple[HTTPSConnection, dict[str, str]]]:
    """A connection of our own, to break it or to send what no client would."""
    proxy = urlsplit(cloud.network_environment["HTTPS_PROXY"])
    context = ssl.create_default_context(cafile=cloud.network_environment["SSL_CERT_FILE"])
    made = HTTPSConnection(str(proxy.hostname), proxy.port, context=context, timeout=30)
    made.set_tunnel(HOST, 443)
    try:
        yield made, {"Authorization": f"Bearer {token}"}
    finally:
        made.close()


def start(cloud: Cloud, token: str, name: str) -> str:
    """The target of a new upload session."""
    with connection(cloud, token) as (http, fields):
        http.request("POST", f"/upload{OBJECTS}?uploadType=resumable&name={name}", b"", fields)
        parts = urlsplit(http.getresponse().headers["Location"])
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("size", [0, 1, QUANTUM, 8 * MEBIBYTE + 1])
def test_client_gets_back_what_it_sent(bucket: Any, size: int) -> None:
    content = os.urandom(size)
    blob = bucket.blob("sizes/ä &#%+.bin", chunk_size=MEBIBYTE)
    blob.upload_from_string(content, checksum="crc32c")
    assert bucket.blob(blob.name).download_as_bytes(checksum="md5") == content
    assert bucket.get_blob(blob.name).size == size


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.RESET])
def test_client_goes_on_with_an_upload_that_was_disturbed(
    cloud: Cloud, bucket: Any, kind: Kind
) -> None:
    content = os.urandom(3 * MEBIBYTE + 5)
    blob = bucket.blob("disturbed", chunk_size=MEBIBYTE)
    with blob.open("wb", ignore_flush=True) as writer:
        writer.write(content[:MEBIBYTE])
        cloud.faults.add(Fault(HOST, kind, path="/upload/*", times=1))
        writer.write(content[MEBIBYTE:])
    assert bucket.blob("disturbed").download_as_bytes() == content


def test_broken_connection_keeps_what_came_and_the_rest_is_enough(cloud: Cloud, token: str) -> None:
    content = os.urandom(2 * MEBIBYTE)
    target = start(cloud, token, "broken")
    with connection(cloud, token) as (http, _):
        http.putrequest("PUT", target)
        http.putheader("Content-Length", str(len(content)))
        http.putheader("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        http.endheaders()
        http.send(content[: MEBIBYTE + 100])
    with connection(cloud, token) as (http, _):
        http.request("PUT", target, b"", {"Content-Range": "bytes */*"})
        answer = http.getresponse()
        answer.read()
        # How much of it was still under way when the connection died is not ours to say.
        kept = int(answer.headers.get("Range", "bytes=0--1").removeprefix("bytes=0-")) + 1
        assert (answer.status, kept % QUANTUM, kept <= MEBIBYTE) == (308, 0, True)
        rest = f"bytes {kept}-{len(content) - 1}/{len(content)}"
        http.request("PUT", target, content[kept:], {"Content-Range": rest})
        made = json.loads(http.getresponse().read())
    assert made["size"] == str(len(content))
    crc = google_crc32c.value(content).to_bytes(4, "big")
    with connection(cloud, token) as (http, fields):
        http.request("GET", f"{OBJECTS}/broken?alt=media", headers=fields)
        assert google_crc32c.value(http.getresponse().read()).to_bytes(4, "big") == crc


def test_body_in_chunks_without_a_length_is_an_upload(cloud: Cloud, token: str) -> None:
    content = os.urandom(MEBIBYTE + 1)
    target = start(cloud, token, "chunked")
    with connection(cloud, token) as (http, _):
        pieces = (content[place : place + 100_000] for place in range(0, len(content), 100_000))
        http.request("PUT", target, pieces, encode_chunked=True)
        answer = http.getresponse()
        assert (answer.status, json.loads(answer.read())["size"]) == (200, str(len(content)))


def test_nobody_waits_for_somebody_elses_transfer(cloud: Cloud, token: str, bucket: Any) -> None:
    """One client stalls in the middle of its body, another in the middle of its download."""
    content = os.urandom(4 * MEBIBYTE)
    bucket.blob("stalled").upload_from_string(content)
    with connection(cloud, token) as (up, fields), connection(cloud, token) as (down, _):
        up.putrequest("POST", f"/upload{OBJECTS}?uploadType=media&name=slow")
        for name, value in {**fields, "Content-Length": str(len(content))}.items():
            up.putheader(name, value)
        up.endheaders()
        up.send(content[:MEBIBYTE])
        down.request("GET", f"{OBJECTS}/stalled?alt=media", headers=fields)
        answer = down.getresponse()
        first = answer.read(1000)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: bucket.blob(f"m/{n}").upload_from_string(b"x"), range(16)))
        bucket.blob("stalled").upload_from_string(b"replaced meanwhile")
        bucket.delete_blob("stalled")
        assert time.monotonic() - began < 20
        up.send(content[MEBIBYTE:])
        assert json.loads(up.getresponse().read())["size"] == str(len(content))
        # A reader keeps the object that it began with.
        assert first + answer.read() == content


def test_crowd_of_clients_loses_and_mixes_nothing(bucket: Any) -> None:
    def turn(number: int) -> bool:
        content = bytes([number]) * (100_000 + number)
        blob = bucket.blob(f"crowd/{number}")
        blob.upload_from_string(content)
        return bool(bucket.blob(blob.name).download_as_bytes() == content)

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(turn, range(60)))
    assert len(list(bucket.list_blobs(prefix="crowd/"))) == 60


def test_large_object_goes_up_and_down_in_little_memory(cloud: Cloud, token: str) -> None:
    size, piece = 96 * MEBIBYTE, os.urandom(MEBIBYTE)
    tracemalloc.start()
    try:
        with connection(cloud, token) as (http, fields):
            body = (piece for _ in range(size // MEBIBYTE))
            target = f"/upload{OBJECTS}?uploadType=media&name=large"
            http.request("POST", target, body, {**fields, "Content-Length": str(size)})
            assert json.loads(http.getresponse().read())["size"] == str(size)
            http.request("GET", f"{OBJECTS}/large?alt=media", headers=fields)
            answer, received = http.getresponse(), 0
            while came := answer.read(MEBIBYTE):
                received += len(came)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received == size
    # Both ends run in this process: a few pieces each, whatever the size.
    assert peak < 16 * MEBIBYTE
