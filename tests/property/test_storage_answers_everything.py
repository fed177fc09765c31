"""Whatever is asked of Cloud Storage's XML API and batches, it answers; nothing is left to fail."""

from __future__ import annotations

from functools import cache
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from localcloud.wire.web import Headers, Request
from tests.conformance.google_lab import Lab

HOSTS = ("storage.googleapis.com", "acme-landing.storage.googleapis.com")
NAMES = st.sampled_from(
    [
        *("partNumber", "uploadId", "uploads", "generation", "prefix", "delimiter", "marker"),
        *("max-keys", "list-type", "continuation-token", "start-after", "encoding-type", "acl"),
        *("max-parts", "part-number-marker", "max-uploads", "key-marker", "upload-id-marker"),
        *("location", "userProject", "Signature", "x"),
    ]
)
FIELDS = st.sampled_from(
    [
        *("Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"),
        *("Content-MD5", "Content-Type", "Content-Length", "Content-Encoding", "x-goog-hash"),
        *("x-goog-copy-source", "x-goog-copy-source-generation", "x-goog-metadata-directive"),
        *("x-goog-copy-source-if-match", "x-goog-copy-source-if-generation-match", "x-goog-meta-a"),
        *("x-goog-if-generation-match", "x-goog-if-metageneration-match", "x-goog-storage-class"),
        *("x-goog-custom-time", "x-goog-acl", "x-goog-user-project", "Accept-Encoding"),
    ]
)
# What a header field's or a parameter's value may look like, and what it may not.
VALUES = st.one_of(
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20),
    st.integers(-2, 2**64).map(str),
    st.sampled_from(
        [
            *("bytes=0-0", "bytes=5-", "bytes=-0", "bytes=3-1", '"x"', "*", "url", "2", "gzip"),
            *("Mon, 01 Jan 0000 00:00:00 GMT", "Thu, 01 Jan 1970 00:00:00 -0000"),
            *("Fri, 31 Dec 9999 23:59:59 -2359", "acme-landing/x", "/acme-vault/x", "%ff%00"),
            *("crc32c=AAAAAA==", "REPLACE", "2026-01-01T00:00:00Z", "Mg==", "acme"),
        ]
    ),
)
BODIES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>",
            b"--b\r\nContent-Type: application/http\r\n\r\nGET /storage/v1/b HTTP/1.1\r\n\r\n--b--",
            b"--b\n\n--b--",
        ]
    ),
)


@cache
def lab() -> tuple[Lab, str]:
    made = Lab()
    token = made.access_token()
    url = "https://storage.googleapis.com/acme-landing/x"
    assert made.call("PUT", url, b"0123456789", token, Content_Length="10").status == 200
    return made, token


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    host=st.sampled_from(HOSTS),
    path=st.one_of(st.just("x"), st.text(st.sampled_from("/x%2Ff.:?&=+~-"), max_size=20)),
    query=st.lists(st.tuples(NAMES, VALUES), max_size=3),
    fields=st.lists(st.tuples(FIELDS, VALUES), max_size=4),
    body=BODIES,
    signed_in=st.booleans(),
)
def test_the_xml_api_answers_whatever_it_is_asked(
    method: str,
    host: str,
    path: str,
    query: list[tuple[str, str]],
    fields: list[tuple[str, str]],
    body: bytes,
    *,
    signed_in: bool,
) -> None:
    made, token = lab()
    text = "&".join(f"{name}={value}" for name, value in query)
    target = f"{'' if host != HOSTS[0] else '/acme-landing'}/{path}?{text}"
    if signed_in:
        fields = [*fields, ("Authorization", f"Bearer {token}")]
    answer = made.router(Request(method, host, target, Headers(fields), body))
    content = answer.body if answer.stream is None else b"".join(answer.stream)
    assert 200 <= answer.status < 500
    for name, value in answer.headers:
        assert "\n" not in f"{name}{value}"
        value.encode("latin-1")
    if answer.status >= 400 and target.startswith("/acme-landing/"):
        assert ET.fromstring(content).tag == "Error"  # noqa: S314 -- of our own making
    assert token.encode() not in content


@given(
    kind=st.one_of(st.sampled_from(["multipart/mixed; boundary=b", "multipart/mixed"]), VALUES),
    body=BODIES,
)
def test_a_batch_is_answered_whatever_is_in_it(kind: str, body: bytes) -> None:
    made, token = lab()
    fields = Headers([("Content-Type", kind), ("Authorization", f"Bearer {token}")])
    answer = made.router(Request("POST", HOSTS[0], "/batch/storage/v1", fields, body))
    assert answer.status in (200, 400)
    assert token.encode() not in answer.body
