"""Workload identity federation: a verified credential becomes a principal of a pool.

Provider and pool must be active; the attribute mapping and the attribute condition are evaluated
in CEL within the documented limits. `google.subject` must map to 1-127 bytes. A custom attribute
whose expression fails is left unset; a failing condition refuses.
https://cloud.google.com/iam/docs/workload-identity-federation
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from localcloud.google.core import cel, services
from localcloud.google.core.errors import OAuthError
from localcloud.google.core.principals import FederatedPrincipal
from localcloud.google.sts import aws_identity, oidc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import WorkloadIdentityPoolProvider

type Kind = Literal["aws", "oidc", "other"]
"""Of which kind a subject token is; "other": no provider of a world takes it."""

MAX_LIFETIME = 3600
MAX_SUBJECT = 127
MAX_MAPPED = 8192
MAX_EXPRESSION = 2048
MAX_CONDITION = 4096
MAX_CUSTOM = 50
_ATTRIBUTE = re.compile(r"attribute\.[a-z0-9_]{1,100}")

DEFAULT_AWS_MAPPING = {
    "google.subject": "assertion.arn",
    "attribute.aws_role": (
        "assertion.arn.contains('assumed-role')"
        " ? assertion.arn.extract('{account_arn}assumed-role/')"
        " + 'assumed-role/'"
        " + assertion.arn.extract('assumed-role/{role_name}/')"
        " : assertion.arn"
    ),
}
"""What an AWS provider without a mapping uses (iam.v1 discovery document)."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A verified credential: its claims, how logs name it, and its end in epoch seconds."""

    assertion: Mapping[str, Any]
    external_subject: str
    expires_at: int | None = None


def identify(
    cloud: GoogleCloud,
    name: str,
    kind: Kind,
    subject_token: str,
    now: float,
) -> tuple[FederatedPrincipal, int]:
    """The principal of a subject token and the end of its federated token in epoch seconds.

    `name` is the provider's resource name. Raises OAuthError.
    """
    provider = _active_provider(cloud, name)
    # The guide wants the API enabled in the pool's project; STS's own words for it are not known.
    services.require_enabled("sts.googleapis.com", cloud.world.google.project(name.split("/")[1]))
    credential = _verify(cloud, provider, kind, subject_token, now)
    principal = _map(provider, credential)
    end = int(now) + MAX_LIFETIME
    if credential.expires_at is not None:
        # A credential in its last skew is taken, but no token is born dead.
        end = max(int(now) + 1, min(end, credential.expires_at))
    return principal, end


def _active_provider(cloud: GoogleCloud, name: str) -> WorkloadIdentityPoolProvider:
    provider = cloud.world.google.provider(name)
    pool = None if provider is None else cloud.world.google.pool(provider.pool)
    if (
        provider is None
        or pool is None
        or any(part.disabled or part.state != "ACTIVE" for part in (provider, pool))
    ):
        text = (
            'The target service indicated by the "audience" parameters is invalid. This might '
            "either be because the pool or provider is disabled or deleted or because it "
            "doesn't exist."
        )
        raise OAuthError("invalid_target", text)
    return provider


def _verify(
    cloud: GoogleCloud,
    provider: WorkloadIdentityPoolProvider,
    kind: Kind,
    subject_token: str,
    now: float,
) -> Credential:
    if kind == "aws" and provider.aws is not None:
        caller = aws_identity.verify(
            subject_token, provider.name, provider.aws.account_id, cloud.fetch
        )
        assertion = {"account": caller.account, "arn": caller.arn, "userid": caller.user_id}
        return Credential(assertion, caller.arn)
    if kind == "oidc" and provider.oidc is not None:
        claims = oidc.verify(subject_token, provider.name, provider.oidc, cloud.fetch, now)
        return Credential(claims, str(claims.get("sub", "")), int(claims["exp"]))
    text = 'Invalid value for "subject_token_type": the provider does not accept this type.'
    raise OAuthError("invalid_request", text)


def _map(provider: WorkloadIdentityPoolProvider, credential: Credential) -> FederatedPrincipal:
    mapping = provider.attribute_mapping
    if not mapping and provider.aws is not None:
        mapping = DEFAULT_AWS_MAPPING
    _check_limits(mapping, provider.attribute_condition)
    values = {"assertion": dict(credential.assertion)}
    subject = cel.evaluate_string(mapping.get("google.subject", ""), values)
    groups = cel.evaluate_strings(mapping.get("google.groups", "[]"), values) or ()
    attributes = {
        key.removeprefix("attribute."): value
        for key, expression in mapping.items()
        if key.startswith("attribute.")
        and (value := cel.evaluate_string(expression, values)) is not None
    }
    mapped = {"google": {"subject": subject or "", "groups": list(groups)}, "attribute": attributes}
    condition = provider.attribute_condition
    # Google asks the condition first: of a token without a subject it says that it is rejected.
    if condition and not cel.holds(condition, values | mapped):
        text = "The given credential is rejected by the attribute condition."
        raise OAuthError("unauthorized_client", text)
    if not subject:
        text = "Could not obtain a value for google.subject from the given credential."
        raise OAuthError("unauthorized_client", text)
    _check_sizes(subject, (*groups, *attributes.values()))
    return FederatedPrincipal(
        provider.pool, subject, groups, tuple(attributes.items()), credential.external_subject
    )


def _check_sizes(subject: str, others: tuple[str, ...]) -> None:
    if len(subject.encode()) > MAX_SUBJECT:
        text = (
            f"The size of mapped attribute google.subject exceeds the {MAX_SUBJECT} bytes limit. "
            "Either modify your attribute mapping or the incoming assertion to produce a mapped "
            f"attribute that is less than {MAX_SUBJECT} bytes."
        )
        raise OAuthError("invalid_request", text)
    if sum(len(text.encode()) for text in (subject, *others)) > MAX_MAPPED:
        text = "The total size of all mapped attributes exceeds the 8 KB limit."
        raise OAuthError("invalid_request", text)


def _check_limits(mapping: Mapping[str, str], condition: str) -> None:
    """Google refuses such a provider at its creation; a world may still hold one."""
    custom = [key for key in mapping if key.startswith("attribute.")]
    keys_valid = all(
        key in ("google.subject", "google.groups") or _ATTRIBUTE.fullmatch(key) for key in mapping
    )
    if (
        not keys_valid
        or len(custom) > MAX_CUSTOM
        or any(len(expression) > MAX_EXPRESSION for expression in mapping.values())
        or len(condition) > MAX_CONDITION
    ):
        text = "The attribute mapping or condition of the provider exceeds its limits."
        raise OAuthError("invalid_request", text)
