"""Cloud Storage's XML API: what its documents say, and that its guard is the JSON API's."""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import google_crc32c
import pytest

from tests.conformance.google_lab import ACCESS, CLOUD_PLATFORM, LONGHAUL, Lab

if TYPE_CHECKING:
    from pathlib import Path

    from localcloud.wire.web import Response

HOST = "https://storage.googleapis.com"
BUCKET = f"{HOST}/acme-landing"
READ_ONLY = "https://www.googleapis.com/auth/devstorage.read_only"
ODD = ["a &#%+ü", "/a", "a//b", "a/../b", "a/", "a:b", "a?uploads", "ü/😀"]
MIB = 1024 * 1024


def put(lab: Lab, name: str, content: bytes, token: str, **headers: str) -> Response:
    headers = {"Content_Length": str(len(content)), **headers}
    return lab.call("PUT", f"{BUCKET}/{quote(name)}", content, token, **headers)


def content(answer: Response) -> bytes:
    return answer.body if answer.stream is None else b"".join(answer.stream)


def fields(answer: Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers}


def error(answer: Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    document = xml(answer)
    assert document.tag == "Error"
    return answer.status, document.findtext("Code", "")


def xml(answer: Response) -> ET.Element:
    document = ET.fromstring(answer.body)  # noqa: S314 -- of our own making
    for element in document.iter():
        element.tag = element.tag.rpartition("}")[2]
    return document


def grant(lab: Lab, role: str, member: str = f"serviceAccount:{LONGHAUL}") -> None:
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.iam_policy.grant(f"roles/storage.{role}", member)


def within_prefix(lab: Lab, prefix: str) -> str:
    """A token that is cut down to the names under a prefix."""
    named = f"resource.name.startsWith('projects/_/buckets/acme-landing/objects/{prefix}')"
    listed = (
        f"api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('{prefix}')"
    )
    rule = {
        "availableResource": "//storage.googleapis.com/projects/_/buckets/acme-landing",
        "availablePermissions": ["inRole:roles/storage.objectAdmin"],
        "availabilityCondition": {"expression": f"{named} || {listed}"},
    }
    answer = lab.exchange(
        options=json.dumps({"accessBoundary": {"accessBoundaryRules": [rule]}}),
        scope=None,
        subject_token=lab.access_token(scope=CLOUD_PLATFORM),
        subject_token_type=ACCESS,
    )
    return str(json.loads(answer.body)["access_token"])


# --- objects -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD)
def test_every_address_of_a_bucket_names_the_same_object(lab: Lab, name: str) -> None:
    token = lab.access_token()
    assert put(lab, name, name.encode(), token).status == 200
    own = f"https://acme-landing.storage.googleapis.com/{quote(name)}"
    others = ("storage.mtls.googleapis.com", "storage.us-east1.rep.googleapis.com")
    regional = [f"https://{host}/acme-landing/{quote(name)}" for host in others]
    for url in (f"{BUCKET}/{quote(name)}", own, *regional):
        assert content(lab.call("GET", url, token=token)) == name.encode()
    listed = lab.call("GET", f"{HOST}/storage/v1/b/acme-landing/o", token=token)
    assert [item["name"] for item in json.loads(listed.body)["items"]] == [name]


def test_what_is_told_of_an_object_is_what_was_put(lab: Lab) -> None:
    token = lab.access_token()
    stored = put(
        lab,
        "x",
        b"content",
        token,
        Content_Type="text/csv",
        Cache_Control="no-cache",
        Content_Disposition="inline",
        x_goog_meta_origin="etl",
    )
    told = fields(lab.call("HEAD", f"{BUCKET}/x", token=token))
    digest = hashlib.md5(b"content", usedforsecurity=False)
    crc32c = base64.b64encode(google_crc32c.value(b"content").to_bytes(4, "big")).decode()
    assert told["etag"] == fields(stored)["etag"] == f'"{digest.hexdigest()}"'
    assert told["x-goog-generation"] == fields(stored)["x-goog-generation"]
    assert f"crc32c={crc32c}" in told["x-goog-hash"]
    assert (told["content-type"], told["cache-control"]) == ("text/csv", "no-cache")
    assert (told["content-disposition"], told["x-goog-meta-origin"]) == ("inline", "etl")
    assert (told["content-length"], told["x-goog-stored-content-length"]) == ("7", "7")


@pytest.mark.parametrize(
    ("asked", "status", "given"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=2-", 206, b"23456789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_a_range_is_given_as_asked(lab: Lab, asked: str, status: int, given: bytes) -> None:
    token = lab.access_token()
    put(lab, "x", b"0123456789", token)
    answer = lab.call("GET", f"{BUCKET}/x", token=token, Range=asked)
    assert (answer.status, content(answer)) == (status, given)


def test_a_range_outside_is_416_and_tells_the_size(lab: Lab) -> None:
    token = lab.access_token()
    put(lab, "x", b"0123456789", token)
    answer = lab.call("GET", f"{BUCKET}/x", token=token, Range="bytes=10-")
    assert error(answer) == (416, "InvalidRange")
    assert fields(answer)["content-range"] == "bytes */10"


def test_reads_are_conditional(lab: Lab) -> None:
    token = lab.access_token()
    stored = fields(put(lab, "x", b"1", token))
    etag, generation = stored["etag"], stored["x-goog-generation"]
    date = fields(lab.call("HEAD", f"{BUCKET}/x", token=token))["last-modified"]
    old = "Mon, 01 Jan 2001 00:00:00 GMT"
    for expected, headers in (
        (200, {"If_Match": etag}),
        (412, {"If_Match": '"other"'}),
        (304, {"If_None_Match": etag}),
        (200, {"If_None_Match": '"other"'}),
        (304, {"If_Modified_Since": date}),
        (200, {"If_Modified_Since": old}),
        (412, {"If_Unmodified_Since": old}),
        (200, {"x_goog_if_generation_match": generation}),
        (412, {"x_goog_if_generation_match": "1"}),
        (412, {"x_goog_if_metageneration_match": "2"}),
    ):
        assert lab.call("GET", f"{BUCKET}/x", token=token, **headers).status == expected, headers


def test_a_generation_is_read_by_its_number(lab: Lab) -> None:
    token = lab.access_token()
    first = fields(put(lab, "x", b"1", token))["x-goog-generation"]
    put(lab, "x", b"2", token)
    gone = lab.call("GET", f"{BUCKET}/x?generation={first}", token=token)
    assert error(gone) == (404, "NoSuchKey")
    assert error(lab.call("GET", f"{BUCKET}/x?generation=x", token=token))[0] == 400


def test_writes_and_deletions_are_conditional(lab: Lab) -> None:
    token = lab.access_token()
    once = {"x_goog_if_generation_match": "0"}
    generation = fields(put(lab, "x", b"1", token, **once))["x-goog-generation"]
    assert error(put(lab, "x", b"2", token, **once)) == (412, "PreconditionFailed")
    assert put(lab, "x", b"2", token, x_goog_if_generation_match=generation).status == 200
    stale = {"x_goog_if_generation_match": generation}
    refused = lab.call("DELETE", f"{BUCKET}/x", token=token, **stale)
    assert error(refused) == (412, "PreconditionFailed")
    assert content(lab.call("GET", f"{BUCKET}/x", token=token)) == b"2"
    assert lab.call("DELETE", f"{BUCKET}/x", token=token).status == 204
    assert error(lab.call("DELETE", f"{BUCKET}/x", token=token)) == (404, "NoSuchKey")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content_MD5": base64.b64encode(bytes(16)).decode()}, "BadDigest"),
        ({"x_goog_hash": "crc32c=AAAAAA=="}, "BadDigest"),
        ({"x_goog_hash": "crc32c=nonsense"}, "InvalidArgument"),
        ({"x_goog_acl": "public-read"}, "InvalidArgument"),
        ({"x_goog_encryption_algorithm": "AES256"}, "InvalidArgument"),
        ({"x_goog_storage_class": "SOLID"}, "InvalidArgument"),
    ],
)
def test_a_refused_upload_leaves_nothing(lab: Lab, headers: dict[str, str], code: str) -> None:
    token = lab.access_token()
    assert error(put(lab, "x", b"content", token, **headers)) == (400, code)
    assert error(lab.call("GET", f"{BUCKET}/x", token=token)) == (404, "NoSuchKey")


def test_an_upload_says_its_length(lab: Lab) -> None:
    answer = lab.call("PUT", f"{BUCKET}/x", b"", lab.access_token())
    assert error(answer) == (411, "MissingContentLength")


def test_a_copy_keeps_or_replaces_the_metadata(lab: Lab) -> None:
    token = lab.access_token()
    put(lab, "a &#%+ü", b"1", token, Content_Type="text/csv", x_goog_meta_origin="etl")
    source = {"x_goog_copy_source": f"/acme-landing/{quote('a &#%+ü')}"}
    assert xml(put(lab, "kept", b"", token, **source)).tag == "CopyObjectResult"
    replaced = {"x_goog_metadata_directive": "REPLACE", "Content_Type": "text/plain"}
    put(lab, "replaced", b"", token, **source, **replaced)
    kept = fields(lab.call("HEAD", f"{BUCKET}/kept", token=token))
    assert (kept["content-type"], kept["x-goog-meta-origin"]) == ("text/csv", "etl")
    other = fields(lab.call("HEAD", f"{BUCKET}/replaced", token=token))
    assert (other["content-type"], "x-goog-meta-origin" in other) == ("text/plain", False)
    stale = put(lab, "no", b"", token, **source, x_goog_copy_source_if_generation_match="1")
    assert error(stale) == (412, "PreconditionFailed")


def test_what_either_api_wrote_the_other_can_change(lab: Lab) -> None:
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.storage_class = "NEARLINE"
    token = lab.access_token(scope=CLOUD_PLATFORM)
    put(lab, "put", b"x", token)
    put(lab, "copied", b"", token, x_goog_copy_source="acme-landing/put")
    upload = Upload(lab, token, "parts")
    upload.put(1, b"x")
    assert upload.complete(1).status == 200
    for name in ("put", "copied", "parts"):
        url = f"{HOST}/storage/v1/b/acme-landing/o/{name}"
        changed = lab.call("PATCH", url, {"contentType": "text/csv"}, token)
        assert changed.status == 200, changed.body
        assert json.loads(changed.body)["storageClass"] == "NEARLINE"
        told = fields(lab.call("HEAD", f"{BUCKET}/{name}", token=token))
        assert (told["content-type"], told["x-goog-metageneration"]) == ("text/csv", "2")
        assert told["x-goog-storage-class"] == "NEARLINE"
    copied = put(
        lab,
        "cold",
        b"",
        token,
        x_goog_copy_source="acme-landing/put",
        x_goog_storage_class="COLDLINE",
    )
    assert copied.status == 200
    told = fields(lab.call("HEAD", f"{BUCKET}/cold", token=token))
    assert (told["content-type"], told["x-goog-storage-class"]) == ("text/csv", "COLDLINE")


# --- listings ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_pages_of_either_version_make_up_the_json_listing(lab: Lab, version: int) -> None:
    token = lab.access_token()
    for name in ("a", "b/1", "b/2", "c & <d>", "d/x/y", "e", "ü"):
        put(lab, name, b"x", token)
    names: list[str] = []
    prefixes: list[str] = []
    marker = ""
    for _ in range(10):
        query = f"delimiter=/&max-keys=2&{'list-type=2&' if version == 2 else ''}{marker}"
        page = xml(lab.call("GET", f"{BUCKET}?{query}", token=token))
        names += [key.text or "" for key in page.iterfind("Contents/Key")]
        prefixes += [key.text or "" for key in page.iterfind("CommonPrefixes/Prefix")]
        if page.findtext("IsTruncated") == "false":
            break
        following = page.findtext("NextContinuationToken" if version == 2 else "NextMarker", "")
        marker = f"{'continuation-token' if version == 2 else 'marker'}={quote(following)}"
    url = f"{HOST}/storage/v1/b/acme-landing/o?delimiter=/"
    judge = json.loads(lab.call("GET", url, token=token).body)
    assert names == [item["name"] for item in judge["items"]]
    assert prefixes == judge["prefixes"] == ["b/", "d/"]


def test_a_listing_may_start_behind_a_name_and_quote_its_names(lab: Lab) -> None:
    token = lab.access_token()
    for name in ("a", "b &", "c"):
        put(lab, name, b"x", token)
    later = xml(lab.call("GET", f"{BUCKET}?list-type=2&start-after=a", token=token))
    assert [key.text for key in later.iterfind("Contents/Key")] == ["b &", "c"]
    quoted = xml(lab.call("GET", f"{BUCKET}?encoding-type=url&prefix=b", token=token))
    assert quoted.findtext("Contents/Key") == "b%20%26"
    for wrong in (
        "max-keys=-1",
        "max-keys=x",
        "encoding-type=rot13",
        "list-type=2&continuation-token=x",
    ):
        assert error(lab.call("GET", f"{BUCKET}?{wrong}", token=token)) == (400, "InvalidArgument")


def test_a_bucket_tells_where_it_is(lab: Lab) -> None:
    grant(lab, "bucketViewer")
    token = lab.access_token(LONGHAUL, READ_ONLY)
    assert lab.call("HEAD", f"{BUCKET}/", token=token).status == 200
    assert xml(lab.call("GET", f"{BUCKET}?location", token=token)).text == "US-CENTRAL1"
    assert error(lab.call("GET", f"{BUCKET}?location", token=lab.access_token()))[0] == 403
    assert error(lab.call("GET", f"{HOST}/acme-absent", token=token)) == (404, "NoSuchBucket")


# --- multipart -----------------------------------------------------------------------------


class Upload:
    """A multipart upload of one object."""

    def __init__(self, lab: Lab, token: str, name: str = "big", **headers: str) -> None:
        self.lab, self.token, self.url = lab, token, f"{BUCKET}/{quote(name)}"
        answer = lab.call("POST", f"{self.url}?uploads", b"", token, **headers)
        assert answer.status == 200, answer.body
        self.id = xml(answer).findtext("UploadId", "")
        self.etags: dict[int, str] = {}

    def put(self, number: int, part: bytes, **headers: str) -> Response:
        headers = {"Content_Length": str(len(part)), **headers}
        url = f"{self.url}?partNumber={number}&uploadId={self.id}"
        answer = self.lab.call("PUT", url, part, self.token, **headers)
        self.etags[number] = fields(answer).get("etag", "")
        return answer

    def complete(self, *numbers: int, **etags: str) -> Response:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber>"
            f"<ETag>{etags.get(f'e{number}', self.etags.get(number, ''))}</ETag></Part>"
            for number in numbers
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        return self.lab.call("POST", f"{self.url}?uploadId={self.id}", body, self.token)

    def do(self, method: str, query: str = "") -> Response:
        return self.lab.call(method, f"{self.url}?uploadId={self.id}{query}", token=self.token)


def test_parts_in_any_order_become_one_object(lab: Lab) -> None:
    token = lab.access_token()
    upload = Upload(lab, token, "a &#%+ü", Content_Type="text/csv", x_goog_meta_origin="etl")
    upload.put(2, b"tail")
    upload.put(1, b"a" * 5 * MIB)
    upload.put(1, b"b" * 5 * MIB)
    upload.put(7, b"left out")
    assert error(lab.call("HEAD", upload.url, token=token)) == (404, "NoSuchKey")
    shown = xml(upload.do("GET", "&max-parts=2"))
    assert [part.text for part in shown.iterfind("Part/PartNumber")] == ["1", "2"]
    assert (shown.findtext("IsTruncated"), shown.findtext("NextPartNumberMarker")) == ("true", "2")
    rest = xml(upload.do("GET", "&part-number-marker=2"))
    assert [part.text for part in rest.iterfind("Part/PartNumber")] == ["7"]
    assert upload.complete(1, 2).status == 200
    read = lab.call("GET", upload.url, token=token)
    assert content(read) == b"b" * 5 * MIB + b"tail"
    told = fields(read)
    assert (told["content-type"], told["x-goog-meta-origin"]) == ("text/csv", "etl")
    # https://cloud.google.com/storage/docs/multipart-uploads: no MD5, no MD5 in the entity tag.
    assert "md5=" not in told["x-goog-hash"]
    assert told["etag"].startswith('"-')


def test_a_completed_upload_is_no_longer_there(lab: Lab) -> None:
    upload = Upload(lab, lab.access_token())
    upload.put(1, b"x")
    assert upload.complete(1).status == 200
    for again in (upload.complete(1), upload.put(2, b"y"), upload.do("GET"), upload.do("DELETE")):
        assert error(again) == (404, "NoSuchUpload")


def test_an_aborted_upload_leaves_nothing_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lab = Lab()
    upload = Upload(lab, lab.access_token())
    upload.put(1, b"x" * 6 * MIB)
    upload.put(1, b"y" * 6 * MIB)
    assert [path.stat().st_size for path in tmp_path.glob("*/*")] == [6 * MIB]
    assert upload.do("DELETE").status == 204
    assert error(upload.complete(1)) == (404, "NoSuchUpload")
    assert list(tmp_path.glob("*/*")) == []


def test_parts_that_do_not_fit_are_refused_and_the_upload_goes_on(lab: Lab) -> None:
    upload = Upload(lab, lab.access_token())
    upload.put(1, b"small")
    upload.put(2, b"small")
    assert error(upload.complete(1, 2)) == (400, "EntityTooSmall")
    assert error(upload.complete(2, 1)) == (400, "InvalidPartOrder")
    assert error(upload.complete(1, 1)) == (400, "InvalidPartOrder")
    assert error(upload.complete(3)) == (400, "InvalidPart")
    assert error(upload.complete(1, e1='"wrong"')) == (400, "InvalidPart")
    assert error(upload.complete()) == (400, "MalformedXML")
    assert error(upload.put(0, b"x")) == error(upload.put(10_001, b"x"))
    assert error(upload.put(0, b"x")) == (400, "InvalidArgument")
    assert error(upload.put(1, b"x", Content_MD5=base64.b64encode(bytes(16)).decode()))[0] == 400
    upload.put(1, b"y" * 5 * MIB)
    assert upload.complete(1, 2).status == 200


def test_a_condition_that_google_passes_over_is_refused(lab: Lab) -> None:
    token = lab.access_token()
    put(lab, "x", b"kept", token)
    upload = Upload(lab, token)
    once = {"x_goog_if_generation_match": "0"}
    # https://cloud.google.com/storage/docs/request-preconditions: for requests that retrieve data.
    absent = {"If_None_Match": "*"}
    for refused in (
        lab.call("POST", f"{BUCKET}/x?uploads", b"", token, **once),
        upload.put(1, b"x", **once),
        put(lab, "x", b"lost", token, **absent),
        put(lab, "x", b"", token, x_goog_copy_source="acme-landing/x", **absent),
        lab.call("DELETE", f"{BUCKET}/x", token=token, If_Match='"other"'),
    ):
        assert error(refused) == (400, "InvalidArgument")
    assert content(lab.call("GET", f"{BUCKET}/x", token=token)) == b"kept"


def test_uploads_in_the_making_are_listed_page_by_page(lab: Lab) -> None:
    token = lab.access_token()
    made = [Upload(lab, token, name) for name in ("a", "b", "b", "c")]
    seen: list[str] = []
    markers = ""
    for _ in range(10):
        page = xml(lab.call("GET", f"{BUCKET}?uploads&max-uploads=1{markers}", token=token))
        seen += [entry.text or "" for entry in page.iterfind("Upload/UploadId")]
        if page.findtext("IsTruncated") == "false":
            break
        markers = (
            f"&key-marker={page.findtext('NextKeyMarker')}"
            f"&upload-id-marker={page.findtext('NextUploadIdMarker')}"
        )
    assert sorted(seen) == sorted(upload.id for upload in made)
    assert len(seen) == 4


def test_an_upload_id_is_worth_nothing_without_a_token_or_for_another_object(lab: Lab) -> None:
    upload = Upload(lab, lab.access_token())
    upload.put(1, b"x")
    url = f"?partNumber=1&uploadId={upload.id}"
    nobody = lab.call("PUT", f"{upload.url}{url}", b"y", Content_Length="1")
    assert error(nobody) == (403, "AccessDenied")
    stranger = lab.call("PUT", f"{upload.url}{url}", b"y", lab.access_token(LONGHAUL))
    assert error(stranger) == (403, "AccessDenied")
    elsewhere = lab.call("PUT", f"{BUCKET}/other{url}", b"y", upload.token, Content_Length="1")
    assert error(elsewhere) == (404, "NoSuchUpload")


def test_an_upload_ends_with_its_bucket(lab: Lab) -> None:
    upload = Upload(lab, lab.access_token())
    upload.put(1, b"of the bucket that was")
    buckets = lab.world.google.buckets
    buckets[:] = [replace(each) if each.name == "acme-landing" else each for each in buckets]
    assert error(upload.complete(1)) == (404, "NoSuchUpload")
    listed = xml(lab.call("GET", f"{BUCKET}?uploads", token=upload.token))
    assert listed.find("Upload") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<CompleteMultipartUpload>",
        b"<Other/>",
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber></Part></CompleteMultipartUpload>",
        b"<CompleteMultipartUpload>" + b" " * 2 * MIB + b"</CompleteMultipartUpload>",
    ],
)
def test_a_document_that_is_none_is_refused(lab: Lab, body: bytes) -> None:
    upload = Upload(lab, lab.access_token())
    answer = lab.call("POST", f"{upload.url}?uploadId={upload.id}", body, upload.token)
    assert error(answer) == (400, "MalformedXML")


