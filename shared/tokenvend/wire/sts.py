"""Google STS's own shapes for `POST /v1/token`: RFC 8693 token exchange, form and JSON.

The forms are those of https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token:
snake_case in a form, camelCase in JSON, always snake_case in the answer. Parameters we do not know
are ignored (RFC 6749 section 3.2), repeated ones refused, and so is what would have to change the
token and does not: an actor, a resource, an access boundary.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode

from tokenvend import errors
from tokenvend.errors import InvalidRequest
from tokenvend.identifiers import GRANT_NAME
from tokenvend.model import AccessTokenRequest, AccessTokenSpec, FederatedToken, Secret
from tokenvend.wire.objects import read_object, read_token
from tokenvend.wire.own import MAX_SCOPE_TEXT, MAX_SCOPES, are_scopes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tokenvend.errors import TokenvendError
    from tokenvend.model import SubjectToken, VendedToken

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 -- RFC 8693 section 3
FORM = "application/x-www-form-urlencoded"

_MAX_SUBJECT_TOKEN = 16 * 1024
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class UnknownTarget(InvalidRequest):
    """The audience is not this endpoint's."""


class UnknownGrantType(InvalidRequest):
    """The route exchanges tokens and does nothing else."""


# RFC 6749 section 5.2 codes as Google's STS uses them; what is no fault of the client's is 5xx.
STATUSES: Mapping[type[TokenvendError], tuple[int, str]] = {
    UnknownTarget: (400, "invalid_target"),
    UnknownGrantType: (400, "unsupported_grant_type"),
    errors.InvalidRequest: (400, "invalid_request"),
    errors.Unauthenticated: (400, "invalid_grant"),
    errors.Denied: (400, "unauthorized_client"),
    errors.MethodNotAllowed: (405, "invalid_request"),
    errors.PayloadTooLarge: (413, "invalid_request"),
    errors.UnsupportedMediaType: (415, "invalid_request"),
    errors.RateLimited: (429, "quota_exceeded"),
    errors.TokenvendError: (500, "server_error"),
    errors.UpstreamRefused: (502, "server_error"),
    errors.UpstreamUnavailable: (503, "temporarily_unavailable"),
    errors.DeadlineExceeded: (504, "temporarily_unavailable"),
}


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """A subject token and what is `wanted` for it, by grant if the audience names one.

    `audience` is the whole text that was sent: a signed GetCallerIdentity request is bound to it.
    """

    audience: str
    subject_token: Secret
    subject_token_type: str
    wanted: AccessTokenRequest


def parse_exchange(body: bytes, media_type: str, own_audience: str) -> ExchangeRequest:
    """The body of `POST /v1/token`.

    `own_audience` is this endpoint's name; `own_audience/grants/NAME` asks for one grant. Raises
    InvalidRequest, UnknownTarget or UnknownGrantType.
    """
    fields = _form(body) if media_type == FORM else _json(body)
    if fields.get("grant_type") != GRANT_TYPE:
        raise UnknownGrantType(f"`grant_type` must be {GRANT_TYPE}.")
    _refuse_boundary(fields)
    for name in ("actor_token", "resource"):
        if fields.get(name):
            raise InvalidRequest(f"`{name}` is not supported.")
    if fields.get("requested_token_type", ACCESS_TOKEN_TYPE) != ACCESS_TOKEN_TYPE:
        raise InvalidRequest(f"`requested_token_type` must be {ACCESS_TOKEN_TYPE}.")
    _check_options(fields.get("options", ""))
    subject_token = fields.get("subject_token", "")
    if not 1 <= len(subject_token) <= _MAX_SUBJECT_TOKEN:
        raise InvalidRequest(f"`subject_token` must have 1 to {_MAX_SUBJECT_TOKEN} characters.")
    audience = fields.get("audience", "")
    return ExchangeRequest(
        audience=audience,
        subject_token=Secret(subject_token),
        subject_token_type=fields.get("subject_token_type", ""),
        wanted=AccessTokenRequest(
            grant_name=_grant_name(audience, own_audience),
            scopes=_scopes(fields.get("scope", "")),
            narrow=True,
        ),
    )


def render_exchange(token: VendedToken, now: int) -> dict[str, Any]:
    """The answer, with all that the strictest of Google's clients wants. `now`: epoch seconds."""
    spec = token.spec
    scopes = spec.scopes if isinstance(spec, AccessTokenSpec) else ()
    return {
        "access_token": token.value.reveal(),
        "issued_token_type": ACCESS_TOKEN_TYPE,
        "token_type": "Bearer",
        "expires_in": max(1, token.expires_at - now),
        "scope": " ".join(scopes),
    }


