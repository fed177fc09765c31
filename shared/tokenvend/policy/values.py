"""The single values of a policy: each parser takes a string and gives a value, or raises ValueError
with what is wrong and what to write instead.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from tokenvend.identifiers import GRANT_NAME, is_service_account_email
from tokenvend.lifetimes import parse_lifetime
from tokenvend.policy.patterns import UNRESERVED, Glob, glob
from tokenvend.policy.reading.problems import shown

if TYPE_CHECKING:
    from collections.abc import Callable

# https://developers.google.com/identity/protocols/oauth2/scopes: every Google Cloud API.
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
# What IAM Credentials takes: whoever holds our federated token with one of these can impersonate
# every service account that we can. https://cloud.google.com/iam/docs/reference/credentials/rest/
# v1/projects.serviceAccounts/generateAccessToken, "Authorization scopes"; the other methods have
# the same two.
IMPERSONATING = frozenset({CLOUD_PLATFORM, "https://www.googleapis.com/auth/iam"})
# The longest audience an ID token is asked for; characters.
MAX_AUDIENCE = 2_048

# OAuth scopes of Google's: URLs, and OpenID Connect's three words.
_SCOPE = r"https://[a-z0-9.-]{1,253}/[A-Za-z0-9._/-]{0,200}|openid|email|profile"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


def of_form(
    form: re.Pattern[str] | str, advice: str, *, lower: bool = False
) -> Callable[[str], str]:
    """A parser of texts of this whole form, taken in `lower` case if so said."""

    def parse(text: str) -> str:
        value = text.lower() if lower else text
        if not re.fullmatch(form, value):
            raise ValueError(f"{advice}, not {shown(text)}")
        return value

    return parse


name = of_form(GRANT_NAME, "must be letters, digits, `.`, `_` and `-`, at most 100")


def service_account(text: str) -> str:
    """A service account's email. Strict, because it becomes part of a URL's path."""
    if not is_service_account_email(text):
        raise ValueError(
            f"must be an email like name@project.iam.gserviceaccount.com, not {shown(text)}"
        )
    return text


def scope(text: str) -> str:
    """An OAuth scope, in full."""
    if re.fullmatch(_SCOPE, text):
        return text
    if re.fullmatch(r"[a-z][a-z0-9._-]{1,60}", text):
        full = shown("https://www.googleapis.com/auth/" + text)
        raise ValueError(f"must hold full names; write {full}")
    raise ValueError(
        f'must hold scopes like "https://www.googleapis.com/auth/…", not {shown(text)}'
    )


def lifetime(text: str) -> int:
    """Seconds of a text like "15m", with the text in the complaint."""
    try:
        return parse_lifetime(text)
    except ValueError as error:
        raise ValueError(f"{error}, not {shown(text)}") from None


def audience(text: str) -> Glob:
    """A pattern of ID token audiences: visible ASCII."""
    if not re.fullmatch(rf"[\x21-\x7e]{{1,{MAX_AUDIENCE}}}", text):
        raise ValueError(f"must hold 1 to {MAX_AUDIENCE} visible characters, not {shown(text)}")
    return glob(text, UNRESERVED)


def moment(value: object, *, up: bool) -> int:
    """A TOML date-time or an RFC 3339 string with an offset; epoch seconds, fractions rounded to
    the side that grants less (`up` for a start, down for an end).
    """
    if isinstance(value, str):
        value = _rfc3339(value)
    if not isinstance(value, datetime) or value.tzinfo is None:
        what = value.isoformat() if isinstance(value, date) else shown(value)
        raise ValueError(
            f"must be a date, a time and an offset like 2026-12-31T23:59:59Z, not {what}"
        )
    since = value - _EPOCH
    seconds = since // timedelta(seconds=1)
    seconds += 1 if up and since % timedelta(seconds=1) else 0
    # An offset can carry a date out of the calendar, where no one could write it down again.
    if not 0 <= seconds <= _LAST:
        raise ValueError(
            f"must lie between the years 1970 and 9999, not {shown(value.isoformat())}"
        )
    return seconds


def _rfc3339(text: str) -> object:
    # fromisoformat also takes week dates and bare dates; they lack the offset and fail after.
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def date_of(seconds: int) -> str:
    """Epoch seconds as the policy could write them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
