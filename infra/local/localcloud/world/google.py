"""Everything that exists in Google Cloud, in its own REST resources."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Expr:
    """google.type.Expr: a CEL condition."""

    expression: str
    title: str = ""
    description: str = ""


@dataclass
class Binding:
    """google.iam.v1.Binding."""

    role: str
    members: list[str] = field(default_factory=list)
    condition: Expr | None = None


@dataclass
class AuditLogConfig:
    """google.iam.v1.AuditLogConfig: a kind of Data Access log and who is left out of it."""

    log_type: str
    exempted_members: list[str] = field(default_factory=list)


@dataclass
class AuditConfig:
    """google.iam.v1.AuditConfig: which Data Access logs a service writes."""

    service: str
    audit_log_configs: list[AuditLogConfig] = field(default_factory=list)


@dataclass
class Policy:
    """google.iam.v1.Policy.

    `earlier` holds the bindings that an API replaced, oldest first, each with the epoch second up
    to which they stood: at Google a change takes a while to act. No part of a dumped world.
    """

    bindings: list[Binding] = field(default_factory=list)
    audit_configs: list[AuditConfig] = field(default_factory=list)
    etag: str = "ACAB"
    version: int = 1
    earlier: tuple[tuple[float, list[Binding]], ...] = field(
        default=(), repr=False, compare=False, metadata={"kept": False}
    )

    def bindings_at(self, time: float) -> list[Binding]:
        """The bindings that stood at `time`, in epoch seconds."""
        return next((old for until, old in self.earlier if time < until), self.bindings)

    def grant(self, role: str, member: str) -> None:
        """Add one member to a role, as `add-iam-policy-binding` does."""
        for binding in self.bindings:
            if binding.role == role and binding.condition is None:
                if member not in binding.members:
                    binding.members = [*binding.members, member]
                return
        self.bindings = [*self.bindings, Binding(role, [member])]

    def revoke(self, member: str) -> None:
        """Remove a member from every role."""
        for binding in self.bindings:
            binding.members = [m for m in binding.members if m != member]


@dataclass
class User:
    """A person of the organisation's directory, as IAM knows them: `user:EMAIL`."""

    primary_email: str
    suspended: bool = False


@dataclass
class Group:
    """Cloud Identity's Group with the emails of its members."""

    email: str
    members: list[str] = field(default_factory=list)


ENABLED_AT_FIRST = ("cloudapis", "servicemanagement", "serviceusage", "storage", "storage-api")
"""What a new project has without anybody's doing, as far as the embedded cloud has it.

https://cloud.google.com/service-usage/docs/enabled-service#default
"""


def _enabled_at_first() -> list[str]:
    return [f"{name}.googleapis.com" for name in ENABLED_AT_FIRST]


@dataclass
class Project:
    """A Google Cloud project with its policy and the APIs that are enabled in it."""

    project_id: str
    project_number: str
    display_name: str = ""
    lifecycle_state: str = "ACTIVE"
    enabled_services: list[str] = field(default_factory=_enabled_at_first)
    iam_policy: Policy = field(default_factory=Policy)


@dataclass
class WorkloadIdentityPool:
    """iam.v1 WorkloadIdentityPool; a deleted one is purged at its `expire_time` (RFC 3339)."""

    name: str
    state: str = "ACTIVE"
    disabled: bool = False
    display_name: str = ""
    description: str = ""
    expire_time: str = ""


@dataclass
class AwsConfig:
    """iam.v1 Aws: the account a provider trusts."""

    account_id: str


@dataclass
class OidcConfig:
    """iam.v1 Oidc: the issuer a provider trusts; `jwks_json` replaces discovery."""

    issuer_uri: str
    allowed_audiences: list[str] = field(default_factory=list)
    jwks_json: str = ""


@dataclass
class WorkloadIdentityPoolProvider:
    """iam.v1 WorkloadIdentityPoolProvider, deleted as a pool is."""

    name: str
    state: str = "ACTIVE"
    disabled: bool = False
    display_name: str = ""
    description: str = ""
    expire_time: str = ""
    aws: AwsConfig | None = None
    oidc: OidcConfig | None = None
    attribute_mapping: dict[str, str] = field(default_factory=dict)
    attribute_condition: str = ""

    @property
    def pool(self) -> str:
        """The resource name of the pool it belongs to."""
        return self.name.partition("/providers/")[0]


