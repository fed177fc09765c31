"""The single values of settings: each parser takes a text and gives a value, or raises ValueError
with what the text must be. It never quotes the text, which may be a secret in the wrong place.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tokenvend.audit.chain import fingerprint_key
from tokenvend.caller.oidc import OidcIssuer
from tokenvend.errors import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

_PROVIDER = re.compile(
    r"//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}"
    r"/providers/[a-z0-9-]{4,32}"
)
_GOOGLE_IAM = "//iam.googleapis.com/"
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-?[0-9]+")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_ACCOUNT = re.compile(r"[0-9]{12}")
# The name goes into google.subject together with a session's, and that has 127 bytes.
_ROLE = re.compile(
    r"arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]{1,510}/)*"
    r"[A-Za-z0-9_+=,.@-]{1,43}"
)


def _matching(pattern: re.Pattern[str], must: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(must)
        return text

    return parse


def list_of(item: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Several values with commas between; empty for none."""

    def parse(text: str) -> tuple[str, ...]:
        return tuple(item(part.strip()) for part in text.split(",") if part.strip())

    return parse


def optional(item: Callable[[str], str]) -> Callable[[str], str | None]:
    """A value, or None for an empty text."""
    return lambda text: item(text) if text else None


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds in this range."""

    def parse(text: str) -> float:
        must = f"must be a number of seconds from {low:g} to {high:g}"
        if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or not low <= float(text) <= high:
            raise ValueError(must)
        return float(text)

    return parse


def count(low: int, high: int) -> Callable[[str], int]:
    """A whole number in this range."""

    def parse(text: str) -> int:
        must = f"must be a whole number from {low} to {high}"
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(must)
        return int(text)

    return parse


def flag(text: str) -> bool:
    """True or false."""
    if text not in {"true", "false"}:
        msg = "must be true or false"
        raise ValueError(msg)
    return text == "true"


def guid(text: str) -> str:
    """A GUID, in lower case."""
    if not _GUID.fullmatch(text):
        msg = "must be a GUID"
        raise ValueError(msg)
    # Portals show GUIDs in either case; tokens hold them in lower case.
    return text.lower()


def issuers(text: str) -> tuple[OidcIssuer, ...]:
    """A JSON list of OpenID Connect issuers."""
    must = 'must be a JSON list of {"issuer", "audiences", "jwks_uri"?, "jwks_hosts"?}'
    try:
        entries = json.loads(text or "[]")
        return tuple(
            OidcIssuer(
                entry.pop("issuer"),
                _names(entry.pop("audiences")),
                entry.pop("jwks_uri", None),
                jwks_hosts=_names(entry.pop("jwks_hosts", [])),
                **entry,
            )
            for entry in entries
        )
    except Misconfigured as wrong:
        raise ValueError(f"holds a wrong entry: {wrong.detail}") from None
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ValueError(must) from None


def _names(value: object) -> frozenset[str]:
    # A text is made of texts too: "https://x" alone would make "h" and "/" audiences of ours.
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        msg = "must be a list of texts"
        raise ValueError(msg)
    return frozenset(value)


def audience(text: str) -> str:
    """A name of the operator's own for token exchanges."""
    must = (
        "must be a name of your own such as //tokenvend.example.com; not Google's, and without "
        "/projects/ and a number, which Google's clients would look up"
    )
    if not re.fullmatch(r"[!-~]{4,200}", text) or re.search(
        r"iam\.googleapis\.com|/projects/[0-9]|/grants/", text
    ):
        raise ValueError(must)
    return text


def audit_key(text: str) -> bytes:
    """The key of token fingerprints; empty for none."""
    return fingerprint_key(text) if text else b""


account = _matching(_ACCOUNT, "must be an AWS account number of 12 digits")
region = _matching(_REGION, "must be a region such as us-central1 or eu-west-1")
domain = _matching(_DOMAIN, "must be a domain such as googleapis.com")
api_id = _matching(re.compile(r"[a-z0-9]{1,40}"), "must be API ids, comma-separated")
alias = _matching(re.compile(r"[A-Za-z0-9_-]{1,128}"), "must be an alias's name")
role = _matching(_ROLE, "must be arn:aws:iam::ACCOUNT:role/NAME, at most 43 characters of NAME")
provider = _matching(
    _PROVIDER,
    "must be //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/"
    "providers/ID, without https: and with the project's number",
)


def is_googles(audience: str) -> bool:
    """Whether the audience is a Google provider's."""
    return audience.removeprefix("https:").startswith(_GOOGLE_IAM)
