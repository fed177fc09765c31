"""Objects and buckets as the JSON API's resources.

Field by field as storage.v1's discovery document has them; numbers of 64 bits are strings there.
https://cloud.google.com/storage/docs/json_api/v1/objects#resource-representations
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from localcloud.google.storage.store import etag_of

if TYPE_CHECKING:
    from localcloud.google.storage.store import StoredObject
    from localcloud.world import Bucket

HOST = "storage.googleapis.com"
API = "https://www.googleapis.com/storage/v1"

_OBJECT_NAMES = """
bucket cacheControl componentCount contentDisposition contentEncoding contentLanguage contentType
crc32c customTime etag eventBasedHold generation hardDeleteTime id kind kmsKeyName md5Hash mediaLink
metageneration name restoreToken retentionExpirationTime selfLink size softDeleteTime storageClass
temporaryHold timeCreated timeDeleted timeFinalized timeStorageClassUpdated updated
"""
_OBJECT_GROUPS = "acl contexts customerEncryption metadata owner retention"
_BUCKET_NAMES = """
defaultEventBasedHold etag generation hardDeleteTime id kind location locationType metageneration
name projectNumber rpo satisfiesPZI satisfiesPZS selfLink softDeleteTime storageClass timeCreated
updated
"""
_BUCKET_GROUPS = """
acl autoclass billing cors customPlacementConfig defaultObjectAcl encryption hierarchicalNamespace
iamConfiguration ipFilter labels lifecycle logging objectRetention owner retentionPolicy
softDeletePolicy versioning website
"""


def _selectable(names: str, groups: str) -> frozenset[str]:
    """What a mask may name: fields, and groups with whatever is in them."""
    whole = groups.split()
    return frozenset([*names.split(), *whole, *(f"{name}/*" for name in whole)])


def _below(name: str, fields: frozenset[str]) -> frozenset[str]:
    return frozenset(f"{name}/{field}" for field in fields)


OBJECT_FIELDS = _selectable(_OBJECT_NAMES, _OBJECT_GROUPS)
"""What `fields` may select of an object (storage.v1 discovery document, Object)."""
BUCKET_FIELDS = _selectable(_BUCKET_NAMES, _BUCKET_GROUPS)
_PAGE = frozenset({"kind", "items", "nextPageToken", "prefixes", "unreachable"})
OBJECTS_FIELDS = _PAGE | _below("items", OBJECT_FIELDS)
BUCKETS_FIELDS = _PAGE | _below("items", BUCKET_FIELDS)
REWRITE_FIELDS = frozenset(
    {"kind", "done", "objectSize", "totalBytesRewritten", "rewriteToken", "resource"}
) | _below("resource", OBJECT_FIELDS)


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def object_resource(found: StoredObject) -> dict[str, Any]:
    """An object as the JSON API gives it."""
    bucket, name = quote(found.bucket, safe=""), quote(found.name, safe="")
    path = f"b/{bucket}/o/{name}"
    created = timestamp(found.created)
    resource = {
        "kind": "storage#object",
        "id": f"{found.bucket}/{found.name}/{found.generation}",
        "selfLink": f"{API}/{path}",
        "mediaLink": (
            f"https://{HOST}/download/storage/v1/{path}?generation={found.generation}&alt=media"
        ),
        "name": found.name,
        "bucket": found.bucket,
        "generation": str(found.generation),
        "metageneration": str(found.metageneration),
        "storageClass": "STANDARD",
        "size": str(found.content.size),
        "crc32c": found.content.crc32c,
        "etag": found.etag,
        "timeCreated": created,
        "updated": timestamp(found.updated),
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
        **found.fields,
    }
    if found.content.md5:
        resource["md5Hash"] = found.content.md5
    if found.components:
        resource["componentCount"] = found.components
    if found.deleted is not None:
        resource["timeDeleted"] = timestamp(found.deleted)
    return resource


def bucket_resource(bucket: Bucket) -> dict[str, Any]:
    """A bucket as the JSON API gives it."""
    uniform = bucket.iam_configuration.uniform_bucket_level_access.enabled
    # Both names for one setting: older clients read the second.
    access = {"enabled": uniform}
    resource = {
        "kind": "storage#bucket",
        "id": bucket.name,
        "selfLink": f"{API}/b/{quote(bucket.name, safe='')}",
        "name": bucket.name,
        "projectNumber": bucket.project_number,
        "location": bucket.location,
        "locationType": _location_type(bucket.location),
        "storageClass": bucket.storage_class,
        "metageneration": str(bucket.metageneration),
        "etag": etag_of(bucket.metageneration),
        "timeCreated": bucket.time_created,
        "updated": bucket.time_created,
        "iamConfiguration": {
            "uniformBucketLevelAccess": access,
            "bucketPolicyOnly": access,
            "publicAccessPrevention": bucket.iam_configuration.public_access_prevention,
        },
        # A deleted object would live on where no check looks: it is not kept.
        "softDeletePolicy": {"retentionDurationSeconds": "0"},
    }
    if bucket.labels:
        resource["labels"] = dict(bucket.labels)
    if bucket.versioning.enabled:
        resource["versioning"] = {"enabled": True}
    return resource


def _location_type(location: str) -> str:
    if location in ("US", "EU", "ASIA"):
        return "multi-region"
    return (
        "dual-region" if location in ("NAM4", "EUR4", "EUR5", "EUR7", "EUR8", "ASIA1") else "region"
    )
