"""Who is calling: one verified caller per request, or Unauthenticated.

What the platform in front authenticated decides wherever it authenticated somebody, and it has to
hold on its own: an event that is not from our own gateway is refused, whatever bearer token comes
with it. Where the platform authenticated nobody, App Service's client principal counts if the
settings say that it is enforced, and otherwise exactly one bearer token, of an Entra tenant or an
OpenID Connect issuer that is configured. Nothing configured accepts nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from tokenvend.caller import entra as entra_tokens
from tokenvend.caller import oidc
from tokenvend.caller.aws import (
    FunctionBinding,
    GatewayBinding,
    check_gateway,
    iam_caller,
    lambda_caller,
)
from tokenvend.caller.entra import EntraSettings
from tokenvend.caller.oidc import OidcIssuer
from tokenvend.caller.signed_jwt import read_unverified, refused
from tokenvend.errors import InvalidRequest, Misconfigured, Unauthenticated
from tokenvend.model import (
    AwsIamIdentity,
    AwsJwtIdentity,
    LambdaInvocation,
    Secret,
    SubjectTokenType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.caller.jwks import KeySets
    from tokenvend.deadline import Deadline
    from tokenvend.model import AwsCaller, Caller, HttpRequest, PlatformIdentity

    # subject_token.verify_aws_request with its settings: token, audience, deadline -> caller.
    VerifyAwsRequest = Callable[[Secret, str, Deadline], AwsCaller]

__all__ = ["Authenticator", "EntraSettings", "FunctionBinding", "GatewayBinding", "OidcIssuer"]

_DETAIL = "Send exactly one header `Authorization: Bearer TOKEN`, or sign the request (SigV4)."
_JWT_TYPES = (SubjectTokenType.JWT, "urn:ietf:params:oauth:token-type:id_token")
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """What is configured about callers. `now`: epoch seconds."""

    keys: KeySets
    now: Callable[[], float]
    gateway: GatewayBinding | None = None
    function: FunctionBinding | None = None
    entra: EntraSettings | None = None
    issuers: tuple[OidcIssuer, ...] = ()
    aws_requests: VerifyAwsRequest | None = None

    def __post_init__(self) -> None:
        if len({issuer.issuer for issuer in self.issuers}) != len(self.issuers):
            msg = "An OIDC issuer is configured twice: give one entry all its audiences."
            raise Misconfigured(msg)

    def authenticate(self, request: HttpRequest, deadline: Deadline) -> Caller:
        """Whoever makes this request.

        Raises Unauthenticated, and UpstreamUnavailable or DeadlineExceeded where the keys that
        would prove a token cannot be had.
        """
        if request.platform is not None:
            return self._platform_caller(request.platform)
        principal = request.headers.get("x-ms-client-principal")
        if self.entra is not None and self.entra.easy_auth and principal is not None:
            return entra_tokens.from_client_principal(principal, self.entra)
        return self.verify_jwt(_bearer(request.headers), deadline)

    def authenticate_subject_token(
        self, token_type: str, token: Secret, audience: str, deadline: Deadline
    ) -> Caller:
        """The caller that a subject token of RFC 8693 proves, for whom no gateway vouched.

        `audience`: the request's; a signed GetCallerIdentity request has to name the same. A JWT
        names its own. Raises InvalidRequest for a malformed token, otherwise as `authenticate`.
        """
        if token_type in _JWT_TYPES:
            return self.verify_jwt(token, deadline)
        if token_type != SubjectTokenType.AWS4_REQUEST or self.aws_requests is None:
            raise InvalidRequest("This endpoint takes no `subject_token_type` like this.")
        return self.aws_requests(token, audience, deadline)

    def verify_jwt(self, token: Secret, deadline: Deadline) -> Caller:
        """The caller a JWT proves, as bearer token or as subject token. Raises as `authenticate`.

        The issuer it claims is looked up first: a stranger's token starts no request.
        """
        unverified = read_unverified(token)
        name = unverified.unverified_issuer
        if self.entra is not None and (tenant := entra_tokens.issuer_of(self.entra, name)):
            return entra_tokens.verify(
                unverified, tenant, self.entra, self.keys, self.now(), deadline
            )
        return oidc.verify(unverified, self._issuer(name), self.keys, self.now(), deadline)

    def _platform_caller(self, platform: PlatformIdentity) -> Caller:
        match platform:
            case AwsIamIdentity():
                return iam_caller(platform, self.gateway)
            case AwsJwtIdentity():
                check_gateway(platform, self.gateway)
                return self._authorized_caller(platform.claims)
            case LambdaInvocation():
                return lambda_caller(platform, self.function)
            case _:
                assert_never(platform)

    def _authorized_caller(self, texts: Mapping[str, str]) -> Caller:
        """The caller in the claims of a JWT authorizer, which verified signature and times.

        It writes every claim as text, a list as `[a b]`.
        """
        claims: dict[str, Any] = {**texts, "aud": _single(texts.get("aud", ""))}
        name = texts.get("iss", "")
        if self.entra is not None and (tenant := entra_tokens.issuer_of(self.entra, name)):
            roles = texts.get("roles", "[]").removeprefix("[").removesuffix("]").split()
            return entra_tokens.caller_of({**claims, "roles": roles}, tenant, self.entra)
        return oidc.caller_of(claims, self._issuer(name))

    def _issuer(self, unverified_issuer: str) -> OidcIssuer:
        for issuer in self.issuers:
            if issuer.issuer == unverified_issuer:
                return issuer
        raise refused(cause="token of an issuer that is not configured")


def _bearer(headers: Mapping[str, str]) -> Secret:
    # Two headers arrive as one with a comma, which no bearer token can hold.
    match = _BEARER.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise Unauthenticated(_DETAIL, cause="no bearer token, or more than one")
    return Secret(match[1])


def _single(audience: str) -> str:
    # A list of two has a blank in it and so equals no audience of ours.
    if audience.startswith("[") and audience.endswith("]"):
        return audience[1:-1]
    return audience
