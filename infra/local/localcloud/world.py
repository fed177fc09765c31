"""The state of the embedded cloud: which accounts, identities, pools and resources exist.

One readable YAML file in the clouds' own resource shapes becomes mutable typed objects, so that a
test changes the world as an operator would (``world.google.provider(NAME).disabled = True``) and
the next request sees it. Refuses unknown keys and wrong types, because a misspelt key in a policy
would otherwise be a silent grant or denial. Keys of signing are never part of a world.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from localcloud.resources import WorldError, parse, unparse

DEFAULT_WORLD = Path(__file__).with_name("world.yaml")


@dataclass
class AwsUser:
    """An IAM user; `path` begins and ends with a slash."""

    user_name: str
    path: str = "/"


@dataclass
class AwsRole:
    """An IAM role."""

    role_name: str
    path: str = "/"
    max_session_duration: int = 3600


@dataclass
class Aws:
    """One AWS account."""

    account: str
    region: str
    organization: str
    users: list[AwsUser] = field(default_factory=list)
    roles: list[AwsRole] = field(default_factory=list)
    function_aliases: list[str] = field(default_factory=list)

    def role(self, name: str) -> AwsRole | None:
        """The role of this name."""
        return next((r for r in self.roles if r.role_name == name), None)

    def user(self, name: str) -> AwsUser | None:
        """The user of this name."""
        return next((u for u in self.users if u.user_name == name), None)


@dataclass
class AppRole:
    """A role that an application defines; `value` is what a token's `roles` claim shows."""

    id: str
    value: str


@dataclass
class AppRoleAssignment:
    """That an identity holds a role of the application of this display name."""

    resource_display_name: str
    app_role_id: str


@dataclass
class EntraApplication:
    """An Entra app registration; version 2 gives v2 tokens, None or 1 gives v1 tokens."""

    display_name: str
    app_id: str
    identifier_uris: list[str] = field(default_factory=list)
    requested_access_token_version: int | None = None
    app_roles: list[AppRole] = field(default_factory=list)


@dataclass
class ManagedIdentity:
    """A workload's system-assigned identity; `principal_id` is its object id.

    `user_assigned_identities` names further identities that the same workload carries.
    """

    name: str
    principal_id: str
    client_id: str
    app_role_assignments: list[AppRoleAssignment] = field(default_factory=list)
    user_assigned_identities: list[str] = field(default_factory=list)


@dataclass
class Azure:
    """One Entra tenant with its function app."""

    tenant: str
    applications: list[EntraApplication] = field(default_factory=list)
    managed_identities: list[ManagedIdentity] = field(default_factory=list)
    function_app: str = ""

    def application(self, resource: str) -> EntraApplication | None:
        """The application that a resource names: an identifier URI, or the bare app id."""
        for application in self.applications:
            if resource == application.app_id or resource in application.identifier_uris:
                return application
        return None

    def managed_identity(self, name: str) -> ManagedIdentity | None:
        """The identity of this name, client id or object id."""
        for identity in self.managed_identities:
            if name in (identity.name, identity.client_id, identity.principal_id):
                return identity
        return None


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
class Policy:
    """google.iam.v1.Policy."""

    bindings: list[Binding] = field(default_factory=list)
    etag: str = "ACAB"
    version: int = 1

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
class Project:
    """A Google Cloud project."""

    project_id: str
    project_number: str
    display_name: str = ""


@dataclass
class WorkloadIdentityPool:
    """iam.v1 WorkloadIdentityPool."""

    name: str
    state: str = "ACTIVE"
    disabled: bool = False
    display_name: str = ""
    description: str = ""


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
    """iam.v1 WorkloadIdentityPoolProvider."""

    name: str
    state: str = "ACTIVE"
    disabled: bool = False
    display_name: str = ""
    description: str = ""
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
    """iam.v1 ServiceAccount with its policy."""

    name: str
    email: str
    unique_id: str
    disabled: bool = False
    display_name: str = ""
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


@dataclass
class Bucket:
    """storage.v1 Bucket with its policy."""

    name: str
    location: str = "US"
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

    projects: list[Project] = field(default_factory=list)
    lifetime_extension: list[str] = field(default_factory=list)
    workload_identity_pools: list[WorkloadIdentityPool] = field(default_factory=list)
    workload_identity_pool_providers: list[WorkloadIdentityPoolProvider] = field(
        default_factory=list
    )
    service_accounts: list[ServiceAccount] = field(default_factory=list)
    buckets: list[Bucket] = field(default_factory=list)
    services: list[RunService] = field(default_factory=list)

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
        """The Cloud Run service whose URI has this hostname."""
        return next((s for s in self.services if s.uri == f"https://{host.lower()}"), None)


@dataclass
class World:
    """The three clouds. Hold `lock` around a change of several steps; single writes are atomic."""

    aws: Aws
    azure: Azure
    google: Google
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    @classmethod
    def load(cls, path: Path | str = DEFAULT_WORLD) -> World:
        """Read a world; raises WorldError that names the wrong key."""
        return cls.parse(Path(path).read_text(encoding="utf-8"))

    @classmethod
    def parse(cls, text: str) -> World:
        """Read a world from YAML text; raises WorldError that names the wrong key."""
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as failure:
            message = f"the world is not YAML: {failure}"
            raise WorldError(message) from failure
        if not isinstance(document, dict) or set(document) != {"aws", "azure", "google"}:
            message = "a world has exactly the keys aws, azure and google"
            raise WorldError(message)
        return cls(
            parse(Aws, document["aws"], "aws"),
            parse(Azure, document["azure"], "azure"),
            parse(Google, document["google"], "google"),
        )

    def dump(self) -> str:
        """The world as YAML that `parse` reads back to an equal world."""
        with self.lock:
            document = {key: unparse(getattr(self, key)) for key in ("aws", "azure", "google")}
        text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
        return text
