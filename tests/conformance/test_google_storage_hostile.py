"""What a hostile or a careless caller sends to Cloud Storage: none of it hangs, breaks or lies.

Bombs of time and memory, texts that no parser should meet, a disk that fills up, two writers with
one entity tag, and an upload that outlives its bucket.
"""

from __future__ import annotations

import base64
import errno
import gc
import gzip
import io
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from localcloud.google.storage import content
from localcloud.google.storage.content import Directory, Writer
from localcloud.google.storage.errors import StorageError
from localcloud.google.storage.listing import Query, page
from localcloud.google.storage.multipart import Related
from localcloud.google.storage.store import Draft, Store, StoredObject
from localcloud.wire.web import Body, BodyCutError
from localcloud.world import Binding, Expr
from tests.conformance.google_admin import token_of
from tests.conformance.google_lab import UNBOUND, Lab
from tests.conformance.storage_lab import (
    API,
    HOST,
    UPLOAD,
    bucket,
    fields,
    put,
    refusal,
    resource,
    start,
    whole_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localcloud.wire.web import Response

# Seconds: what takes longer would have taken hours, or grows with the square of its size.
SOON = 5


@pytest.fixture
def token(lab: Lab) -> str:
    return whole_token(lab)


def test_glob_of_many_stars_does_not_stop_the_cloud() -> None:
    store = Store()
    store.publish("b", "a" * 1000, Draft(Writer(store.directory).finish(), {}), 1.0)
    began = time.monotonic()
    assert page(store, "b", Query(glob="**a" * 30 + "b")).items == ()
    assert len(page(store, "b", Query(glob="**a" * 30 + "**")).items) == 1
    assert time.monotonic() - began < SOON


def test_content_full_of_almost_delimiters_is_read_in_linear_time() -> None:
    filler = b"\n--ax" * 400_000
    body = b"--a\r\n\r\n{}\r\n--a\r\n\r\n" + filler + b"\r\n--a--"
    began = time.monotonic()
    parts = Related("multipart/related; boundary=a", io.BytesIO(body))
    assert parts.resource() == b"{}"
    assert parts.content_type() == ""
    assert b"".join(parts.content()) == filler
    assert time.monotonic() - began < SOON


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("end", ["\r\n", "\n", " \t\r\n"])
def test_delimiter_that_comes_in_pieces_is_one(size: int, end: str) -> None:
    class Drip(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(size)

    inside = b"x\n--a-\n--ab\r\n--a \tx\r"
    line = end.lstrip(" \t")
    body = f"--a{end}{line}{{}}{line}--a{end}{line}".encode() + inside + f"{line}--a--".encode()
    parts = Related("multipart/related; boundary=a", Drip(body))
    assert parts.resource() == b"{}"
    parts.content_type()
    assert b"".join(parts.content()) == inside


def _session(lab: Lab, token: str, body: Any) -> Response:
    return lab.call("POST", f"{UPLOAD}?uploadType=resumable&name=x", body, token)


def _media(lab: Lab, token: str, **headers: str) -> Response:
    return lab.call("POST", f"{UPLOAD}?uploadType=media&name=x", b"x", token, **headers)


def _deep_page(lab: Lab, token: str) -> Response:
    deep = base64.urlsafe_b64encode(b"[" * 30_000).decode()
    url = f"https://iam.googleapis.com/v1/projects/acme/serviceAccounts?pageToken={deep}"
    return lab.call("GET", url, None, token)


def _batch_in_batches(lab: Lab, token: str) -> Response:
    kind = b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n"
    body = b"".join(kind % (i, i + 1) for i in range(3000))
    headers = {"Content_Type": "multipart/mixed; boundary=b0"}
    return lab.call("POST", f"{HOST}/batch/storage/v1", body, token, **headers)


def _complete(lab: Lab, token: str, number: str) -> Response:
    begun = lab.call("POST", f"{HOST}/acme-landing/x?uploads", b"", token).body.decode()
    upload = begun.partition("<UploadId>")[2].partition("<")[0]
    part = f"<Part><PartNumber>{number}</PartNumber><ETag>x</ETag></Part>"
    body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    return lab.call("POST", f"{HOST}/acme-landing/x?uploadId={upload}", body, token)


DEEP = '{"x":' * 3000 + "1" + "}" * 3000


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda lab, token: lab.call("PATCH", API, f'{{"cors":{DEEP}}}'.encode(), token), 400),
        (lambda lab, token: lab.call("POST", f"{API}/o", DEEP.encode(), token), 400),
        (lambda lab, token: _session(lab, token, {"crc32c": "\u00e9"}), 400),
        (lambda lab, token: _media(lab, token, X_Goog_Hash="crc32c=\u00e9"), 400),
        (lambda lab, token: _media(lab, token, Content_MD5="\u00e9"), 400),
        (_batch_in_batches, 400),
        (_deep_page, 400),
        (lambda lab, token: _complete(lab, token, "9" * 5000), 400),
    ],
)
def test_what_no_parser_should_meet_is_refused_and_breaks_nothing(
    lab: Lab, ask: Callable[[Lab, str], Response], status: int
) -> None:
    assert ask(lab, token_of(lab)).status == status


