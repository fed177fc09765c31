"""The JSON API's buckets: made, read, changed, deleted and listed.

Buckets stand in the world, their objects in the store. What the embedded cloud cannot keep its word
on (lifecycle, retention, encryption, CORS …) is refused and not remembered.
https://cloud.google.com/storage/docs/json_api/v1/buckets
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from localcloud.google.storage.access import PUBLIC_ACCESS_PREVENTED
from localcloud.google.storage.errors import (
    StorageError,
    condition_not_met,
    invalid,
    not_served,
)
from localcloud.google.storage.listing import name_before, token_after
from localcloud.google.storage.metadata import PROJECT_PRIVATE, STORAGE_CLASSES, read_resource
from localcloud.google.storage.objects import max_results
from localcloud.google.storage.preconditions import number
from localcloud.google.storage.resources import (
    BUCKET_FIELDS,
    BUCKETS_FIELDS,
    bucket_resource,
    timestamp,
)
from localcloud.google.storage.store import etag_of
from localcloud.wire.web import Response
from localcloud.world import Binding, Bucket, Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.storage.call import Call

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_LABEL = re.compile(r"[\w-]{0,63}")
# Multi-regions, dual-regions, and the form that a region has.
_LOCATION = re.compile(r"US|EU|ASIA|NAM4|EUR[4578]|ASIA1|[A-Z]+-[A-Z]+[0-9]+")
MAX_LABELS = 64
# What a bucket may have of itself; of the rest a value that says "nothing" is passed over.
_KEPT = frozenset({"iamConfiguration", "labels", "location", "name", "storageClass", "versioning"})
_READ_ONLY = frozenset(
    {
        *("kind", "id", "selfLink", "etag", "generation", "metageneration", "projectNumber"),
        *("timeCreated", "updated", "locationType", "owner", "satisfiesPZS", "satisfiesPZI"),
    }
)


def get(call: Call) -> Response:
    """`buckets.get`."""
    bucket = call.bucket
    call.caller.require("storage.buckets.get", bucket)
    if call.flag("softDeleted"):
        raise not_served("soft-deleted buckets")
    known = call.request.headers.get("If-None-Match").strip('"')
    if known == etag_of(bucket.metageneration) or not _differs(call, bucket):
        return Response(304)
    _require_conditions(call, bucket)
    return call.answer(bucket_resource(bucket), BUCKET_FIELDS)


def list_buckets(call: Call) -> Response:
    """`buckets.list` of a project."""
    project = _project(call)
    call.caller.require_of_project("storage.buckets.list", project)
    prefix = call.query.get("prefix", "")
    google = call.caller.cloud.world.google
    found = google.project(project)
    names = sorted(
        bucket.name
        for bucket in google.buckets
        if found is not None
        and bucket.project_number == found.project_number
        and bucket.name.startswith(prefix)
    )
    token, limit = call.query.get("pageToken", ""), max_results(call.query)
    after = name_before(token) if token else ""
    rest = [name for name in names if name > after]
    items = [bucket_resource(call.caller.bucket(name)) for name in rest[:limit]]
    resource: dict[str, Any] = {"kind": "storage#buckets"}
    if len(rest) > limit:
        resource["nextPageToken"] = token_after(rest[limit - 1])
    if items:
        resource["items"] = items
    return call.answer(resource, BUCKETS_FIELDS)


def insert(call: Call) -> Response:
    """`buckets.insert` into a project."""
    project = _project(call)
    call.caller.require_of_project("storage.buckets.create", project)
    resource = read_resource(call.request.body)
    name = resource.get("name")
    if not isinstance(name, str) or not _is_name(name):
        raise invalid(f"Invalid bucket name: '{str(name)[:230]}'")
    world = call.caller.cloud.world
    found = world.google.project(project)
    if found is None:
        raise StorageError(404, f"Unknown project id: {project}", "notFound", "project")
    location = str(resource.get("location") or "US").upper()
    if not _LOCATION.fullmatch(location):
        raise invalid(f"The specified location constraint is not valid: {location[:64]}")
    bucket = Bucket(
        name,
        location=location,
        project_number=found.project_number,
        time_created=timestamp(call.now),
        iam_policy=_first_policy(found.project_id),
    )
    _apply(bucket, resource)
    _refuse_acls(call, bucket)
    with world.lock:
        taken = world.google.bucket(name)
        if taken is not None:
            raise _conflict(own=taken.project_number == found.project_number)
        world.google.buckets = [*world.google.buckets, bucket]
    return call.answer(bucket_resource(bucket), BUCKET_FIELDS)


def patch(call: Call) -> Response:
    """`buckets.patch`: what the body names of labels, versioning, class and access."""
    return _changed(call, whole=False)


def update(call: Call) -> Response:
    """`buckets.update`: as the body has it; labels and versioning that it does not name go."""
    return _changed(call, whole=True)


def _changed(call: Call, *, whole: bool) -> Response:
    bucket = call.bucket
    for permission in ("storage.buckets.get", "storage.buckets.update"):
        call.caller.require(permission, bucket)
    _refuse_acls(call, bucket)
    resource = read_resource(call.request.body)
    if whole:
        resource = {"versioning": {"enabled": False}, **resource}
        kept = resource.get("labels") or {}
        resource["labels"] = {**dict.fromkeys(bucket.labels), **kept}
    if resource.get("location", bucket.location) != bucket.location:
        raise invalid("The location of a bucket cannot be changed.", "location")
    with call.caller.cloud.world.lock:
        _require_conditions(call, bucket)
        _apply(bucket, resource)
        bucket.metageneration += 1
    return call.answer(bucket_resource(bucket), BUCKET_FIELDS)


def delete(call: Call) -> Response:
    """`buckets.delete` of an empty bucket."""
    bucket, world = call.bucket, call.caller.cloud.world
    call.caller.require("storage.buckets.delete", bucket)
    with world.lock:
        _require_conditions(call, bucket)
        if not call.store.drop(bucket.name):
            text = "The bucket you tried to delete is not empty."
            raise StorageError(409, text, "conflict")
        world.google.buckets = [b for b in world.google.buckets if b is not bucket]
    return Response(204)


def storage_layout(call: Call) -> Response:
    """`buckets.getStorageLayout`: no bucket here has a hierarchical namespace."""
    bucket, prefix = call.bucket, call.query.get("prefix", "")
    call.caller.require("storage.objects.list", bucket, prefix=prefix)
    resource = bucket_resource(bucket)
    layout = {name: resource[name] for name in ("location", "locationType")}
    return Response.json(
        200,
        {
            "kind": "storage#storageLayout",
            "bucket": bucket.name,
            **layout,
            "hierarchicalNamespace": {"enabled": False},
        },
    )


def managed_folders(call: Call) -> Response:
    """`managedFolders.list`, which gcloud asks before it removes a bucket: there are none."""
    call.caller.require("storage.managedFolders.list", call.bucket)
    return Response.json(200, {"kind": "storage#managedFolders"})


def service_account(call: Call) -> Response:
    """`projects.serviceAccount.get`: the service agent of Cloud Storage in a project."""
    project = call.parameters["project"]
    call.caller.require_of_project("resourcemanager.projects.get", project)
    found = call.caller.cloud.world.google.project(project)
    number_of = found.project_number if found else project
    email = f"service-{number_of}@gs-project-accounts.iam.gserviceaccount.com"
    return Response.json(200, {"kind": "storage#serviceAccount", "email_address": email})


def _project(call: Call) -> str:
    project = call.query.get("project", "")
    if not project:
        raise StorageError(400, "Required parameter: project", "required", "project")
    return project


def _is_name(name: str) -> bool:
    """https://cloud.google.com/storage/docs/buckets#naming."""
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        pieces = name.split(".")
        return (
            _NAME.fullmatch(name) is not None
            and all(0 < len(piece) <= 63 for piece in pieces)  # noqa: PLR2004
            and not name.startswith("goog")
            and not re.search("google|g00gle", name)
        )
    return False


