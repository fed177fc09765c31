"""An object's metadata as its writer gives it: names, fields, and what of them is refused.

Unknown fields are passed over, as Google does; wrong types, line breaks and what would need ACLs,
holds or keys of the customer's are not.
https://cloud.google.com/storage/docs/metadata
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from localcloud.google.storage.errors import StorageError, invalid, not_served

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.wire.web import Headers
    from localcloud.world import Bucket

MAX_NAME = 1024
"""Bytes of UTF-8 (https://cloud.google.com/storage/docs/objects#naming)."""
MAX_CUSTOM = 8 * 1024
"""Bytes of custom metadata, names and values together (storage/quotas)."""
MAX_DEPTH = 100
"""Of what is nested in a resource, as protobuf's parsers have it."""
STORAGE_CLASSES = frozenset(
    {
        *("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"),
        *("MULTI_REGIONAL", "REGIONAL", "DURABLE_REDUCED_AVAILABILITY"),
    }
)
PROJECT_PRIVATE = ("projectPrivate", "bucketOwnerFullControl")
"""Predefined access control lists that ask for what holds anyway: it is the project's."""
_TEXTS = frozenset(
    {
        *("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage"),
        *("contentType", "customTime", "storageClass"),
    }
)
# Fields of an object that the embedded cloud cannot keep its word on.
_UNKEPT = frozenset({"temporaryHold", "eventBasedHold", "retention", "contexts", "kmsKeyName"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NO_ACL = (
    "Cannot insert legacy ACL for an object when uniform bucket-level access is enabled. Read more "
    "at https://cloud.google.com/storage/docs/uniform-bucket-level-access"
)


def read_resource(body: bytes) -> dict[str, Any]:
    """A JSON body as an object; an empty one is empty. Raises the 400 of anything else."""
    try:
        # Go's client sends null for no resource.
        resource = {} if body.strip() in (b"", b"null") else json.loads(body)
    except (ValueError, RecursionError):
        resource = None
    if not isinstance(resource, dict) or _is_deep(resource):
        raise StorageError(400, "Parse Error", "parseError")
    return resource


def _is_deep(resource: dict[str, Any]) -> bool:
    level: list[Any] = [resource]
    for _ in range(MAX_DEPTH):
        lists = [entry.values() if isinstance(entry, dict) else entry for entry in level]
        level = [value for entry in lists for value in entry if isinstance(value, dict | list)]
    return bool(level)


def require_utf8(target: str) -> None:
    """Raise the 400 of an address that is no UTF-8: read leniently, two names would be one."""
    try:
        unquote_to_bytes(target).decode()
    except UnicodeDecodeError:
        raise invalid("The request's address is not UTF-8.") from None


def object_name(text: object) -> str:
    """A name that an object may have; raises the 400."""
    if not isinstance(text, str) or not text:
        raise StorageError(400, "Required", "required", "name")
    if (
        len(text.encode("utf-8", "surrogatepass")) > MAX_NAME
        or text in (".", "..")
        or text.startswith(".well-known/acme-challenge/")
        or re.search(r"[\r\n\x00\ud800-\udfff]", text)
    ):
        raise invalid("Invalid object name.")
    return text


def writable(resource: Mapping[str, Any], bucket: Bucket) -> dict[str, Any]:
    """The fields that a writer sets; one that is null or empty is left out. Raises the 400."""
    refuse_unkept(resource, bucket)
    fields = {name: _text(name, resource[name]) for name in _TEXTS if resource.get(name)}
    if fields.get("storageClass", "STANDARD") not in STORAGE_CLASSES:
        raise invalid("Invalid storage class.")
    if "customTime" in fields:
        _check_time(fields["customTime"])
    custom = _custom(resource.get("metadata"))
    return fields | ({"metadata": custom} if custom else {})


def patched(fields: Mapping[str, Any], change: Mapping[str, Any], bucket: Bucket) -> dict[str, Any]:
    """Fields after a JSON merge patch: what is null goes, a custom entry's null removes it."""
    refuse_unkept(change, bucket)
    custom = change.get("metadata", {})
    if custom is not None and not isinstance(custom, dict):
        raise invalid("Invalid value for: metadata")
    merged = {**fields, **{name: change[name] for name in _TEXTS if name in change}}
    kept = {} if custom is None else fields.get("metadata", {}) | custom
    merged["metadata"] = {name: value for name, value in kept.items() if value is not None}
    return writable(merged, bucket)


def refuse_unkept(resource: Mapping[str, Any], bucket: Bucket) -> None:
    """Raise the refusal of ACLs, holds, retention and Cloud KMS keys."""
    if resource.get("acl"):
        refuse_acl(bucket)
    for name in sorted(_UNKEPT & resource.keys()):
        if resource[name]:
            raise not_served(f"an object's {name}")


def refuse_acl(bucket: Bucket) -> None:
    """Raise Google's 400 under uniform access; elsewhere say that ACLs are not served."""
    if bucket.iam_configuration.uniform_bucket_level_access.enabled:
        raise invalid(_NO_ACL)
    raise not_served("access control lists")


def refuse_parameters(query: Mapping[str, str], headers: Headers, bucket: Bucket) -> None:
    """Raise the refusal of a predefined ACL, a Cloud KMS key or a customer's own key."""
    acl = query.get("predefinedAcl") or query.get("destinationPredefinedAcl")
    uniform = bucket.iam_configuration.uniform_bucket_level_access.enabled
    if acl and (uniform or acl not in PROJECT_PRIVATE):
        refuse_acl(bucket)
    if query.get("kmsKeyName") or query.get("destinationKmsKeyName"):
        raise invalid("The embedded cloud has no Cloud KMS keys.", "kmsKeyName")
    own = ("X-Goog-Encryption-", "X-Goog-Copy-Source-Encryption-")
    if any(name.title().startswith(own) for name, _ in headers.fields):
        raise invalid("The embedded cloud does not serve customer-supplied encryption keys.")


def _check_time(text: str) -> None:
    try:
        has_zone = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        has_zone = False
    if not has_zone:
        raise invalid(f"Invalid value for: customTime: {text[:64]!r}", "customTime")


def _custom(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid("Invalid value for: metadata")
    custom = {
        _text("metadata", name): _text(name, entry)
        for name, entry in value.items()
        if entry is not None
    }
    if sum(len(f"{name}{entry}".encode()) for name, entry in custom.items()) > MAX_CUSTOM:
        raise invalid("The metadata for your object is too large.")
    return custom


def _text(name: str, value: object) -> str:
    # These become header fields of a download: a line break in one would forge another.
    if not isinstance(value, str) or _CONTROL.search(f"{name}{value}"):
        raise invalid(f"Invalid value for: {name!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(f"Invalid value for: {name!r}") from None
    return value