@pytest.mark.parametrize("field", ["X_Amz_Copy_Source", "X_Amz_Meta_Kind"])
def test_amazon_s_field_makes_no_empty_or_bare_object(lab: Lab, token: str, field: str) -> None:
    resource(put(lab, "x", token))
    headers = {field: "/acme-landing/x", "Content_Length": "0"}
    assert lab.call("PUT", f"{HOST}/acme-landing/copy", b"", token, **headers).status == 400
    assert lab.call("GET", f"{API}/o/copy", None, token).status == 404


@pytest.mark.parametrize("after", [b"XX", b"\n\r", b"X" * 1_000_000])
def test_bytes_behind_a_chunk_are_not_swallowed(after: bytes) -> None:
    body = Body(io.BufferedReader(io.BytesIO(b"3\r\nabc" + after + b"\r\n0\r\n\r\n")), None)  # type: ignore[arg-type]
    with pytest.raises(BodyCutError):
        body.read()


def test_gzip_of_several_members_loses_none(lab: Lab, token: str) -> None:
    packed = gzip.compress(b"one") + gzip.compress(b"two")
    headers = {"Content_Encoding": "gzip"}
    resource(lab.call("POST", f"{UPLOAD}?uploadType=media&name=sent", packed, token, **headers))
    assert lab.call("GET", f"{API}/o/sent?alt=media", None, token).body == b"onetwo"
    resource(put(lab, "kept", token, packed, contentEncoding="gzip"))
    assert lab.call("GET", f"{API}/o/kept?alt=media", None, token).body == b"onetwo"


def test_gzip_with_something_else_behind_it_makes_no_object(lab: Lab, token: str) -> None:
    packed = gzip.compress(b"one") + b"more"
    url = f"{UPLOAD}?uploadType=media&name=x"
    assert lab.call("POST", url, packed, token, Content_Encoding="gzip").status == 400
    assert lab.call("GET", f"{API}/o/x", None, token).status == 404


def test_upload_session_does_not_write_into_a_later_bucket_of_the_name(lab: Lab) -> None:
    admin = token_of(lab)
    late, objects = f"{HOST}/storage/v1/b/acme-late", f"{HOST}/upload/storage/v1/b/acme-late/o"
    make = {"name": "acme-late"}
    resource(lab.call("POST", f"{HOST}/storage/v1/b?project=acme", make, admin))
    begun = lab.call("POST", f"{objects}?uploadType=resumable&name=x", {}, admin)
    assert lab.call("DELETE", late, None, admin).status == 204
    resource(lab.call("POST", f"{HOST}/storage/v1/b?project=acme", make, admin))
    assert lab.call("PUT", fields(begun)["location"], b"evil").status == 404
    assert "items" not in resource(lab.call("GET", f"{late}/o", None, admin))


class _FullDisk:
    """FileIO of a disk that takes three bytes of a piece and then no more, once."""

    left = 1

    def __init__(self, *given: Any) -> None:
        self._file = io.FileIO(*given)

    def write(self, piece: memoryview) -> int:
        if not _FullDisk.left:
            return self._file.write(piece)
        if _FullDisk.left == 1:
            _FullDisk.left = 2
            return self._file.write(piece[:3])
        _FullDisk.left = 0
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_FullDisk, "left", 1)
    monkeypatch.setattr(content, "io", SimpleNamespace(FileIO=_FullDisk))


@pytest.mark.usefixtures("full_disk")
def test_full_disk_refuses_and_makes_no_object(lab: Lab, token: str) -> None:
    assert refusal(put(lab, "x", token, b"content"))[0] == 507
    assert lab.call("GET", f"{API}/o/x", None, token).status == 404
    assert resource(put(lab, "x", token, b"content"))["size"] == "7"


@pytest.mark.usefixtures("full_disk")
def test_full_disk_has_room_again_as_soon_as_it_has_refused(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "objects")
    # Not only once the collector comes by.
    gc.disable()
    try:
        assert _refuses(directory)
        assert list(directory.path.iterdir()) == []
    finally:
        gc.enable()


