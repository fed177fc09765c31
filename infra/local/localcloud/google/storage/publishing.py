"""The last step of every write, at whichever door: content becomes an object, or is refused.

Replacing an object needs the permission to delete it, which is asked of the caller beforehand and
holds when the write is published, whatever appeared meanwhile. A bucket that was deleted while the
content came gets nothing: its next namesake would begin with somebody else's object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from localcloud.google.storage.errors import denied, no_such_bucket
from localcloud.google.storage.store import ReplacesError, Terms

if TYPE_CHECKING:
    from localcloud.google.storage.access import Caller
    from localcloud.google.storage.preconditions import Preconditions
    from localcloud.google.storage.store import Draft, Store, StoredObject
    from localcloud.world import Bucket


def terms(caller: Caller, bucket: Bucket, name: str, preconditions: Preconditions) -> Terms:
    """The terms on which the caller writes an object."""
    return Terms(
        preconditions,
        may_replace=caller.may("storage.objects.delete", bucket, name),
        versioned=bucket.versioning.enabled,
    )


def publish(
    caller: Caller, store: Store, bucket: Bucket, name: str, draft: Draft, on: Terms
) -> StoredObject:
    """Make the draft an object; raises the 404, the 412, and the 403 of replacing one."""
    world = caller.cloud.world
    with world.lock:
        if world.google.bucket(bucket.name) is not bucket:
            raise no_such_bucket()
        try:
            return store.publish(bucket.name, name, draft, caller.cloud.clock(), on)
        except ReplacesError:
            raise denied(caller.name, "storage.objects.delete") from None