def test_a_document_that_declares_entities_is_refused_whatever_they_say(lab: Lab) -> None:
    upload = Upload(lab, lab.access_token())
    upload.put(1, b"x")
    parts = f"<Part><PartNumber>&one;</PartNumber><ETag>{upload.etags[1]}</ETag></Part>"
    declared = "<!DOCTYPE x [<!ENTITY one '1'>]>"
    body = f"{declared}<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    answer = lab.call("POST", f"{upload.url}?uploadId={upload.id}", body, upload.token)
    assert error(answer) == (400, "MalformedXML")
    assert upload.complete(1).status == 200


# --- the guard -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("objectViewer", {"get", "head", "list"}),
        ("objectCreator", {"create", "begin", "parts", "abort"}),
        (
            "objectAdmin",
            {
                *("get", "head", "list", "create", "replace", "copy", "begin", "parts"),
                *("uploads", "abort", "delete"),
            },
        ),
        ("bucketViewer", {"bucket"}),
        ("unknown", set()),
    ],
)
def test_a_role_gives_exactly_its_permissions(lab: Lab, role: str, allowed: set[str]) -> None:
    owner = lab.access_token()
    put(lab, "x", b"x", owner)
    upload = Upload(lab, owner, "other")
    grant(lab, role)
    token = lab.access_token(LONGHAUL)
    upload.token = token
    answers = {
        "get": lab.call("GET", f"{BUCKET}/x", token=token),
        "head": lab.call("HEAD", f"{BUCKET}/x", token=token),
        "list": lab.call("GET", BUCKET, token=token),
        "bucket": lab.call("HEAD", BUCKET, token=token),
        "create": put(lab, "new", b"x", token),
        "replace": put(lab, "x", b"x", token),
        "copy": put(lab, "copy", b"", token, x_goog_copy_source="acme-landing/x"),
        "begin": lab.call("POST", f"{BUCKET}/y?uploads", b"", token),
        "parts": upload.do("GET"),
        "uploads": lab.call("GET", f"{BUCKET}?uploads", token=token),
        "abort": upload.do("DELETE"),
        "delete": lab.call("DELETE", f"{BUCKET}/x", token=token),
    }
    assert {name for name, answer in answers.items() if answer.status < 300} == allowed
    refused = {error(answer) for name, answer in answers.items() if name not in allowed}
    assert refused <= {(403, "AccessDenied")}


