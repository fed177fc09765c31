"""One AWS account: its users, roles and what was added to the stack by hand."""

from __future__ import annotations

from dataclasses import dataclass, field


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
