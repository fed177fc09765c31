"""What anybody may ask Google about its tokens: key sets, certificates, discovery, tokeninfo.

Verifiers of ID tokens and signatures read the first three; tokeninfo tells of a token what it is
good for. A federated token is none of OAuth's: tokeninfo does not know it.
https://developers.google.com/identity/openid-connect/openid-connect
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from localcloud.google.core import id_tokens
from localcloud.google.core.errors import GoogleError, OAuthError
from localcloud.google.core.principals import (
    FederatedPrincipal,
    ServiceAccountPrincipal,
    UserPrincipal,
)
from localcloud.google.core.tokens import bearer
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Response

if TYPE_CHECKING:
    from localcloud.google.core.api import Call, Handler
    from localcloud.keys import SigningKey


EMAIL_SCOPES = frozenset({"email", "https://www.googleapis.com/auth/userinfo.email"})
CERTIFICATE_DAYS = 16
GCLOUD_CLIENT = "32555940559.apps.googleusercontent.com"
_SIGNER = "federated-signon.system.gserviceaccount.com"
_CACHE = ("Cache-Control", "public, max-age=3600, must-revalidate")


def _keys(call: Call) -> Response:
    return _key_set(call.cloud.key)


def _certificates(call: Call) -> Response:
    return _pem(call.cloud.key, _SIGNER, call.now)


def _account_keys(call: Call) -> Response:
    return _key_set(call.cloud.account_key(_unique_id(call)))


def _account_certificates(call: Call) -> Response:
    unique_id = _unique_id(call)
    return _pem(call.cloud.account_key(unique_id), unique_id, call.now)


def _unique_id(call: Call) -> str:
    account = call.google.service_account(call.parameters["account"])
    if account is None:
        raise GoogleError("NOT_FOUND", "Requested entity was not found.")
    return account.unique_id


def _key_set(key: SigningKey) -> Response:
    return Response.json(200, {"keys": [key.jwk() | {"alg": "RS256"}]}, _CACHE)


def _pem(key: SigningKey, subject: str, now: float) -> Response:
    certificate = key.certificate(subject, now - 3600, CERTIFICATE_DAYS)
    return Response.json(200, {key.kid: certificate.public_bytes(Encoding.PEM).decode()}, _CACHE)


def _discovery(_call: Call) -> Response:
    document = {
        "issuer": id_tokens.ISSUER,
        "token_endpoint": "https://oauth2.googleapis.com/token",
        "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"],
    }
    return Response.json(200, document, _CACHE)


def _token_info(call: Call) -> Response:
    cloud, now = call.cloud, call.now
    if text := call.query.get("id_token"):
        claims = id_tokens.verify(text, cloud.key, now)
        if claims is None:
            raise OAuthError("invalid_token", "Invalid Value")
        return Response.json(200, {name: _shown(value) for name, value in claims.items()})
    text = call.query.get("access_token") or bearer(call.request) or ""
    if not text:
        raise OAuthError(
            "invalid_request", "either access_token, id_token, or token_handle required"
        )
    token = cloud.tokens.live(text, cloud.world, now)
    if token is None or isinstance(token.principal, FederatedPrincipal):
        raise OAuthError("invalid_token", "Invalid Value")
    client = _client(token.principal)
    info = {
        "azp": client,
        "aud": client,
        "scope": " ".join(sorted(token.scopes)),
        "exp": str(token.expires_at),
        "expires_in": str(token.expires_at - int(now)),
        "access_type": "online",
    }
    if not token.scopes.isdisjoint(EMAIL_SCOPES):
        info |= {"email": token.principal.email, "email_verified": "true"}
    return Response.json(200, info)


def _client(principal: ServiceAccountPrincipal | UserPrincipal) -> str:
    """The OAuth client that a token was issued to: an account is its own, a person's is gcloud."""
    match principal:
        case ServiceAccountPrincipal():
            return principal.unique_id
        case UserPrincipal():
            return GCLOUD_CLIENT


def _shown(value: object) -> object:
    """Tokeninfo writes every claim as a string."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


KEYS: Service[Handler] = Service(
    "Google's public keys",
    ("www.googleapis.com",),
    (
        Route("GET", "/oauth2/v1/certs", _certificates),
        Route("GET", "/oauth2/v3/certs", _keys),
        Route("GET", "/oauth2/v3/tokeninfo", _token_info),
        Route("GET", "/service_accounts/v1/jwk/{account}", _account_keys),
        Route("GET", "/service_accounts/v1/metadata/jwk/{account}", _account_keys),
        Route("GET", "/service_accounts/v1/metadata/x509/{account}", _account_certificates),
    ),
)
OPENID: Service[Handler] = Service(
    "OpenID Connect discovery",
    ("accounts.google.com",),
    (Route("GET", "/.well-known/openid-configuration", _discovery),),
)
TOKEN_INFO: Service[Handler] = Service(
    "OAuth 2.0 token information",
    ("oauth2.googleapis.com",),
    (
        Route("GET", "/tokeninfo", _token_info),
        Route("POST", "/tokeninfo", _token_info),
    ),
)