def test_completing_over_an_object_needs_the_right_to_delete_it(lab: Lab) -> None:
    put(lab, "x", b"kept", lab.access_token())
    grant(lab, "objectCreator")
    upload = Upload(lab, lab.access_token(LONGHAUL), "x")
    upload.put(1, b"new")
    assert error(upload.complete(1)) == (403, "AccessDenied")
    assert content(lab.call("GET", f"{BUCKET}/x", token=lab.access_token())) == b"kept"
    grant(lab, "objectUser")
    assert upload.complete(1).status == 200


def test_a_copy_needs_the_right_to_read_its_source_and_to_write_its_target(lab: Lab) -> None:
    vault = lab.world.google.bucket("acme-vault")
    assert vault is not None
    vault.iam_policy.grant("roles/storage.objectAdmin", f"serviceAccount:{LONGHAUL}")
    keeper, token = lab.access_token(LONGHAUL), lab.access_token()
    url = f"{HOST}/acme-vault/secret"
    assert lab.call("PUT", url, b"s", keeper, Content_Length="1").status == 200
    put(lab, "x", b"x", token)
    out = put(lab, "loot", b"", token, x_goog_copy_source="acme-vault/secret")
    into = lab.call("PUT", url, b"", token, x_goog_copy_source="acme-landing/x", Content_Length="0")
    assert error(out) == error(into) == (403, "AccessDenied")
    assert error(lab.call("GET", f"{BUCKET}/loot", token=token)) == (404, "NoSuchKey")


