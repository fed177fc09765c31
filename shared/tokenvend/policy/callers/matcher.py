"""Whether what is asked of a caller is so. The same for every kind of caller: a kind says what is
known of one, in the keys in which a policy asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokenvend.policy.patterns import Glob
from tokenvend.policy.reading.problems import contrast, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Facts(NamedTuple):
    """What somebody we believe vouched for: of whom, and by the policy's keys (a claim's is
    `claims.NAME`). What only the caller itself says, such as a session's name, is none. `name`:
    what a person calls it; others may have the same.
    """

    whom: str
    name: str
    known: Mapping[str, tuple[str, ...]]


class Matcher(NamedTuple):
    """One entry of `callers`. `whom`: the callers it can fit at all, in words; `asked`: by key,
    all of which must fit; a key that lists several values stands several times.
    """

    whom: str
    asked: tuple[tuple[str, Glob], ...]

    def fits(self, caller: Facts) -> bool:
        """Whether it is for this caller."""
        return caller.whom == self.whom and self._lacking(caller) is None

    def mismatch(self, caller: Facts) -> str:
        """Why it does not fit the caller, in an operator's words; empty when it fits."""
        if caller.whom != self.whom:
            return f"it is for {self.whom}, not for {caller.whom}"
        lacking = self._lacking(caller)
        if lacking is None:
            return ""
        key, wanted = lacking
        match caller.known.get(key):
            case None:
                return f"the caller has no {key}"
            case [got]:
                return f"{key}: {contrast(got, wanted)}"
            case several:
                return f"{key}: none of {shown(', '.join(several))} is {shown(str(wanted))}"

    def fields(self) -> tuple[str, ...]:
        """What is asked for, each key once."""
        return tuple(dict.fromkeys(key for key, _ in self.asked))

    def _lacking(self, caller: Facts) -> tuple[str, Glob] | None:
        for key, wanted in self.asked:
            if not any(wanted.matches(got) for got in caller.known.get(key, ())):
                return key, wanted
        return None


def matcher(whom: str, asked: Iterable[tuple[str, Glob | str | None]]) -> Matcher:
    """A matcher of what is there; a text is asked for as it stands."""
    return Matcher(
        whom,
        tuple(
            (key, wanted if isinstance(wanted, Glob) else Glob(wanted))
            for key, wanted in asked
            if wanted is not None
        ),
    )
