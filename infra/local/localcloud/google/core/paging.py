"""Lists in pages: `pageSize` and `pageToken`, as https://google.aip.dev/158 has them.

A token names the last item of its page, so that a list which changes between two calls loses and
repeats nothing; it is refused at any other list.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from localcloud.google.core.errors import invalid_argument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def page[T](
    items: Iterable[T],
    key: Callable[[T], str],
    of: str,
    size: int,
    token: str,
) -> tuple[list[T], str]:
    """The items of one page in the order of their keys, and the token of the next or "".

    `of` says which list it is, filters included; `size` is the largest page.
    """
    after = _after(token, of)
    left = sorted((item for item in items if after is None or key(item) > after), key=key)
    here = left[:size]
    if len(left) == len(here):
        return here, ""
    text = json.dumps([of, key(here[-1])])
    return here, base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def listed[T](
    field: str,
    items: Iterable[T],
    key: Callable[[T], str],
    shown: Callable[[T], Any],
    *,
    of: str,
    query: Mapping[str, Any],
    sizes: tuple[int, int],
) -> dict[str, Any]:
    """A list method's answer for a query's page_size and page_token.

    `sizes`: how many items a page has by default, and at most.
    """
    size = page_size(query.get("page_size"), *sizes)
    here, token = page(items, key, of, size, query.get("page_token", ""))
    answer: dict[str, Any] = {field: [shown(item) for item in here]} if here else {}
    return answer | ({"nextPageToken": token} if token else {})


def page_size(given: int | None, default: int, most: int) -> int:
    """How many items a page may have; more than `most` counts as `most`."""
    if given is not None and given < 0:
        raise invalid_argument("Page size must be non-negative.", "page_size")
    return min(given or default, most)


def _after(token: str, of: str) -> str | None:
    if not token:
        return None
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        where, after = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        where, after = None, ""
    if where != of or not isinstance(after, str):
        raise invalid_argument("Request contains an invalid argument.", "page_token")
    return after
