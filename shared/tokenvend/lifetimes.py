"""How long a token may live, and how that is written: in a policy, in a request, on a command line.

https://cloud.google.com/iam/docs/create-short-lived-credentials-direct: one hour, and twelve where
the organisation policy constraints/iam.allowServiceAccountCredentialLifetimeExtension says so.
"""

from __future__ import annotations

import re

# Seconds.
DEFAULT_LIFETIME = 3_600
MAX_LIFETIME = 43_200

_LIFETIME = re.compile(r"(0|[1-9][0-9]{0,5})([smh])")
# The largest first.
_UNITS = {"h": 3_600, "m": 60, "s": 1}


def parse_lifetime(text: str) -> int:
    """Seconds, 1 to 43,200, of a text such as "900s", "15m" or "1h".

    Raises ValueError with what it must be; never with the text.
    """
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise ValueError('must be whole seconds, minutes or hours like "900s", "15m", "1h"')
    seconds = int(found[1]) * _UNITS[found[2]]
    if not 1 <= seconds <= MAX_LIFETIME:
        raise ValueError('must be from "1s" to "12h", the most Google gives')
    return seconds


def lifetime_text(seconds: int) -> str:
    """Seconds as a policy or a request would write them, in the largest unit that is whole."""
    unit, name = next((size, name) for name, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // unit}{name}"
