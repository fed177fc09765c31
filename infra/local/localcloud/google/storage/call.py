"""One admitted request of the JSON API, and what every handler does with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from localcloud.google.core.compression import compressed
from localcloud.google.core.errors import GoogleError
from localcloud.google.core.fields import selected
from localcloud.google.storage import publishing
from localcloud.google.storage.errors import StorageError, condition_not_met, invalid
from localcloud.google.storage.preconditions import Preconditions
from localcloud.google.storage.resources import OBJECT_FIELDS, object_resource
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.storage.access import Caller
    from localcloud.google.storage.store import Draft, Store, StoredObject, Terms
    from localcloud.wire.web import Request
    from localcloud.world import Bucket


@dataclass(frozen=True, slots=True)
class Call:
    """A request, its path's parameters (decoded), its caller and the store."""

    request: Request
    parameters: Mapping[str, str]
    caller: Caller
    store: Store

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self.caller.now

    @property
    def query(self) -> Mapping[str, str]:
        """The query's parameters, decoded; of a repeated name, the last."""
        return self.request.params

    @property
    def bucket(self) -> Bucket:
        """The bucket that the path names; raises the 404."""
        return self.caller.bucket(self.parameters["bucket"])

    @property
    def name(self) -> str:
        """The object that the path names."""
        return self.parameters["object"]

    def flag(self, name: str) -> bool:
        """A boolean of the query, false when absent; raises the 400 of anything else."""
        text = self.query.get(name, "false").lower()
        if text not in ("true", "false"):
            raise invalid(f"Invalid boolean value: '{text[:64]}'.", name)
        return text == "true"

    def answer(
        self, resource: Mapping[str, Any], known: frozenset[str], *headers: tuple[str, str]
    ) -> Response:
        """A resource, or what `fields` selects of it."""
        mask = self.query.get("fields")
        try:
            chosen = resource if mask is None else selected(resource, mask, known)
        except GoogleError as refusal:
            raise StorageError(400, refusal.message, "invalidParameter", "fields") from None
        return compressed(self.request, Response.json(200, chosen, *headers))

    def object(self, found: StoredObject) -> Response:
        """An object's resource with its entity tag."""
        return self.answer(object_resource(found), OBJECT_FIELDS, ("ETag", found.etag))

    def require_etag(self, etag: str) -> None:
        """Raise the 412 unless If-Match, if it is there, names this entity tag."""
        wanted = self.request.headers.get("If-Match")
        if wanted and not names_etag(wanted, etag):
            raise condition_not_met()

    def conditions(self, found: StoredObject) -> Preconditions:
        """The query's preconditions of a change, and If-Match's; raises the 412."""
        self.require_etag(found.etag)
        given = Preconditions.of(self.query)
        wanted = self.request.headers.get("If-Match").strip()
        return given.pinned(found) if wanted not in ("", "*") else given

    def terms(self, bucket: Bucket, name: str) -> Terms:
        """The terms of a write with the query's preconditions."""
        return publishing.terms(self.caller, bucket, name, Preconditions.of(self.query))

    def publish(self, bucket: Bucket, name: str, draft: Draft, terms: Terms) -> StoredObject:
        """Make the draft an object; raises the 404, the 412, and the 403 of replacing one."""
        return publishing.publish(self.caller, self.store, bucket, name, draft, terms)


def names_etag(field: str, etag: str) -> bool:
    """Whether an If-Match or If-None-Match field names an entity tag (RFC 9110 section 13.1)."""
    given = (entry.strip().removeprefix("W/").strip('"') for entry in field.split(","))
    return any(entry in ("*", etag) for entry in given)
