"""The bodies of our own routes: bytes -> TokenRequest, and tokens -> bytes.

Requests are rebuilt from the few fields we name; anything else in them is refused, so that a
caller who misspells `scopes` is told, and never gets more than was asked for. Parsing raises
`InvalidRequest` and nothing else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tokenvend.errors import InvalidRequest
from tokenvend.identifiers import is_service_account_email
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
from tokenvend.wire.objects import read_object, render, rfc3339

if TYPE_CHECKING:
    from collections.abc import Collection

    from tokenvend.model import Caller

MAX_BODY = 64 * 1024
MAX_SCOPES = 100
# Of all scopes asked for, characters. Application Insights cuts a line off at 32,768, and with it
# the audit record of whoever asks for enough that nobody has.
MAX_SCOPE_TEXT = 8192

# A scope is an RFC 6749 section 3.3 scope-token.
SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,512}")
_AUDIENCE = re.compile(r"[\x21-\x7e]{1,2048}")
GRANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def parse_access_token_request(body: bytes) -> AccessTokenRequest:
    """The body of `POST /v1/access-token`; an empty one asks for all the caller's grant has.

    Raises InvalidRequest.
    """
    fields = _fields(body, {"service_account", "grant", "scopes", "lifetime", "boundary"})
    if fields.get("boundary"):
        # Ignoring it would hand out the full token to someone who asked for a narrow one.
        msg = "This endpoint cannot enforce a boundary yet: ask without one."
        raise InvalidRequest(msg)
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
        msg = "`audience` must name who will accept the token, such as a Cloud Run service's URL."
        raise InvalidRequest(msg)
    include_email = fields.get("include_email", True)
    if not isinstance(include_email, bool):
        msg = "`include_email` must be true or false."
        raise InvalidRequest(msg)
    return IdTokenRequest(
        audience=audience,
        service_account=_service_account(fields),
        grant_name=_grant_name(fields),
        include_email=include_email,
    )


def are_scopes(scopes: Collection[str]) -> bool:
    """Whether these are scopes, and not too many of them."""
    return (
        len(scopes) <= MAX_SCOPES
        and sum(map(len, scopes)) <= MAX_SCOPE_TEXT
        and all(SCOPE.fullmatch(scope) for scope in scopes)
    )


def render_token(token: VendedToken, now: int) -> bytes:
    """The answer to either request. `now`: epoch seconds."""
    spec = token.spec
    common: dict[str, Any] = {
        "expires_in": max(0, token.expires_at - now),
        "expires_at": rfc3339(token.expires_at),
    }
    match spec:
        case AccessTokenSpec():
            answer = {
                "access_token": token.value.reveal(),
                "token_type": "Bearer",
                **common,
                "service_account": spec.service_account,
                "scopes": list(spec.scopes),
                "grant": spec.grant_name,
            }
        case IdTokenSpec():
            answer = {
                "id_token": token.value.reveal(),
                **common,
                "audience": spec.audience,
                "service_account": spec.service_account,
                "grant": spec.grant_name,
            }
    return render(answer)


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
        msg = "The body must be one JSON object that names no field twice."
        raise InvalidRequest(msg) from None
    unknown = sorted(value.keys() - known)
    if unknown:
        named = ", ".join(repr(name[:40]) for name in unknown[:5])
        msg = f"Unknown field {named}. This route takes: {', '.join(sorted(known))}."
        raise InvalidRequest(msg)
    return value


def _service_account(fields: dict[str, Any]) -> str | None:
    value = fields.get("service_account")
    if value is None:
        return None
    if not isinstance(value, str) or not is_service_account_email(value):
        msg = (
            "`service_account` must be a service account's email, such as "
            "name@project.iam.gserviceaccount.com."
        )
        raise InvalidRequest(msg)
    return value


def _grant_name(fields: dict[str, Any]) -> str | None:
    value = fields.get("grant")
    if value is None:
        return None
    if not isinstance(value, str) or not GRANT_NAME.fullmatch(value):
        msg = "`grant` must be the name of a grant; GET /v1/grants lists yours."
        raise InvalidRequest(msg)
    return value


def _scopes(fields: dict[str, Any]) -> tuple[str, ...]:
    value = fields.get("scopes")
    if value is None:
        return ()
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(scope, str) for scope in value)
        or not are_scopes(value)
    ):
        msg = (
            f"`scopes` must be a list of 1 to {MAX_SCOPES} OAuth scopes without blanks, "
            f"at most {MAX_SCOPE_TEXT} characters in all."
        )
        raise InvalidRequest(msg)
    return tuple(dict.fromkeys(value))


def _lifetime(fields: dict[str, Any]) -> int | None:
    value = fields.get("lifetime")
    if value is None:
        return None
    try:
        return parse_lifetime(value if isinstance(value, str) else "")
    except ValueError as error:
        raise InvalidRequest(f"`lifetime` {error}.") from None
