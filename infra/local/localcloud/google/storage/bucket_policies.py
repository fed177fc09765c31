"""A bucket's allow policy by the JSON API: read, replaced under its etag, tested.

The rules of policies are core/policies.py's; what differs is Cloud Storage's: its shapes, and 412
for an etag that is not the current one. https://cloud.google.com/storage/docs/access-control/iam
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from localcloud.google.core import policies
from localcloud.google.core.bindings import Kind
from localcloud.google.core.errors import GoogleError
from localcloud.google.core.messages import STRING, read_message
from localcloud.google.storage.access import EVERYBODY, PUBLIC_ACCESS_PREVENTED
from localcloud.google.storage.errors import StorageError, condition_not_met, invalid
from localcloud.google.storage.preconditions import number
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.storage.call import Call
    from localcloud.world import Bucket, Policy

_NEWEST = 3


def get(call: Call) -> Response:
    """`buckets.getIamPolicy`."""
    bucket = call.bucket
    call.caller.require("storage.buckets.getIamPolicy", bucket)
    version = number(call.query, "optionsRequestedPolicyVersion") or 1
    return _answer(bucket, bucket.iam_policy, version)


def replace(call: Call) -> Response:
    """`buckets.setIamPolicy`."""
    bucket, cloud = call.bucket, call.caller.cloud
    call.caller.require("storage.buckets.setIamPolicy", bucket)
    fields = {**policies.POLICY, "kind": STRING, "resource_id": STRING}
    try:
        given = read_message(call.request.body, fields, "policy")
        _refuse_public(bucket, given)
        _refuse_conditions(bucket, given)
        policy = policies.replace(cloud, bucket, Kind.BUCKET, given, call.now)
    except GoogleError as refusal:
        raise _in_shape(refusal) from None
    return _answer(bucket, policy, _NEWEST)


def test(call: Call) -> Response:
    """`buckets.testIamPermissions`: which of the permissions the caller has."""
    bucket = call.bucket
    wanted = [text for name, text in parse_qsl(call.request.query) if name == "permissions"]
    foreign = [text for text in wanted if not text.startswith("storage.") or "*" in text]
    if foreign or not wanted:
        raise invalid(f"Invalid permission: {''.join(foreign[:1])[:128]!r}", "permissions")
    held = [permission for permission in wanted if call.caller.may(permission, bucket)]
    answer: dict[str, Any] = {"kind": "storage#testIamPermissionsResponse"}
    return Response.json(200, answer | ({"permissions": held} if held else {}))


def _answer(bucket: Bucket, policy: Policy, version: int) -> Response:
    try:
        shown = policies.shown(policy, version)
    except GoogleError as refusal:
        raise _in_shape(refusal) from None
    name = {"kind": "storage#policy", "resourceId": f"projects/_/buckets/{bucket.name}"}
    return Response.json(200, name | {"version": 1} | shown)


def _refuse_public(bucket: Bucket, given: Mapping[str, Any]) -> None:
    if bucket.iam_configuration.public_access_prevention != PUBLIC_ACCESS_PREVENTED:
        return
    members = [member for entry in given.get("bindings", ()) for member in entry.get("members", ())]
    if any(member in EVERYBODY for member in members):
        text = (
            "The member bindings allUsers and allAuthenticatedUsers are not allowed since public "
            "access prevention is enforced."
        )
        raise StorageError(412, text, "conditionNotMet")


def _refuse_conditions(bucket: Bucket, given: Mapping[str, Any]) -> None:
    """Object ACLs would pass a condition by."""
    uniform = bucket.iam_configuration.uniform_bucket_level_access.enabled
    if not uniform and any(entry.get("condition") for entry in given.get("bindings", ())):
        text = "To set IAM conditions in this bucket, enable uniform bucket-level access."
        raise StorageError(412, text, "conditionNotMet")


def _in_shape(refusal: GoogleError) -> StorageError:
    """IAM's refusal as Cloud Storage tells it."""
    if refusal.status == "ABORTED":
        return condition_not_met()
    return invalid(refusal.message)
