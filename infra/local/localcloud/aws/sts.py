"""AWS Security Token Service: GetCallerIdentity and AssumeRole over the Query API.

Answers at the global endpoint and at every region's own. Every action needs a valid signature for
service `sts` in the endpoint's region. Refuses other actions, parameters that appear twice or in
two places, and session policies, which it could not enforce.
Specification: AWS STS API Reference, version 2011-06-15.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from localcloud.aws.accounts import AccessKey, Accounts
from localcloud.aws.sigv4 import Reason, RefusedError, Signed, verify
from localcloud.wire.web import Request, Response, Site

VERSION = "2011-06-15"
GLOBAL_REGION = "us-east-1"
_NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"
_NAME = r"[\w+=,.@-]*"
_MIN_SESSION, _MAX_SESSION = 900, 43200
# A session made from a session ("role chaining") lives an hour at most.
_MAX_CHAINED = 3600
_ASSUME_ROLE = re.compile(
    r"RoleArn|RoleSessionName|DurationSeconds|SourceIdentity|ExternalId"
    r"|Tags\.member\.\d+\.(Key|Value)|TransitiveTagKeys\.member\.\d+"
)


class _QueryError(Exception):
    """An error answer: AWS's code, HTTP status and message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def site(accounts: Accounts, region: str) -> Site:
    """The endpoint of one region."""

    def serve(request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            parameters = _parameters(request)
            action = _action(parameters)
            signed = verify(request, accounts, service="sts", region=region)
            body = action(accounts, signed, parameters)
        except RefusedError as refused:
            status = 400 if refused.reason is Reason.INCOMPLETE else 403
            return _error(_QueryError(refused.reason, str(refused), status), request_id)
        except _QueryError as error:
            return _error(error, request_id)
        name = parameters["Action"]
        return _xml(
            200,
            f'<{name}Response xmlns="{_NAMESPACE}"><{name}Result>{body}</{name}Result>'
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
            f"</{name}Response>",
            request_id,
        )

    return serve


_Action = Callable[[Accounts, Signed, Mapping[str, str]], str]


def _parameters(request: Request) -> dict[str, str]:
    if request.path != "/" or request.method not in {"GET", "POST"}:
        raise _QueryError("InvalidRequest", "The request is not an AWS Query API request.", 404)
    pairs = parse_qsl(request.query, keep_blank_values=True)
    kind = request.headers.get("Content-Type").partition(";")[0].strip().lower()
    if request.body and kind == "application/x-www-form-urlencoded":
        try:
            text = request.body.decode()
        except UnicodeDecodeError:
            raise _QueryError("MalformedQueryString", "The body is not UTF-8.") from None
        pairs += parse_qsl(text, keep_blank_values=True)
    elif request.body:
        raise _QueryError("MalformedQueryString", "The body is not form-encoded.")
    if len(pairs) != len(dict(pairs)):
        # Two values would let the signer and the reader each believe in another one.
        raise _QueryError("MalformedQueryString", "A parameter appears more than once.")
    return dict(pairs)


def _action(parameters: Mapping[str, str]) -> _Action:
    name = parameters.get("Action", "")
    if not name:
        raise _QueryError("MissingAction", "Could not find operation to perform")
    actions: dict[str, _Action] = {
        "GetCallerIdentity": _get_caller_identity,
        "AssumeRole": _assume_role,
    }
    version = parameters.get("Version", "")
    if name not in actions or version != VERSION:
        text = f"Could not find operation {name} for version {version or 'NO_VERSION_SPECIFIED'}"
        raise _QueryError("InvalidAction", text)
    return actions[name]


def _get_caller_identity(_: Accounts, signed: Signed, parameters: Mapping[str, str]) -> str:
    if unknown := parameters.keys() - {"Action", "Version"}:
        raise _QueryError("ValidationError", f"Unknown parameter {min(unknown)}")
    who = signed.principal
    return _elements({"Arn": who.arn, "UserId": who.user_id, "Account": who.account})


def _assume_role(accounts: Accounts, signed: Signed, parameters: Mapping[str, str]) -> str:
    for name in sorted(parameters.keys() - {"Action", "Version"}):
        if not _ASSUME_ROLE.fullmatch(name):
            raise _QueryError("ValidationError", f"{name} is not served by the embedded cloud")
    role_arn = _text(parameters, "RoleArn", r"arn:aws[a-z-]*:iam::\d{12}:role/.+", 20, 2048)
    session = _text(parameters, "RoleSessionName", _NAME, 2, 64)
    source = ""
    if "SourceIdentity" in parameters:
        source = _text(parameters, "SourceIdentity", _NAME, 2, 64)
    who = signed.principal
    if who.source_identity and source not in {"", who.source_identity}:
        # A source identity stays for the whole chain of sessions.
        raise _denied(who.arn, "sts:SetSourceIdentity", role_arn)
    if not accounts.may_assume(who, role_arn):
        raise _denied(who.arn, "sts:AssumeRole", role_arn)
    seconds = _seconds(accounts, signed.key, role_arn, parameters.get("DurationSeconds", "3600"))
    source = source or who.source_identity
    key = accounts.issue(role_arn, session, seconds=seconds, source_identity=source)
    credentials = {
        "AccessKeyId": key.id,
        "SecretAccessKey": key.secret,
        "SessionToken": key.token,
        "Expiration": datetime.fromtimestamp(key.expires or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    user = {"AssumedRoleId": key.principal.user_id, "Arn": key.principal.arn}
    return (
        f"<Credentials>{_elements(credentials)}</Credentials>"
        f"<AssumedRoleUser>{_elements(user)}</AssumedRoleUser>"
        + (_elements({"SourceIdentity": source}) if source else "")
    )


def _seconds(accounts: Accounts, key: AccessKey, role_arn: str, text: str) -> int:
    if not re.fullmatch(r"\d{1,6}", text) or not _MIN_SESSION <= int(text) <= _MAX_SESSION:
        raise _invalid("durationSeconds", text, f"between {_MIN_SESSION} and {_MAX_SESSION}")
    seconds = int(text)
    if key.token and seconds > _MAX_CHAINED:
        raise _QueryError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by "
            "role chaining",
        )
    role = accounts.aws.role(role_arn.rpartition("/")[2])
    if role is not None and seconds > role.max_session_duration:
        raise _QueryError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )
    return seconds


def _text(
    parameters: Mapping[str, str], name: str, pattern: str, shortest: int, longest: int
) -> str:
    value = parameters.get(name)
    field = name[0].lower() + name[1:]
    if value is None:
        raise _invalid(field, "null", "not be null")
    if not shortest <= len(value) <= longest:
        raise _invalid(field, value, f"have length between {shortest} and {longest}")
    if not re.fullmatch(pattern, value, re.ASCII):
        raise _invalid(field, value, f"satisfy regular expression pattern: {pattern}")
    return value


def _invalid(field: str, value: str, must: str) -> _QueryError:
    return _QueryError(
        "ValidationError",
        f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: "
        f"Member must {must}",
    )


def _denied(arn: str, action: str, resource: str) -> _QueryError:
    text = f"User: {arn} is not authorized to perform: {action} on resource: {resource}"
    return _QueryError("AccessDenied", text, 403)


def _elements(values: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())


def _error(error: _QueryError, request_id: str) -> Response:
    details = {"Type": "Sender", "Code": error.code, "Message": str(error)}
    return _xml(
        error.status,
        f'<ErrorResponse xmlns="{_NAMESPACE}"><Error>{_elements(details)}</Error>'
        f"<RequestId>{request_id}</RequestId></ErrorResponse>",
        request_id,
    )


def _xml(status: int, body: str, request_id: str) -> Response:
    kinds = (("x-amzn-RequestId", request_id), ("Content-Type", "text/xml"))
    return Response(status, body.encode(), kinds)
