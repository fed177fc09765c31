"""Entra's token endpoint for workloads: `POST /TENANT/oauth2/v2.0/token`, client credentials only.

A workload has no secret here. It presents a token of its own platform (RFC 7523), which counts if
the identity has a federated identity credential for exactly its issuer, subject and audience, and
if a key that the issuer publishes signed it. Secrets and certificates are refused, since nobody in
the world has one. Checks follow Entra's order: parameters, the client, the record, the signature.
Specification: "Microsoft identity platform and the OAuth 2.0 client credentials flow" and
"Workload identity federation".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import jwt

from localcloud.azure.entra import DEFAULT_LIFETIME, Entra, UnknownResourceError
from localcloud.azure.refusals import EntraError
from localcloud.wire.web import Headers, Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.world import FederatedIdentityCredential, ManagedIdentity

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEFAULT = "/.default"
SKEW = 300
_LEARN = "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"


def site(entra: Entra, internet: Site) -> Site:
    """`login.microsoftonline.com`: the tenant's documents and its token endpoint.

    `internet` reaches the issuers of workloads' tokens by hostname.
    """

    def serve(request: Request) -> Response:
        tenant, _, rest = request.path.strip("/").partition("/")
        if rest != "oauth2/v2.0/token" or tenant.lower() != entra.azure.tenant:
            return entra.site(request)
        if request.method != "POST":
            text = f"Endpoint only accepts POST requests. Received a {request.method} request."
            return EntraError(900561, "invalid_request", text).answer(entra.clock())
        try:
            return _answer(entra, internet, request)
        except EntraError as refused:
            return refused.answer(entra.clock())

    return serve


def _answer(entra: Entra, internet: Site, request: Request) -> Response:
    form = _form(request)
    resource = _resource(form)
    identity = _client(entra, form)
    _authenticate(entra, internet, identity, form)
    try:
        minted = entra.mint(identity, resource)
    except UnknownResourceError as unknown:
        raise EntraError(500011, "invalid_resource", unknown.text) from None
    lifetime = DEFAULT_LIFETIME - 1
    return Response.json(
        200,
        {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": minted,
        },
        ("Cache-Control", "no-store, no-cache"),
        ("Pragma", "no-cache"),
    )


def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("Content-Type").partition(";")[0].strip().lower()
    try:
        pairs = parse_qsl(request.body.decode(), keep_blank_values=True)
    except UnicodeDecodeError:
        pairs = []
    if kind != "application/x-www-form-urlencoded" or len(pairs) != len(dict(pairs)):
        text = "Invalid request. Request is malformed or invalid."
        raise EntraError(9002313, "invalid_request", text)
    form = dict(pairs)
    _needed(form, "grant_type")
    if form["grant_type"] != "client_credentials":
        text = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise EntraError(70003, "unsupported_grant_type", text)
    return form


def _needed(form: Mapping[str, str], *names: str) -> None:
    for name in names:
        if not form.get(name):
            text = f"The request body must contain the following parameter: '{name}'."
            raise EntraError(900144, "invalid_request", text)


def _resource(form: Mapping[str, str]) -> str:
    _needed(form, "client_id", "scope")
    scope = form["scope"]
    if " " in scope or not scope.endswith(DEFAULT) or scope == DEFAULT:
        raise EntraError(
            1002012,
            "invalid_scope",
            f"The provided value for scope {scope} is not valid. Client credential flows must have "
            "a scope value with /.default suffixed to the resource identifier (application ID "
            "URI).",
        )
    return scope.removesuffix(DEFAULT)


def _client(entra: Entra, form: Mapping[str, str]) -> ManagedIdentity:
    wanted = form["client_id"].lower()
    for identity in entra.azure.managed_identities:
        if identity.client_id.lower() == wanted:
            return identity
    raise EntraError(
        700016,
        "unauthorized_client",
        f"Application with identifier '{form['client_id']}' was not found in the directory "
        f"'{entra.azure.tenant}'. This can happen if the application has not been installed by the "
        "administrator of the tenant or consented to by any user in the tenant. You may have sent "
        "your authentication request to the wrong tenant.",
    )


def _authenticate(
    entra: Entra, internet: Site, identity: ManagedIdentity, form: Mapping[str, str]
) -> None:
    if form.get("client_secret"):
        text = f"Invalid client secret provided for app '{identity.client_id}'."
        raise EntraError(7000215, "invalid_client", text, 401)
    if not form.get("client_assertion"):
        text = (
            "The request body must contain the following parameter: 'client_assertion' or "
            "'client_secret'."
        )
        raise EntraError(7000218, "invalid_client", text, 401)
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        text = f"The client_assertion_type must be '{ASSERTION_TYPE}'."
        raise EntraError(900144, "invalid_request", text)
    assertion = form["client_assertion"]
    try:
        unverified = jwt.decode_complete(assertion, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise EntraError(50027, "invalid_request", "JWT token is invalid or malformed.") from None
    record = _record(identity.federated_identity_credentials, unverified["payload"])
    claims = _signed(internet, record, assertion, unverified["header"])
    _check_times(claims, entra.clock())


def _record(
    records: list[FederatedIdentityCredential], claims: Mapping[str, Any]
) -> FederatedIdentityCredential:
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    of_issuer = [each for each in records if each.issuer == claims.get("iss")]
    of_subject = [each for each in of_issuer if each.subject == claims.get("sub")]
    matching = [each for each in of_subject if set(each.audiences) & {str(a) for a in audiences}]
    if matching:
        return matching[0]
    if not of_issuer:
        raise _unmatched(700211, "issuer", claims.get("iss"))
    if not of_subject:
        raise _unmatched(700213, "subject", claims.get("sub"))
    raise _unmatched(700212, "audience", audience)


def _unmatched(code: int, part: str, value: object) -> EntraError:
    return EntraError(
        code,
        "invalid_request",
        f"No matching federated identity record found for presented assertion {part} '{value}'. "
        "Check your federated identity credential Subject, Audience and Issuer against the "
        f"presented assertion. {_LEARN}",
    )


def _signed(
    internet: Site,
    record: FederatedIdentityCredential,
    assertion: str,
    header: Mapping[str, Any],
) -> dict[str, Any]:
    # The record's issuer, not the assertion's: nobody chooses where we fetch keys from.
    discovery = _fetched(internet, record.issuer.rstrip("/") + "/.well-known/openid-configuration")
    if discovery.get("issuer") != record.issuer:
        raise _no_keys(record.issuer)
    keys = _fetched(internet, str(discovery.get("jwks_uri"))).get("keys")
    for key in keys if isinstance(keys, list) else []:
        if isinstance(key, dict) and key.get("kid") == header.get("kid"):
            try:
                claims: dict[str, Any] = jwt.decode(
                    assertion,
                    jwt.PyJWK(key, "RS256"),
                    algorithms=["RS256"],
                    # Issuer, subject and audience are matched already; times are judged below by
                    # this cloud's clock.
                    options={
                        "require": ["exp", "iss", "sub", "aud"],
                        "verify_aud": False,
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                    },
                )
            except jwt.PyJWTError:
                break
            return claims
    text = "Assertion failed signature validation."
    raise EntraError(50013, "invalid_client", text, 401)


def _fetched(internet: Site, url: str) -> dict[str, Any]:
    address = urlsplit(url)
    if address.scheme != "https" or not address.hostname:
        raise _no_keys(url)
    target = address.path + (f"?{address.query}" if address.query else "")
    host = address.netloc
    answer = internet(Request("GET", host, target, Headers([("Host", host)])))
    try:
        document = json.loads(answer.body) if answer.status == HTTPStatus.OK else None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _no_keys(url)
    return document


def _no_keys(url: str) -> EntraError:
    return EntraError(
        50166, "invalid_request", f"Request to External OIDC endpoint failed. Endpoint: {url}"
    )


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    start, end = claims.get("nbf", claims.get("iat", 0)), claims["exp"]
    if not all(type(moment) in (int, float) for moment in (start, end)):
        raise EntraError(50027, "invalid_request", "JWT token is invalid or malformed.")
    if not start - SKEW <= now < end + SKEW:
        shown = [_moment(each) for each in (now, start, end)]
        raise EntraError(
            700024,
            "invalid_client",
            f"Client assertion is not within its valid time range. Current time: {shown[0]}, "
            f"assertion valid from {shown[1]}, expiry time of assertion {shown[2]}.",
            401,
        )


def _moment(epoch: float) -> str:
    try:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (OverflowError, OSError, ValueError):
        return str(epoch)
