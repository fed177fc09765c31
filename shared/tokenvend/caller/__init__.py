"""Who is calling: one verified caller per request, or Unauthenticated.

Whom the platform in front authenticated decides, and has to hold on its own: an event that is not
from our own gateway is refused, whatever bearer token comes with it. Otherwise App Service's client
principal counts if the settings say that it is enforced, and else exactly one bearer token, of an
issuer that is configured. Nothing configured accepts nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, assert_never

from tokenvend.caller.aws import OwnFunction, check_gateway, lambda_caller, principal
from tokenvend.caller.entra import from_client_principal
from tokenvend.caller.signed_jwt import check_times, read_unverified, refused, verified_claims
from tokenvend.errors import InvalidRequest, Unauthenticated
from tokenvend.model import (
    AwsIamIdentity,
    AwsJwtIdentity,
    LambdaInvocation,
    Secret,
    SubjectTokenType,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.caller.jwks import KeySets, KeySource
    from tokenvend.deadline import Deadline
    from tokenvend.model import AwsCaller, Caller, HttpRequest, PlatformIdentity

    # aws_request.verify_aws_request as configured: token, audience, now, deadline -> caller.
    VerifyAwsRequest = Callable[[Secret, str, float, Deadline], AwsCaller]

_JWT_TYPES = (SubjectTokenType.JWT, "urn:ietf:params:oauth:token-type:id_token")
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


class Issuer(Protocol):
    """Somebody whose tokens prove who is calling, and the caller that they prove.

    `algorithms`: what it may sign with. `times`: those that its tokens must have, of `exp`, `iat`
    and `nbf`.
    """

    algorithms: ClassVar[frozenset[str]]
    times: ClassVar[tuple[str, ...]]

    @property
    def source(self) -> KeySource:
        """Its name, exactly as its tokens spell it, and where its keys are."""
        ...

    def caller(self, claims: Mapping[str, Any]) -> Caller:
        """The caller in claims that someone we believe has verified. Raises Unauthenticated."""
        ...


@dataclass(frozen=True, slots=True)
class Authenticator:
    """What is configured about callers.

    `advice`: what who brings no proof at all is told, since no two platforms take the same.
    `issuers`: by their names. `easy_auth`: App Service enforces its authentication in front of us,
    so that its X-MS-CLIENT-PRINCIPAL is believed; anybody can send that header where it does not.
    """

    keys: KeySets
    advice: str
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    easy_auth: bool = False
    function: OwnFunction = field(default_factory=OwnFunction)
    aws_requests: VerifyAwsRequest | None = None

    def authenticate(self, request: HttpRequest, now: float, deadline: Deadline) -> Caller:
        """Whoever makes this request. `now`: epoch seconds.

        Raises Unauthenticated, and UpstreamUnavailable or DeadlineExceeded where the keys that
        would prove a token cannot be had.
        """
        if request.platform is not None:
            return self._platform_caller(request.platform)
        client = request.headers.get("x-ms-client-principal")
        if self.easy_auth and client is not None:
            return from_client_principal(client, self.issuers)
        # Two headers arrive as one with a comma, which no bearer token can hold.
        bearer = _BEARER.fullmatch(request.headers.get("authorization", ""))
        if bearer is None:
            raise Unauthenticated(self.advice, cause="no bearer token, or more than one")
        return self.verify_jwt(Secret(bearer[1]), now, deadline)

    def authenticate_subject_token(
        self, token_type: str, token: Secret, audience: str, now: float, deadline: Deadline
    ) -> Caller:
        """The caller that a subject token of RFC 8693 proves, for whom no gateway vouched.

        `audience`: the request's; a signed GetCallerIdentity request has to name the same. A JWT
        names its own. `now`: epoch seconds. Raises InvalidRequest for a malformed token, otherwise
        as `authenticate`.
        """
        if token_type in _JWT_TYPES:
            return self.verify_jwt(token, now, deadline)
        if token_type != SubjectTokenType.AWS4_REQUEST or self.aws_requests is None:
            raise InvalidRequest("This endpoint takes no `subject_token_type` like this.")
        return self.aws_requests(token, audience, now, deadline)

    def verify_jwt(self, token: Secret, now: float, deadline: Deadline) -> Caller:
        """The caller a JWT proves, as bearer token or as subject token. Raises as `authenticate`.

        The issuer it claims is looked up first: a stranger's token starts no request.
        """
        algorithm, kid, unverified_issuer = read_unverified(token)
        issuer = self._issuer(unverified_issuer)
        if algorithm not in issuer.algorithms:
            raise refused(cause="token algorithm is not one its issuer may use")
        key = self.keys.find(issuer.source, kid, deadline)
        if key is None:
            raise refused(cause=f"{issuer.source.issuer} has no such key")
        claims = verified_claims(token, key, algorithm)
        check_times(claims, now, issuer.times)
        return issuer.caller(claims)

    def _platform_caller(self, platform: PlatformIdentity) -> Caller:
        match platform:
            case AwsIamIdentity():
                check_gateway(platform, self.function)
                return principal(platform.principal_arn, platform.account, platform.organization)
            case AwsJwtIdentity():
                # Its authorizer has verified signature and times.
                check_gateway(platform, self.function)
                claims = {name: _parsed(text) for name, text in platform.claims.items()}
                return self._issuer(platform.claims.get("iss", "")).caller(claims)
            case LambdaInvocation():
                return lambda_caller(platform, self.function)
            case _:
                assert_never(platform)

    def _issuer(self, unverified_name: str) -> Issuer:
        issuer = self.issuers.get(unverified_name)
        if issuer is None:
            raise refused(cause="token of an issuer that is not configured")
        return issuer


def _parsed(text: str) -> str | list[str]:
    """A claim as a JWT authorizer writes it: every value as text, a list as `[a b]`."""
    return text[1:-1].split() if text.startswith("[") and text.endswith("]") else text
