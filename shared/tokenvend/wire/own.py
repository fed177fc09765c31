"""Our own dialect: bodies -> TokenRequest, tokens and callers -> JSON, errors -> RFC 9457 problems.

Requests are rebuilt from the few fields we name; anything else in them is refused, so that a
caller who misspells `scopes` is told, and never gets more than was asked for. Parsing raises
`InvalidRequest` and nothing else. What is rendered is the value: whoever serves HTTP makes bytes
of it, a direct invoke does not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tokenvend import errors
from tokenvend.errors import InvalidRequest
from tokenvend.identifiers import GRANT_NAME, is_service_account_email
from tokenvend.lifetimes import parse_lifetime
from tokenvend.model import (
    AccessTokenRequest,
    AccessTokenSpec,
    AwsCaller,
    EntraCaller,
    IdTokenRequest,
    IdTokenSpec,
    LambdaCaller,
    OidcCaller,
    TokenRequest,
    VendedToken,
)
from tokenvend.wire.objects import read_object, rfc3339

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tokenvend.errors import TokenvendError
    from tokenvend.model import Caller

STATUSES: Mapping[type[TokenvendError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "The request cannot be understood"),
    errors.Unauthenticated: (401, "The caller is not authenticated"),
    errors.Denied: (403, "The caller may not have this"),
    errors.NotFound: (404, "There is no such route"),
    errors.MethodNotAllowed: (405, "The route takes another method"),
    errors.PayloadTooLarge: (413, "The body is too large"),
    errors.UnsupportedMediaType: (415, "The body's format is not supported"),
    errors.RateLimited: (429, "A quota is spent"),
    errors.Misconfigured: (500, "The endpoint is misconfigured"),
    errors.TokenvendError: (500, "The endpoint failed"),
    errors.UpstreamRefused: (502, "An upstream refused the endpoint"),
    errors.UpstreamUnavailable: (503, "An upstream is unavailable"),
    errors.NotReady: (503, "The endpoint is not ready"),
    errors.DeadlineExceeded: (504, "The time ran out"),
}

MAX_BODY = 64 * 1024
MAX_SCOPES = 100
# Of all scopes asked for, characters: more than any grant has.
MAX_SCOPE_TEXT = 8192

# A scope is an RFC 6749 section 3.3 scope-token.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}")
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,2048}")


def parse_access_token_request(body: bytes) -> AccessTokenRequest:
    """The body of `POST /v1/access-token`; an empty one asks for all the caller's grant has.

    Raises InvalidRequest.
    """
    fields = _fields(body, {"service_account", "grant", "scopes", "lifetime", "boundary"})
    if "boundary" in fields:
        # Ignoring it, an empty one too, would hand out the full token to someone who asked for a
        # narrow one.
        raise InvalidRequest("This endpoint cannot enforce a boundary yet: ask without one.")
    return AccessTokenRequest(
        service_account=_service_account(fields),
        grant_name=_grant_name(fields),
        scopes=_scopes(fields),
        lifetime=_lifetime(fields),
    )


def parse_id_token_request(body: bytes) -> IdTokenRequest:
    """The body of `POST /v1/id-token`. Raises InvalidRequest."""
    fields = _fields(body, {"audience", "service_account", "grant", "include_email"})
    audience = fields.get("audience")
    if not isinstance(audience, str) or not _AUDIENCE.fullmatch(audience):
        raise InvalidRequest(
            "`audience` must name who will accept the token, such as a Cloud Run service's URL."
        )
    include_email = fields.get("include_email", True)
    if not isinstance(include_email, bool):
        raise InvalidRequest("`include_email` must be true or false.")
    return IdTokenRequest(
        audience=audience,
        service_account=_service_account(fields),
        grant_name=_grant_name(fields),
        include_email=include_email,
    )


def are_scopes(scopes: Collection[object]) -> bool:
    """Whether these are scopes, and not too many of them."""
    texts = [scope for scope in scopes if isinstance(scope, str) and _SCOPE.fullmatch(scope)]
    return len(texts) == len(scopes) <= MAX_SCOPES and sum(map(len, texts)) <= MAX_SCOPE_TEXT


def render_token(token: VendedToken, now: int) -> dict[str, Any]:
    """The answer to either request. `now`: epoch seconds."""
    spec = token.spec
    common = {
        "expires_in": max(0, token.expires_at - now),
        "expires_at": rfc3339(token.expires_at),
    }
    match spec:
        case AccessTokenSpec():
            return {
                "access_token": token.value.reveal(),
                "token_type": "Bearer",
                **common,
                "service_account": spec.service_account,
                "scopes": list(spec.scopes),
                "grant": spec.grant_name,
            }
        case IdTokenSpec():
            return {
                "id_token": token.value.reveal(),
                **common,
                "audience": spec.audience,
                "service_account": spec.service_account,
                "grant": spec.grant_name,
            }


def render_error(error: TokenvendError, request_id: str) -> tuple[int, str, dict[str, Any]]:
    """Status, media type and body of an outcome that is no token."""
    status, title = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    problem = {
        "type": f"urn:tokenvend:problem:{error.code}",
        "title": title,
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "request_id": request_id,
    }
    return status, "application/problem+json", problem


def render_caller(caller: Caller) -> dict[str, Any]:
    """A caller as it is told to itself by `GET /v1/grants`."""
    more: dict[str, Any]
    match caller:
        case AwsCaller():
            more = {"account": caller.account, "session": caller.session}
        case LambdaCaller():
            more = {"account": caller.account, "alias": caller.alias}
        case EntraCaller():
            more = {
                "tenant": caller.tenant,
                "object_id": caller.object_id,
                "app_id": caller.app_id,
                "roles": sorted(caller.roles),
            }
        case OidcCaller():
            more = {"issuer": caller.issuer, "subject": caller.subject}
    return {"kind": caller.kind, "id": caller.id, **more}


def describe(request: TokenRequest) -> dict[str, Any]:
    """A request as it is written into the audit record."""
    match request:
        case AccessTokenRequest():
            return {
                "kind": "access_token",
                "service_account": request.service_account,
                "grant": request.grant_name,
                "scopes": list(request.scopes),
                "lifetime": request.lifetime,
            }
        case IdTokenRequest():
            return {
                "kind": "id_token",
                "service_account": request.service_account,
                "grant": request.grant_name,
                "audience": request.audience,
            }


def _fields(body: bytes, known: set[str]) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = read_object(body)
    except ValueError:
        raise InvalidRequest(
            "The body must be one JSON object that names no field twice."
        ) from None
    unknown = sorted(value.keys() - known)
    if unknown:
        named = ", ".join(repr(name[:40]) for name in unknown[:5])
        raise InvalidRequest(
            f"Unknown field {named}. This route takes: {', '.join(sorted(known))}."
        )
    return value


def _service_account(fields: dict[str, Any]) -> str | None:
    value = fields.get("service_account")
    if value is None or (isinstance(value, str) and is_service_account_email(value)):
        return value
    raise InvalidRequest(
        "`service_account` must be a service account's email, such as "
        "name@project.iam.gserviceaccount.com."
    )


def _grant_name(fields: dict[str, Any]) -> str | None:
    value = fields.get("grant")
    if value is None or (isinstance(value, str) and GRANT_NAME.fullmatch(value)):
        return value
    raise InvalidRequest("`grant` must be the name of a grant; GET /v1/grants lists yours.")


def _scopes(fields: dict[str, Any]) -> tuple[str, ...]:
    value = fields.get("scopes")
    if value is None:
        return ()
    if isinstance(value, list) and value and are_scopes(value):
        return tuple(dict.fromkeys(value))
    raise InvalidRequest(
        f"`scopes` must be a list of 1 to {MAX_SCOPES} OAuth scopes without blanks, "
        f"at most {MAX_SCOPE_TEXT} characters in all."
    )


def _lifetime(fields: dict[str, Any]) -> int | None:
    value = fields.get("lifetime")
    if value is None:
        return None
    try:
        return parse_lifetime(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InvalidRequest(f"`lifetime` {error}.") from None
