"""Globs that match whole strings, in which `*` crosses neither `/` nor `:`.

No regular expressions: an operator's pattern must not be able to mean more than it shows
(`^a|b$`), nor take exponential time on a caller's string. Matching is linear in the text.
"""

from __future__ import annotations

from dataclasses import dataclass

# More stars than this is a pattern nobody can read.
MAX_STARS = 10


@dataclass(frozen=True, slots=True)
class Glob:
    """A compiled pattern. Without a star, `prefix` is the whole of it and matching is equality.

    `middles`: the literal pieces between stars, in order.
    """

    prefix: str
    middles: tuple[str, ...] = ()
    suffix: str = ""
    exact: bool = True

    def __str__(self) -> str:
        if self.exact:
            return self.prefix
        return "*".join((self.prefix, *self.middles, self.suffix))

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` is of this form."""
        if self.exact:
            return text == self.prefix
        at, end = len(self.prefix), len(text) - len(self.suffix)
        if end < at or not text.startswith(self.prefix) or not text.endswith(self.suffix):
            return False
        # The leftmost hit is the only one worth trying: a later one would have to stretch a star
        # over the separators of this one, or leaves the next star less room than this one does.
        for middle in self.middles:
            found = text.find(middle, at, end)
            if found < 0 or _crosses(text, at, found):
                return False
            at = found + len(middle)
        return not _crosses(text, at, end)


def glob(pattern: str) -> Glob:
    """Compile `pattern`. Raises ValueError with what to write instead."""
    if not pattern:
        msg = "an empty pattern matches nothing; write the value, or leave the key out"
        raise ValueError(msg)
    if "*" not in pattern:
        return Glob(pattern)
    if "**" in pattern:
        msg = "`**` is not known here; write one `*` for each part between `/` and `:`"
        raise ValueError(msg)
    prefix, *middles, suffix = pattern.split("*")
    if len(middles) >= MAX_STARS:
        msg = f"at most {MAX_STARS} `*` in one pattern; write several"
        raise ValueError(msg)
    return Glob(prefix, tuple(middles), suffix, exact=False)


def _crosses(text: str, start: int, end: int) -> bool:
    return text.find("/", start, end) >= 0 or text.find(":", start, end) >= 0
