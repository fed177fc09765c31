"""The JSON API's objects: read, change, delete, list, copy, compose and move.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localcloud.google.storage.call import names_etag
from localcloud.google.storage.content import concatenate
from localcloud.google.storage.downloads import media
from localcloud.google.storage.errors import StorageError, denied, invalid, not_served
from localcloud.google.storage.listing import MAX_RESULTS, Query, page
from localcloud.google.storage.metadata import (
    object_name,
    patched,
    read_resource,
    refuse_parameters,
    writable,
)
from localcloud.google.storage.preconditions import Preconditions, number
from localcloud.google.storage.resources import (
    OBJECT_FIELDS,
    OBJECTS_FIELDS,
    REWRITE_FIELDS,
    object_resource,
)
from localcloud.google.storage.store import Draft, ReplacesError, StoredObject, Terms
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.storage.call import Call
    from localcloud.world import Bucket

MAX_COMPONENTS = 32
_MEBIBYTE = 1024 * 1024


def get(call: Call) -> Response:
    """`objects.get`: the resource, or with `alt=media` the content."""
    wants_media = call.query.get("alt") == "media" or call.request.path.startswith("/download/")
    try:
        return _get(call, wants_media=wants_media)
    except StorageError as refusal:
        # A download's refusal is its text alone.
        refusal.plain = refusal.plain or wants_media
        raise


def _get(call: Call, *, wants_media: bool) -> Response:
    _projection(call)
    if call.flag("softDeleted"):
        raise not_served("soft-deleted objects")
    call.caller.require("storage.objects.get", call.bucket, call.name)
    refuse_parameters({}, call.request.headers, call.bucket)
    found = call.store.get(call.bucket.name, call.name, number(call.query, "generation"))
    preconditions, headers = Preconditions.of(call.query), call.request.headers
    if not preconditions.matches(found):
        preconditions.require(found)
    call.require_etag(found.etag)
    known = headers.get("If-None-Match")
    if not preconditions.differs(found) or (known and names_etag(known, found.etag)):
        return Response(304, b"", (("ETag", found.etag),))
    if not wants_media:
        return call.object(found)
    disposition = found.fields.get("contentDisposition") or "attachment"
    return media(found, headers, ("ETag", found.etag), ("Content-Disposition", disposition))


def list_objects(call: Call) -> Response:
    """`objects.list`."""
    _projection(call)
    given = call.query
    prefix = given.get("prefix", "")
    call.caller.require("storage.objects.list", call.bucket, prefix=prefix)
    if call.flag("softDeleted"):
        raise not_served("soft-deleted objects")
    if given.get("filter"):
        raise not_served("the filter of a listing")
    delimiter = given.get("delimiter", "")
    if given.get("matchGlob") and delimiter not in ("", "/"):
        raise invalid("The delimiter of a matchGlob can only be '/'.", "delimiter")
    call.flag("includeFoldersAsPrefixes")
    found = page(
        call.store,
        call.bucket.name,
        Query(
            prefix=prefix,
            delimiter=delimiter,
            start=given.get("startOffset", ""),
            end=given.get("endOffset", ""),
            trailing_delimiter=call.flag("includeTrailingDelimiter"),
            glob=given.get("matchGlob", ""),
            versions=call.flag("versions"),
            limit=max_results(given),
            token=given.get("pageToken", ""),
        ),
    )
    resource: dict[str, Any] = {"kind": "storage#objects"}
    if found.token:
        resource["nextPageToken"] = found.token
    if found.prefixes:
        resource["prefixes"] = list(found.prefixes)
    if found.items:
        resource["items"] = [object_resource(item) for item in found.items]
    return call.answer(resource, OBJECTS_FIELDS)


def patch(call: Call) -> Response:
    """`objects.patch`: a JSON merge patch of the fields."""
    change = read_resource(call.request.body)
    return _changed(call, change, lambda fields, bucket: patched(fields, change, bucket))


def update(call: Call) -> Response:
    """`objects.update`: every field as the body has it."""
    change = read_resource(call.request.body)
    return _changed(call, change, lambda _, bucket: writable(change, bucket))


def _changed(call: Call, change: Mapping[str, Any], make: Any) -> Response:
    _projection(call)
    bucket = call.bucket
    for permission in ("storage.objects.get", "storage.objects.update"):
        call.caller.require(permission, bucket, call.name)
    refuse_parameters(call.query, call.request.headers, bucket)
    found = call.store.get(bucket.name, call.name, number(call.query, "generation"))
    conditions = call.conditions(found)
    if change.get("storageClass", found.fields["storageClass"]) != found.fields["storageClass"]:
        raise invalid("The storage class of an object is changed by a rewrite.", "storageClass")
    kept = {"storageClass": found.fields["storageClass"]}
    changed = call.store.update(
        found, lambda fields: make(fields, bucket) | kept, call.now, conditions
    )
    return call.object(changed)


def delete(call: Call) -> Response:
    """`objects.delete`."""
    bucket = call.bucket
    call.caller.require("storage.objects.delete", bucket, call.name)
    generation = number(call.query, "generation")
    conditions = call.conditions(call.store.get(bucket.name, call.name, generation))
    terms = Terms(conditions, versioned=bucket.versioning.enabled)
    call.store.delete(bucket.name, call.name, call.now, terms, generation)
    return Response(204)


def compose(call: Call) -> Response:
    """`objects.compose`: up to 32 objects of the bucket become one."""
    bucket, name = call.bucket, object_name(call.name)
    body = read_resource(call.request.body)
    call.caller.require("storage.objects.create", bucket, name)
    refuse_parameters(call.query, call.request.headers, bucket)
    sources = body.get("sourceObjects")
    if not isinstance(sources, list) or not sources:
        raise invalid("You must provide at least one source component.")
    if len(sources) > MAX_COMPONENTS:
        text = f"The number of source components provided ({len(sources)} > {MAX_COMPONENTS})"
        raise invalid(text)
    if body.get("deleteSourceObjects") or call.flag("deleteSourceObjects"):
        raise not_served("deleteSourceObjects of a composition")
    parts = [_component(call, bucket, source) for source in sources]
    destination = body.get("destination")
    fields = _new_fields(bucket, destination if isinstance(destination, dict) else {})
    components = sum(part.components or 1 for part in parts)
    content = concatenate(call.store.directory, [part.content for part in parts])
    draft = Draft(content, fields, components)
    return call.object(call.publish(bucket, name, draft, call.terms(bucket, name)))


def _component(call: Call, bucket: Bucket, source: Any) -> StoredObject:
    if not isinstance(source, dict) or not isinstance(source.get("name"), str):
        raise StorageError(400, "Required", "required", "sourceObjects.name")
    call.caller.require("storage.objects.get", bucket, source["name"])
    given = {name: str(source[name]) for name in ("generation",) if source.get(name) is not None}
    found = call.store.get(bucket.name, source["name"], number(given, "generation"))
    conditions = source.get("objectPreconditions")
    if isinstance(conditions, dict):
        texts = {name: str(value) for name, value in conditions.items() if value is not None}
        Preconditions.of(texts).require(found)
    return found


def copy(call: Call) -> Response:
    """`objects.copy`."""
    return call.object(_copied(call))


def rewrite(call: Call) -> Response:
    """`objects.rewrite`, which finishes in one call: no token is ever given out."""
    if call.query.get("rewriteToken"):
        raise invalid("Invalid rewrite token.", "rewriteToken")
    limit = number(call.query, "maxBytesRewrittenPerCall")
    if limit is not None and (limit < _MEBIBYTE or limit % _MEBIBYTE):
        text = "maxBytesRewrittenPerCall must be a positive integral multiple of 1 MiB."
        raise invalid(text, "maxBytesRewrittenPerCall")
    made = _copied(call)
    resource = {
        "kind": "storage#rewriteResponse",
        "totalBytesRewritten": str(made.content.size),
        "objectSize": str(made.content.size),
        "done": True,
        "resource": object_resource(made),
    }
    return call.answer(resource, REWRITE_FIELDS)


def _copied(call: Call) -> StoredObject:
    _projection(call)
    given = call.parameters
    source_bucket = call.caller.bucket(given["sourceBucket"])
    call.caller.require("storage.objects.get", source_bucket, given["sourceObject"])
    bucket = call.caller.bucket(given["destinationBucket"])
    name = object_name(given["destinationObject"])
    call.caller.require("storage.objects.create", bucket, name)
    refuse_parameters(call.query, call.request.headers, bucket)
    generation = number(call.query, "sourceGeneration")
    found = call.store.get(source_bucket.name, given["sourceObject"], generation)
    Preconditions.of(call.query, "ifSource").require(found)
    # A body with metadata replaces all of the source's; an empty one keeps it.
    resource = read_resource(call.request.body)
    own = writable(resource, bucket)
    fields = _new_fields(bucket, resource) if own else dict(found.fields)
    if not own:
        fields["storageClass"] = bucket.storage_class
    draft = Draft(found.content, fields, found.components)
    return call.publish(bucket, name, draft, call.terms(bucket, name))


def move(call: Call) -> Response:
    """`objects.move`: another name in the same bucket, in one step."""
    _projection(call)
    bucket, source = call.bucket, call.parameters["sourceObject"]
    name = object_name(call.parameters["destinationObject"])
    call.caller.require("storage.objects.move", bucket, source)
    call.caller.require("storage.objects.create", bucket, name)
    if source == name:
        raise invalid("Source and destination object names must be different.")
    terms = call.terms(bucket, name)
    try:
        made = call.store.move(
            bucket.name, (source, name), call.now, terms, Preconditions.of(call.query, "ifSource")
        )
    except ReplacesError:
        raise denied(call.caller.name, "storage.objects.delete") from None
    return call.answer(object_resource(made), OBJECT_FIELDS)


def max_results(query: Mapping[str, str]) -> int:
    """`maxResults`; raises the 400 of what is no unsigned number."""
    text = query.get("maxResults", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < len(str(2**63))):
        text = f"Invalid unsigned integer value: '{text[:64]}'."
        raise StorageError(400, text, "invalidParameter", "maxResults")
    return min(int(text or 0) or MAX_RESULTS, MAX_RESULTS)


def _new_fields(bucket: Bucket, resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"storageClass": bucket.storage_class} | writable(resource, bucket)


def _projection(call: Call) -> None:
    """`full` differs from `noAcl` by access control lists, which no bucket here has."""
    given = call.query.get("projection", "noAcl")
    if given not in ("full", "noAcl"):
        text = f"Invalid string value: '{given[:64]}'. Allowed values: [full, noAcl]"
        raise StorageError(400, text, "invalidParameter", "projection")
