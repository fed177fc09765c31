"""Cloud Storage: google-cloud-storage works unmodified, and the guard lets nothing else through."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from google.api_core.exceptions import Forbidden, NotFound, PreconditionFailed
from google.auth.credentials import Credentials
from google.cloud import storage

from tests.conformance.google_lab import (
    CLOUD_PLATFORM,
    LANDING,
    LONGHAUL,
    POOL,
    Lab,
    Session,
)

if TYPE_CHECKING:
    from localcloud.wire.web import Response

API = "https://storage.googleapis.com/storage/v1/b/acme-landing"
UPLOAD = "https://storage.googleapis.com/upload/storage/v1/b/acme-landing/o"
FULL_CONTROL = "https://www.googleapis.com/auth/devstorage.full_control"
READ_ONLY = "https://www.googleapis.com/auth/devstorage.read_only"


class _Session(Session):
    """The session that google-cloud-storage takes as its transport."""

    token = ""
    is_mtls = False

    def request(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["headers"] = {
            **(kwargs.get("headers") or {}),
            "Authorization": f"Bearer {self.token}",
        }
        return super().request(*args, **kwargs)


class _Static(Credentials):  # type: ignore[no-untyped-call]
    def refresh(self, request: Any) -> None:
        """Never asked: the token is set."""


def bucket(lab: Lab, token: str, name: str = "acme-landing") -> Any:
    session = _Session(lab.router)
    session.token = token
    client = storage.Client(project="acme", credentials=_Static(), _http=session)
    return client.bucket(name)


def refusal(answer: Response) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]["message"]


def grant(lab: Lab, role: str, member: str = f"serviceAccount:{LONGHAUL}") -> None:
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.iam_policy.grant(role, member)


def put(lab: Lab, name: str, token: str, content: bytes = b"x", **params: str) -> Response:
    query = "".join(f"&{key}={value}" for key, value in params.items())
    return lab.call("POST", f"{UPLOAD}?uploadType=media&name={name}{query}", content, token)


# --- the client ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\r\n--x\r\n\x00\xff\r", b'{"json": 1}', bytes(range(256)) * 2000]
)
def test_upload_download_list_and_delete_keep_every_byte(lab: Lab, content: bytes) -> None:
    target = bucket(lab, lab.access_token())
    blob = target.blob("in/ä &?#.bin")
    blob.metadata = {"origin": "etl"}
    blob.upload_from_string(content, content_type="application/json")
    assert target.blob(blob.name).download_as_bytes() == content
    found = target.get_blob(blob.name)
    assert (found.size, found.content_type) == (len(content), "application/json")
    assert (found.metadata, found.metageneration) == ({"origin": "etl"}, 1)
    assert found.download_as_bytes() == content
    assert [item.name for item in target.list_blobs(prefix="in/")] == [blob.name]
    blob.delete()
    assert not blob.exists()
    with pytest.raises(NotFound):
        blob.delete()


def test_resumable_upload_in_chunks_and_ranged_download(lab: Lab) -> None:
    target = bucket(lab, lab.access_token())
    content = bytes(range(256)) * 3000
    blob = target.blob("big", chunk_size=256 * 1024)
    with blob.open("wb") as writer:
        writer.write(content)
    assert target.blob("big").download_as_bytes(start=1000, end=1999) == content[1000:2000]
    assert target.blob("big").download_as_bytes(checksum="md5") == content


def test_listing_pages_and_folds_by_delimiter(lab: Lab) -> None:
    token = lab.access_token()
    for name in ("a", "b%2F1", "b%2F2", "c"):
        assert put(lab, name, token).status == 200
    target = bucket(lab, token)
    assert [item.name for item in target.list_blobs(page_size=2)] == ["a", "b/1", "b/2", "c"]
    folded = target.list_blobs(delimiter="/")
    assert [item.name for item in folded] == ["a", "c"]
    assert folded.prefixes == {"b/"}


def test_names_that_look_alike_are_different_objects(lab: Lab) -> None:
    token = lab.access_token()
    names = ["a/b", "/a/b", "a//b", "a/./b", "a/../b", "a\\b", "a/b/"]
    target = bucket(lab, token)
    for name in names:
        target.blob(name).upload_from_string(name)
    assert [target.blob(name).download_as_text() for name in names] == names


def test_generation_preconditions_hold(lab: Lab) -> None:
    target = bucket(lab, lab.access_token())
    blob = target.blob("once")
    blob.upload_from_string("1", if_generation_match=0)
    first = blob.generation
    with pytest.raises(PreconditionFailed):
        target.blob("once").upload_from_string("2", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        target.blob("once").upload_from_string("2", if_generation_match=first + 1)
    blob.upload_from_string("2", if_generation_match=first)
    assert blob.generation > first
    with pytest.raises(PreconditionFailed):
        blob.delete(if_generation_match=first)
    with pytest.raises(NotFound):
        target.blob("once", generation=first).download_as_bytes()
    assert target.blob("once").download_as_bytes() == b"2"


def test_precondition_is_judged_again_when_a_resumable_upload_ends(lab: Lab) -> None:
    token = lab.access_token()
    url = f"{UPLOAD}?uploadType=resumable&name=once&ifGenerationMatch=0"
    location = dict(lab.call("POST", url, {}, token).headers)["Location"]
    assert put(lab, "once", token).status == 200
    assert lab.call("PUT", location, b"late").status == 412


def test_of_simultaneous_creations_exactly_one_wins(lab: Lab) -> None:
    token = lab.access_token()
    with ThreadPoolExecutor(8) as pool:
        tries = pool.map(lambda _: put(lab, "once", token, ifGenerationMatch="0"), range(16))
        assert sorted(answer.status for answer in tries) == [200] + [412] * 15


def test_metadata_can_be_changed(lab: Lab) -> None:
    target = bucket(lab, lab.access_token(scope=FULL_CONTROL))
    blob = target.blob("x")
    blob.upload_from_string("x")
    blob.content_type = "text/csv"
    blob.patch()
    assert target.get_blob("x").content_type == "text/csv"
    assert target.get_blob("x").metageneration == 2


# --- the guard -----------------------------------------------------------------------------


def test_missing_unknown_and_expired_tokens_are_401(lab: Lab) -> None:
    token = lab.access_token(lifetime="60s")
    assert lab.call("GET", f"{API}/o", token=token).status == 200
    code, text = refusal(lab.call("GET", f"{API}/o"))
    assert (code, text.startswith("Anonymous caller does not have storage.objects.list")) == (
        401,
        True,
    )
    unknown = lab.call("GET", f"{API}/o", token="x")
    assert refusal(unknown) == (401, "Invalid Credentials")
    assert dict(unknown.headers)["WWW-Authenticate"].startswith("Bearer realm=")
    lab.clock.now += 60
    assert refusal(lab.call("GET", f"{API}/o", token=token)) == (401, "Invalid Credentials")


@pytest.mark.parametrize("scope", [READ_ONLY, "https://www.googleapis.com/auth/iam"])
def test_access_token_without_the_scope_cannot_write(lab: Lab, scope: str) -> None:
    answer = put(lab, "x", lab.access_token(scope=scope))
    assert refusal(answer) == (403, "Request had insufficient authentication scopes.")
    status = lab.call("GET", f"{API}/o", token=lab.access_token(scope=scope)).status
    assert status == (200 if scope == READ_ONLY else 403)


def test_metadata_is_not_changed_with_the_scope_that_writes_objects(lab: Lab) -> None:
    token = lab.access_token()
    assert put(lab, "x", token).status == 200
    for method in ("PATCH", "PUT"):
        answer = lab.call(method, f"{API}/o/x", {"contentType": "text/csv"}, token)
        assert refusal(answer) == (403, "Request had insufficient authentication scopes.")


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("roles/storage.objectViewer", {"get", "list"}),
        ("roles/storage.objectCreator", {"create"}),
        ("roles/storage.objectUser", {"get", "list", "create", "replace", "update", "delete"}),
        ("roles/storage.objectAdmin", {"get", "list", "create", "replace", "update", "delete"}),
        (
            "roles/storage.admin",
            {"get", "list", "create", "replace", "update", "delete", "bucket"},
        ),
        ("roles/storage.unknown", set()),
    ],
)
def test_role_gives_exactly_its_permissions(lab: Lab, role: str, allowed: set[str]) -> None:
    put(lab, "x", lab.access_token())
    grant(lab, role)
    token = lab.access_token(LONGHAUL, scope=CLOUD_PLATFORM)
    answers = {
        "get": lab.call("GET", f"{API}/o/x?alt=media", token=token),
        "list": lab.call("GET", f"{API}/o", token=token),
        "create": put(lab, "new", token),
        "replace": put(lab, "x", token),
        "update": lab.call("PATCH", f"{API}/o/x", {"contentType": "text/csv"}, token),
        "bucket": lab.call("GET", API, token=token),
        "delete": lab.call("DELETE", f"{API}/o/x", token=token),
    }
    passed = {name for name, answer in answers.items() if answer.status < 300}
    assert passed == allowed
    assert {answer.status for name, answer in answers.items() if name not in allowed} <= {403}


def test_denial_names_principal_and_permission(lab: Lab) -> None:
    answer = lab.call("GET", f"{API}/o/x", token=lab.access_token(LONGHAUL))
    text = (
        f"{LONGHAUL} does not have storage.objects.get access to the Google Cloud Storage object. "
        "Permission 'storage.objects.get' denied on resource (or it may not exist)."
    )
    assert refusal(answer) == (403, text)


def test_federated_token_reads_directly_but_only_with_uniform_access(lab: Lab) -> None:
    put(lab, "x", lab.access_token())
    token = lab.federated()
    assert lab.call("GET", f"{API}/o/x?alt=media", token=token).body == b"x"
    assert put(lab, "y", token).status == 403
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.iam_configuration.uniform_bucket_level_access.enabled = False
    assert lab.call("GET", f"{API}/o/x?alt=media", token=token).status == 403
    assert lab.call("GET", f"{API}/o/x?alt=media", token=lab.access_token()).status == 200


def test_other_buckets_stay_closed_and_absent_ones_are_404(lab: Lab) -> None:
    token = lab.access_token()
    with pytest.raises(Forbidden):
        bucket(lab, token, "acme-vault").blob("x").upload_from_string("x")
    with pytest.raises(NotFound):
        bucket(lab, token, "acme-absent").blob("x").upload_from_string("x")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/storage/v1/b/acme-landing"),
        ("GET", "/storage/v1/b/acme-landing/acl"),
        ("GET", "/storage/v1/b/acme-landing/o/x/acl"),
        ("GET", "/storage/v1/b/acme-landing/o/x/iam"),
        ("POST", "/storage/v1/b/acme-landing/o/x/restore?generation=1"),
        ("POST", "/storage/v1/b/acme-landing/o/watch"),
        ("POST", "/storage/v1/b/acme-landing/lockRetentionPolicy"),
        ("GET", "/storage/v1/b/acme-landing/notificationConfigs"),
        ("GET", "/storage/v1/b/acme-landing/o/a/b"),
        ("GET", "/storage/v1/projects/acme/hmacKeys"),
        ("GET", "/upload/storage/v1/b/acme-landing/o/x"),
    ],
)
def test_what_the_table_has_not_is_not_served_and_not_retried(
    lab: Lab, method: str, path: str
) -> None:
    url = f"https://storage.googleapis.com{path}"
    grant(lab, "roles/storage.admin", f"serviceAccount:{LANDING}")
    answer = lab.call(method, url, b"{}" if method != "GET" else None, lab.access_token())
    code, text = refusal(answer)
    assert (code, "does not serve" in text) == (405, True)


def test_method_override_asks_what_the_overriding_method_needs(lab: Lab) -> None:
    assert put(lab, "x", lab.access_token()).status == 200
    grant(lab, "roles/storage.objectViewer")
    token = lab.access_token(LONGHAUL, scope=CLOUD_PLATFORM)
    for method in ("DELETE", "PATCH"):
        fields = {"X_HTTP_Method_Override": method}
        assert lab.call("POST", f"{API}/o/x", {}, token, **fields).status == 403
    own = lab.access_token(scope=CLOUD_PLATFORM)
    change = {"contentType": "text/csv"}
    answer = lab.call("POST", f"{API}/o/x", change, own, X_HTTP_Method_Override="PATCH")
    assert json.loads(answer.body)["contentType"] == "text/csv"


def test_method_override_of_a_read_is_passed_over(lab: Lab) -> None:
    token = lab.access_token()
    assert put(lab, "x", token).status == 200
    assert lab.call("GET", f"{API}/o/x", token=token, X_HTTP_Method_Override="DELETE").status == 200
    assert lab.call("GET", f"{API}/o/x", token=token).status == 200


def multipart(name: str, *, extra: bytes = b"") -> bytes:
    metadata = json.dumps({"name": name}).encode()
    return (
        b"--b\r\nContent-Type: application/json\r\n\r\n" + metadata + b"\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" + extra + b"--b--"
    )


@pytest.mark.parametrize(
    ("query", "kind", "content", "status"),
    [
        ("uploadType=multipart", "multipart/related; boundary=b", multipart("x"), 200),
        ("uploadType=multipart", 'multipart/related; boundary="b"', multipart("x"), 200),
        ("uploadType=multipart", "multipart/related; boundary=c", multipart("x"), 400),
        ("uploadType=multipart", "text/plain", multipart("x"), 400),
        ("uploadType=multipart", "multipart/related; boundary=b", multipart(""), 400),
        (
            "uploadType=multipart",
            "multipart/related; boundary=b",
            multipart("x", extra=b"--b\r\n\r\nsmuggled\r\n"),
            400,
        ),
        ("uploadType=media", "text/plain", b"x", 400),
        ("uploadType=media&name=..", "text/plain", b"x", 400),
        ("uploadType=media&name=a%0Ab", "text/plain", b"x", 400),
        ("uploadType=media&name=" + "n" * 1025, "text/plain", b"x", 400),
        ("uploadType=other&name=x", "text/plain", b"x", 400),
        ("uploadType=resumable", "application/json", b"[]", 400),
        ("uploadType=resumable", "application/json", b'{"name": "x", "acl": []}', 200),
        ("uploadType=resumable", "application/json", b'{"name": "x", "acl": [{}]}', 400),
        ("uploadType=resumable", "application/json", b'{"name": "x", "md5Hash": 5}', 400),
        (
            "uploadType=resumable",
            "application/json",
            json.dumps({"name": "x", "metadata": {"a": "b\r\nSet-Cookie: c"}}).encode(),
            400,
        ),
        ("name=x", "text/plain", b"x", 400),
    ],
)
def test_malformed_upload_is_refused(
    lab: Lab, query: str, kind: str, content: bytes, status: int
) -> None:
    fields = {"Content_Type": kind}
    answer = lab.call("POST", f"{UPLOAD}?{query}", content, lab.access_token(), **fields)
    assert answer.status == status


def start(lab: Lab, token: str, name: str = "x", **fields: str) -> str:
    """The address of a new upload session."""
    url = f"{UPLOAD}?uploadType=resumable&name={name}"
    answer = lab.call("POST", url, {}, token, **fields)
    assert answer.status == 200
    return dict(answer.headers)["Location"]


def test_address_of_an_upload_session_is_the_credential_for_a_week(lab: Lab) -> None:
    """A token of minutes leaves a capability of a week: docs/threat-model.md names the risk."""
    token = lab.access_token(lifetime="60s")
    location, late = start(lab, token), start(lab, token, "late")
    assert urlsplit(location).netloc == "storage.googleapis.com"
    found = lab.world.google.bucket("acme-landing")
    assert found is not None
    found.iam_policy.revoke(f"serviceAccount:{LANDING}")
    lab.clock.now += 7 * 24 * 3600 - 1
    assert lab.call("PUT", location, b"x").status == 200
    assert lab.call("PUT", location, b"x", "not-even-a-token").status == 200
    lab.clock.now += 1
    assert lab.call("PUT", late, b"x").status == 410


def test_upload_session_writes_its_own_object_and_no_other(lab: Lab) -> None:
    token = lab.access_token()
    location = start(lab, token)
    assert lab.call("PUT", location.replace("landing", "vault"), b"x").status == 404
    assert lab.call("PUT", location[:-1], b"x").status == 404
    answer = lab.call("PUT", location.replace("name=x", "name=y"), b"x")
    assert json.loads(answer.body)["name"] == "x"
    assert lab.call("GET", f"{API}/o/y", token=token).status == 404


def test_upload_session_does_not_replace_what_its_opener_may_not_delete(lab: Lab) -> None:
    grant(lab, "roles/storage.objectCreator")
    location = start(lab, lab.access_token(LONGHAUL))
    assert put(lab, "x", lab.access_token(), b"kept").status == 200
    code, text = refusal(lab.call("PUT", location, b"lost"))
    assert (code, "storage.objects.delete" in text) == (403, True)
    answer = lab.call("GET", f"{API}/o/x?alt=media", token=lab.access_token())
    assert answer.body == b"kept"


def test_pool_members_are_matched_by_number_only(lab: Lab) -> None:
    found = lab.world.google.bucket("acme-vault")
    assert found is not None
    wrong = f"principalSet://iam.googleapis.com/{POOL.replace('123456789012', 'acme')}/*"
    found.iam_policy.grant("roles/storage.objectViewer", wrong)
    url = "https://storage.googleapis.com/storage/v1/b/acme-vault/o"
    assert lab.call("GET", url, token=lab.federated()).status == 403
