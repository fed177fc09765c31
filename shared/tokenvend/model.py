"""The nouns of the field, immutable: callers, requests, grants and tokens.

Times are integer epoch seconds, lifetimes whole seconds. Nothing here does I/O, reads a clock or
knows a cloud's wire format.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple, NoReturn, Self


class Secret:
    """A value that leaves only through `reveal()`: repr, str, format and pickling do not show it.

    `dataclasses.field(repr=False)` would not do: `asdict` and f-strings leak it all the same.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself, for the one place that sends it."""
        return self._value

    def fingerprint(self, key: bytes = b"") -> str:
        """HMAC-SHA-256 of the value under `key` (plain SHA-256 without one), 64 hex digits."""
        value = self._value.encode()
        digest = hmac.new(key, value, "sha256") if key else hashlib.sha256(value)
        return digest.hexdigest()

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


# --- callers -------------------------------------------------------------------------------------
# `id` names the principal that owns a cached token. What a caller may choose freely (a role
# session's name) is not part of it: varying it would push other callers' tokens out of the cache.


@dataclass(frozen=True, slots=True)
class AwsCaller:
    """An IAM principal as AWS verified it.

    `arn`: the principal the policy names: `arn:aws:iam::ACCOUNT:role/NAME` for an assumed role
    (AWS drops the role's path there), the user's own ARN otherwise. `session`: the role session's
    name, chosen by whoever assumed the role: for the record, never for a decision on its own.
    `organization`: the `o-…` id where the gateway passes it.
    """

    kind: ClassVar[str] = "aws"

    arn: str
    account: str
    role_name: str = ""
    session: str = ""
    organization: str = ""

    @property
    def id(self) -> str:
        """The principal's ARN."""
        return self.arn


@dataclass(frozen=True, slots=True)
class LambdaCaller:
    """Whoever may `lambda:InvokeFunction` on one alias of the function; the alias is the caller."""

    kind: ClassVar[str] = "lambda"

    alias: str
    account: str

    @property
    def id(self) -> str:
        """`lambda:ACCOUNT:ALIAS`."""
        return f"lambda:{self.account}:{self.alias}"


@dataclass(frozen=True, slots=True)
class EntraCaller:
    """A Microsoft Entra identity. `object_id`: its `oid`, a service principal's or a person's.

    `app_id`: client id of the application (`appid` or `azp`); where `is_user`, the one through
    which a person signed in, which says nothing of who that is. `roles`: the token's app roles.
    """

    kind: ClassVar[str] = "entra"

    tenant: str
    object_id: str
    app_id: str
    roles: frozenset[str] = frozenset()
    is_user: bool = False

    @property
    def id(self) -> str:
        """`entra:TENANT:OBJECT`."""
        return f"entra:{self.tenant}:{self.object_id}"


@dataclass(frozen=True, slots=True)
class OidcCaller:
    """A workload that a configured OpenID Connect issuer vouches for. `claims`: the string, number
    and boolean claims of its token, as sorted pairs of name and text.
    """

    kind: ClassVar[str] = "oidc"

    issuer: str
    subject: str
    claims: tuple[tuple[str, str], ...] = ()

    @property
    def id(self) -> str:
        """`oidc:ISSUER#SUBJECT`: no issuer's URL holds a `#`, so no two callers share an id."""
        return f"oidc:{self.issuer}#{self.subject}"


Caller = AwsCaller | LambdaCaller | EntraCaller | OidcCaller


# --- a request at the door -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AwsIamIdentity:
    """What API Gateway or a Function URL verified by SigV4, as its event tells it.

    Whoever may `lambda:Invoke` the function can write such an event, so it counts only when
    `api_id` and `api_account` are the configured ones and it came in by the gateway's own
    `function_arn`: that one Lambda tells, and who may invoke an alias alone cannot choose it.
    `principal_arn` is the caller's ARN in AWS STS's form, `account` the caller's account.
    """

    principal_arn: str
    account: str
    api_id: str
    api_account: str
    organization: str = ""
    function_arn: str = ""


@dataclass(frozen=True, slots=True)
class AwsJwtIdentity:
    """What an API Gateway JWT authorizer verified: the token's claims, values as text."""

    claims: Mapping[str, str]
    api_id: str
    api_account: str
    function_arn: str = ""


@dataclass(frozen=True, slots=True)
class LambdaInvocation:
    """A direct invoke: `function_arn` is the invoked ARN, with the alias as its last part."""

    function_arn: str


PlatformIdentity = AwsIamIdentity | AwsJwtIdentity | LambdaInvocation


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, the same from every door. Header names are lower case; `path` is decoded once.

    `platform`: whom the platform in front authenticated, None where it authenticated nobody.
    `platform_request_id`: the gateway's or host's own id of this request, and `source` the address
    it saw, for the audit record.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    platform: PlatformIdentity | None = None
    platform_request_id: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer, the same through every door."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


# --- what is asked -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccessTokenRequest:
    """A wish for an access token. Empty `scopes`: all the grant has. `lifetime`: seconds.

    `narrow`: OAuth's way (RFC 6749 section 3.3): of the scopes asked for, what the grant has.
    """

    service_account: str | None = None
    grant_name: str | None = None
    scopes: tuple[str, ...] = ()
    lifetime: int | None = None
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class IdTokenRequest:
    """A wish for an ID token that `audience` will accept."""

    audience: str
    service_account: str | None = None
    grant_name: str | None = None
    include_email: bool = True


TokenRequest = AccessTokenRequest | IdTokenRequest


# --- what is granted -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccessTokenSpec:
    """A decision: this access token and no wider one.

    `service_account` None means direct: the federated token itself. `lifetime`: seconds, None for
    a direct token, whose life Google's STS alone decides. `delegates`: service account emails, the
    first the one the federated identity may impersonate. `attributed`: whether the federated
    identity names the caller.
    """

    kind: ClassVar[str] = "access_token"

    grant_name: str
    service_account: str | None
    scopes: tuple[str, ...]
    lifetime: int | None
    delegates: tuple[str, ...] = ()
    attributed: bool = False


@dataclass(frozen=True, slots=True)
class IdTokenSpec:
    """A decision: an ID token of this service account for this audience. Google gives it 1 h."""

    kind: ClassVar[str] = "id_token"

    grant_name: str
    service_account: str
    audience: str
    include_email: bool = True
    delegates: tuple[str, ...] = ()
    attributed: bool = False


TokenSpec = AccessTokenSpec | IdTokenSpec


# --- tokens --------------------------------------------------------------------------------------


class SubjectTokenType(StrEnum):
    """RFC 8693 section 3 token types, and Google's own for AWS."""

    JWT = "urn:ietf:params:oauth:token-type:jwt"
    AWS4_REQUEST = "urn:ietf:params:aws:token-type:aws4_request"


@dataclass(frozen=True, slots=True)
class SubjectToken:
    """Our own proof of identity, as Google's STS takes it. `expires_at`: epoch seconds.

    `bridged`: why a newer one could not be had, for the operator; empty when all is well.
    """

    value: Secret
    type: SubjectTokenType
    expires_at: int
    bridged: str = field(default="", compare=False)


class Session(NamedTuple):
    """Our identity in the name of a caller; `name` empty: our own. `group`: whom the operator named
    together with it (`policy.Decision.group`), by which what is kept of sessions is kept.
    """

    group: Hashable = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class FederatedToken:
    """What Google's STS gives for a subject token. `issued_at`, `expires_at`: epoch seconds."""

    value: Secret
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class VendedToken:
    """What a caller gets: an access token or an ID token, with the grant it was minted for."""

    value: Secret
    spec: TokenSpec
    issued_at: int
    expires_at: int
    # Google's own id of the request that minted it, for finding it in Google's logs.
    upstream_request_id: str = field(default="", compare=False)
