"""Which OAuth scopes Google has: a token is never minted for another.

`scopes.txt` is a list of this package's own, of the scopes that Google's discovery documents name;
a test compares it with them. What nobody has heard of is refused, as Google refuses it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "https://www.googleapis.com/auth/"
_OPENID = frozenset({"openid", "email", "profile"})


@cache
def known() -> frozenset[str]:
    """Every scope that Google has, in full."""
    lines = (files(__package__) / "scopes.txt").read_text("utf-8").splitlines()
    names = [line for line in lines if not line.startswith("#")]
    return _OPENID | {name if "://" in name else ROOT + name for name in names}


def all_known(scopes: Iterable[str]) -> bool:
    """Whether Google has every one of them."""
    return known().issuperset(scopes)
