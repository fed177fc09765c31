"""A moment after which nobody waits any longer, and how it is lent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock after which nobody waits any longer."""

    at: float
    monotonic: Callable[[], float] = field(repr=False)

    @classmethod
    def after(cls, seconds: float, monotonic: Callable[[], float]) -> Deadline:
        """The moment `seconds` from now."""
        return cls(monotonic() + seconds, monotonic)

    def remaining(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - self.monotonic())

    def share(self, fraction: float = 1 / 3, *, at_most: float = math.inf) -> Deadline:
        """A nearer deadline: `fraction` (0 to 1) of what is left of this one, `at_most` seconds.

        A third is what is lent for fetching anew while something at hand still serves.
        """
        lent = min(self.remaining() * fraction, at_most)
        return Deadline(self.monotonic() + lent, self.monotonic)
