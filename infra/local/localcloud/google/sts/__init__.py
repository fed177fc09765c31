"""Google Security Token Service: a credential from elsewhere becomes a Google token (RFC 8693).

Verifies the credential (an AWS GetCallerIdentity request or an OIDC token), maps its attributes and
checks the provider's condition before a token is issued; a Google access token with an access
boundary is exchanged for a downscoped one. Answers in snake_case, and refuses with Google's error
codes and texts. `/v1/introspect` tells the holder of a token what it is (RFC 7662).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localcloud.google.core import audit
from localcloud.google.core.errors import OAuthError
from localcloud.google.core.principals import UserPrincipal
from localcloud.google.core.tokens import IssuedToken, bearer
from localcloud.google.sts import boundary, federation, message
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from localcloud.google.core.api import Call, Handler
    from localcloud.google.sts.message import Exchange

SERVICE_NAME = "sts.googleapis.com"
_PROVIDER = re.compile(
    r"//iam\.googleapis\.com/(projects/[0-9]+/locations/global/workloadIdentityPools/"
    r"[a-z0-9-]{4,32}/providers/[a-z0-9-]{4,32})"
)
_AUDIENCE_TEXT = (
    'Invalid value for "audience". This value should be the full resource name of the Identity '
    "Provider. See https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token for the "
    "list of possible formats."
)


def _exchange(call: Call) -> Response:
    exchange = message.read(call.request)
    downscoped = exchange.subject_token_type == message.ACCESS_TOKEN
    token = boundary.downscope(call, exchange) if downscoped else _federate(call, exchange)
    body: dict[str, str | int] = {
        "access_token": call.cloud.tokens.issue(token, call.now),
        "issued_token_type": message.ACCESS_TOKEN,
        "token_type": "Bearer",
    }
    if not (downscoped and isinstance(token.principal, UserPrincipal)):
        # Of a person's token Google does not say it: the downscoped one ends with its source.
        body["expires_in"] = token.expires_at - int(call.now)
    return Response.json(200, body, ("Cache-Control", "no-store"))


def _federate(call: Call, exchange: Exchange) -> IssuedToken:
    match = _PROVIDER.fullmatch(exchange.audience)
    if match is None:
        raise OAuthError("invalid_request", _AUDIENCE_TEXT)
    options = exchange.options
    if options.access_boundary is not None:
        text = "An access boundary needs a Google access token as the subject_token."
        raise OAuthError("invalid_request", text)
    if not exchange.scopes:
        raise OAuthError("invalid_request", 'Missing required field "scope".')
    principal, expires = federation.identify(
        call.cloud, match[1], _kind(exchange), exchange.subject_token, call.now
    )
    call.cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(call.now),
            service_name=SERVICE_NAME,
            method_name="google.identity.sts.v1.SecurityTokenService.ExchangeToken",
            resource_name=match[1],
            authentication_info={"principalSubject": principal.external_subject},
            metadata={
                "@type": "type.googleapis.com/google.identity.sts.v1.AuditData",
                "mapped_principal": principal.identifier,
            },
            request_reason=call.request.headers.get("X-Goog-Request-Reason"),
        )
    )
    return IssuedToken(
        principal,
        exchange.scopes,
        expires,
        user_project=options.user_project,
        certificate=options.certificate,
    )


def _kind(exchange: Exchange) -> federation.Kind:
    if exchange.subject_token_type == message.AWS4_REQUEST:
        return "aws"
    return "oidc" if exchange.subject_token_type in message.JWT_TYPES else "other"


def _introspect(call: Call) -> Response:
    """Google wants the caller's own token in the body or as Bearer; the answer is RFC 7662's."""
    fields = message.read_fields(call.request, ("token", "token_type_hint"))
    text = fields.get("token") or bearer(call.request)
    if not text:
        raise OAuthError("invalid_request", 'Missing required field "token".')
    token = call.cloud.tokens.live(text, call.cloud.world, call.now)
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


_KEYS_OF_POOLS = "it publishes the keys of a pool that issues credentials itself; no world has one"

SERVICE: Service[Handler] = Service(
    "Security Token Service",
    (SERVICE_NAME, "sts.mtls.googleapis.com", "sts.*.rep.googleapis.com"),
    (
        Route("POST", "/v1/token", _exchange),
        Route("POST", "/v1beta/token", _exchange),
        Route("POST", "/v1/introspect", _introspect),
    ),
    document="sts.v1",
    unserved=(
        Unserved(
            "sts.token#access_boundary_intermediary_token",
            "how a client cuts its own boundaries is documented nowhere but in one library",
        ),
        Unserved("sts.organizations.*", _KEYS_OF_POOLS),
        Unserved("sts.projects.*", _KEYS_OF_POOLS),
    ),
)
