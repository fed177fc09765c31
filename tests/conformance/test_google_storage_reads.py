"""Reads: ranges, conditions, header fields, transcoding and partial responses, as Google's."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from localcloud.google.core.errors import GoogleError
from localcloud.google.core.fields import selected
from localcloud.google.storage.downloads import requested_range
from tests.conformance.google_lab import LONGHAUL, Lab
from tests.conformance.storage_lab import (
    API,
    HOST,
    bucket,
    fields,
    put,
    refusal,
    resource,
    whole_token,
)

if TYPE_CHECKING:
    from localcloud.wire.web import Response

CONTENT = bytes(range(100))


@pytest.fixture
def token(lab: Lab) -> str:
    made = whole_token(lab)
    assert put(lab, "x", made, CONTENT).status == 200
    return made


def media(lab: Lab, token: str, query: str = "", **headers: str) -> Response:
    return lab.call("GET", f"{API}/o/x?alt=media{query}", token=token, **headers)


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("", 200, 0, 100),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=99-", 206, 99, 100),
        ("bytes=90-1000", 206, 90, 100),
        ("bytes=-5", 206, 95, 100),
        ("bytes=-1000", 206, 0, 100),
        ("bytes=5-4", 200, 0, 100),
        ("bytes=a-b", 200, 0, 100),
        ("bytes=0-1,3-4", 200, 0, 100),
        ("items=0-1", 200, 0, 100),
        ("bytes=100-", 416, 0, 0),
        ("bytes=100-200", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
    ],
)
def test_range(lab: Lab, token: str, asked: str, status: int, start: int, end: int) -> None:
    answer = media(lab, token, Range=asked)
    assert answer.status == status
    told = fields(answer)
    if status == 416:
        assert told["content-range"] == "bytes */100"
        assert answer.body == b"The requested range cannot be satisfied."
        return
    assert answer.body == CONTENT[start:end]
    assert told["content-length"] == str(end - start)
    expected = f"bytes {start}-{end - 1}/100" if status == 206 else None
    assert told.get("content-range") == expected


def test_range_of_an_empty_object_cannot_be_satisfied(lab: Lab, token: str) -> None:
    assert put(lab, "x", token, b"").status == 200
    assert media(lab, token, Range="bytes=0-").status == 416
    assert media(lab, token).body == b""
    assert requested_range("", 0) is None


def test_header_fields_tell_what_is_stored(lab: Lab, token: str) -> None:
    found = resource(lab.call("GET", f"{API}/o/x", token=token))
    told = fields(media(lab, token))
    assert told["x-goog-hash"] == f"crc32c={found['crc32c']},md5={found['md5Hash']}"
    assert told["x-goog-generation"] == found["generation"]
    assert told["x-goog-metageneration"] == "1"
    assert told["x-goog-storage-class"] == "STANDARD"
    assert told["x-goog-stored-content-length"] == "100"
    assert told["x-goog-stored-content-encoding"] == "identity"
    assert told["etag"] == found["etag"]
    assert told["content-type"] == "text/plain"
    assert told["content-disposition"] == "attachment"


@pytest.mark.parametrize(
    ("accepted", "cache_control", "compressed"),
    [
        ("", "", False),
        ("identity", "", False),
        ("gzip", "", True),
        ("gzip, deflate", "", True),
        ("", "no-transform", True),
    ],
)
def test_gzip_object_is_decompressed_for_who_does_not_accept_it(
    lab: Lab, token: str, accepted: str, cache_control: str, *, compressed: bool
) -> None:
    packed = gzip.compress(CONTENT)
    assert put(lab, "x", token, packed, contentEncoding="gzip").status == 200
    if cache_control:
        change = {"cacheControl": cache_control}
        assert lab.call("PATCH", f"{API}/o/x", change, token).status == 200
    answer = media(lab, token, Accept_Encoding=accepted)
    assert answer.body == (packed if compressed else CONTENT)
    told = fields(answer)
    assert told.get("content-encoding") == ("gzip" if compressed else None)
    assert ("content-length" in told) is compressed
    assert told["x-goog-stored-content-length"] == str(len(packed))
    # Of what is decompressed no range is given.
    ranged = media(lab, token, Accept_Encoding=accepted, Range="bytes=0-1")
    assert ranged.status == (206 if compressed else 200)


def test_conditions_of_a_read(lab: Lab, token: str) -> None:
    found = resource(lab.call("GET", f"{API}/o/x", token=token))
    generation, etag = found["generation"], found["etag"]
    other = str(int(generation) - 1)
    statuses = {
        f"&ifGenerationMatch={generation}": 200,
        f"&ifGenerationMatch={other}": 412,
        f"&ifGenerationNotMatch={generation}": 304,
        f"&ifGenerationNotMatch={other}": 200,
        "&ifMetagenerationMatch=1": 200,
        "&ifMetagenerationMatch=2": 412,
        "&ifMetagenerationNotMatch=1": 304,
        f"&generation={generation}": 200,
        f"&generation={other}": 404,
        "&generation=x": 400,
    }
    for query, status in statuses.items():
        assert media(lab, token, query).status == status, query
        plain = lab.call("GET", f"{API}/o/x?alt=json{query}", token=token)
        assert plain.status == status, query
    by_etag = {
        ("If_Match", etag): 200,
        ("If_Match", f'"{etag}"'): 200,
        ("If_Match", "*"): 200,
        ("If_Match", "wrong"): 412,
        ("If_None_Match", etag): 304,
        ("If_None_Match", "*"): 304,
        ("If_None_Match", "wrong"): 200,
    }
    for (name, value), status in by_etag.items():
        assert media(lab, token, **{name: value}).status == status, (name, value)


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_wrong_entity_tag_keeps_a_change_away(lab: Lab, token: str, method: str) -> None:
    answer = lab.call(method, f"{API}/o/x", {}, token, If_Match="wrong")
    assert refusal(answer)[0] == 412
    assert media(lab, token).body == CONTENT


def test_refusal_of_a_download_is_its_text_alone(lab: Lab, token: str) -> None:
    answer = lab.call("GET", f"{API}/o/absent?alt=media", token=token)
    assert (answer.status, answer.body) == (404, b"No such object: acme-landing/absent")
    denied = lab.call("GET", f"{API}/o/x?alt=media", token=whole_token(lab, LONGHAUL))
    assert denied.body.startswith(b"longhaul@acme.iam.gserviceaccount.com does not have")


@pytest.mark.parametrize(
    "base",
    [
        "https://storage.googleapis.com/storage/v1",
        "https://storage.googleapis.com/download/storage/v1",
        "https://www.googleapis.com/storage/v1",
        "https://www.googleapis.com/download/storage/v1",
        "https://storage.mtls.googleapis.com/download/storage/v1",
    ],
)
def test_every_address_of_the_api_gives_the_content(lab: Lab, token: str, base: str) -> None:
    url = f"{base}/b/acme-landing/o/x?alt=media"
    assert lab.call("GET", url, token=token).body == CONTENT


def test_links_of_a_resource_lead_to_it(lab: Lab, token: str) -> None:
    assert put(lab, "a%2Fb%20%26%25c", token, b"linked").status == 200
    found = resource(lab.call("GET", f"{API}/o/a%2Fb%20%26%25c", token=token))
    assert found["name"] == "a/b &%c"
    assert resource(lab.call("GET", found["selfLink"], token=token)) == found
    assert lab.call("GET", found["mediaLink"], token=token).body == b"linked"


def test_name_with_a_colon_is_one_name(lab: Lab, token: str) -> None:
    assert put(lab, "a:b", token, b"colon").status == 200
    assert lab.call("GET", f"{API}/o/a:b?alt=media", token=token).body == b"colon"


# --- who may read --------------------------------------------------------------------------


def test_without_a_token_only_what_is_open_to_all_is_read(lab: Lab, token: str) -> None:
    assert token
    url = f"{API}/o/x?alt=media"
    anonymous = lab.call("GET", url)
    assert (anonymous.status, b"Anonymous caller" in anonymous.body) == (401, True)
    bucket(lab).iam_policy.grant("roles/storage.objectViewer", "allUsers")
    assert lab.call("GET", url).body == CONTENT
    assert lab.call("GET", f"{API}/o").status == 200
    assert lab.call("DELETE", f"{API}/o/x").status == 401
    # A token that is none is not nobody.
    assert lab.call("GET", url, token="wrong").status == 401
    bucket(lab).iam_configuration.public_access_prevention = "enforced"
    assert lab.call("GET", url).status == 401


def test_all_authenticated_users_are_not_everybody(lab: Lab, token: str) -> None:
    assert token
    bucket(lab).iam_policy.grant("roles/storage.objectViewer", "allAuthenticatedUsers")
    url = f"{API}/o/x?alt=media"
    assert lab.call("GET", url).status == 401
    assert lab.call("GET", url, token=whole_token(lab, LONGHAUL)).body == CONTENT


@pytest.mark.parametrize("everybody", ["allUsers", "allAuthenticatedUsers"])
def test_where_public_access_is_prevented_everybody_is_nobody(
    lab: Lab, token: str, everybody: str
) -> None:
    """Not even with a token does a binding to everybody count; one by name does."""
    found, other = bucket(lab), whole_token(lab, LONGHAUL)
    found.iam_policy.grant("roles/storage.objectViewer", everybody)
    found.iam_configuration.public_access_prevention = "enforced"
    assert lab.call("GET", f"{API}/o/x", token=other).status == 403
    assert lab.call("GET", f"{API}/o/x", token=token).status == 200


def test_policy_of_the_project_reaches_its_buckets(lab: Lab, token: str) -> None:
    assert token
    other = whole_token(lab, LONGHAUL)
    assert lab.call("GET", f"{API}/o/x", token=other).status == 403
    project = lab.world.google.project("acme")
    assert project is not None
    member = f"serviceAccount:{LONGHAUL}"
    project.iam_policy.grant("roles/storage.objectViewer", member)
    assert lab.call("GET", f"{API}/o/x", token=other).status == 200
    assert lab.call("DELETE", f"{API}/o/x", token=other).status == 403


@pytest.mark.parametrize("header", [True, False])
def test_billing_another_project_needs_the_right_to_use_it(
    lab: Lab, token: str, *, header: bool
) -> None:
    query = "" if header else "&userProject=acme"
    headers = {"X_Goog_User_Project": "acme"} if header else {}
    denied = lab.call("GET", f"{API}/o/x?alt=json{query}", token=token, **headers)
    code, text = refusal(denied)
    assert (code, "serviceusage.services.use access to the Google Cloud project" in text) == (
        403,
        True,
    )


# --- partial responses ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("name,size", {"name": "x", "size": "100"}),
        ("name", {"name": "x"}),
        ("metadata", {}),
        ("metadata/anything", {}),
        ("acl(entity)", {}),
    ],
)
def test_fields_select(lab: Lab, token: str, mask: str, expected: dict[str, str]) -> None:
    assert resource(lab.call("GET", f"{API}/o/x?fields={mask}", token=token)) == expected


def test_fields_select_of_a_listing(lab: Lab, token: str) -> None:
    for mask in ("items(name,size),nextPageToken", "items/name,items/size", "items(name,size)"):
        found = resource(lab.call("GET", f"{API}/o?fields={mask}", token=token))
        assert found == {"items": [{"name": "x", "size": "100"}]}
    assert resource(lab.call("GET", f"{API}/o?fields=*", token=token))["kind"] == "storage#objects"


@pytest.mark.parametrize(
    "mask", ["nope", "name,nope", "items", "name(", "name)", "", ",", "name,,size", "na me", "a'b"]
)
def test_garbage_fields_are_refused(lab: Lab, token: str, mask: str) -> None:
    code, text = refusal(lab.call("GET", f"{API}/o/x?fields={mask}", token=token))
    assert (code, text.startswith("Invalid field selection")) == (400, True)


def test_deep_fields_are_refused_and_do_not_exhaust_the_stack() -> None:
    for mask in ("a(" * 5000 + ")" * 5000, "/".join("a" * 5000)):
        with pytest.raises(GoogleError):
            selected({}, mask, frozenset({"a", "a/*"}))


# --- listings ------------------------------------------------------------------------------


def listed(lab: Lab, token: str, query: str) -> tuple[list[str], list[str]]:
    found = resource(lab.call("GET", f"{API}/o?{query}", token=token))
    return [item["name"] for item in found.get("items", ())], found.get("prefixes", [])


@pytest.mark.parametrize(
    ("query", "items", "prefixes"),
    [
        ("", ["a", "d/", "d/1", "d/e/2", "x"], []),
        ("prefix=d/", ["d/", "d/1", "d/e/2"], []),
        ("delimiter=/", ["a", "x"], ["d/"]),
        ("delimiter=/&includeTrailingDelimiter=true", ["a", "d/", "x"], ["d/"]),
        ("delimiter=/&prefix=d/", ["d/", "d/1"], ["d/e/"]),
        ("startOffset=d/1", ["d/1", "d/e/2", "x"], []),
        ("endOffset=d/1", ["a", "d/"], []),
        ("startOffset=d/1&endOffset=x", ["d/1", "d/e/2"], []),
        ("matchGlob=d/*", ["d/", "d/1"], []),
        ("matchGlob=**/2", ["d/e/2"], []),
        ("versions=true&prefix=a", ["a"], []),
        ("maxResults=0&prefix=a", ["a"], []),
        ("maxResults=100000&prefix=a", ["a"], []),
        ("includeFoldersAsPrefixes=true&delimiter=/&prefix=d/e", [], ["d/e/"]),
    ],
)
def test_listing(lab: Lab, token: str, query: str, items: list[str], prefixes: list[str]) -> None:
    for name in ("a", "d%2F", "d%2F1", "d%2Fe%2F2"):
        assert put(lab, name, token).status == 200
    assert listed(lab, token, query) == (items, prefixes)


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("maxResults=-1", 400, "Invalid unsigned integer value: '-1'."),
        ("maxResults=x", 400, "Invalid unsigned integer value: 'x'."),
        ("pageToken=nope", 400, "Invalid page token"),
        ("versions=maybe", 400, "Invalid boolean value"),
        ("projection=all", 400, "Allowed values: [full, noAcl]"),
        ("matchGlob={a", 400, "Invalid glob"),
        ("matchGlob=a&delimiter=-", 400, "delimiter"),
        ("softDeleted=true", 405, "does not serve"),
        ("filter=x", 405, "does not serve"),
    ],
)
def test_listing_that_google_refuses(
    lab: Lab, token: str, query: str, code: int, text: str
) -> None:
    got, message = refusal(lab.call("GET", f"{API}/o?{query}", token=token))
    assert (got, text in message) == (code, True)


def test_bucket_that_does_not_exist_is_told_apart(lab: Lab, token: str) -> None:
    answer = lab.call("GET", f"{HOST}/storage/v1/b/acme-absent/o", token=token)
    assert refusal(answer) == (404, "The specified bucket does not exist.")