def render_error(error: TokenvendError, request_id: str) -> tuple[int, str, dict[str, Any]]:
    """Status, media type and body of an outcome that is no token (RFC 6749 section 5.2)."""
    status, code = next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
    body = {
        "error": code,
        "error_description": f"{error.detail} (request {request_id})",
    }
    return status, "application/json", body


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=32,
        )
    except ValueError:
        # `from None`: the decoder's message quotes the body.
        raise InvalidRequest("The body is not a form.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidRequest("The body names a parameter twice.")
    return fields


def _json(body: bytes) -> dict[str, str]:
    try:
        value = read_object(body)
    except ValueError:
        raise InvalidRequest("The body must be one JSON object or a form.") from None
    fields: dict[str, str] = {}
    for name, text in value.items():
        snake = _CAMEL.sub("_", name).lower()
        if snake in fields:
            raise InvalidRequest("The body names a parameter twice.")
        if not isinstance(text, str):
            raise InvalidRequest(f"`{snake[:40]}` must be a string.")
        fields[snake] = text
    return fields


def _check_options(text: str) -> None:
    if not text:
        return
    # google-auth for Python percent-encodes the JSON once more inside the form; Node does not.
    plain = text if text.lstrip().startswith("{") else unquote(text)
    try:
        options = read_object(plain.encode())
    except ValueError:
        raise InvalidRequest("`options` must be one JSON object.") from None
    _refuse_boundary(options)


def _refuse_boundary(names: Iterable[str]) -> None:
    # Ignoring it, an empty one too, would hand out the full token to someone who asked for a narrow
    # one. However it is spelt: Google takes accessBoundary and access_boundary.
    if any("boundary" in name.lower() for name in names):
        raise InvalidRequest("An access boundary cannot be enforced here yet: ask without one.")


def _grant_name(audience: str, own_audience: str) -> str | None:
    if own_audience and audience == own_audience:
        return None
    name = audience.removeprefix(f"{own_audience}/grants/")
    if not own_audience or name == audience or not GRANT_NAME.fullmatch(name):
        raise UnknownTarget(
            "`audience` must be this endpoint's own audience, or that and /grants/NAME; "
            "ask the operator for it."
        )
    return name


def _scopes(text: str) -> tuple[str, ...]:
    scopes = tuple(dict.fromkeys(text.split(" "))) if text else ()
    if not are_scopes(scopes):
        raise InvalidRequest(
            f"`scope` must be at most {MAX_SCOPES} scopes with one blank between, at most "
            f"{MAX_SCOPE_TEXT} characters in all."
        )
    return scopes


# --- as Google's client --------------------------------------------------------------------------

# No federated token lives longer than an hour; a day is beyond any change of that.
MAX_EXPIRES_IN = 86_400
DEFAULT_EXPIRES_IN = 3600


def exchange_form(provider: str, subject: SubjectToken, scopes: Iterable[str]) -> bytes:
    """The form that asks for a federated token. `provider`: its full resource name."""
    return urlencode(
        {
            "grant_type": GRANT_TYPE,
            "audience": provider,
            "scope": " ".join(scopes),
            "requested_token_type": ACCESS_TOKEN_TYPE,
            "subject_token": subject.value.reveal(),
            "subject_token_type": subject.type.value,
        }
    ).encode()


def read_federated(answer: object, subject: SubjectToken, sent_at: int) -> FederatedToken:
    """The federated token in an answer. `sent_at`: when it was asked for, epoch seconds.

    Raises ValueError, whose text holds nothing of the answer.
    """
    fields = answer if isinstance(answer, dict) else {}
    if str(fields.get("token_type")).lower() != "bearer":
        raise ValueError("token_type is not Bearer")
    # Google leaves it out at times. It never gives more than an hour, nor more than the subject
    # token has left: the smaller of the two is safe.
    life = fields.get("expires_in", min(DEFAULT_EXPIRES_IN, subject.expires_at - sent_at))
    if type(life) is not int or not 0 < life <= MAX_EXPIRES_IN:
        raise ValueError("expires_in is no life in seconds")
    return FederatedToken(read_token(fields.get("access_token")), sent_at, sent_at + life)
