"""Which OAuth scopes Google has, so that a misspelt one is found before a caller finds it.

The list is of Google's own discovery documents and of
https://developers.google.com/identity/protocols/oauth2/scopes; `tests/conformance` says when it is
behind. Google may always be ahead of it: a scope that is not in it is a remark, never an error.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib.resources import files

ROOT = "https://www.googleapis.com/auth/"
# Of difflib: less than this is another scope, not a misspelt one.
_NEAR = 0.8


@cache
def known_scopes() -> tuple[str, ...]:
    """Every known scope, in full."""
    lines = (files(__package__) / "scopes.txt").read_text("utf-8").split()
    return tuple(line if "://" in line else ROOT + line for line in lines)


def is_known(scope: str) -> bool:
    """Whether Google has it, as far as is known here."""
    return scope in {"openid", "email", "profile", *known_scopes()}


def meant(scope: str) -> str:
    """The known scope that is nearest, empty where none is near."""
    short = scope.removeprefix(ROOT)
    names = [known.removeprefix(ROOT) for known in known_scopes()]
    near = get_close_matches(short, names, 1, _NEAR)
    return (near[0] if "://" in near[0] else ROOT + near[0]) if near else ""
