"""One AWS account: its users, roles and what was added to the stack by hand.

Policy documents stand in IAM's own JSON, verbatim; only what is around them is spelt in camelCase.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class AwsPolicy:
    """An inline policy."""

    policy_name: str
    policy_document: dict[str, Any]


@dataclass
class AwsUser:
    """An IAM user; `path` begins and ends with a slash, `tags` are its own, by their keys."""

    user_name: str
    path: str = "/"
    tags: dict[str, str] = field(default_factory=dict)
    policies: list[AwsPolicy] = field(default_factory=list)
    managed_policy_arns: list[str] = field(default_factory=list)


@dataclass
class AwsRole:
    """An IAM role; `max_session_duration` in seconds, `tags` as a user's."""

    role_name: str
    assume_role_policy_document: dict[str, Any]
    path: str = "/"
    tags: dict[str, str] = field(default_factory=dict)
    max_session_duration: int = 3600
    policies: list[AwsPolicy] = field(default_factory=list)
    managed_policy_arns: list[str] = field(default_factory=list)


@dataclass
class OidcProvider:
    """An IAM OpenID Connect provider, as AssumeRoleWithWebIdentity trusts it."""

    url: str
    client_id_list: list[str] = field(default_factory=list)


@dataclass
class InstanceMetadataOptions:
    """Of every EC2 instance: `required` turns version 1 of the metadata service off."""

    http_tokens: str = "required"


@dataclass
class Aws:
    """One AWS account."""

    account: str
    region: str
    organization: str
    users: list[AwsUser] = field(default_factory=list)
    roles: list[AwsRole] = field(default_factory=list)
    open_id_connect_providers: list[OidcProvider] = field(default_factory=list)
    function_aliases: list[str] = field(default_factory=list)
    instance_metadata_options: InstanceMetadataOptions = field(
        default_factory=InstanceMetadataOptions
    )

    def role(self, name: str) -> AwsRole | None:
        """The role of this name."""
        return next((r for r in self.roles if r.role_name == name), None)

    def user(self, name: str) -> AwsUser | None:
        """The user of this name."""
        return next((u for u in self.users if u.user_name == name), None)
