"""Finds what looks like a credential in a text and puts `***` in its place.

Purely by form: a Google access token, a JWT, a SigV4 signature, a private key look like nothing
else, and a few headers and settings are known by name. Fingerprints, request ids and ARNs pass.
No match crosses the end of a JSON string, so masked JSON stays JSON: a caller who sends half a
private key must not make its own audit record unreadable.
"""

from __future__ import annotations

import re

MASK = "***"

# A text without any of these, in lower case, holds nothing that `_CREDENTIAL` matches.
_HINTS = (
    *("ya29.", "eyj", "iqoj", "fwog", "fqog", "aqodyxdz"),
    *("bearer", "basic", "signature", "private key", "security-token", "functions-key"),
    *("identity-header", "identity_header", "session_token", "sessiontoken", "secret"),
    *("code=", "sig="),
)

# The names whose values have no form of their own.
_NAME = (
    r"(?i:x-amz-security-token|x-functions-key|x-identity-header|identity_header"
    r"|aws_secret_access_key|secretaccesskey|aws_session_token|sessiontoken|client_secret)"
)
_QUOTE = r"""b?\\*["']"""
_VALUE = r"""[^\s"'\\&,;:)}\]]{6,}"""

# Each form is one run of characters without a quote: no input makes the search start over and over.
_FORMS = (
    r"ya29\.[A-Za-z0-9._~+/=-]{8,}",
    # A JWT, whole or cut off: Base64 of `{"`.
    r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+)*",
    # Session tokens of AWS begin with one of these: Base64 of their format's version.
    r"(?:IQoJb3JpZ2lu|[FI][wQ]oGZXIvYXdz|AQoDYXdz)[A-Za-z0-9+/=%-]{16,}",
    # `|` stands before each line in the traceback of an exception group.
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----(?:[A-Za-z0-9+/=\s:.,|-]|\\+[nr])*",
    r"(?P<bearer>(?i:\bBearer(?:\s+|%20|\+)))[A-Za-z0-9._~+/-]{16,}=*",
    rf"(?P<basic>(?i:Authorization(?:{_QUOTE})?\s*[:=]\s*(?:{_QUOTE})?Basic\s+))[A-Za-z0-9+/]{{6,}}=*",
    rf"(?P<sigv4>(?i:Signature(?:(?:{_QUOTE})?\s*[:=]\s*(?:{_QUOTE})?|%(?:25)*3D)))[0-9A-Fa-f]{{32,}}",
    # `name: value` and `name=value`, plain or quoted.
    rf"(?P<plain>{_NAME}\s*[:=]\s*(?:{_QUOTE})?){_VALUE}",
    rf"(?P<quoted>{_NAME}{_QUOTE}\s*:\s*{_QUOTE}){_VALUE}",
    # A pair as Python prints it; and Google's list of key/value objects, as JSON or in a form.
    # One quote opens and closes the name: `('` inside a JSON string must not make its end a pair's
    # comma, and the next member's name a value.
    rf"(?P<pair>[\[(]\s*b?(?P<quote>\\*[\"']){_NAME}(?P=quote),\s*{_QUOTE}){_VALUE}",
    rf"(?P<object>{_NAME}{_QUOTE},\s*{_QUOTE}value{_QUOTE}\s*:\s*{_QUOTE}){_VALUE}",
    # Possessive: a `%22` given back would be a value, with `***`, when the text is masked again.
    rf"(?P<form>{_NAME}(?:%(?:25)*(?:20|22|27|2[Cc]|3[AaDd])|value)++){_VALUE}",
    # Keys of Azure Functions and signatures of Azure Storage in a URL.
    r"""(?P<query>[?&](?:code|sig)=)[^\s"'\\&#]{6,}""",
    r"(?P<code>\bcode=)[A-Za-z0-9_=/+%-]{40,}",
)
_CREDENTIAL = re.compile("|".join(_FORMS))


def mask(text: str) -> str:
    """The text without its credentials; the same object where there are none. Idempotent."""
    lower = text.lower()
    if not any(hint in lower for hint in _HINTS):
        return text
    masked = _CREDENTIAL.sub(_replacement, text)
    return text if masked == text else masked


def _replacement(match: re.Match[str]) -> str:
    # What led to the value stays, so that a reader sees what was there.
    return (match[match.lastgroup] if match.lastgroup else "") + MASK