def test_a_boundary_holds_for_sources_targets_listings_and_uploads(lab: Lab) -> None:
    owner = lab.access_token()
    put(lab, "in/x", b"x", owner)
    put(lab, "inner", b"x", owner)
    elsewhere = Upload(lab, owner, "inner")
    token = within_prefix(lab, "in/")
    inside = {"x_goog_copy_source": "acme-landing/in/x"}
    outside = {"x_goog_copy_source": "acme-landing/inner"}
    allowed = [
        lab.call("GET", f"{BUCKET}/in/x", token=token),
        put(lab, "in/y", b"y", token),
        put(lab, "in/z", b"", token, **inside),
        lab.call("GET", f"{BUCKET}?prefix=in/", token=token),
        lab.call("POST", f"{BUCKET}/in/u?uploads", b"", token),
    ]
    assert {answer.status for answer in allowed} == {200}
    elsewhere.token = token
    for refused in (
        lab.call("GET", f"{BUCKET}/inner", token=token),
        lab.call("HEAD", f"{BUCKET}/inner", token=token),
        lab.call("GET", "https://acme-landing.storage.googleapis.com/inner", token=token),
        lab.call("DELETE", f"{BUCKET}/inner", token=token),
        put(lab, "inner", b"y", token),
        put(lab, "in/z", b"", token, **outside),
        put(lab, "inner", b"", token, **inside),
        lab.call("GET", BUCKET, token=token),
        lab.call("GET", f"{BUCKET}?prefix=in", token=token),
        lab.call("GET", f"{BUCKET}?list-type=2&start-after=in/", token=token),
        lab.call("GET", f"{BUCKET}?uploads", token=token),
        lab.call("POST", f"{BUCKET}/inner?uploads", b"", token),
        elsewhere.put(1, b"y"),
        elsewhere.complete(1),
        elsewhere.do("GET"),
        elsewhere.do("DELETE"),
    ):
        assert error(refused) == (403, "AccessDenied")


