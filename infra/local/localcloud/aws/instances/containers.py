"""Where containers get their role's credentials: the ECS agent and the EKS Pod Identity agent.

ECS's agent (169.254.170.2) gives a task's credentials to whoever knows the task's own path, which
its environment names. EKS's agent (169.254.170.23) wants the pod's projected service account token,
made out to pods.eks.amazonaws.com, bare in `Authorization`; a missing or unreadable one it refuses
itself with 400, one that EKS does not accept with what the EKS Auth API says.
Sources: amazon-ecs-agent (tmds/handlers/v1), eks-pod-identity-agent (pkg/handlers), EKS Auth API.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from typing import TYPE_CHECKING

import jwt

from localcloud.aws.instances.credentials import RotatingCredentials, timestamp
from localcloud.kubernetes import Cluster, Pod, TokenError
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.aws.accounts import Accounts

TASK_ADDRESS = "169.254.170.2"
POD_ADDRESS = "169.254.170.23"
POD_AUDIENCE = "pods.eks.amazonaws.com"
# The association's default; the token in the pod lives as long.
POD_TOKEN_SECONDS = 86400
POD_PATH = "/v1/credentials"
CLUSTER = "acme"


class Task:
    """A task of ECS that runs as a role."""

    def __init__(self, accounts: Accounts, role: str) -> None:
        self.path = f"/v2/credentials/{uuid.uuid4()}"
        arn = f"arn:aws:iam::{accounts.aws.account}:role/{role}"
        self._arn = arn
        self._credentials = RotatingCredentials(accounts, role, secrets.token_hex(16))

    def site(self, request: Request) -> Response:
        """The agent's endpoint: `GET /v2/credentials/ID`, the ID being the secret."""
        head, _, given = request.path.rpartition("/")
        if head != "/v2/credentials":
            return Response(404, b"404 page not found\n", (("Content-Type", "text/plain"),))
        if request.method not in {"GET", "HEAD"}:
            return Response(405)
        if not given:
            return _task_error("NoIdInRequest", "No Credential ID in the request")
        if not hmac.compare_digest(request.path.encode(), self.path.encode()):
            return _task_error("InvalidIdInRequest", "Credentials not found")
        key, _ = self._credentials.current()
        return Response.json(
            200,
            {
                "RoleArn": self._arn,
                "AccessKeyId": key.id,
                "SecretAccessKey": key.secret,
                "Token": key.token,
                "Expiration": timestamp(key.expires or 0),
            },
        )


class PodIdentity:
    """A pod of EKS whose service account is associated with a role; both have the same name."""

    def __init__(self, accounts: Accounts, role: str, cluster: Cluster) -> None:
        self.pod = Pod(role)
        self._cluster = cluster
        # eks-CLUSTER-POD-UUID, cut to what a session's name may hold.
        session = f"eks-{CLUSTER}-{self.pod.name}"[:27] + f"-{uuid.uuid4()}"
        self._credentials = RotatingCredentials(accounts, role, session)

    def token(self) -> str:
        """A new token of the pod, for the agent."""
        return self._cluster.token(self.pod, POD_AUDIENCE, POD_TOKEN_SECONDS)

    def site(self, request: Request) -> Response:
        """The agent's endpoint: `GET /v1/credentials`."""
        if request.path != POD_PATH:
            return _plain(404, "404 page not found")
        presented = request.headers.get("Authorization")
        if not presented:
            return _plain(400, "Service account token cannot be empty")
        try:
            jwt.get_unverified_header(presented)
        except jwt.PyJWTError:
            return _plain(400, "Service account token cannot be parsed: token is malformed")
        try:
            claims = self._cluster.claims(presented, POD_AUDIENCE)
        except TokenError as refused:
            return _eks_auth_error(str(refused))
        if claims["sub"] != self.pod.subject:
            # No association for it in this cluster.
            return _plain(404, _eks_text("ResourceNotFoundException", "No association found"))
        key, _ = self._credentials.current()
        return Response.json(
            200,
            {
                "AccessKeyId": key.id,
                "SecretAccessKey": key.secret,
                "Token": key.token,
                "AccountId": key.principal.account,
                "Expiration": timestamp(key.expires or 0),
            },
        )


def eks_issuer(account: str, region: str) -> str:
    """The OIDC issuer of the account's cluster."""
    name = hashlib.sha256(f"{account}/{region}/{CLUSTER}".encode()).hexdigest()[:32].upper()
    return f"https://oidc.eks.{region}.amazonaws.com/id/{name}"


def _task_error(code: str, text: str) -> Response:
    message = {"code": code, "message": f"CredentialsV2Request: {text}", "HTTPErrorCode": 400}
    return Response.json(400, message)


def _eks_auth_error(reason: str) -> Response:
    if reason == "ExpiredSignatureError":
        text = _eks_text("ExpiredTokenException", "Token expired")
    else:
        text = _eks_text("InvalidTokenException", "The token included in the request is invalid")
    return _plain(400, text)


def _eks_text(code: str, message: str) -> str:
    return f"[{uuid.uuid4()}]: ({code}): {message}, fault: client"


def _plain(status: int, text: str) -> Response:
    kinds = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Response(status, f"{text}\n".encode(), kinds)


TASKS: Service[None] = Service(
    "Amazon ECS task credentials", (TASK_ADDRESS,), (Route("GET", "/v2/credentials/{id}", None),)
)
PODS: Service[None] = Service(
    "Amazon EKS Pod Identity agent", (POD_ADDRESS,), (Route("GET", POD_PATH, None),)
)
