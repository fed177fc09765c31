"""Where a task of ECS gets its role's credentials: the agent at 169.254.170.2.

It gives them to whoever knows the task's own path, which its environment names.
Source: amazon-ecs-agent, ecs-agent/tmds/handlers/v1.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud.aws import service_roles
from localcloud.aws.instances.credentials import (
    Assumption,
    RotatingCredentials,
    UntrustedError,
    timestamp,
)
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts

ADDRESS = "169.254.170.2"


class Task:
    """A task that runs as a role."""

    def __init__(self, accounts: Accounts, role: str) -> None:
        self._id = str(uuid.uuid4())
        self.path = f"/v2/credentials/{self._id}"
        self._credentials = RotatingCredentials(accounts, role, assumption(accounts, role))

    def site(self, request: Request) -> Response:
        """The agent as this task sees it."""
        found = SERVICE.find("GET" if request.method == "HEAD" else request.method, request.path)
        if found is None:
            return Response(404, b"404 page not found\n", (("Content-Type", "text/plain"),))
        route, parameters = found
        return route.handler(self, parameters.get("id", ""))

    def credentials(self, given: str) -> Response:
        """`GET /v2/credentials/ID`, the ID being the secret."""
        if not given:
            return _error("NoIdInRequest", "No Credential ID in the request")
        if not hmac.compare_digest(given.encode(), self._id.encode()):
            return _error("InvalidIdInRequest", "Credentials not found")
        try:
            key, _ = self._credentials.current()
        except UntrustedError:
            return _error("CredentialsUninitialized", "Credentials uninitialized for ID", 503)
        return Response.json(
            200,
            {
                "RoleArn": self._credentials.role_arn,
                "AccessKeyId": key.id,
                "SecretAccessKey": key.secret,
                "Token": key.token,
                "Expiration": timestamp(key.expires or 0),
            },
        )


def assumption(accounts: Accounts, _: str) -> Assumption:
    """How ECS takes on a role for a task, whose id the session is named after.

    Which task or cluster it is for shows in no form that a role's trust can rely on.
    """
    aws, task = accounts.aws, secrets.token_hex(16)
    return Assumption(
        service_roles.ECS, task, f"arn:aws:ecs:{aws.region}:{aws.account}:task/{task}"
    )


SERVICE: Service[Callable[[Task, str], Response]] = Service(
    title="ECS task credentials",
    hosts=(ADDRESS,),
    routes=(
        Route("GET", "/v2/credentials/", Task.credentials),
        Route("GET", "/v2/credentials/{id}", Task.credentials, asks="the task's own ID"),
    ),
)


def _error(code: str, text: str, status: int = 400) -> Response:
    message = {"code": code, "message": f"CredentialsV2Request: {text}", "HTTPErrorCode": status}
    return Response.json(status, message)