def test_missing_unknown_and_expired_tokens_are_refused(lab: Lab) -> None:
    token = lab.access_token(lifetime="60s")
    put(lab, "x", b"x", token)
    nobody = lab.call("GET", f"{BUCKET}/x")
    assert error(nobody) == (403, "AccessDenied")
    assert "Anonymous caller does not have storage.objects.get" in nobody.body.decode()
    assert error(lab.call("GET", f"{BUCKET}/x", token="x")) == (401, "AuthenticationRequired")
    lab.clock.now += 60
    assert error(lab.call("GET", f"{BUCKET}/x", token=token)) == (401, "AuthenticationRequired")


def test_a_read_only_token_writes_nothing(lab: Lab) -> None:
    put(lab, "x", b"x", lab.access_token())
    token = lab.access_token(scope=READ_ONLY)
    assert lab.call("GET", f"{BUCKET}/x", token=token).status == 200
    for answer in (
        put(lab, "y", b"y", token),
        lab.call("DELETE", f"{BUCKET}/x", token=token),
        lab.call("POST", f"{BUCKET}/y?uploads", b"", token),
    ):
        assert error(answer) == (403, "AccessDenied")


def test_a_federated_token_needs_uniform_access(lab: Lab) -> None:
    put(lab, "x", b"x", lab.access_token())
    token = lab.federated()
    known = lab.google.tokens.find(token)
    assert known is not None
    grant(lab, "objectViewer", known.principal.identifier)
    assert lab.call("GET", f"{BUCKET}/x", token=token).status == 200
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.iam_configuration.uniform_bucket_level_access.enabled = False
    assert error(lab.call("GET", f"{BUCKET}/x", token=token)) == (403, "AccessDenied")


