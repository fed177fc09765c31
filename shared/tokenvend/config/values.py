"""What the text of a setting may be: each parser gives the value that is used, or raises ValueError
with what the text must be. It never quotes the text, which may be a secret in the wrong place.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tokenvend import identifiers
from tokenvend.audit.chain import fingerprint_key
from tokenvend.caller.oidc import OidcIssuer
from tokenvend.wire.objects import once

if TYPE_CHECKING:
    from collections.abc import Callable

_PROVIDER = re.compile(
    r"//iam\.googleapis\.com/projects/[0-9]+/locations/global/workloadIdentityPools/[a-z0-9-]{4,32}"
    r"/providers/[a-z0-9-]{4,32}"
)
# The name goes into google.subject together with a session's, and that has 127 bytes.
_ROLE = re.compile(
    rf"arn:(?:{identifiers.PARTITION}):iam::[0-9]{{12}}:role/"
    rf"(?:{identifiers.AWS_NAME}{{1,510}}/)*{identifiers.AWS_NAME}{{1,43}}"
)
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_PROXY = re.compile(
    r"(?:http://)?(?P<rest>(?:[!-.0-?A-~]+@)?(?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::(?P<port>[0-9]{1,5}))?)/?"
)
_MAX_PORT = 65_535


def list_of[T](item: Callable[[str], T]) -> Callable[[str], frozenset[T]]:
    """Several values with commas between; empty for none."""

    def parse(text: str) -> frozenset[T]:
        items = frozenset(item(part.strip()) for part in text.split(",") if part.strip())
        if text and not items:
            raise ValueError("holds nothing between its commas")
        return items

    return parse


def optional(item: Callable[[str], str]) -> Callable[[str], str]:
    """A value, or an empty text."""
    return lambda text: text and item(text)


def number[N: (int, float)](kind: type[N], low: N, high: N) -> Callable[[str], N]:
    """A number in this range."""
    whole = kind is int
    form = r"[0-9]{1,9}" if whole else r"[0-9]{1,5}(\.[0-9]{1,3})?"

    def parse(text: str) -> N:
        if not re.fullmatch(form, text) or not low <= kind(text) <= high:
            raise ValueError(f"must be a {'whole ' * whole}number from {low} to {high}")
        return kind(text)

    return parse


def flag(text: str) -> bool:
    """True or false."""
    if text not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text == "true"


def guid(text: str) -> str:
    """A GUID, in lower case, which is how tokens hold it; portals show either."""
    if not identifiers.GUID.fullmatch(text.lower()):
        raise ValueError("must be a GUID")
    return text.lower()


def issuers(text: str) -> tuple[OidcIssuer, ...]:
    """A JSON list of OpenID Connect issuers."""
    try:
        entries = json.loads(text or "[]", object_pairs_hook=once)
        return tuple(_issuer(**entry) for entry in entries)
    except (TypeError, RecursionError, json.JSONDecodeError):
        raise ValueError(
            'must be a JSON list of {"issuer", "audiences", "jwks_uri"?, "jwks_hosts"?}'
        ) from None


def _issuer(
    *, issuer: object, audiences: object, jwks_uri: object = None, jwks_hosts: object = ()
) -> OidcIssuer:
    url = _matching(identifiers.HTTPS_URL, "must hold issuers and jwks_uri as https URLs, no port")
    names = frozenset(map(audience_of_callers, _texts(audiences)))
    if not names:
        raise ValueError("must hold for every issuer the audience that names this endpoint")
    keys = None if jwks_uri is None else url(*_texts([jwks_uri]))
    host = _matching(_DOMAIN, "must hold jwks_hosts as host names")
    hosts = frozenset(map(host, _texts(jwks_hosts)))
    return OidcIssuer(url(*_texts([issuer])), names, keys, hosts)


def _texts(value: object) -> list[str]:
    # A text is made of texts too: "https://x" alone would make "h" and "/" audiences of ours.
    if value == () or (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        return list(value)
    raise TypeError


def audience_of_callers(text: str) -> str:
    """A name for which callers' tokens may be made. Google's would be worth something there."""
    if not re.fullmatch(r"[!-~]{1,255}", text):
        raise ValueError("must hold audiences of visible characters, at most 255")
    if re.search(r"iam\.googleapis\.com", text, re.IGNORECASE):
        raise ValueError("holds a Google provider's name: callers need an audience of their own")
    return text


def audience(text: str) -> str:
    """A name of the operator's own for token exchanges."""
    if not re.fullmatch(r"[!-~]{4,200}", text) or re.search(
        r"iam\.googleapis\.com|/projects/[0-9]|/grants/", text, re.IGNORECASE
    ):
        raise ValueError(
            "must be a name of your own such as //tokenvend.example.com; not Google's, and without "
            "/projects/ and a number, which Google's clients would look up"
        )
    return text


def audit_key(text: str) -> bytes:
    """The key of token fingerprints; empty for none."""
    return fingerprint_key(text) if text else b""


def proxy(text: str) -> str:
    """The URL of an http proxy; empty for none. Without a scheme it is one, as for curl."""
    match = _PROXY.fullmatch(text)
    if text and (match is None or int(match["port"] or 0) > _MAX_PORT):
        raise ValueError("must be the address of an http proxy, such as http://proxy.example:3128")
    return f"http://{match['rest']}" if match else ""


def _matching(pattern: re.Pattern[str], must: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(must)
        return text

    return parse


account = _matching(identifiers.AWS_ACCOUNT, "must be an AWS account number of 12 digits")
aws_region = _matching(identifiers.AWS_REGION, "must be an AWS region such as eu-west-1")
google_region = _matching(identifiers.GOOGLE_REGION, "must be a Google region like us-central1")
api_id = _matching(identifiers.API_ID, "must be API ids, comma-separated")
alias = _matching(identifiers.LAMBDA_ALIAS, "must be an alias's name")
function_name = _matching(identifiers.LAMBDA_NAME, "must be a Lambda function's name")
role = _matching(_ROLE, "must be arn:aws:iam::ACCOUNT:role/NAME, at most 43 characters of NAME")
app_role = _matching(identifiers.APP_ROLE, "must be app roles' values, comma-separated")
domain = _matching(_DOMAIN, "must be a domain such as googleapis.com")
resource = _matching(re.compile(r"[!-~]{1,255}"), "must be an Application ID URI")
provider = _matching(
    _PROVIDER,
    "must be //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/"
    "providers/ID, without https: and with the project's number",
)
