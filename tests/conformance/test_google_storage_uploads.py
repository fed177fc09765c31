"""Uploads as the clients of six languages send them, and what Google refuses of them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.google.storage.errors import StorageError
from localcloud.google.storage.multipart import Inflated, Related
from localcloud.google.storage.sessions import QUANTUM
from localcloud.wire.web import Body, Headers, Request
from tests.conformance.google_lab import LONGHAUL, Lab
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
    from localcloud.wire.web import Response


@pytest.fixture
def token(lab: Lab) -> str:
    return whole_token(lab)


def related(
    content: bytes, *, boundary: bytes = b"b", line: bytes = b"\r\n", metadata: Any = None
) -> bytes:
    """A multipart body with its line breaks."""
    described = json.dumps({"name": "x"} if metadata is None else metadata).encode()
    return line.join(
        [
            b"--" + boundary,
            b"Content-Type: application/json; charset=UTF-8",
            b"",
            described,
            b"--" + boundary,
            b"Content-Type: text/csv",
            b"Content-Transfer-Encoding: binary",
            b"",
            content,
            b"--" + boundary + b"--",
            b"",
        ]
    )


def multipart(lab: Lab, token: str, kind: str, body: bytes, **headers: str) -> Response:
    return lab.call(
        "POST", f"{UPLOAD}?uploadType=multipart", body, token, Content_Type=kind, **headers
    )


def read(lab: Lab, token: str, name: str = "x") -> bytes:
    answer = lab.call("GET", f"{API}/o/{name}?alt=media", token=token)
    assert answer.status == 200, answer.body
    return answer.body


def crc32c(content: bytes) -> str:
    return base64.b64encode(struct.pack(">I", google_crc32c.value(content))).decode()


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


# --- multipart -----------------------------------------------------------------------------

BOUNDARY = b"===============1234=="


@pytest.mark.parametrize("content", [b"", b"x", b"\r\n", b"a\r\n--b\r\nc\n--", bytes(range(256))])
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("multipart/related; boundary={}", b"\r\n"),
        ('multipart/related; boundary="{}"', b"\r\n"),
        ("multipart/related; boundary='{}'", b"\n"),  # gcloud, gcsfs
        ("multipart/related; charset=utf-8; boundary='{}'", b"\n"),
        ('Multipart/Related;boundary="{}";type="application/json"', b"\r\n"),
    ],
)
def test_every_dialect_keeps_every_byte(
    lab: Lab, token: str, kind: str, line: bytes, content: bytes
) -> None:
    body = related(content, boundary=BOUNDARY, line=line)
    made = resource(multipart(lab, token, kind.format(BOUNDARY.decode()), body))
    assert (made["name"], made["contentType"]) == ("x", "text/csv")
    assert (made["size"], made["crc32c"], made["md5Hash"]) == (
        str(len(content)),
        crc32c(content),
        md5(content),
    )
    assert read(lab, token) == content


def test_preamble_and_epilogue_are_passed_over(lab: Lab, token: str) -> None:
    body = b"a preamble\r\n" + related(b"x") + b"an epilogue"
    assert multipart(lab, token, "multipart/related; boundary=b", body).status == 200
    assert read(lab, token) == b"x"


def test_body_that_is_compressed_in_flight_is_stored_as_it_was(lab: Lab, token: str) -> None:
    """Java's client compresses a whole multipart request, gcloud with `--gzip-in-flight`."""
    content = b"row\n" * 100_000
    body = gzip.compress(related(content))
    kind = "multipart/related; boundary=b"
    made = resource(multipart(lab, token, kind, body, Content_Encoding="gzip"))
    assert "contentEncoding" not in made
    assert read(lab, token) == content


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(related(b"x"))[:-9], "gzip"),
        (related(b"x"), "gzip"),
        (related(b"x"), "br"),
    ],
)
def test_compression_that_cannot_be_undone_is_refused(
    lab: Lab, token: str, body: bytes, encoding: str
) -> None:
    kind = "multipart/related; boundary=b"
    assert multipart(lab, token, kind, body, Content_Encoding=encoding).status == 400
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404


@pytest.mark.parametrize(
    "body",
    [
        related(b"x").replace(b"--b--\r\n", b""),
        related(b"x").replace(b"--b--", b"--b\r\n\r\nsmuggled\r\n--b--"),
        b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b--",
        b"--b\r\nContent-Type: application/json\r\n",
        related(b"x").replace(b"binary", b"base64"),
        related(b"x", metadata=[]),
        related(b"x", metadata={"name": "x", "metadata": []}),
        related(b"x", metadata={"name": 5}),
        b"",
    ],
)
def test_malformed_multipart_makes_no_object(lab: Lab, token: str, body: bytes) -> None:
    answer = multipart(lab, token, "multipart/related; boundary=b", body)
    assert refusal(answer)[0] == 400
    assert "items" not in resource(lab.call("GET", f"{API}/o", token=token))


