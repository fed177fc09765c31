"""An object store on disk: generations, preconditions, versions; nothing of a body in memory.

Bytes are written first (`content.Writer`), without any lock; `publish` then makes them an object in
one short step, in which preconditions are judged, so that of simultaneous writers each sees either
all of another's write or nothing. Objects are immutable values: a reader keeps what it found.

Bucket names are not judged here: which buckets exist is the world's matter.
"""

from __future__ import annotations

import base64
import threading
from bisect import bisect_left, insort
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from localcloud.google.storage.content import Directory
from localcloud.google.storage.errors import no_such_object
from localcloud.google.storage.preconditions import Preconditions
from localcloud.google.storage.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from localcloud.google.storage.content import Content


class ReplacesError(Exception):
    """The write would replace a live object, which its caller did not say it may."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms something is written.

    Args:
        preconditions: what must hold of the live object, judged when the write is published.
        may_replace: whether the writer may delete a live object of the name.
        versioned: whether what is replaced or deleted stays, as a noncurrent generation.

    """

    preconditions: Preconditions = field(default_factory=Preconditions)
    may_replace: bool = False
    versioned: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to become an object.

    Args:
        content: its bytes.
        fields: what its writer set, in the JSON API's spelling (``contentType``, ``metadata``).
        components: of how many parts it is composed; 0 for one that was uploaded whole.

    """

    content: Content
    fields: Mapping[str, Any]
    components: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class StoredObject:
    """One generation of an object.

    Args:
        bucket: its bucket's name.
        name: its own.
        generation: microseconds since the epoch, strictly increasing over the whole store.
        metageneration: 1 at first, one more with every change of the fields.
        content: its bytes.
        fields, components: as in its `Draft`.
        created: epoch seconds.
        updated: epoch seconds of the last change of the fields.
        deleted: epoch seconds at which it became noncurrent; None for the live one.

    """

    bucket: str
    name: str
    generation: int
    content: Content
    fields: Mapping[str, Any]
    created: float
    updated: float
    metageneration: int = 1
    components: int = 0
    deleted: float | None = None

    @property
    def etag(self) -> str:
        """The JSON API's entity tag: Google's protobuf of generation and metageneration."""
        return etag_of(self.generation, self.metageneration)


@dataclass(slots=True)
class _Objects:
    """A bucket's objects: per name its generations, oldest first; names in order."""

    names: list[str] = field(default_factory=list)
    generations: dict[str, list[StoredObject]] = field(default_factory=dict)


CREATE = Terms()
"""Create, whatever the preconditions would say, and replace nothing."""


