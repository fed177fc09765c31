"""AWS AppConfig Data: configuration sessions and their polls, signed for service `appconfig`.

A poll's token is good for that one poll and for 24 hours; an answer is empty when the session has
the latest version already, and a session may bind itself to a shortest interval. Profiles are
deployed in process. Specification: AWS AppConfig Data API Reference, version 2021-11-11.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from localcloud.aws.authorization import DeniedError, Question, authorize
from localcloud.aws.errors import ServiceError, as_json, refused_signature, request_id
from localcloud.aws.sigv4 import RefusedError, verify
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.aws.accounts import AccessKey, Accounts

TOKEN_LIFE = 24 * 3600
DEFAULT_INTERVAL = 60
# AppConfig's quota for a hosted configuration that was raised; 1 MB without asking.
MAX_CONTENT = 2 * 1024 * 1024
_IDENTIFIERS = (
    "ApplicationIdentifier",
    "EnvironmentIdentifier",
    "ConfigurationProfileIdentifier",
)
_INTERVAL = "RequiredMinimumPollIntervalInSeconds"


@dataclass(frozen=True)
class _Session:
    """What one poll token stands for; times in epoch seconds."""

    profile: str
    issued: float
    interval: int
    not_before: float
    delivered: int = 0


class Profiles:
    """Deployed configurations by `APPLICATION/ENVIRONMENT/PROFILE`, and the sessions that read."""

    def __init__(self) -> None:
        self._deployed: dict[str, tuple[int, bytes, str]] = {}
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def put(self, name: str, text: str, *, kind: str = "application/toml") -> None:
        """Deploy a new version; raises ValueError for what AppConfig refuses."""
        content = text.encode()
        if name.count("/") != 2 or len(content) > MAX_CONTENT:  # noqa: PLR2004 - three identifiers
            raise ValueError(f"{name}: not APPLICATION/ENVIRONMENT/PROFILE, or over {MAX_CONTENT}")
        with self._lock:
            version = self._deployed[name][0] + 1 if name in self._deployed else 1
            self._deployed[name] = (version, content, kind)

    def start(self, name: str, interval: int | None, now: float) -> str:
        """A session's first token; raises ServiceError when nothing is deployed."""
        with self._lock:
            if name not in self._deployed:
                text = f"No configuration is deployed at {name}"
                raise ServiceError(
                    404, "ResourceNotFoundException", text, ResourceType="Deployment"
                )
            return self._issue(_Session(name, now, interval or 0, now))

    def profile_of(self, token: str) -> str:
        """What a session reads; raises ServiceError for a token that was never issued."""
        with self._lock:
            session = self._sessions.get(token)
        if session is None:
            raise _bad_token("Corrupted")
        return session.profile

    def poll(self, token: str, now: float) -> tuple[_Session, str, tuple[int, bytes, str] | None]:
        """The session, its next token and the version it does not have yet. Raises ServiceError."""
        with self._lock:
            session = self._sessions.get(token)
            if session is None:
                raise _bad_token("Corrupted")
            if now >= session.issued + TOKEN_LIFE:
                raise _bad_token("Expired")
            if now < session.not_before:
                raise _bad_token("PollIntervalNotSatisfied")
            del self._sessions[token]
            version, content, kind = self._deployed[session.profile]
            after = replace(
                session, issued=now, not_before=now + session.interval, delivered=version
            )
            fresh = (version, content, kind) if version != session.delivered else None
            return session, self._issue(after), fresh

    def _issue(self, session: _Session) -> str:
        token = secrets.token_urlsafe(96)
        self._sessions[token] = session
        return token


def sites(accounts: Accounts, profiles: Profiles) -> dict[str, Site]:
    """The endpoint of the function's region."""

    def serve(request: Request) -> Response:
        try:
            return _serve(request, accounts, profiles)
        except RefusedError as refused:
            return as_json(refused_signature(refused, 403))
        except DeniedError as denied:
            return as_json(ServiceError(403, "AccessDeniedException", str(denied)))
        except ServiceError as error:
            return as_json(error)

    return {f"appconfigdata.{accounts.aws.region}.amazonaws.com": serve}


def _serve(request: Request, accounts: Accounts, profiles: Profiles) -> Response:
    signed = verify(request, accounts, service="appconfig", region=accounts.aws.region)
    found = SERVICE.find(request.method, request.path)
    if found is None:
        text = "The embedded cloud serves no such operation."
        raise ServiceError(405, "UnknownOperationException", text)
    return found[0].handler(request, signed.key, accounts, profiles)


def _start(request: Request, key: AccessKey, accounts: Accounts, profiles: Profiles) -> Response:
    name, interval = _asked(request.body)
    question = Question("appconfig:StartConfigurationSession", _arn(accounts, name))
    authorize(accounts, key, question, request)
    token = profiles.start(name, interval, accounts.clock())
    return Response.json(201, {"InitialConfigurationToken": token}, request_id())


def _latest(request: Request, key: AccessKey, accounts: Accounts, profiles: Profiles) -> Response:
    token = request.params.get("configuration_token", "")
    question = Question(
        "appconfig:GetLatestConfiguration", _arn(accounts, profiles.profile_of(token))
    )
    authorize(accounts, key, question, request)
    session, following, fresh = profiles.poll(token, accounts.clock())
    fields = [
        ("Next-Poll-Configuration-Token", following),
        ("Next-Poll-Interval-In-Seconds", str(session.interval or DEFAULT_INTERVAL)),
        request_id(),
    ]
    if fresh is None:
        return Response(200, b"", tuple(fields))
    _, content, kind = fresh
    return Response(200, content, (("Content-Type", kind), *fields))


SERVICE: Service[Callable[[Request, AccessKey, Accounts, Profiles], Response]] = Service(
    title="AWS AppConfig Data",
    hosts=("appconfigdata.REGION.amazonaws.com",),
    routes=(
        Route("POST", "/configurationsessions", _start, "appconfig:StartConfigurationSession"),
        Route("GET", "/configuration", _latest, "appconfig:GetLatestConfiguration"),
    ),
)


def _asked(body: bytes) -> tuple[str, int | None]:
    """The profile's full name, and the shortest interval that the session binds itself to."""
    try:
        asked: Any = json.loads(body)
    except ValueError:
        raise _bad_request("The body is not JSON") from None
    fields = asked if isinstance(asked, dict) else {}
    names = [fields.get(name) for name in _IDENTIFIERS]
    interval = fields.get(_INTERVAL)
    if not all(isinstance(name, str) and 1 <= len(name) <= 128 for name in names):  # noqa: PLR2004
        raise _bad_request("An identifier is missing, or not 1 to 128 characters long")
    if interval is not None and not (type(interval) is int and 15 <= interval <= 86400):  # noqa: PLR2004
        raise _bad_request(f"{_INTERVAL} must be from 15 to 86400")
    return "/".join(map(str, names)), interval


def _arn(accounts: Accounts, name: str) -> str:
    application, environment, profile = name.split("/", 2)
    return (
        f"arn:aws:appconfig:{accounts.aws.region}:{accounts.aws.account}:application/{application}"
        f"/environment/{environment}/configuration/{profile}"
    )


def _bad_request(text: str) -> ServiceError:
    return ServiceError(400, "BadRequestException", text)


def _bad_token(problem: str) -> ServiceError:
    details = {"InvalidParameters": {"ConfigurationToken": {"Problem": problem}}}
    text = "The configuration token is not valid."
    return ServiceError(
        400, "BadRequestException", text, Reason="InvalidParameters", Details=details
    )
