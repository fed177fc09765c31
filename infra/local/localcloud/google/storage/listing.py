"""A page of a bucket's objects: prefix, delimiter, offsets, glob, versions and page tokens.

Names are in order of their UTF-8 bytes, which is the order of Python's strings.
https://cloud.google.com/storage/docs/json_api/v1/objects/list
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import re2

from localcloud.google.storage.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localcloud.google.storage.store import Store, StoredObject

MAX_RESULTS = 1000
_LAST = "\U0010ffff"
# After every generation of a name, and after everything that a prefix stands for.
_ALL = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Query:
    """What of a bucket is listed.

    Args:
        prefix: how names must begin.
        delimiter: what folds the names that have it behind the prefix into one prefix each.
        start: the first name, inclusive.
        end: the last name, exclusive; empty for no end.
        trailing_delimiter: whether an object whose name is a folded prefix is listed as well.
        glob: what whole names must match; empty for anything.
        versions: whether noncurrent generations are listed.
        limit: how many objects and prefixes together.
        token: a page's token; what comes after that page.

    """

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    trailing_delimiter: bool = False
    glob: str = ""
    versions: bool = False
    limit: int = MAX_RESULTS
    token: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Objects and prefixes, each in order; `token` is empty on the last page.

    `last` is the last name or prefix in it, which the XML API calls the next marker.
    """

    items: tuple[StoredObject, ...]
    prefixes: tuple[str, ...]
    token: str = ""
    last: str = ""


def page(store: Store, bucket: str, query: Query) -> Page:
    """The page that a query asks for; raises the 400 of a token or glob that is none."""
    items: list[StoredObject] = []
    prefixes: list[str] = []
    last = ("", 0)
    for key, entry in _entries(store, bucket, query):
        if len(items) + len(prefixes) >= query.limit:
            return Page(tuple(items), tuple(prefixes), _token(*last), last[0])
        last = key
        if isinstance(entry, str):
            prefixes.append(entry)
        else:
            items.append(entry)
    return Page(tuple(items), tuple(prefixes), last=last[0])


def _entries(
    store: Store, bucket: str, query: Query
) -> Iterator[tuple[tuple[str, int], StoredObject | str]]:
    """Objects and prefixes behind the page token, in order, each with its place in it."""
    after = _read_token(query.token) if query.token else ("", -1)
    wanted = _glob(query.glob) if query.glob else None
    names = store.names(bucket, max(query.start, query.prefix), query.end)
    place = bisect_left(names, after[0])
    while place < len(names) and names[place].startswith(query.prefix):
        name = names[place]
        place += 1
        if wanted is not None and not wanted(name):
            continue
        folded = _folded(name, query)
        # What an object whose name is a prefix sorts before is the prefix itself.
        for found in store.generations(bucket, name) if _stands(name, folded, query) else ():
            key = (name, found.generation)
            if key > after and (query.versions or found.deleted is None):
                yield key, found
        if folded and (folded, _ALL) > after and _holds(store, bucket, name, query):
            yield (folded, _ALL), folded
            after = (folded, _ALL)
        if folded and after[0] == folded and wanted is None:
            place = bisect_left(names, folded + _LAST, place)


def _stands(name: str, folded: str, query: Query) -> bool:
    """Whether a name is listed itself, and not only by the prefix it folds into."""
    return not folded or (query.trailing_delimiter and name == folded)


def _holds(store: Store, bucket: str, name: str, query: Query) -> bool:
    """Whether a name has anything that the query lists; noncurrent generations alone may not."""
    return query.versions or store.find(bucket, name) is not None


def token_after(name: str) -> str:
    """The token of a page that ends with this name and all its generations."""
    return _token(name, _ALL)


def name_before(token: str) -> str:
    """The last name of the page before; raises the 400 of a token that is none."""
    return _read_token(token)[0]


def _folded(name: str, query: Query) -> str:
    """The prefix that stands for a name, or nothing."""
    if not query.delimiter:
        return ""
    place = name.find(query.delimiter, len(query.prefix))
    return "" if place < 0 else name[: place + len(query.delimiter)]


def _token(name: str, generation: int) -> str:
    return base64.urlsafe_b64encode(f"{generation}/{name}".encode()).decode()


def _read_token(token: str) -> tuple[str, int]:
    try:
        text = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
        generation, _, name = text.partition("/")
        return name, int(generation)
    except (ValueError, binascii.Error):
        message = f"Invalid page token: {token[:64]}"
        raise invalid(message, "pageToken") from None


@lru_cache(maxsize=64)
def _glob(text: str) -> Callable[[str], object]:
    """Google's globs: `*` and `?` stop at a slash, `**` does not; `[a-z]`, `[!a]`, `{a,b}`.

    Matched by RE2, whose time is linear: by Python's own engine a few `**` would take hours.
    """
    pieces, depth = [], 0
    for match in re.finditer(r"\\.|\*\*|\[[!^]?\]?[^\]]*\]|.", text, re.DOTALL):
        piece = match[0]
        depth += (piece == "{") - (piece == "}")
        if depth < 0:
            break
        pieces.append(_glob_piece(piece, inside=depth > 0))
    if depth != 0:
        message = "Invalid glob: unbalanced braces"
        raise invalid(message, "matchGlob")
    try:
        return re2.compile("".join(pieces), _engine()).fullmatch  # type: ignore[no-any-return]
    except re2.error:
        message = "Invalid glob"
        raise invalid(message, "matchGlob") from None


def _glob_piece(piece: str, *, inside: bool) -> str:
    plain = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}
    if piece in plain:
        return plain[piece]
    if piece == "," and inside:
        return "|"
    if len(piece) > 1 and piece[0] == "[":
        negated = piece[1] in "!^"
        members = re.sub(r"([]^\\\[&~|])", r"\\\1", piece[2 if negated else 1 : -1])
        return f"[{'^/' if negated else ''}{members}]"
    return str(re2.escape(piece[-1]))


def _engine() -> re2.Options:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    return options