@given(
    content=st.lists(st.sampled_from([b"\r", b"\n", b"--b", b"--", b"b", b"x"]), max_size=12).map(
        b"".join
    ),
    line=st.sampled_from([b"\r\n", b"\n"]),
    sizes=st.integers(1, 7),
)
def test_content_that_imitates_a_delimiter_is_content_however_it_arrives(
    content: bytes, line: bytes, sizes: int
) -> None:
    if line + b"--b" in content or content.startswith(b"--b") or b"\n--b" in content:
        return  # a sender chooses a boundary that its content does not have

    class Trickle:
        def __init__(self, raw: bytes) -> None:
            self.rest = raw

        def read(self, _: int, /) -> bytes:
            piece, self.rest = self.rest[:sizes], self.rest[sizes:]
            return piece

    parts = Related("multipart/related; boundary=b", Trickle(related(content, line=line)))
    assert json.loads(parts.resource()) == {"name": "x"}
    assert parts.content_type() == "text/csv"
    assert b"".join(parts.content()) == content


def test_gzip_bomb_is_read_in_pieces() -> None:
    packed = gzip.compress(bytes(16 * 1024 * 1024))
    source = Inflated(Body(io.BytesIO(packed), len(packed)))
    sizes = set()
    while piece := source.read(QUANTUM):
        sizes.add(len(piece))
    assert max(sizes) <= QUANTUM


def test_endless_part_header_is_refused() -> None:
    body = b"--b\r\n" + b"X: y\r\n" * 100_000
    with pytest.raises(StorageError) as refused:
        Related("multipart/related; boundary=b", Body(io.BytesIO(body), len(body))).resource()
    assert refused.value.code == 400


# --- what every upload obeys ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "headers", "text"),
    [
        ({"crc32c": crc32c(b"y")}, {}, "Provided CRC32C"),
        ({"md5Hash": md5(b"y")}, {}, "Provided MD5 hash"),
        ({}, {"X_Goog_Hash": f"crc32c={crc32c(b'y')}"}, "Provided CRC32C"),
        ({}, {"X_Goog_Hash": f"crc32c={crc32c(b'x')},md5={md5(b'y')}"}, "Provided MD5 hash"),
        ({}, {"Content_MD5": md5(b"y")}, "Provided MD5 hash"),
        ({"crc32c": "wrong"}, {}, "Invalid value for: crc32c"),
        ({}, {"X_Goog_Hash": "md5=AAAA"}, "Invalid value for: Content-MD5"),
    ],
)
def test_wrong_checksum_makes_no_object(
    lab: Lab, token: str, metadata: dict[str, str], headers: dict[str, str], text: str
) -> None:
    body = related(b"x", metadata={"name": "x", **metadata})
    answer = multipart(lab, token, "multipart/related; boundary=b", body, **headers)
    code, message = refusal(answer)
    assert (code, message.startswith(text)) == (400, True)
    location = start(lab, token, body=metadata) if text.startswith("Provided") else None
    if location is not None:
        assert refusal(lab.call("PUT", location, b"x", **headers))[0] == 400
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404


def test_right_checksums_are_taken(lab: Lab, token: str) -> None:
    given = {"name": "x", "crc32c": crc32c(b"x"), "md5Hash": md5(b"x")}
    body = related(b"x", metadata=given)
    fields_ = {"X_Goog_Hash": f"crc32c={crc32c(b'x')},md5={md5(b'x')}"}
    assert multipart(lab, token, "multipart/related; boundary=b", body, **fields_).status == 200


@pytest.mark.parametrize(
    ("query", "headers", "status", "text"),
    [
        ({"predefinedAcl": "private"}, {}, 400, "Cannot insert legacy ACL for an object"),
        ({"kmsKeyName": "projects/p/k"}, {}, 400, "no Cloud KMS keys"),
        ({}, {"X_Goog_Encryption_Algorithm": "AES256"}, 400, "customer-supplied"),
        ({"ifGenerationMatch": "x"}, {}, 400, "int64"),
        ({"ifGenerationMatch": "1"}, {}, 412, "pre-conditions"),
        ({"fields": "nope"}, {}, 400, "Invalid field selection nope"),
    ],
)
def test_upload_that_google_refuses_is_refused(
    lab: Lab, token: str, query: dict[str, str], headers: dict[str, str], status: int, text: str
) -> None:
    parameters = "".join(f"&{name}={value}" for name, value in query.items())
    url = f"{UPLOAD}?uploadType=media&name=x{parameters}"
    code, message = refusal(lab.call("POST", url, b"x", token, **headers))
    assert (code, text in message) == (status, True)


