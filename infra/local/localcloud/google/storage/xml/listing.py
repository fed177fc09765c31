"""A bucket's objects by the XML API, in both versions of its listing, and what it is set to.

https://cloud.google.com/storage/docs/xml-api/get-bucket-list
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from localcloud.google.storage import listing
from localcloud.google.storage.resources import timestamp
from localcloud.google.storage.xml.documents import (
    LISTING,
    MULTIPART,
    Element,
    XmlError,
    document,
)
from localcloud.google.storage.xml.objects import entity_tag
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.google.storage.store import StoredObject
    from localcloud.google.storage.xml.call import Call


def list_objects(call: Call) -> Response:
    """`GET BUCKET`: a page of names; `list-type=2` pages by token, else by the last name."""
    given = call.query
    second = given.get("list-type", "1") == "2"
    limit = min(call.number("max-keys", listing.MAX_RESULTS), listing.MAX_RESULTS)
    after = given.get("start-after" if second else "marker", "")
    token = given.get("continuation-token", "") if second else ""
    query = listing.Query(
        prefix=given.get("prefix", ""),
        delimiter=given.get("delimiter", ""),
        limit=max(limit, 1),
        token=token or (listing.token_after(after) if after else ""),
    )
    page = listing.page(call.store, call.bucket.name, query)
    if limit == 0:
        page = listing.Page((), ())
    encode = _encoding(call)
    inside: list[Element] = [("Name", call.bucket.name), ("Prefix", encode(query.prefix))]
    if query.delimiter:
        inside.append(("Delimiter", encode(query.delimiter)))
    if given.get("encoding-type"):
        inside.append(("EncodingType", "url"))
    if second:
        inside.append(("KeyCount", len(page.items) + len(page.prefixes)))
        inside += [("StartAfter", encode(after))] if after else []
        inside += [("ContinuationToken", token)] if token else []
        inside += [("NextContinuationToken", page.token)] if page.token else []
    else:
        inside.append(("Marker", encode(after)))
        inside += [("NextMarker", encode(page.last))] if page.token else []
    inside.append(("MaxKeys", limit))
    inside.append(("IsTruncated", "true" if page.token else "false"))
    inside += [("Contents", _entry(found, encode)) for found in page.items]
    inside += [("CommonPrefixes", [("Prefix", encode(prefix))]) for prefix in page.prefixes]
    return document(("ListBucketResult", inside), namespace=LISTING)


def location(call: Call) -> Response:
    """`GET BUCKET?location`."""
    return document(("LocationConstraint", call.bucket.location), namespace=MULTIPART)


def storage_class(call: Call) -> Response:
    """`GET BUCKET?storageClass`."""
    return document(("StorageClass", call.bucket.storage_class))


def versioning(call: Call) -> Response:
    """`GET BUCKET?versioning`."""
    status = "Enabled" if call.bucket.versioning.enabled else "Suspended"
    return document(("VersioningConfiguration", [("Status", status)]))


def head_bucket(call: Call) -> Response:
    """`HEAD BUCKET`: that it is there."""
    return Response(200, b"", (("x-goog-storage-class", call.bucket.storage_class),))


def _encoding(call: Call) -> Callable[[str], str]:
    kind = call.query.get("encoding-type", "")
    if kind not in ("", "url"):
        raise XmlError("InvalidArgument", f"Invalid encoding type: {kind[:64]}")
    return quote if kind else str


def _entry(found: StoredObject, encode: Callable[[str], str]) -> list[Element]:
    return [
        ("Key", encode(found.name)),
        ("Generation", found.generation),
        ("MetaGeneration", found.metageneration),
        ("LastModified", timestamp(found.updated)),
        ("ETag", entity_tag(found)),
        ("Size", found.content.size),
        ("StorageClass", found.fields["storageClass"]),
    ]
