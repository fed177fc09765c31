"""Multipart uploads: begun, given parts in any order, completed or aborted.

Preconditions are refused on all of it: Google supports none there, and to pass one over would
overwrite what the caller meant to keep.
https://cloud.google.com/storage/docs/multipart-uploads
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.google.storage.content import concatenate
from localcloud.google.storage.metadata import object_name
from localcloud.google.storage.resources import timestamp
from localcloud.google.storage.store import Draft
from localcloud.google.storage.xml.call import refuse_conditions
from localcloud.google.storage.xml.documents import (
    MULTIPART,
    Element,
    XmlError,
    document,
    read_document,
)
from localcloud.google.storage.xml.objects import content_of, entity_tag, hash_fields, publish
from localcloud.google.storage.xml.uploads import MAX_PARTS, Part, Upload
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from localcloud.google.storage.xml.call import Call

PAGE = 1000


def initiate(call: Call) -> Response:
    """`POST ?uploads`: an upload, whose object will have this request's fields."""
    call.caller.require("storage.objects.create", call.bucket, call.name)
    refuse_conditions(call.request.headers, "if-", "x-goog-if-")
    upload = Upload(call.bucket, object_name(call.name), call.fields(), call.now)
    call.uploads.open(upload)
    return document(
        (
            "InitiateMultipartUploadResult",
            [("Bucket", upload.bucket.name), ("Key", upload.name), ("UploadId", upload.id)],
        ),
        namespace=MULTIPART,
    )


def put_part(call: Call) -> Response:
    """`PUT ?partNumber&uploadId`: one part, in place of an earlier one of its number."""
    call.caller.require("storage.objects.create", call.bucket, call.name)
    upload = _upload(call)
    refuse_conditions(call.request.headers, "if-", "x-goog-if-")
    number = call.number("partNumber", 0)
    if not 1 <= number <= MAX_PARTS:
        raise XmlError("InvalidArgument", f"Part number must be from 1 to {MAX_PARTS}.")
    part = Part(content_of(call), call.now)
    call.uploads.add(upload, number, part)
    return Response(200, b"", (("ETag", part.etag), *hash_fields(part.content)))


def list_parts(call: Call) -> Response:
    """`GET ?uploadId`: the parts so far, in order."""
    upload = _upload(call)
    marker = call.number("part-number-marker", 0)
    limit = min(call.number("max-parts", PAGE), PAGE)
    later = sorted(number for number in list(upload.parts) if number > marker)
    shown = later[:limit]
    inside: list[Element] = [
        ("Bucket", upload.bucket.name),
        ("Key", upload.name),
        ("UploadId", upload.id),
        ("StorageClass", upload.fields["storageClass"]),
        ("PartNumberMarker", marker),
    ]
    if shown:
        inside.append(("NextPartNumberMarker", shown[-1]))
    inside += [("MaxParts", limit), ("IsTruncated", "true" if len(shown) < len(later) else "false")]
    inside += [("Part", _part(number, upload.parts[number])) for number in shown]
    return document(("ListPartsResult", inside), namespace=MULTIPART)


def complete(call: Call) -> Response:
    """`POST ?uploadId`: the named parts become the object, the others go."""
    call.caller.require("storage.objects.create", call.bucket, call.name)
    upload = _upload(call)
    refuse_conditions(call.request.headers, "if-", "x-goog-if-")
    parsed = read_document(call.request.body, "CompleteMultipartUpload")
    wanted = []
    for element in parsed.iterfind("Part"):
        number = element.findtext("PartNumber", "").strip()
        if not re.fullmatch("[0-9]{1,5}", number):
            raise XmlError("MalformedXML")
        wanted.append((int(number), element.findtext("ETag", "")))
    parts = upload.chosen(wanted)
    content = concatenate(call.store.directory, (part.content for part in parts))
    call.uploads.end(upload)
    try:
        made = publish(call, Draft(content, upload.fields))
    except BaseException:
        # Refused, not lost: the caller may get what was missing and complete it again.
        call.uploads.open(upload)
        raise
    place = f"http://{call.request.host}/{made.bucket}/{made.name}"
    answer = document(
        (
            "CompleteMultipartUploadResult",
            [
                ("Location", place),
                ("Bucket", made.bucket),
                ("Key", made.name),
                ("ETag", entity_tag(made)),
            ],
        ),
        namespace=MULTIPART,
    )
    told = (("x-goog-generation", str(made.generation)), *hash_fields(made.content))
    return Response(200, answer.body, (*answer.headers, *told))


def abort(call: Call) -> Response:
    """`DELETE ?uploadId`: nothing of the upload stays."""
    call.uploads.end(_upload(call))
    return Response(204)


def list_uploads(call: Call) -> Response:
    """`GET BUCKET?uploads`: what was begun and neither completed nor aborted."""
    prefix, marker = call.query.get("prefix", ""), call.query.get("key-marker", "")
    id_marker = call.query.get("upload-id-marker", "")
    limit = min(call.number("max-uploads", PAGE), PAGE)
    found = call.uploads.of(call.bucket, prefix)
    behind = next((place + 1 for place, u in enumerate(found) if u.id == id_marker), None)
    if marker and behind is None:
        behind = sum(upload.name <= marker for upload in found)
    later = found[behind or 0 :]
    shown = later[:limit]
    inside: list[Element] = [("Bucket", call.bucket.name), ("KeyMarker", marker)]
    inside += [("UploadIdMarker", id_marker), ("Prefix", prefix), ("MaxUploads", limit)]
    if len(shown) < len(later):
        inside += [("NextKeyMarker", shown[-1].name), ("NextUploadIdMarker", shown[-1].id)]
    inside.append(("IsTruncated", "true" if len(shown) < len(later) else "false"))
    inside += [("Upload", _begun(upload)) for upload in shown]
    return document(("ListMultipartUploadsResult", inside), namespace=MULTIPART)


def _upload(call: Call) -> Upload:
    return call.uploads.find(call.bucket, call.name, call.query.get("uploadId", ""))


def _part(number: int, part: Part) -> list[Element]:
    return [
        ("PartNumber", number),
        ("LastModified", timestamp(part.modified)),
        ("ETag", part.etag),
        ("Size", part.content.size),
    ]


def _begun(upload: Upload) -> list[Element]:
    return [
        ("Key", upload.name),
        ("UploadId", upload.id),
        ("StorageClass", upload.fields["storageClass"]),
        ("Initiated", timestamp(upload.initiated)),
    ]
