"""Who a Google token speaks for, and the member names that IAM policies know it by.

https://cloud.google.com/iam/docs/principal-identifiers
"""

from __future__ import annotations

from dataclasses import dataclass

IAM = "iam.googleapis.com"


@dataclass(frozen=True, slots=True)
class FederatedPrincipal:
    """An external identity in a workload identity pool; `pool` is its resource name."""

    pool: str
    subject: str
    groups: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()
    external_subject: str = ""

    @property
    def identifier(self) -> str:
        """The `principal://` name, as Google's logs show it."""
        return f"principal://{IAM}/{self.pool}/subject/{self.subject}"

    @property
    def members(self) -> frozenset[str]:
        """Every member name that covers this identity (never allAuthenticatedUsers)."""
        pool = f"principalSet://{IAM}/{self.pool}"
        groups = {f"{pool}/group/{group}" for group in self.groups}
        attributes = {f"{pool}/attribute.{name}/{value}" for name, value in self.attributes}
        return frozenset({"allUsers", self.identifier, f"{pool}/*"} | groups | attributes)


@dataclass(frozen=True, slots=True)
class ServiceAccountPrincipal:
    """A service account; `delegation` names who impersonated it, the origin first."""

    email: str
    unique_id: str
    delegation: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        """The `serviceAccount:` member name."""
        return f"serviceAccount:{self.email}"

    @property
    def members(self) -> frozenset[str]:
        """Every member name that covers this account."""
        return frozenset({"allUsers", "allAuthenticatedUsers", self.identifier})


@dataclass(frozen=True, slots=True)
class UserPrincipal:
    """A person, by the address they sign in with."""

    email: str

    @property
    def identifier(self) -> str:
        """The `user:` member name."""
        return f"user:{self.email}"

    @property
    def members(self) -> frozenset[str]:
        """Every member name that covers this person, groups aside."""
        return frozenset({"allUsers", "allAuthenticatedUsers", self.identifier})


type Principal = FederatedPrincipal | ServiceAccountPrincipal | UserPrincipal


def subject_name(principal: Principal) -> str:
    """How error texts and logs name a principal: an email, or the `principal://` name."""
    match principal:
        case ServiceAccountPrincipal() | UserPrincipal():
            return principal.email
        case FederatedPrincipal():
            return principal.identifier