def _apply(bucket: Bucket, resource: Mapping[str, Any]) -> None:
    """Give a bucket what the resource says; raises before anything is changed."""
    for name in sorted(resource.keys() - _KEPT - _READ_ONLY):
        if not _says_nothing(resource[name]):
            raise not_served(f"a bucket's {name}")
    storage_class = str(resource.get("storageClass") or bucket.storage_class).upper()
    if storage_class not in STORAGE_CLASSES:
        raise invalid("Invalid storage class.")
    labels = _labels(bucket.labels, resource.get("labels", {}))
    access = _object(resource, "iamConfiguration")
    # The second name is the one that older clients send.
    uniform = _object(access, "uniformBucketLevelAccess") or _object(access, "bucketPolicyOnly")
    enabled = uniform.get("enabled", bucket.iam_configuration.uniform_bucket_level_access.enabled)
    public = access.get("publicAccessPrevention", bucket.iam_configuration.public_access_prevention)
    versioned = _object(resource, "versioning").get("enabled", bucket.versioning.enabled)
    if not isinstance(enabled, bool) or not isinstance(versioned, bool):
        raise invalid("Invalid value for: enabled")
    if public not in ("inherited", "unspecified", PUBLIC_ACCESS_PREVENTED):
        raise invalid("Invalid value for: publicAccessPrevention")
    if not enabled and any(binding.condition for binding in bucket.iam_policy.bindings):
        # Object ACLs would pass the conditions by.
        text = "To disable uniform bucket-level access, remove the bucket's IAM conditions first."
        raise StorageError(412, text, "conditionNotMet")
    bucket.storage_class, bucket.labels = storage_class, labels
    bucket.iam_configuration.uniform_bucket_level_access.enabled = enabled
    bucket.iam_configuration.public_access_prevention = public
    bucket.versioning.enabled = versioned


