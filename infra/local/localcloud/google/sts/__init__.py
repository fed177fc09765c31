"""Google Security Token Service: `POST /v1/token` (RFC 8693) and `POST /v1/introspect` (RFC 7662).

Takes a form with snake_case names or JSON with camelCase names, answers in snake_case, and refuses
with Google's error codes and texts. Verifies the credential (an AWS GetCallerIdentity request or an
OIDC token), maps its attributes and checks the provider's condition before a token is issued; a
Google access token with an access boundary is exchanged for a downscoped one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl, unquote

from localcloud.google.core import audit
from localcloud.google.core.errors import (
    OAuthError,
    answering,
    json_object,
    not_found,
    unknown_field,
)
from localcloud.google.core.tokens import IssuedToken, bearer
from localcloud.google.sts import boundary, federation
from localcloud.wire.web import Request, Response, Site
from localcloud.world.resources import camel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.cloud import GoogleCloud

SERVICE = "sts.googleapis.com"
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type, not a token
AWS4_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"
JWT_TYPES = frozenset(f"urn:ietf:params:oauth:token-type:{kind}" for kind in ("jwt", "id_token"))
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
_PROVIDER = re.compile(
    r"//iam\.googleapis\.com/(projects/[0-9]+/locations/global/workloadIdentityPools/"
    r"[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32})"
)
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_AUDIENCE_TEXT = (
    'Invalid value for "audience". This value should be the full resource name of the Identity '
    "Provider. See https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the "
    "list of possible formats."
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A token-exchange request whose fixed fields have been checked."""

    audience: str
    scopes: frozenset[str]
    subject_token: str
    subject_token_type: str
    options: Mapping[str, Any]


def site(cloud: GoogleCloud) -> Site:
    """The Security Token Service, at its global and regional hostnames."""

    def serve(request: Request) -> Response:
        if request.method == "POST" and request.path == "/v1/token":
            return _exchange(cloud, request)
        if request.method == "POST" and request.path == "/v1/introspect":
            return _introspect(cloud, request)
        return not_found(request)

    return answering(serve)


def _exchange(cloud: GoogleCloud, request: Request) -> Response:
    exchange = _parse(_fields(request))
    now = cloud.clock()
    if exchange.subject_token_type == ACCESS_TOKEN:
        token = boundary.downscope(
            cloud, exchange.subject_token, exchange.options, exchange.scopes, now
        )
        return _answer(token, cloud.tokens.issue(token, now), now)
    match = _PROVIDER.fullmatch(exchange.audience)
    if match is None:
        raise OAuthError("invalid_request", _AUDIENCE_TEXT)
    if exchange.options.get("accessBoundary") is not None:
        text = "An access boundary needs a Google access token as the subject_token."
        raise OAuthError("invalid_request", text)
    if not exchange.scopes:
        raise OAuthError("invalid_request", 'Missing required field "scope".')
    kind: Literal["aws", "oidc"] = "aws" if exchange.subject_token_type == AWS4_REQUEST else "oidc"
    principal, expires = federation.identify(cloud, match[1], kind, exchange.subject_token, now)
    token = IssuedToken(principal, exchange.scopes, expires)
    cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(now),
            service_name=SERVICE,
            method_name="google.identity.sts.v1.SecurityTokenService.ExchangeToken",
            resource_name=match[1],
            authentication_info={"principalSubject": principal.external_subject},
            metadata={
                "@type": "type.googleapis.com/google.identity.sts.v1.AuditData",
                "mapped_principal": principal.identifier,
            },
            request_reason=request.headers.get("X-Goog-Request-Reason"),
        )
    )
    return _answer(token, cloud.tokens.issue(token, now), now)


def _answer(token: IssuedToken, text: str, now: float) -> Response:
    body = {
        "access_token": text,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": token.expires_at - int(now),
    }
    return Response.json(200, body, ("Cache-Control", "no-store"))


def _introspect(cloud: GoogleCloud, request: Request) -> Response:
    """Google wants the caller's own token in the body or as Bearer; the answer is RFC 7662's."""
    text = _fields(request, ("token", "token_type_hint")).get("token") or bearer(request)
    if not text:
        raise OAuthError("invalid_request", 'Missing required field "token".')
    now = cloud.clock()
    token = cloud.tokens.live(text, cloud.world, now)
    if token is None:
        return Response.json(200, {"active": False})
    body = {
        "active": True,
        "scope": " ".join(sorted(token.scopes)),
        "username": token.principal.identifier,
        "token_type": "Bearer",
        "exp": token.expires_at,
        "iss": "https://sts.googleapis.com/",
    }
    return Response.json(200, body)


def _fields(request: Request, names: tuple[str, ...] = FIELDS) -> dict[str, str]:
    kind = request.headers.get("Content-Type").partition(";")[0].strip().lower()
    if kind == "application/json":
        return _json_fields(request.body, names)
    if kind != "application/x-www-form-urlencoded":
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


def _json_fields(body: bytes, names: tuple[str, ...]) -> dict[str, str]:
    by_wire = {camel(name): name for name in names} | {name: name for name in names}
    fields: dict[str, str] = {}
    for key, value in json_object(body).items():
        if key not in by_wire:
            raise unknown_field(key)
        if not isinstance(value, str):
            raise OAuthError("invalid_request", f'Invalid value for "{by_wire[key]}".')
        fields[by_wire[key]] = value
    return fields


def _parse(fields: Mapping[str, str]) -> Exchange:
    for name in ("grant_type", "requested_token_type", "subject_token_type", "subject_token"):
        if not fields.get(name):
            raise OAuthError("invalid_request", f'Missing required field "{name}".')
    if fields["grant_type"] != GRANT:
        raise OAuthError("unsupported_grant_type", 'Invalid value for "grant_type".')
    if fields["requested_token_type"] != ACCESS_TOKEN:
        raise OAuthError("invalid_request", 'Invalid value for "requested_token_type".')
    kind = fields["subject_token_type"]
    if kind not in JWT_TYPES | {AWS4_REQUEST, ACCESS_TOKEN}:
        raise OAuthError("invalid_request", 'Invalid value for "subject_token_type".')
    if fields.get("actor_token") or fields.get("actor_token_type"):
        raise OAuthError("invalid_request", 'Invalid value for "actor_token".')
    scopes = fields.get("scope", "").split()
    if not all(_SCOPE.fullmatch(scope) for scope in scopes):
        raise OAuthError("invalid_scope", 'Invalid value for "scope".')
    return Exchange(
        fields.get("audience", ""),
        frozenset(scopes),
        fields["subject_token"],
        kind,
        _options(fields.get("options", "")),
    )


def _options(text: str) -> Mapping[str, Any]:
    if not text:
        return {}
    try:
        # google-auth for Python percent-encodes the JSON inside the form; Google takes both.
        options = json.loads(unquote(text) if text.startswith("%") else text)
    except (ValueError, RecursionError):
        options = None
    allowed = {"userProject", "accessBoundary", "bindCertFingerprint"}
    if not isinstance(options, dict) or not options.keys() <= allowed:
        raise OAuthError("invalid_request", 'Invalid value for "options".')
    return options
