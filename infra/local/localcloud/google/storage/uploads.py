"""Uploads: media, multipart and resumable, each streamed into a file.

An object's name comes from the query or from the resource in the body, so what may be written is
asked once it is known. Preconditions, checksums and the right to replace are judged when the last
byte is there. https://cloud.google.com/storage/docs/uploads-downloads
"""

from __future__ import annotations

import re
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from localcloud.google.storage import publishing
from localcloud.google.storage.content import PIECE, Content, write
from localcloud.google.storage.digests import Digests
from localcloud.google.storage.errors import StorageError, invalid
from localcloud.google.storage.metadata import (
    object_name,
    read_resource,
    refuse_parameters,
    writable,
)
from localcloud.google.storage.multipart import Inflated, Related, Source
from localcloud.google.storage.sessions import Session, bad_request
from localcloud.google.storage.store import Draft, StoredObject
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from localcloud.google.storage.call import Call
    from localcloud.world import Bucket

_DEFAULT_TYPE = "application/octet-stream"
# What client libraries read of a 308 that their HTTP layer must not take for a redirect.
_NO_308 = "X-GUploader-No-308"


def insert(call: Call) -> Response:
    """`objects.insert` with content."""
    refuse_parameters(call.query, call.request.headers, call.bucket)
    match call.query.get("uploadType"):
        case "media":
            return _media(call)
        case "multipart":
            return _multipart(call)
        case "resumable":
            return _start(call)
        case _:
            raise invalid("Invalid upload type.", "uploadType")


def insert_without_content(call: Call) -> Response:
    """`objects.insert` at the plain path, which has nowhere to put content: an empty object."""
    resource = read_resource(call.request.body)
    bucket, name = call.bucket, _name(call, resource)
    call.caller.require("storage.objects.create", bucket, name)
    refuse_parameters(call.query, call.request.headers, bucket)
    content = write(call.store.directory, [])
    return _published(call, bucket, name, resource, content)


def _media(call: Call) -> Response:
    bucket, name = call.bucket, _name(call, {})
    call.caller.require("storage.objects.create", bucket, name)
    resource = {"contentType": call.request.headers.get("Content-Type") or _DEFAULT_TYPE}
    content = write(call.store.directory, _pieces(_source(call)))
    return _published(call, bucket, name, resource, content)


def _multipart(call: Call) -> Response:
    parts = Related(call.request.headers.get("Content-Type"), _source(call))
    resource = read_resource(parts.resource())
    bucket, name = call.bucket, _name(call, resource)
    call.caller.require("storage.objects.create", bucket, name)
    kind = parts.content_type()
    resource["contentType"] = resource.get("contentType") or kind or _DEFAULT_TYPE
    fields = writable(resource, bucket)
    content = write(call.store.directory, parts.content())
    return _published(call, bucket, name, fields | _digests_of(resource), content)


def _published(
    call: Call, bucket: Bucket, name: str, resource: Mapping[str, Any], content: Content
) -> Response:
    Digests.of_fields(resource).require(content)
    Digests.of_headers(call.request.headers).require(content)
    draft = Draft(content, _fields(call, resource, bucket))
    return call.object(call.publish(bucket, name, draft, call.terms(bucket, name)))


# --- resumable -----------------------------------------------------------------------------


def _start(call: Call) -> Response:
    headers = call.request.headers
    resource = read_resource(call.request.body)
    bucket, name = call.bucket, _name(call, resource)
    call.caller.require("storage.objects.create", bucket, name)
    kind = resource.get("contentType") or headers.get("X-Upload-Content-Type") or _DEFAULT_TYPE
    fields = _fields(call, resource | {"contentType": kind}, bucket)
    expected = (Digests.of_fields(resource), Digests.of_headers(headers))
    terms = call.terms(bucket, name)
    terms.preconditions.require(call.store.find(bucket.name, name))

    # Not the call itself: with it a week's sessions would keep their requests.
    caller, store = call.caller, call.store

    def finish(content: Content) -> StoredObject:
        for digests in expected:
            digests.require(content)
        # The very bucket: after a week there may be another one of its name.
        now = replace(terms, versioned=bucket.versioning.enabled)
        return publishing.publish(caller, store, bucket, name, Draft(content, fields), now)

    length = _length(headers.get("X-Upload-Content-Length"))
    session = call.store.sessions.open(bucket.name, finish, length, call.now)
    location = (
        f"https://{call.request.host}{call.request.path}?uploadType=resumable"
        f"&name={quote(name, safe='')}&upload_id={session.id}"
    )
    return Response(200, b"", (("Location", location), ("X-GUploader-UploadID", session.id)))


def resume(call: Call) -> Response:
    """A request of an upload session. Its address is the credential: no token is asked for."""
    session = _session(call)
    if call.request.headers.get("Content-Encoding"):
        raise bad_request("Invalid request.  A resumed upload cannot be compressed in flight.")
    digests = Digests.of_headers(call.request.headers)
    made = session.advance(
        call.request.headers.get("Content-Range"), call.request.stream, digests.require
    )
    if made is not None:
        return call.object(made)
    kept = (("Range", f"bytes=0-{session.received - 1}"),) if session.received else ()
    if call.request.headers.get(_NO_308).lower() in ("yes", "true"):
        return Response(200, b"", (*kept, ("X-HTTP-Status-Code-Override", "308")))
    return Response(HTTPStatus.PERMANENT_REDIRECT, b"", kept)


def cancel(call: Call) -> Response:
    """The end of an upload session before its object is made."""
    _session(call).cancel()
    return Response(499, b"")


def _session(call: Call) -> Session:
    session = call.store.sessions.find(call.query.get("upload_id", ""), call.now)
    if session.bucket != call.parameters["bucket"]:
        raise StorageError(404, "No such upload session.", "notFound", plain=True)
    return session


# --- what was sent -------------------------------------------------------------------------


def _name(call: Call, resource: Mapping[str, Any]) -> str:
    given, known = call.query.get("name"), resource.get("name")
    if given and known and given != known:
        raise invalid(f"Value '{known}' in content does not agree with value '{given}'.", "name")
    return object_name(given or known)


def _fields(call: Call, resource: Mapping[str, Any], bucket: Bucket) -> dict[str, Any]:
    encoding = call.query.get("contentEncoding")
    given = {**resource, **({"contentEncoding": encoding} if encoding else {})}
    return {"storageClass": bucket.storage_class} | writable(given, bucket)


def _digests_of(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {name: resource[name] for name in ("crc32c", "md5Hash") if name in resource}


def _source(call: Call) -> Source:
    """The body, without the compression it was sent in (Java's multipart, gcloud in flight)."""
    encoding = call.request.headers.get("Content-Encoding").lower()
    if encoding in ("", "identity"):
        return call.request.stream
    if encoding == "gzip":
        return Inflated(call.request.stream)
    raise invalid(f"Content-Encoding {encoding[:32]!r} is not served.", "Content-Encoding")


def _pieces(source: Source) -> Iterator[bytes]:
    while piece := source.read(PIECE):
        yield piece


def _length(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,19}", text):
        raise invalid("Invalid X-Upload-Content-Length.", "X-Upload-Content-Length")
    return int(text)