def test_predefined_acl_is_not_served_where_access_is_not_uniform(lab: Lab, token: str) -> None:
    bucket(lab).iam_configuration.uniform_bucket_level_access.enabled = False
    assert refusal(put(lab, "x", token, predefinedAcl="publicRead"))[0] == 405
    assert put(lab, "x", token, predefinedAcl="projectPrivate").status == 200


def test_empty_acl_is_passed_over(lab: Lab, token: str) -> None:
    body = related(b"x", metadata={"name": "x", "acl": []})
    assert multipart(lab, token, "multipart/related; boundary=b", body).status == 200


def test_name_of_the_query_and_of_the_body_must_agree(lab: Lab, token: str) -> None:
    url = f"{UPLOAD}?uploadType=multipart&name=y"
    kind = "multipart/related; boundary=b"
    code, text = refusal(lab.call("POST", url, related(b"x"), token, Content_Type=kind))
    assert (code, text) == (400, "Value 'x' in content does not agree with value 'y'.")


def test_what_is_written_is_asked_by_the_name_in_the_body(lab: Lab, token: str) -> None:
    """The query names one object and the body another: permission is for what is written."""
    expression = "resource.name.endsWith('/objects/allowed')"
    lab.world.google.bucket("acme-landing")
    found = bucket(lab)
    found.iam_policy.grant("roles/storage.objectCreator", f"serviceAccount:{LONGHAUL}")
    from localcloud.world import Expr  # noqa: PLC0415

    found.iam_policy.bindings[-1].condition = Expr(expression)
    caller = whole_token(lab, LONGHAUL)
    kind = "multipart/related; boundary=b"
    denied = multipart(lab, caller, kind, related(b"x", metadata={"name": "other"}))
    allowed = multipart(lab, caller, kind, related(b"x", metadata={"name": "allowed"}))
    assert (denied.status, allowed.status) == (403, 200)


def test_content_encoding_of_the_query_is_the_objects(lab: Lab, token: str) -> None:
    made = resource(put(lab, "x", token, gzip.compress(b"x"), contentEncoding="gzip"))
    assert made["contentEncoding"] == "gzip"


@pytest.mark.parametrize(
    "base",
    [
        "https://storage.googleapis.com/upload/storage/v1",
        "https://storage.googleapis.com/resumable/upload/storage/v1",
        "https://www.googleapis.com/upload/storage/v1",
        "https://storage.mtls.googleapis.com/upload/storage/v1",
        "https://storage.us-central1.rep.googleapis.com/upload/storage/v1",
    ],
)
def test_every_address_of_the_api_takes_uploads(lab: Lab, token: str, base: str) -> None:
    url = f"{base}/b/acme-landing/o?uploadType=resumable&name=x"
    answer = lab.call("POST", url, {}, token)
    location = fields(answer)["location"]
    assert urlsplit(location).netloc == urlsplit(base).netloc
    assert lab.call("PUT", location, b"x").status == 200


# --- resumable -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a&b", "a#b", "100%", "a+b", "ä ö", "a/b?c=d", "upload_id=x"])
def test_location_is_an_address_whatever_the_name(lab: Lab, token: str, name: str) -> None:
    answer = lab.call("POST", f"{UPLOAD}?uploadType=resumable", {"name": name}, token)
    location = fields(answer)["location"]
    assert location.isascii()
    assert not set(location) & set(' "<>#')
    assert parse_qs(urlsplit(location).query)["name"] == [name]
    assert resource(lab.call("PUT", location, b"x"))["name"] == name


def test_308_says_what_is_kept_and_go_clients_get_it_as_a_200(lab: Lab, token: str) -> None:
    location = start(lab, token)
    fresh = lab.call("PUT", location, b"", Content_Range="bytes */*")
    assert (fresh.status, "range" in fields(fresh)) == (308, False)
    chunk = {"Content_Range": f"bytes 0-{QUANTUM - 1}/*"}
    answer = lab.call("PUT", location, b"a" * QUANTUM, **chunk)
    assert (answer.status, fields(answer)["range"]) == (308, f"bytes=0-{QUANTUM - 1}")
    go = {"Content_Range": "bytes */*", "X_GUploader_No_308": "yes"}
    answer = lab.call("PUT", location, b"", **go)
    assert answer.status == 200
    assert fields(answer)["x-http-status-code-override"] == "308"
    assert fields(answer)["range"] == f"bytes=0-{QUANTUM - 1}"


def test_last_chunk_may_be_sent_again_and_its_object_is_the_same(lab: Lab, token: str) -> None:
    location = start(lab, token)
    first, again = (resource(lab.call("PUT", location, b"x")) for _ in range(2))
    assert again == first
    assert put(lab, "x", token, b"newer").status == 200
    assert resource(lab.call("PUT", location, b"x")) == first
    assert read(lab, token) == b"newer"


