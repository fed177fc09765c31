"""Where a pod of EKS gets its role's credentials: the Pod Identity agent at 169.254.170.23.

It wants the pod's projected service account token, made out to pods.eks.amazonaws.com, bare in
`Authorization`. A missing or unreadable one the agent refuses itself; for one that EKS does not
accept it repeats what the EKS Auth API says, as plain text.
Sources: eks-pod-identity-agent (pkg/handlers, pkg/errors), EKS Auth API Reference.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jwt

from localcloud.aws import service_roles
from localcloud.aws.instances.credentials import (
    Assumption,
    RotatingCredentials,
    UntrustedError,
    timestamp,
)
from localcloud.kubernetes import Cluster, Pod, TokenError
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from localcloud.aws.accounts import AccessKey, Accounts

ADDRESS = "169.254.170.23"
PATH = "/v1/credentials"
AUDIENCE = "pods.eks.amazonaws.com"
TOKEN_SECONDS = 86400
"""How long a pod's token lives."""
CLUSTER = "acme"
# What a session's name may hold, without the random UUID at its end.
_NAMED = 64 - 37


class _Refused(Exception):
    """What the agent answers instead of credentials."""

    def __init__(self, text: str, code: str = "", status: int = 400) -> None:
        # Of what EKS refused, the agent shows the SDK's view.
        super().__init__(f"[{uuid.uuid4()}]: ({code}): {text}, fault: client" if code else text)
        self.status = status


class PodIdentity:
    """A pod whose service account is associated with a role; both have the same name."""

    def __init__(self, accounts: Accounts, role: str, cluster: Cluster) -> None:
        self.pod = Pod(role)
        self._cluster = cluster
        self._credentials = RotatingCredentials(accounts, role, assumption(accounts, role))

    def token(self) -> str:
        """A new token of the pod, for the agent."""
        return self._cluster.token(self.pod, AUDIENCE, TOKEN_SECONDS)

    def site(self, request: Request) -> Response:
        """The agent as this pod sees it."""
        found = SERVICE.find(request.method, request.path)
        if found is None:
            return _plain(404, "404 page not found")
        try:
            document = found[0].handler(self, request.headers.get("Authorization"))
        except _Refused as refused:
            return _plain(refused.status, str(refused))
        return Response.json(200, document)

    def credentials(self, presented: str) -> dict[str, Any]:
        """`GET /v1/credentials`, for a token of the pod's; raises _Refused."""
        if not presented:
            raise _Refused("Service account token cannot be empty")
        try:
            jwt.get_unverified_header(presented)
        except jwt.PyJWTError:
            raise _Refused("Service account token cannot be parsed: token is malformed") from None
        key = self._assumed(presented)
        return {
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            "Token": key.token,
            "AccountId": key.principal.account,
            "Expiration": timestamp(key.expires or 0),
        }

    def _assumed(self, token: str) -> AccessKey:
        """EKS Auth's AssumeRoleForPodIdentity."""
        try:
            claims = self._cluster.claims(token, AUDIENCE)
        except TokenError as wrong:
            if wrong.expired:
                raise _Refused("Token expired", "ExpiredTokenException") from None
            text = "The token included in the request is invalid"
            raise _Refused(text, "InvalidTokenException") from None
        if claims["sub"] != self.pod.subject:
            text = "No association found for the service account"
            raise _Refused(text, "ResourceNotFoundException", 404)
        try:
            key, _ = self._credentials.current()
        except UntrustedError:
            text = (
                "Unauthorized Exception! EKS does not have permissions to assume the associated "
                "role."
            )
            raise _Refused(text, "AccessDeniedException") from None
        return key


def assumption(accounts: Accounts, role: str) -> Assumption:
    """How EKS takes on a role for its pod: for the cluster, with tags that say which pod it is."""
    aws, pod = accounts.aws, Pod(role)
    cluster = f"arn:aws:eks:{aws.region}:{aws.account}:cluster/{CLUSTER}"
    tags = {
        "eks-cluster-arn": cluster,
        "eks-cluster-name": CLUSTER,
        "kubernetes-namespace": "default",
        "kubernetes-service-account": pod.service_account,
        "kubernetes-pod-name": pod.name,
    }
    session = f"eks-{CLUSTER}-{pod.name}"[:_NAMED] + f"-{uuid.uuid4()}"
    return Assumption(service_roles.EKS, session, cluster, tags)


SERVICE: Service[Callable[[PodIdentity, str], dict[str, Any]]] = Service(
    title="EKS Pod Identity",
    hosts=(ADDRESS,),
    routes=(Route("GET", PATH, PodIdentity.credentials, asks="a projected token of the pod"),),
)


def issuer(account: str, region: str) -> str:
    """The OIDC issuer of the account's cluster."""
    name = hashlib.sha256(f"{account}/{region}/{CLUSTER}".encode()).hexdigest()[:32].upper()
    return f"https://oidc.eks.{region}.amazonaws.com/id/{name}"


def _plain(status: int, text: str) -> Response:
    kinds = (("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff"))
    return Response(status, f"{text}\n".encode(), kinds)
