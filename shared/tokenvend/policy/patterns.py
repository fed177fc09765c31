"""Globs that match whole strings.

A star of an ARN or a claim stands for anything without `/` and `:`; such a text is compared and
never read further. An audience is a URL that its reader takes apart, so there a star stands for
unreserved characters alone: none of them ends a host or begins a port, a query or a fragment.

No regular expressions: an operator's pattern must not be able to mean more than it shows
(`^a|b$`), nor take exponential time on a caller's string. Matching is linear in the text.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenvend.policy.reading.problems import shown

# More stars than this is a pattern nobody can read.
MAX_STARS = 10
# RFC 3986 section 2.3.
UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


class Glob(NamedTuple):
    """A compiled pattern. Without a star, `prefix` is the whole of it and matching is equality.

    `middles`: the literal pieces between stars, in order. `star`: the characters that a star stands
    for; empty for all but `/` and `:`.
    """

    prefix: str
    middles: tuple[str, ...] = ()
    suffix: str = ""
    exact: bool = True
    star: str = ""

    def __str__(self) -> str:
        if self.exact:
            return self.prefix
        return "*".join((self.prefix, *self.middles, self.suffix))

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is of this form."""
        return self._fits(text, self.star)

    def covers(self, narrow: Glob) -> bool:
        """Whether every text that fits `narrow` fits this.

        A star of `narrow` that this pattern reads as a plain character was read by one of its own
        stars, which reads whatever else that star could stand for. A yes is certain; a no may be a
        yes that is hard to see.
        """
        return self._fits(str(narrow), self.star and self.star + "*")

    def _fits(self, text: str, star: str) -> bool:
        if self.exact:
            return text == self.prefix
        at, end = len(self.prefix), len(text) - len(self.suffix)
        if end < at or not text.startswith(self.prefix) or not text.endswith(self.suffix):
            return False
        # The leftmost hit is the only one worth trying: a later one would have to stretch a star
        # over the separators of this one, or leaves the next star less room than this one does.
        for middle in self.middles:
            found = text.find(middle, at, end)
            if found < 0 or not _stands_for(star, text[at:found]):
                return False
            at = found + len(middle)
        return _stands_for(star, text[at:end])


def glob(pattern: str, star: str = "") -> Glob:
    """Compile `pattern`. Raises ValueError with what to write instead."""
    if not pattern:
        raise ValueError("is empty and matches nothing; write the value, or leave the key out")
    if "*" not in pattern:
        return Glob(pattern)
    if "**" in pattern:
        raise ValueError(
            f"{shown(pattern)} has `**`, which is not known here; "
            "write one `*` for each part between `/` and `:`"
        )
    prefix, *middles, suffix = pattern.split("*")
    if len(middles) >= MAX_STARS:
        raise ValueError(f"{shown(pattern)} has more than {MAX_STARS} `*`; write several patterns")
    return Glob(prefix, tuple(middles), suffix, exact=False, star=star)


def _stands_for(star: str, piece: str) -> bool:
    return not piece.strip(star) if star else "/" not in piece and ":" not in piece
