"""AWS Security Token Service over the Query API, at the global endpoint and at every region's own.

GetWebIdentityToken answers as in an account that has not enabled outbound federation. Refused are
parameters that appear twice or in two places.
Specification: AWS STS API Reference, version 2011-06-15.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from localcloud.aws.authorization import DeniedError
from localcloud.aws.errors import ServiceError, as_query, xml
from localcloud.aws.sigv4 import Reason, RefusedError, verify
from localcloud.aws.sts import sessions, web_identity
from localcloud.aws.sts.query import Call, Handler, unreachable
from localcloud.wire.routes import Route, Service, Unserved

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts
    from localcloud.wire.web import Request, Response, Site

VERSION = "2011-06-15"
GLOBAL_REGION = "us-east-1"
_NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
_FEDERATION = "GetWebIdentityToken"
# Whoever calls this proves itself by the token it brings, not by a signature.
_UNSIGNED = "AssumeRoleWithWebIdentity"


def _action(name: str, handler: Handler, permission: str = "") -> Route[Handler]:
    return Route("POST", "/", handler, permission, name)


SERVICE: Service[Handler] = Service(
    title="AWS STS",
    hosts=("sts.amazonaws.com", "sts.*.amazonaws.com"),
    routes=(
        # Nobody needs a permission for the first two, and no policy can take them away.
        _action("GetCallerIdentity", sessions.get_caller_identity),
        _action("GetSessionToken", sessions.get_session_token),
        _action("AssumeRole", sessions.assume_role, "sts:AssumeRole"),
        _action(_UNSIGNED, web_identity.assume_role, "sts:AssumeRoleWithWebIdentity"),
    ),
    unserved=(
        Unserved(_FEDERATION, "outbound federation is off, as it is in a new account"),
        Unserved("AssumeRoleWithSAML", "nothing here speaks SAML"),
        Unserved("AssumeRoot", "there is one account and no organization to manage it"),
        Unserved(
            "DecodeAuthorizationMessage", "no message is encoded: refusals are in plain words"
        ),
        Unserved("GetAccessKeyInfo", "the account of every key is in the world file"),
        Unserved("GetDelegatedAccessToken", "nobody delegates"),
        Unserved("GetFederationToken", "session policies are not modelled"),
    ),
)


def site(accounts: Accounts, region: str, fetch: Site = unreachable) -> Site:
    """The endpoint of one region; `fetch` reaches the issuers of web identities."""

    def serve(request: Request) -> Response:
        identifier = str(uuid.uuid4())
        try:
            parameters = _parameters(request)
            name, handler = _handler(parameters)
            signed = name != _UNSIGNED and verify(request, accounts, service="sts", region=region)
            key = signed.key if signed else None
            body = handler(Call(accounts, region, key, parameters, request, fetch))
        except RefusedError as refused:
            status = 400 if refused.reason is Reason.INCOMPLETE else 403
            error = ServiceError(status, refused.reason, str(refused))
            return as_query(error, _NAMESPACE, identifier)
        except DeniedError as denied:
            error = ServiceError(403, "AccessDenied", denied.brief)
            return as_query(error, _NAMESPACE, identifier)
        except ServiceError as error:
            return as_query(error, _NAMESPACE, identifier)
        return xml(
            200,
            f'<{name}Response xmlns="{_NAMESPACE}"><{name}Result>{body}</{name}Result>'
            f"<ResponseMetadata><RequestId>{identifier}</RequestId></ResponseMetadata>"
            f"</{name}Response>",
            identifier,
        )

    return serve


def _parameters(request: Request) -> dict[str, str]:
    if request.path != "/" or request.method not in {"GET", "POST"}:
        raise ServiceError(404, "InvalidRequest", "The request is not an AWS Query API request.")
    pairs = parse_qsl(request.query, keep_blank_values=True)
    kind = request.headers.get("Content-Type").partition(";")[0].strip().lower()
    if request.body and kind == "application/x-www-form-urlencoded":
        try:
            text = request.body.decode()
        except UnicodeDecodeError:
            raise ServiceError(400, "MalformedQueryString", "The body is not UTF-8.") from None
        pairs += parse_qsl(text, keep_blank_values=True)
    elif request.body:
        raise ServiceError(400, "MalformedQueryString", "The body is not form-encoded.")
    if len(pairs) != len(dict(pairs)):
        # Two values would let the signer and the reader each believe in another one.
        raise ServiceError(400, "MalformedQueryString", "A parameter appears more than once.")
    return dict(pairs)


def _handler(parameters: dict[str, str]) -> tuple[str, Handler]:
    name, version = parameters.get("Action", ""), parameters.get("Version", "")
    if not name:
        raise ServiceError(400, "MissingAction", "Could not find operation to perform")
    # A Query action may be asked for by GET as well.
    found = SERVICE.find("POST", "/", name)
    if version == VERSION and found is not None:
        return name, found[0].handler
    if version == VERSION and name == _FEDERATION:
        raise ServiceError(
            403,
            "OutboundWebIdentityFederationDisabledException",
            "Outbound web identity federation is not enabled for this account.",
        )
    text = f"Could not find operation {name} for version {version or 'NO_VERSION_SPECIFIED'}"
    left_out = next((each for each in SERVICE.unserved if each.method == name), None)
    if version == VERSION and left_out is not None:
        text = f"The embedded cloud does not serve {name}: {left_out.because}."
    raise ServiceError(400, "InvalidAction", text)
