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
from typing import Any

import yaml

from localcloud.world.aws import Aws, AwsPolicy, AwsRole, AwsUser, OidcProvider
from localcloud.world.azure import (
    AppRole,
    AppRoleAssignment,
    Azure,
    EntraApplication,
    FederatedIdentityCredential,
    ManagedIdentity,
)
from localcloud.world.google import (
    AuditConfig,
    AuditLogConfig,
    AwsConfig,
    Binding,
    Bucket,
    Expr,
    Google,
    Group,
    IamConfiguration,
    OidcConfig,
    Policy,
    Project,
    RunService,
    ServiceAccount,
    UniformBucketLevelAccess,
    User,
    Versioning,
    WorkloadIdentityPool,
    WorkloadIdentityPoolProvider,
)
from localcloud.world.resources import WorldError, parse, unparse

DEFAULT_WORLD = Path(__file__).with_name("world.yaml")

__all__ = [
    "DEFAULT_WORLD",
    "AppRole",
    "AppRoleAssignment",
    "AuditConfig",
    "AuditLogConfig",
    "Aws",
    "AwsConfig",
    "AwsPolicy",
    "AwsRole",
    "AwsUser",
    "Azure",
    "Binding",
    "Bucket",
    "EntraApplication",
    "Expr",
    "FederatedIdentityCredential",
    "Google",
    "Group",
    "IamConfiguration",
    "ManagedIdentity",
    "OidcConfig",
    "OidcProvider",
    "Policy",
    "Project",
    "RunService",
    "ServiceAccount",
    "UniformBucketLevelAccess",
    "User",
    "Versioning",
    "WorkloadIdentityPool",
    "WorkloadIdentityPoolProvider",
    "World",
    "WorldError",
]


# libyaml's reader, where PyYAML was built with it, takes a tenth of the time.
_Safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Once(_Safe):  # type: ignore[misc]
    """Takes no key twice: of two Conditions in a statement, the first would silently be gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            text = f"found the key {min(twice)} twice"
            raise yaml.constructor.ConstructorError(None, None, text, node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return made


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
            document = yaml.load(text, _Once)  # noqa: S506 - a safe loader
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

    def document(self) -> dict[str, Any]:
        """The world as plain values: no key, no token, and no object of a bucket is part of it."""
        with self.lock:
            return {key: unparse(getattr(self, key)) for key in ("aws", "azure", "google")}

    def dump(self) -> str:
        """The world as YAML that `parse` reads back to an equal world."""
        text: str = yaml.dump(
            self.document(), Dumper=_InFull, sort_keys=False, allow_unicode=True, width=100
        )
        return text


class _InFull(yaml.SafeDumper):
    """Writes what two resources share out for each: they are changed one by one."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True
