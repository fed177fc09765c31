"""Who may do what in Cloud Storage: the guard before every operation of every door.

Refuses a caller whose token is not live (401) or lacks the scopes (403), buckets of a project that
has switched the API off (403), and every permission that neither the bucket's policy nor its
project's gives, or that the token's Credential Access Boundary cuts off; federated principals need
uniform bucket-level access. Without a token only what is open to all users is allowed. What is
asked is written to the audit log, with its outcome.
https://cloud.google.com/storage/docs/access-control/iam-json
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from localcloud.google.core import audit, hierarchy, services
from localcloud.google.core.iam import allows, open_to_all
from localcloud.google.core.principals import FederatedPrincipal, subject_name
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken, bearer
from localcloud.google.storage.errors import StorageError, denied, no_such_bucket
from localcloud.google.sts.boundary import within

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.wire.web import Request
    from localcloud.world import Binding, Bucket

SERVICE = "storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage."
CONTROL = (CLOUD_PLATFORM, f"{_SCOPE}full_control")
"""The scopes that change metadata and policies (storage.v1 discovery document)."""
WRITE = (*CONTROL, f"{_SCOPE}read_write")
READ = (*WRITE, f"{_SCOPE}read_only", f"{CLOUD_PLATFORM}.read-only")
PUBLIC_ACCESS_PREVENTED = "enforced"
EVERYBODY = ("allUsers", "allAuthenticatedUsers")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request; without a token nobody in particular. `now` is epoch seconds."""

    cloud: GoogleCloud
    token: IssuedToken | None
    now: float

    @property
    def name(self) -> str:
        """How error texts name the caller."""
        return "Anonymous caller" if self.token is None else subject_name(self.token.principal)

    def bucket(self, name: str) -> Bucket:
        """The bucket of a name; raises the 404."""
        found = self.cloud.world.google.bucket(name)
        if found is None:
            raise no_such_bucket()
        return found

    def require(
        self, permission: str, bucket: Bucket, name: str | None = None, prefix: str = ""
    ) -> None:
        """Raise the 403 (of a caller without a token the 401) unless the permission is given.

        Args:
            permission: in Google's words (``storage.objects.get``).
            bucket: the bucket.
            name: the object in it, where one is asked for.
            prefix: of a listing, which boundaries can see.

        """
        self._require_enabled(bucket.project_number)
        allowed = self.may(permission, bucket, name, prefix)
        target = hierarchy.bucket(self.cloud.world.google, bucket, name)
        self._log(permission, target, 0 if allowed else 403, {"bucket_name": bucket.name})
        if not allowed:
            raise denied(self.name, permission, anonymous=self.token is None)

    def may(
        self, permission: str, bucket: Bucket, name: str | None = None, prefix: str = ""
    ) -> bool:
        """Whether the caller has a permission on a bucket or an object in it."""
        target = hierarchy.bucket(self.cloud.world.google, bucket, name)
        settings = bucket.iam_configuration
        if settings.public_access_prevention == PUBLIC_ACCESS_PREVENTED:
            target = _without_everybody(target)
        if open_to_all(self.cloud, permission, target, self.now):
            return self._within_boundary(permission, bucket, target, prefix)
        if self.token is None:
            return False
        uniform = settings.uniform_bucket_level_access.enabled
        if isinstance(self.token.principal, FederatedPrincipal) and not uniform:
            return False
        given = allows(self.cloud, self.token.principal, permission, target, self.now)
        return given and self._within_boundary(permission, bucket, target, prefix)

    def require_of_project(self, permission: str, project: str) -> None:
        """Raise the 403 or 401 unless the project's policy gives the permission.

        A token with a boundary has none: boundaries name buckets only.
        """
        self._require_enabled(project)
        target = hierarchy.project(self.cloud.world.google, project)
        token = self.token
        allowed = (
            token is not None
            and token.boundary is None
            and allows(self.cloud, token.principal, permission, target, self.now)
        )
        self._log(permission, target, 0 if allowed else 403, {"project_id": project})
        if not allowed:
            raise denied(self.name, permission, on="project", anonymous=token is None)

    def _require_enabled(self, project: str) -> None:
        consumer = self.cloud.world.google.project(project)
        if consumer is not None and services.lacks(SERVICE, consumer):
            text, _ = services.activation(SERVICE, consumer.project_number)
            raise StorageError(HTTPStatus.FORBIDDEN, text, "accessNotConfigured")

    def _within_boundary(
        self, permission: str, bucket: Bucket, target: hierarchy.Target, prefix: str
    ) -> bool:
        if self.token is None or self.token.boundary is None:
            return True
        rules, name = self.token.boundary, bucket.name
        return within(rules, permission, target.resource, name, prefix, self.now)

    def _log(
        self, permission: str, target: hierarchy.Target, status: int, labels: dict[str, str]
    ) -> None:
        token = self.token
        self.cloud.log.write(
            audit.LogEntry(
                timestamp=audit.timestamp(self.now),
                service_name=SERVICE,
                method_name=permission,
                resource_name=target.resource.name,
                status=status,
                authentication_info=audit.authentication_info(token.principal) if token else {},
                labels=labels,
            )
        )


def caller_of(cloud: GoogleCloud, request: Request, scopes: tuple[str, ...]) -> Caller:
    """Who sent a request; raises the 401 of a token that is none, the 403 of missing scopes.

    The project of `X-Goog-User-Project`, of `userProject` in the query or of the token is one that
    the caller must have the right to use.
    """
    now = cloud.clock()
    text = bearer(request)
    token = None if text is None else cloud.tokens.live(text, cloud.world, now)
    if text is not None and token is None:
        raise StorageError(401, "Invalid Credentials", "authError", "Authorization")
    if token is not None and token.scopes.isdisjoint(scopes):
        message = "Request had insufficient authentication scopes."
        raise StorageError(403, message, "insufficientPermissions")
    caller = Caller(cloud, token, now)
    billed = request.headers.get("X-Goog-User-Project") or request.params.get("userProject")
    billed = billed or (token.user_project if token else "")
    if billed:
        caller.require_of_project("serviceusage.services.use", billed)
    return caller


def _without_everybody(target: hierarchy.Target) -> hierarchy.Target:
    """The target where nothing counts that is bound to everybody."""

    def named(bindings: list[Binding]) -> list[Binding]:
        return [
            replace(binding, members=[m for m in binding.members if m not in EVERYBODY])
            for binding in bindings
        ]

    policies = {
        name: replace(
            policy,
            bindings=named(policy.bindings),
            earlier=tuple((until, named(bindings)) for until, bindings in policy.earlier),
        )
        for name, policy in target.policies.items()
    }
    return replace(target, policies=policies)
