"""Preconditions: what a caller expects of the live object, judged again when a write is published.

https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localcloud.google.storage.errors import condition_not_met, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.storage.store import StoredObject

_NAMES = (
    "GenerationMatch",
    "GenerationNotMatch",
    "MetagenerationMatch",
    "MetagenerationNotMatch",
)
_NUMBER = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What must hold of an object's generation and metageneration; None is not asked.

    Generation 0 stands for "there is no live object".
    """

    generation: int | None = None
    not_generation: int | None = None
    metageneration: int | None = None
    not_metageneration: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, str], prefix: str = "if") -> Preconditions:
        """Those of a request's query (`ifGenerationMatch`; `ifSource…` for a source)."""
        return cls(*(number(parameters, prefix + name) for name in _NAMES))

    def require(self, found: StoredObject | None) -> None:
        """Raise the 412 unless the object (None: there is none) is as expected."""
        if not (self.matches(found) and self.differs(found)):
            raise condition_not_met()

    def pinned(self, found: StoredObject) -> Preconditions:
        """Those of a change to this very state of an object; raises the 412.

        What an entity tag was compared with must still be there when the change is made.
        """
        self.require(found)
        return Preconditions(found.generation, None, found.metageneration, None)

    def matches(self, found: StoredObject | None) -> bool:
        """Whether what must be equal is."""
        generation = 0 if found is None else found.generation
        metageneration = 0 if found is None else found.metageneration
        return self.generation in (None, generation) and self.metageneration in (
            None,
            metageneration,
        )

    def differs(self, found: StoredObject | None) -> bool:
        """Whether what must differ does; without a live object nothing does."""
        if found is None:
            return self.not_generation is None and self.not_metageneration is None
        return (
            found.generation != self.not_generation
            and found.metageneration != self.not_metageneration
        )


def number(parameters: Mapping[str, str], name: str) -> int | None:
    """A parameter of type int64; raises the 400 of any other text."""
    text = parameters.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise invalid(f"Invalid value '{text[:64]}'. Values must be within the range: int64", name)
    return int(text)