@dataclass
class ServiceAccount:
    """iam.v1 ServiceAccount with its policy; a deleted one is purged at its `expire_time`."""

    name: str
    email: str
    unique_id: str
    disabled: bool = False
    display_name: str = ""
    description: str = ""
    expire_time: str = ""
    iam_policy: Policy = field(default_factory=Policy)


@dataclass
class UniformBucketLevelAccess:
    """Whether IAM alone decides; federated principals need it."""

    enabled: bool = False


@dataclass
class IamConfiguration:
    """storage.v1 Bucket.iamConfiguration."""

    uniform_bucket_level_access: UniformBucketLevelAccess = field(
        default_factory=UniformBucketLevelAccess
    )
    public_access_prevention: str = "inherited"


@dataclass
class Versioning:
    """Whether replaced and deleted objects stay as noncurrent generations."""

    enabled: bool = False


@dataclass
class Bucket:
    """storage.v1 Bucket with its policy."""

    name: str
    location: str = "US"
    project_number: str = ""
    storage_class: str = "STANDARD"
    labels: dict[str, str] = field(default_factory=dict)
    versioning: Versioning = field(default_factory=Versioning)
    time_created: str = "2026-01-01T00:00:00.000Z"
    metageneration: int = 1
    iam_configuration: IamConfiguration = field(default_factory=IamConfiguration)
    iam_policy: Policy = field(default_factory=Policy)


@dataclass
class RunService:
    """run.v2 Service with its policy."""

    name: str
    uri: str
    custom_audiences: list[str] = field(default_factory=list)
    iam_policy: Policy = field(default_factory=Policy)


@dataclass
class Google:
    """Everything that exists in Google Cloud."""

    users: list[User] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    projects: list[Project] = field(default_factory=list)
    lifetime_extension: list[str] = field(default_factory=list)
    workload_identity_pools: list[WorkloadIdentityPool] = field(default_factory=list)
    workload_identity_pool_providers: list[WorkloadIdentityPoolProvider] = field(
        default_factory=list
    )
    service_accounts: list[ServiceAccount] = field(default_factory=list)
    deleted_service_accounts: list[ServiceAccount] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    services: list[RunService] = field(default_factory=list)

    def user(self, name: str) -> User | None:
        """The person of this address, or of this name before the @."""
        return next(
            (u for u in self.users if name in (u.primary_email, u.primary_email.split("@")[0])),
            None,
        )

    def project(self, name: str) -> Project | None:
        """The project of this id or number."""
        return next((p for p in self.projects if name in (p.project_id, p.project_number)), None)

    def pool(self, name: str) -> WorkloadIdentityPool | None:
        """The pool of this resource name."""
        return next((p for p in self.workload_identity_pools if p.name == name), None)

    def provider(self, name: str) -> WorkloadIdentityPoolProvider | None:
        """The provider of this resource name (`projects/NUMBER/…/providers/ID`)."""
        return next((p for p in self.workload_identity_pool_providers if p.name == name), None)

    def service_account(self, name: str) -> ServiceAccount | None:
        """The service account of this email or unique id."""
        return next((a for a in self.service_accounts if name in (a.email, a.unique_id)), None)

    def bucket(self, name: str) -> Bucket | None:
        """The bucket of this name."""
        return next((b for b in self.buckets if b.name == name), None)

    def service_at(self, host: str) -> RunService | None:
        """The Cloud Run service that answers at this hostname."""
        url = f"https://{host.lower()}"
        return next((s for s in self.services if url in self.urls(s)), None)

    def urls(self, service: RunService) -> tuple[str, ...]:
        """Every URL of a service: the one with a hash, and the one anybody can write down."""
        _, project, _, region, _, name = service.name.split("/")
        found = self.project(project)
        made = (f"https://{name}-{found.project_number}.{region}.run.app",) if found else ()
        return (service.uri, *made)