@pytest.mark.parametrize(
    "query",
    [
        "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a&X-Goog-Signature=b",
        "GoogleAccessId=a&Expires=9999999999&Signature=b",
        "X-Amz-Signature=b",
        "x-goog-signature=b",
    ],
)
def test_a_signed_url_is_not_taken_for_an_anonymous_one(lab: Lab, query: str) -> None:
    grant(lab, "objectViewer", "allUsers")
    put(lab, "x", b"x", lab.access_token())
    assert lab.call("GET", f"{BUCKET}/x").status == 200
    assert error(lab.call("GET", f"{BUCKET}/x?{query}")) == (403, "AccessDenied")


@pytest.mark.parametrize("scheme", ["AWS4-HMAC-SHA256 x", "GOOG4-RSA-SHA256 x", "GOOG1 a:b"])
def test_a_signature_of_an_hmac_key_is_no_authentication(lab: Lab, scheme: str) -> None:
    answer = lab.call("GET", f"{BUCKET}/x", Authorization=scheme)
    assert error(answer) == (401, "AuthenticationRequired")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("PUT", "/acme-new"),
        ("DELETE", "/acme-landing"),
        ("POST", "/acme-landing"),
        ("POST", "/acme-landing/x"),
        ("GET", "/acme-landing?acl"),
        ("GET", "/acme-landing?versions"),
        ("PUT", "/acme-landing?lifecycle"),
        ("PUT", "/acme-landing/x?compose"),
        ("PUT", "/acme-landing/x?acl"),
        ("PUT", "/acme-landing/x?partNumber=1"),
        ("PUT", "/acme-landing/x?upload_id=y"),
        ("GET", "/acme-landing?uploads&location"),
        ("OPTIONS", "/acme-landing/x"),
    ],
)
def test_what_is_not_served_is_405_which_no_client_repeats(
    lab: Lab, method: str, path: str
) -> None:
    grant(lab, "admin", f"serviceAccount:{LONGHAUL}")
    answer = lab.call(method, f"{HOST}{path}", b"", lab.access_token(LONGHAUL))
    assert error(answer) == (405, "MethodNotAllowed")


def test_no_refusal_repeats_a_token(lab: Lab) -> None:
    token = lab.access_token()
    upload = Upload(lab, token)
    answers: list[Any] = [
        lab.call("GET", f"{HOST}/acme-vault/x", token=token),
        lab.call("GET", f"{BUCKET}/absent", token=token),
        lab.call("GET", f"{BUCKET}/x", token=f"{token}x"),
        upload.complete(5),
        lab.call("POST", f"{BUCKET}/other?uploadId={upload.id}", b"", token),
    ]
    assert not [answer for answer in answers if token in repr(answer) or upload.id in repr(answer)]
