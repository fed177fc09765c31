"""gcp-storage-emulator, driven in process: objects in memory, no socket, no request of a caller's.

Each call builds the emulator's request from checked parts. Adapts what differs from Google:
https links, empty answers, object names that its file store would fold into one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from gcp_storage_emulator.server import Router
from gcp_storage_emulator.storage import Storage

from localcloud.google.storage.request import StorageError
from localcloud.wire.web import Headers, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.world import Bucket

HOST = "storage.googleapis.com"
_LIST_PARAMS = ("prefix", "delimiter", "matchGlob")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


class Backend:
    """The emulator's store behind a narrow door; not safe for threads, its caller locks."""

    def __init__(self) -> None:
        self._storage = _ExactNames(use_memory_fs=True, data_dir="/")

    def ensure_bucket(self, bucket: Bucket, project_number: str) -> None:
        """Make the world's bucket known to the emulator."""
        if self._storage.get_bucket(bucket.name) is None:
            resource = {
                "kind": "storage#bucket",
                "id": bucket.name,
                "name": bucket.name,
                "selfLink": f"https://{HOST}/storage/v1/b/{bucket.name}",
                "projectNumber": project_number,
                "location": bucket.location,
                "storageClass": "STANDARD",
                "metageneration": "1",
                "etag": "CAE=",
                "iamConfiguration": {
                    "uniformBucketLevelAccess": {
                        "enabled": bucket.iam_configuration.uniform_bucket_level_access.enabled
                    }
                },
                # Without this a deleted object would live on where no check looks.
                "softDeletePolicy": {"retentionDurationSeconds": "0"},
            }
            self._storage.create_bucket(bucket.name, resource)

    def metadata(self, bucket: str, name: str) -> dict[str, Any] | None:
        """The live object's resource, or None."""
        found = self._storage.objects.get(bucket, {}).get(name)
        return None if found is None else _https(dict(found))

    def bucket(self, name: str) -> Response:
        """The bucket's resource."""
        return Response.json(200, self._storage.get_bucket(name))

    def page(self, bucket: str, params: Mapping[str, str]) -> Response:
        """objects.list: prefix, delimiter, matchGlob, maxResults and pageToken."""
        query = {name: params[name] for name in _LIST_PARAMS if params.get(name)}
        answer = self._call("GET", f"/storage/v1/b/{bucket}/o", query)
        found = json.loads(answer.body)
        items = sorted((_https(item) for item in found["items"]), key=lambda item: item["name"])
        return Response.json(200, _page(items, sorted(found["prefixes"]), params))

    def download(self, bucket: str, name: str, wanted: str, found: Mapping[str, Any]) -> Response:
        """The object's bytes, or the part that a Range field wants."""
        size = int(found["size"])
        shape = _RANGE.fullmatch(wanted.strip())
        if shape and int(shape[1]) >= size:
            return Response(416, b"", (("Content-Range", f"bytes */{size}"),))
        fields = [("Range", wanted)] if shape else []
        path = f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        answer = self._call("GET", path, {"alt": "media"}, fields)
        extra = (
            ("X-Goog-Generation", str(found["generation"])),
            ("X-Goog-Metageneration", str(found["metageneration"])),
            ("ETag", str(found["etag"])),
        )
        return Response(answer.status, answer.body, (*answer.headers, *extra))

    def delete(self, bucket: str, name: str) -> Response:
        """Remove the object; 204."""
        self._storage.delete_file(bucket, name)
        return Response(204)

    def patch(self, bucket: str, name: str, changes: Mapping[str, Any]) -> Response:
        """Change the object's metadata."""
        fields = [("Content-Type", "application/json")]
        path = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        answer = self._call("PATCH", path, {}, fields, json.dumps(dict(changes)).encode())
        return _with_https(answer)

    def open_session(
        self, bucket: str, name: str, metadata: Mapping[str, Any], kind: str, length: str
    ) -> str:
        """Open an upload session and give its id."""
        fields = [("Content-Type", "application/json"), ("X-Upload-Content-Type", kind)]
        if length:
            fields.append(("X-Upload-Content-Length", length))
        query = {"uploadType": "resumable", "name": name}
        body = json.dumps(dict(metadata)).encode()
        answer = self._call("POST", f"/upload/storage/v1/b/{bucket}/o", query, fields, body)
        location = Headers(answer.headers).get("Location")
        session = parse_qs(urlsplit(location).query)["upload_id"][0]
        # The emulator counts the first metadata as a change already.
        self._storage.resumable[session]["metageneration"] = "1"
        return session

    def append(self, bucket: str, session: str, content: bytes, content_range: str) -> Response:
        """Add bytes to a session; 308 until it is complete."""
        fields = [("Content-Range", content_range)] if content_range else []
        query = {"upload_id": session}
        answer = self._call("PUT", f"/upload/storage/v1/b/{bucket}/o", query, fields, content)
        if (
            answer.status == HTTPStatus.PERMANENT_REDIRECT
            and not self._storage.get_resumable_byte_count(session)
        ):
            # The emulator claims one byte it does not have; the client would skip it.
            return Response(308)
        return _with_https(answer)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        fields: list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> Response:
        target = f"{path}?{urlencode(query)}" if query else path
        handler = _Handler(self._storage, target, fields or [], body)
        Router(handler).handle(method)
        answer = handler.response()
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise _refusal(answer)
        return answer