def test_checksum_of_the_last_request_is_checked(lab: Lab, token: str) -> None:
    location = start(lab, token)
    wrong = {"X_Goog_Hash": f"crc32c={crc32c(b'y')}"}
    assert refusal(lab.call("PUT", location, b"x", **wrong))[0] == 400
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404
    right = {"X_Goog_Hash": f"crc32c={crc32c(b'x')}", "Content_Range": "bytes */1"}
    assert lab.call("PUT", location, b"", **right).status == 200


def test_announced_length_binds(lab: Lab, token: str) -> None:
    location = start(lab, token, X_Upload_Content_Length="2")
    for body in (b"x", b"xxx"):
        answer = lab.call("PUT", location, body)
        assert (answer.status, b"announced" in answer.body) == (400, True)
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404


def test_cancelled_session_takes_nothing(lab: Lab, token: str) -> None:
    location = start(lab, token)
    assert lab.call("DELETE", location).status == 499
    assert lab.call("PUT", location, b"x").status == 410
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404


def test_precondition_is_judged_when_the_session_starts_and_again_when_it_ends(
    lab: Lab, token: str
) -> None:
    url = f"{UPLOAD}?uploadType=resumable&name=x&ifGenerationMatch=0"
    location = fields(lab.call("POST", url, {}, token))["location"]
    assert put(lab, "x", token, b"kept").status == 200
    assert refusal(lab.call("PUT", location, b"late"))[0] == 412
    assert refusal(lab.call("POST", url, {}, token))[0] == 412
    assert read(lab, token) == b"kept"


def test_session_of_a_bucket_that_is_gone_makes_no_object(lab: Lab, token: str) -> None:
    location = start(lab, token)
    lab.world.google.buckets = [b for b in lab.world.google.buckets if b.name != "acme-landing"]
    assert refusal(lab.call("PUT", location, b"x")) == (
        404,
        "The specified bucket does not exist.",
    )


def test_metadata_of_the_start_is_the_objects(lab: Lab, token: str) -> None:
    body = {"metadata": {"origin": "etl"}, "cacheControl": "no-store"}
    location = start(lab, token, body=body, X_Upload_Content_Type="text/csv")
    made = resource(lab.call("PUT", location, b"x"))
    assert (made["metadata"], made["cacheControl"]) == ({"origin": "etl"}, "no-store")
    assert made["contentType"] == "text/csv"


def test_address_of_a_session_stands_in_no_audit_entry(lab: Lab, token: str) -> None:
    location = start(lab, token)
    upload = parse_qs(urlsplit(location).query)["upload_id"][0]
    lab.call("PUT", location, b"x")
    assert upload not in json.dumps([entry.as_dict() for entry in lab.log.entries])


def test_empty_object_can_be_made_without_content(lab: Lab, token: str) -> None:
    made = resource(lab.call("POST", f"{HOST}/storage/v1/b/acme-landing/o", {"name": "d/"}, token))
    assert (made["name"], made["size"], made["crc32c"]) == ("d/", "0", "AAAAAA==")


def test_bucket_that_went_while_the_content_came_gets_no_object(lab: Lab, token: str) -> None:
    """Its next namesake would begin with somebody else's object."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            world = lab.world.google
            world.buckets = [b for b in world.buckets if b.name != "acme-landing"]
            return super().read(size)

    buckets = lab.world.google.buckets
    request = Request(
        "POST",
        "storage.googleapis.com",
        "/upload/storage/v1/b/acme-landing/o?uploadType=media&name=x",
        Headers([("Authorization", f"Bearer {token}")]),
        Body(Slow(b"late"), 4),
    )
    assert lab.router(request).status == 404
    lab.world.google.buckets = buckets
    assert lab.call("GET", f"{API}/o/x", token=token).status == 404


@pytest.mark.parametrize(
    "url", [f"{HOST}/storage/v1/b", f"{API}/o", f"{API}/o/x/compose", f"{API}/o/x/moveTo/o/y"]
)
def test_upload_id_opens_no_other_route(lab: Lab, token: str, url: str) -> None:
    upload = parse_qs(urlsplit(start(lab, token)).query)["upload_id"][0]
    query = f"upload_id={upload}&project=acme&name=x"
    answer = lab.call("POST", f"{url}?{query}", {})
    assert answer.status == 401


def test_refused_upload_is_read_to_its_end_so_that_its_sender_hears_why(lab: Lab) -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            piece = super().read(size)
            self.taken += len(piece)
            return piece

    content = Counted(bytes(5_000_000))
    request = Request(
        "POST",
        "storage.googleapis.com",
        "/upload/storage/v1/b/acme-landing/o?uploadType=media&name=x",
        Headers([("Authorization", f"Bearer {whole_token(lab, LONGHAUL)}")]),
        Body(content, 5_000_000),
    )
    assert lab.router(request).status == 403
    assert content.taken == 5_000_000
