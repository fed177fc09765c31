"""The single values of a policy: each parser takes a string and gives a value, or raises ValueError
with what is wrong and what to write instead.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from tokenvend.identifiers import is_service_account_email
from tokenvend.lifetimes import parse_lifetime
from tokenvend.policy.patterns import Glob, glob
from tokenvend.policy.reading.problems import shown

# https://developers.google.com/identity/protocols/oauth2/scopes: every Google Cloud API.
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# The longest audience an ID token is asked for; characters.
MAX_AUDIENCE = 2_048

# The same names as in a request, where a grant's name may be part of an audience.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# OAuth scopes of Google's: URLs, and OpenID Connect's three words.
_SCOPE = re.compile(r"https://[a-z0-9.-]{1,253}/[A-Za-z0-9._/-]{0,200}|openid|email|profile")
_SHORT_SCOPE = re.compile(r"[a-z][a-z0-9._-]{1,60}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


def name(text: str) -> str:
    """A grant's name."""
    if not _NAME.fullmatch(text):
        msg = f"must be letters, digits, `.`, `_` and `-`, at most 100, not {shown(text)}"
        raise ValueError(msg)
    return text


def service_account(text: str) -> str:
    """A service account's email. Strict, because it becomes part of a URL's path."""
    if not is_service_account_email(text):
        msg = f"must be an email like name@project.iam.gserviceaccount.com, not {shown(text)}"
        raise ValueError(msg)
    return text


def scope(text: str) -> str:
    """An OAuth scope, in full."""
    if _SCOPE.fullmatch(text):
        return text
    if _SHORT_SCOPE.fullmatch(text):
        msg = f"must hold full names; write {shown('https://www.googleapis.com/auth/' + text)}"
        raise ValueError(msg)
    msg = f'must hold scopes like "https://www.googleapis.com/auth/…", not {shown(text)}'
    raise ValueError(msg)


def lifetime(text: str) -> int:
    """Seconds of a text like "15m", with the text in the complaint."""
    try:
        return parse_lifetime(text)
    except ValueError as error:
        raise ValueError(f"{error}, not {shown(text)}") from None


def audience(text: str) -> Glob:
    """A pattern of ID token audiences."""
    if not plausible_audience(text):
        msg = f"must hold 1 to {MAX_AUDIENCE} visible characters, not {shown(text)}"
        raise ValueError(msg)
    return pattern(text)


def plausible_audience(text: str) -> bool:
    """Whether Google could take `text` as an audience: visible ASCII, no space, not too long."""
    return (
        0 < len(text) <= MAX_AUDIENCE
        and text.isascii()
        and text.isprintable()
        and (" " not in text)
    )


def pattern(text: str) -> Glob:
    """A glob, with the value in its complaint."""
    try:
        return glob(text)
    except ValueError as error:
        msg = f"{shown(text)}: {error}"
        raise ValueError(msg) from None


def moment(value: object, *, up: bool) -> int:
    """A TOML date-time or an RFC 3339 string with an offset; epoch seconds, fractions rounded to
    the side that grants less (`up` for a start, down for an end).
    """
    if isinstance(value, str):
        value = _rfc3339(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        what = value.isoformat() if isinstance(value, date) else shown(value)
        msg = f"must be a date, a time and an offset like 2026-12-31T23:59:59Z, not {what}"
        raise ValueError(msg)
    since = value - _EPOCH
    seconds = since // timedelta(seconds=1)
    seconds += 1 if up and since % timedelta(seconds=1) else 0
    # An offset can carry a date out of the calendar, where no one could write it down again.
    if not 0 <= seconds <= _LAST:
        msg = f"must lie between the years 1970 and 9999, not {shown(value.isoformat())}"
        raise ValueError(msg)
    return seconds


def _rfc3339(text: str) -> object:
    # fromisoformat also takes week dates and bare dates; they lack the offset and fail after.
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text