class _ExactNames(Storage):  # type: ignore[misc]
    """Content under a digest of the exact name.

    The emulator folds `a//b` and `/a/b` into `a/b`: a grant on one name would write another.
    """

    def _object_path(self, bucket_name: str, file_name: str) -> str:
        return f"{bucket_name}/{hashlib.sha256(file_name.encode()).hexdigest()}"


class _Handler:
    """The part of http.server's handler that the emulator uses."""

    def __init__(
        self, storage: Storage, target: str, fields: list[tuple[str, str]], body: bytes
    ) -> None:
        self.storage = storage
        self.path = target
        self.headers = Headers([("Host", HOST), ("Content-Length", str(len(body))), *fields])
        self.rfile = io.BytesIO(body)
        self.wfile = io.BytesIO()
        self.server = SimpleNamespace(server_address=("127.0.0.1", 0))
        self._status = 500
        self._sent: list[tuple[str, str]] = []

    def send_response(self, status: int, _phrase: str = "") -> None:
        self._status = status

    def send_header(self, name: str, value: str) -> None:
        self._sent.append((name, value))

    def end_headers(self) -> None:
        """Nothing is on the wire yet."""

    def response(self) -> Response:
        sent = tuple((name, value) for name, value in self._sent if name != "Content-Length")
        return Response(self._status, self.wfile.getvalue(), sent)


def _refusal(answer: Response) -> StorageError:
    """The emulator's refusal, whose body may be empty or half of Google's."""
    try:
        text = str(json.loads(answer.body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = HTTPStatus(answer.status).phrase
    reason = "notFound" if answer.status == HTTPStatus.NOT_FOUND else "invalid"
    return StorageError(answer.status, text, reason)


def _page(
    items: list[dict[str, Any]], prefixes: list[str], params: Mapping[str, str]
) -> dict[str, Any]:
    names = sorted([*prefixes, *(item["name"] for item in items)])
    try:
        start = base64.urlsafe_b64decode(params.get("pageToken", "")).decode()
    except ValueError:
        raise StorageError(400, "Invalid page token.", "invalid") from None
    size = int(params["maxResults"]) if params.get("maxResults", "").isdecimal() else 1000
    rest = [name for name in names if name > start]
    shown = set(rest[: max(1, min(size, 1000))])
    page: dict[str, Any] = {"kind": "storage#objects"}
    if found := [item for item in items if item["name"] in shown]:
        page["items"] = found
    if kept := [prefix for prefix in prefixes if prefix in shown]:
        page["prefixes"] = kept
    if len(rest) > len(shown):
        page["nextPageToken"] = base64.urlsafe_b64encode(max(shown).encode()).decode()
    return page


def _with_https(answer: Response) -> Response:
    if answer.status != HTTPStatus.OK or not answer.body:
        return answer
    return Response.json(200, _https(json.loads(answer.body)))


def _https(resource: dict[str, Any]) -> dict[str, Any]:
    """Absolute https links: a client that followed the emulator's http ones would leave TLS."""
    if "bucket" in resource:
        path = f"/storage/v1/b/{resource['bucket']}/o/{quote(resource['name'], safe='')}"
        generation = resource["generation"]
        resource["selfLink"] = f"https://www.googleapis.com{path}"
        resource["mediaLink"] = f"https://{HOST}/download{path}?generation={generation}&alt=media"
    return resource