class Store:
    """The objects of every bucket; safe for threads.

    Args:
        directory: where content goes; None for a temporary one.

    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = Directory(directory)
        self.sessions = Sessions(self.directory)
        self._buckets: dict[str, _Objects] = {}
        self._lock = threading.Lock()
        self._generation = 0

    def find(self, bucket: str, name: str, generation: int | None = None) -> StoredObject | None:
        """The live object, or this generation of it."""
        with self._lock:
            return self._find(bucket, name, generation)

    def get(self, bucket: str, name: str, generation: int | None = None) -> StoredObject:
        """The live object, or this generation of it; raises the 404."""
        found = self.find(bucket, name, generation)
        if found is None:
            raise no_such_object(bucket, name)
        return found

    def publish(
        self, bucket: str, name: str, draft: Draft, now: float, terms: Terms = CREATE
    ) -> StoredObject:
        """Make a draft the live object of a name; `now` is epoch seconds.

        Raises:
            StorageError: the 412 of a precondition.
            ReplacesError: there is a live object, which the terms do not let it replace.

        """
        with self._lock:
            return self._publish(bucket, name, draft, now, terms)

    def update(
        self,
        found: StoredObject,
        change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        now: float,
        preconditions: Preconditions,
    ) -> StoredObject:
        """Give an object the fields that `change` makes of its present ones; raises 404 and 412.

        `change` is called while everything else waits: it must be quick.
        """
        with self._lock:
            present = self._required(found.bucket, found.name, found.generation)
            preconditions.require(present)
            changed = replace(
                present,
                fields=dict(change(present.fields)),
                metageneration=present.metageneration + 1,
                updated=now,
            )
            generations = self._buckets[found.bucket].generations[found.name]
            generations[generations.index(present)] = changed
            return changed

    def delete(
        self, bucket: str, name: str, now: float, terms: Terms, generation: int | None = None
    ) -> StoredObject:
        """Delete the live object, or one generation for good; raises 404 and 412."""
        with self._lock:
            found = self._required(bucket, name, generation)
            terms.preconditions.require(found)
            self._retire(found, now, versioned=terms.versioned and generation is None)
            return found

    def move(
        self, bucket: str, names: tuple[str, str], now: float, terms: Terms, source: Preconditions
    ) -> StoredObject:
        """Rename the live object, (from, to), in one step; raises 404 and what `publish` does."""
        with self._lock:
            found = self._required(bucket, names[0], None)
            source.require(found)
            draft = Draft(found.content, found.fields, found.components)
            made = self._publish(bucket, names[1], draft, now, terms)
            if names[0] != names[1]:
                self._retire(found, now, versioned=terms.versioned)
            return made

    def names(self, bucket: str, start: str = "", end: str = "") -> list[str]:
        """The bucket's names in order as they are now: from `start` up to, not including, `end`."""
        with self._lock:
            names = self._buckets.get(bucket, _Objects()).names
            first = bisect_left(names, start)
            return names[first : bisect_left(names, end) if end else None]

    def generations(self, bucket: str, name: str) -> tuple[StoredObject, ...]:
        """Every generation of a name, oldest first; the live one, if any, is the last."""
        with self._lock:
            return tuple(self._buckets.get(bucket, _Objects()).generations.get(name, ()))

    def drop(self, bucket: str) -> bool:
        """Forget an empty bucket; False, and nothing happens, when it holds something."""
        with self._lock:
            if self._buckets.get(bucket, _Objects()).names:
                return False
            self._buckets.pop(bucket, None)
            return True

    def _publish(
        self, bucket: str, name: str, draft: Draft, now: float, terms: Terms
    ) -> StoredObject:
        live = self._find(bucket, name)
        terms.preconditions.require(live)
        if live is not None and not terms.may_replace:
            raise ReplacesError
        made = StoredObject(
            bucket,
            name,
            self._next_generation(now),
            draft.content,
            dict(draft.fields),
            created=now,
            updated=now,
            components=draft.components,
        )
        if live is not None:
            self._retire(live, now, versioned=terms.versioned)
        objects = self._buckets.setdefault(bucket, _Objects())
        if name not in objects.generations:
            insort(objects.names, name)
            objects.generations[name] = []
        objects.generations[name].append(made)
        return made

    def _find(self, bucket: str, name: str, generation: int | None = None) -> StoredObject | None:
        objects = self._buckets.get(bucket)
        known = objects.generations.get(name, []) if objects else []
        if generation is not None:
            return next((item for item in known if item.generation == generation), None)
        return known[-1] if known and known[-1].deleted is None else None

    def _required(self, bucket: str, name: str, generation: int | None) -> StoredObject:
        found = self._find(bucket, name, generation)
        if found is None:
            raise no_such_object(bucket, name)
        return found

    def _retire(self, found: StoredObject, now: float, *, versioned: bool) -> None:
        """Take an object out, or make it noncurrent."""
        objects = self._buckets[found.bucket]
        generations = objects.generations[found.name]
        place = generations.index(found)
        if versioned:
            generations[place] = replace(found, deleted=now)
            return
        del generations[place]
        if not generations:
            del objects.generations[found.name]
            del objects.names[bisect_left(objects.names, found.name)]

    def _next_generation(self, now: float) -> int:
        self._generation = max(self._generation + 1, int(now * 1_000_000))
        return self._generation


def etag_of(*numbers: int) -> str:
    """An entity tag as Google packs it: a protobuf message of the numbers, in base64."""
    packed = bytearray()
    for place, given in enumerate(numbers, 1):
        packed.append(place << 3)
        number = given
        while number > 0x7F:  # noqa: PLR2004
            packed.append(number & 0x7F | 0x80)
            number >>= 7
        packed.append(number)
    return base64.b64encode(packed).decode()
