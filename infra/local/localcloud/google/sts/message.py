"""The token-exchange request: a form with snake_case names, or JSON in camelCase (RFC 8693).

Refuses what Google's own service refuses before it looks at the credential: missing and repeated
fields, other grant and token types, unknown scopes, options out of bounds.
https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from localcloud.google.core import scopes
from localcloud.google.core.errors import OAuthError
from localcloud.google.core.messages import STRING, read_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.wire.web import Request

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, not a token
AWS4_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
INTERMEDIARY = "urn:ietf:params:oauth:token-type:access_boundary_intermediary_token"
JWT_TYPES = frozenset(f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("jwt", "id_token"))
# For providers of kinds that no world has; Google knows the types and refuses them elsewhere.
OTHER_TYPES = frozenset(f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("saml2", "mtls"))
FIELDS = (
    "grant_type",
    "audience",
    "scope",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "options",
)
MAX_OPTIONS = 4 * 1024 * 1024
MAX_USER_PROJECT = 32
_FORM = "application/x-www-form-urlencoded"
_PROJECT = re.compile(r"[a-z0-9][a-z0-9:.-]*")
_FINGERPRINT = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks for beside the exchange itself.

    Args:
        access_boundary: google.identity.sts.v1.AccessBoundary, not looked at yet.
        user_project: the project that calls with the token are counted on.
        certificate: the SHA-256 of the client certificate that the token is bound to, in base64url.

    """

    access_boundary: Any = None
    user_project: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A token-exchange request whose fixed fields have been checked."""

    audience: str
    scopes: frozenset[str]
    subject_token: str
    subject_token_type: str
    options: Options


def read(request: Request) -> Exchange:
    """The exchange that a request asks for; raises OAuthError, for JSON also GoogleError."""
    fields = read_fields(request, FIELDS)
    for name in ("grant_type", "requested_token_type", "subject_token_type", "subject_token"):
        if not fields.get(name):
            raise OAuthError("invalid_request", f'Missing required field "{name}".')
    if fields["grant_type"] != GRANT:
        raise OAuthError("unsupported_grant_type", _invalid("grant_type"))
    if fields["requested_token_type"] == INTERMEDIARY:
        text = "The embedded cloud does not serve access_boundary_intermediary_token."
        raise OAuthError("invalid_request", text)
    if fields["requested_token_type"] != ACCESS_TOKEN:
        raise OAuthError("invalid_request", _invalid("requested_token_type"))
    kind = fields["subject_token_type"]
    if kind not in JWT_TYPES | OTHER_TYPES | {AWS4_REQUEST, ACCESS_TOKEN}:
        raise OAuthError("invalid_request", _invalid("subject_token_type"))
    _check_actor(fields)
    asked = frozenset(fields.get("scope", "").split())
    if not scopes.all_known(asked):
        raise OAuthError("invalid_scope", _invalid("scope"))
    options = _options(fields.get("options", ""))
    return Exchange(fields.get("audience", ""), asked, fields["subject_token"], kind, options)


def read_fields(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    """The named fields of a form or a JSON object; other fields of a form are passed over."""
    # google-cloud-cpp sends the form's type twice in one field.
    kinds = {kind.partition(";")[0].strip().lower() for kind in _content_types(request)}
    if kinds == {"application/json"}:
        return read_message(request.body, dict.fromkeys(names, STRING))
    if kinds != {_FORM}:
        raise OAuthError("invalid_request", "Unsupported content type.")
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(request.body)
        )
    except ValueError:
        raise OAuthError("invalid_request", "The request body is not a form.") from None
    seen = [name for name, _ in pairs]
    repeated = next((name for name in names if seen.count(name) > 1), None)
    if repeated is not None:
        # RFC 6749 section 3.2: parameters must not be included more than once.
        raise OAuthError("invalid_request", f'Repeated field "{repeated}".')
    return {name: value for name, value in pairs if name in names}


def _content_types(request: Request) -> list[str]:
    return [kind for value in request.headers.all("Content-Type") for kind in value.split(",")]


def _check_actor(fields: Mapping[str, str]) -> None:
    """RFC 8693 section 2.1; no provider of a world names actor providers."""
    token, kind = fields.get("actor_token", ""), fields.get("actor_token_type", "")
    if token and not kind:
        raise OAuthError("invalid_request", 'Missing required field "actor_token_type".')
    if kind and not token:
        raise OAuthError("invalid_request", 'Missing required field "actor_token".')
    if kind and kind not in JWT_TYPES:
        raise OAuthError("invalid_request", _invalid("actor_token_type"))
    if token:
        text = f"{_invalid('actor_token')} The provider has no actor providers."
        raise OAuthError("invalid_request", text)


def _options(text: str) -> Options:
    if not text:
        return Options()
    if len(text) > MAX_OPTIONS:
        raise OAuthError("invalid_request", _invalid("options"))
    try:
        # google-auth for Python percent-encodes the JSON inside the form; Google takes both.
        options = json.loads(unquote(text) if text.startswith("%") else text)
    except (ValueError, RecursionError):
        options = None
    known = {"userProject", "accessBoundary", "bindCertFingerprint"}
    if not isinstance(options, dict) or not options.keys() <= known:
        raise OAuthError("invalid_request", _invalid("options"))
    project, certificate = options.get("userProject"), options.get("bindCertFingerprint")
    if project is not None and not _fits(project, _PROJECT, MAX_USER_PROJECT):
        raise OAuthError("invalid_request", _invalid("options.userProject"))
    if certificate is not None and not _fits(certificate, _FINGERPRINT, 43):
        raise OAuthError("invalid_request", _invalid("options.bindCertFingerprint"))
    return Options(options.get("accessBoundary"), project or "", certificate or "")


def _fits(value: Any, shape: re.Pattern[str], longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and bool(shape.fullmatch(value))


def _invalid(name: str) -> str:
    return f'Invalid value for "{name}".'