def _says_nothing(value: object) -> bool:
    """Whether a field's value asks for nothing: empty, off, or zero seconds."""
    if isinstance(value, dict):
        return all(_says_nothing(entry) for entry in value.values())
    return value in (None, False, "", "0", 0, [])


def _labels(present: Mapping[str, str], change: object) -> dict[str, str]:
    if change is None:
        return {}
    if not isinstance(change, dict):
        raise invalid("Invalid value for: labels")
    labels = {name: value for name, value in {**present, **change}.items() if value is not None}
    for name, value in labels.items():
        text = isinstance(value, str) and _LABEL.fullmatch(value) and value == value.lower()
        if not text or not name or not _LABEL.fullmatch(name) or name != name.lower():
            raise invalid(f"Invalid label: {name[:64]!r}")
    if len(labels) > MAX_LABELS:
        raise invalid("Too many labels.")
    return labels


def _object(resource: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = resource.get(name) or {}
    if not isinstance(value, dict):
        raise invalid(f"Invalid value for: {name}")
    return value


def _refuse_acls(call: Call, bucket: Bucket) -> None:
    """A new bucket is its project's and nobody else's: what asks for just that is passed over."""
    uniform = bucket.iam_configuration.uniform_bucket_level_access.enabled
    for name in ("predefinedAcl", "predefinedDefaultObjectAcl"):
        given = call.query.get(name)
        if given and uniform:
            raise invalid(
                "Cannot use ACLs when uniform bucket-level access is enabled. Read more at "
                "https://cloud.google.com/storage/docs/uniform-bucket-level-access",
                name,
            )
        if given and given not in PROJECT_PRIVATE:
            raise not_served("access control lists")


def _require_conditions(call: Call, bucket: Bucket) -> None:
    wanted = number(call.query, "ifMetagenerationMatch")
    if wanted not in (None, bucket.metageneration) or not _differs(call, bucket):
        raise condition_not_met()
    call.require_etag(etag_of(bucket.metageneration))


def _differs(call: Call, bucket: Bucket) -> bool:
    return number(call.query, "ifMetagenerationNotMatch") != bucket.metageneration


def _conflict(*, own: bool) -> StorageError:
    text = "Your previous request to create the named bucket succeeded and you already own it."
    if not own:
        text = (
            "The requested bucket name is not available. The bucket namespace is shared by all "
            "users of the system. Please select a different name and try again."
        )
    return StorageError(409, text, "conflict")


def _first_policy(project: str) -> Policy:
    """What Google binds on a new bucket: basic roles reach objects by these alone.

    The two for objects stand for the default access control list of fine-grained buckets as well.
    """
    writers = [f"projectEditor:{project}", f"projectOwner:{project}"]
    readers = [f"projectViewer:{project}"]
    return Policy(
        [
            Binding("roles/storage.legacyBucketOwner", list(writers)),
            Binding("roles/storage.legacyBucketReader", list(readers)),
            Binding("roles/storage.legacyObjectOwner", list(writers)),
            Binding("roles/storage.legacyObjectReader", list(readers)),
        ]
    )