def _refuses(directory: Directory) -> bool:
    try:
        content.write(directory, [b"content"])
    except StorageError as refusal:
        return refusal.code == 507
    return False


@pytest.mark.usefixtures("full_disk")
def test_upload_that_met_a_full_disk_goes_on_with_what_was_sent(lab: Lab, token: str) -> None:
    sent = bytes(range(256)) * 1024 + b"end"
    url = start(lab, token)
    assert lab.call("PUT", url, sent).status == 507
    assert lab.call("PUT", url, b"", Content_Range="bytes */*").status == 308
    resource(lab.call("PUT", url, sent))
    assert lab.call("GET", f"{API}/o/x?alt=media", None, token).body == sent


def test_full_disk_is_no_storage_error_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise OSError(errno.EIO, "Input/output error")

    writer = Writer(Directory())
    monkeypatch.setattr(content, "io", SimpleNamespace(FileIO=broken))
    with pytest.raises(OSError, match="Input/output"):
        writer.write(b"x")


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_change_under_an_entity_tag_does_not_meet_a_later_state(
    lab: Lab, token: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    etag = resource(put(lab, "x", token))["etag"]
    get, others = Store.get, ["another"]

    def overtaken(store: Store, *given: Any) -> StoredObject:
        found = get(store, *given)
        if others:
            # Somebody else writes between the look at the tag and the change.
            resource(put(lab, "x", token, others.pop().encode()))
        return found

    monkeypatch.setattr(Store, "get", overtaken)
    body = {"metadata": {"n": "1"}} if method == "PATCH" else None
    assert lab.call(method, f"{API}/o/x", body, token, If_Match=etag).status in (404, 412)
    assert lab.call("GET", f"{API}/o/x?alt=media", None, token).body == b"another"


LONG_READ = {
    "Content_Type": "application/x-www-form-urlencoded",
    "X_HTTP_Method_Override": "GET",
}


def test_address_too_long_for_a_line_is_sent_in_the_body(lab: Lab, token: str) -> None:
    # What googleapiclient makes of a GET of more than 2,048 characters.
    name = quote("\u00fc" * 500, safe="")
    resource(put(lab, name, token, b"long"))
    form = f"prefix={name}&alt=json".encode()
    listed = resource(lab.call("POST", f"{API}/o", form, token, **LONG_READ))
    assert [item["name"] for item in listed["items"]] == ["\u00fc" * 500]
    found = lab.call("POST", f"{API}/o/{name}", b"alt=media", token, **LONG_READ)
    assert found.body == b"long"


def test_read_in_a_body_asks_what_the_read_asks(lab: Lab, token: str) -> None:
    resource(put(lab, "x", token))
    assert lab.call("POST", f"{API}/o", b"prefix=x", None, **LONG_READ).status == 401
    stranger = whole_token(lab, UNBOUND)
    assert lab.call("POST", f"{API}/o", b"prefix=x", stranger, **LONG_READ).status == 403


@pytest.mark.parametrize(
    "url",
    [
        f"{UPLOAD}?uploadType=media&name=%FF",
        f"{UPLOAD}?uploadType=media&name=%ED%A0%80",
        f"{API}/o/%FE/compose",
    ],
)
def test_name_that_is_no_utf8_is_not_taken_for_another(lab: Lab, token: str, url: str) -> None:
    assert lab.call("POST", url, b"{}", token).status == 400
    assert lab.call("GET", f"{HOST}/acme-landing/%FF", None, token).status == 400
    assert lab.call("GET", f"{API}/o/%EF%BF%BD", None, token).status == 404


def test_uniform_access_is_not_taken_from_under_a_condition(lab: Lab) -> None:
    bound = f"serviceAccount:{UNBOUND}"
    condition = Expr("resource.name.endsWith('/open')", "open", "")
    bindings = bucket(lab).iam_policy.bindings
    bindings.append(Binding("roles/storage.objectViewer", [bound], condition))
    change = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": False}}}
    assert refusal(lab.call("PATCH", API, change, token_of(lab)))[0] == 412
    assert bucket(lab).iam_configuration.uniform_bucket_level_access.enabled
    bindings.pop()
    resource(lab.call("PATCH", API, change, token_of(lab)))


def test_versioning_that_is_switched_on_during_an_upload_keeps_what_it_replaces(
    lab: Lab, token: str
) -> None:
    kept = resource(put(lab, "x", token, b"first"))["generation"]
    url = start(lab, token)
    bucket(lab).versioning.enabled = True
    resource(lab.call("PUT", url, b"second"))
    first = lab.call("GET", f"{API}/o/x?alt=media&generation={kept}", None, token)
    assert first.body == b"first"
