"""Who a grant is for: matchers of callers, and whether one fits a caller.

The fields of one matcher must all fit; several matchers are alternatives. Each caller kind has its
own matcher, so a field of one cloud can never be satisfied by a caller of another. Threat: an IAM
user may have a path like `assumed-role/…`, so an ARN is taken apart and its resource kind compared
before any pattern sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from tokenvend.model import AwsCaller, EntraCaller, LambdaCaller, OidcCaller
from tokenvend.policy.reading.problems import shown

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.patterns import Glob


@dataclass(frozen=True, slots=True)
class AwsMatcher:
    """IAM roles or users. What is None or empty is not asked for; at least one thing is."""

    role: Glob | None = None
    user: Glob | None = None
    account: str = ""
    organization: str = ""


@dataclass(frozen=True, slots=True)
class LambdaMatcher:
    """Whoever may invoke this alias of the function directly."""

    alias: str


@dataclass(frozen=True, slots=True)
class EntraMatcher:
    """Workloads of one Entra tenant, by object, application or app roles; ids in lower case."""

    tenant: str
    object_id: str = ""
    app_id: str = ""
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OidcMatcher:
    """Workloads an issuer vouches for, by what their token claims."""

    issuer: str
    claims: tuple[tuple[str, Glob], ...]


Matcher = AwsMatcher | LambdaMatcher | EntraMatcher | OidcMatcher


def mismatch(matcher: Matcher, caller: Caller) -> str:
    """Why the matcher does not fit the caller, in an operator's words; empty when it fits."""
    match matcher, caller:
        case AwsMatcher(), AwsCaller():
            return _aws_mismatch(matcher, caller)
        case LambdaMatcher(), LambdaCaller():
            if caller.alias == matcher.alias:
                return ""
            return f"the invoked alias is {shown(caller.alias)}, not {shown(matcher.alias)}"
        case EntraMatcher(), EntraCaller():
            return _entra_mismatch(matcher, caller)
        case OidcMatcher(), OidcCaller():
            return _oidc_mismatch(matcher, caller)
        case _:
            return f"it is for {_kind(matcher)}"


def fits_kind(matcher: Matcher, caller: Caller) -> bool:
    """Whether the matcher is for callers of this kind at all."""
    match matcher, caller:
        case (
            (AwsMatcher(), AwsCaller())
            | (LambdaMatcher(), LambdaCaller())
            | (EntraMatcher(), EntraCaller())
            | (OidcMatcher(), OidcCaller())
        ):
            return True
        case _:
            return False


def fields(matcher: Matcher) -> tuple[str, ...]:
    """The fields that the matcher asks for, as the policy spells them."""
    match matcher:
        case AwsMatcher():
            asked = {
                "aws_role": matcher.role,
                "aws_user": matcher.user,
                "aws_account": matcher.account,
                "aws_organization": matcher.organization,
            }
            return tuple(field for field, value in asked.items() if value)
        case LambdaMatcher():
            return ("lambda_alias",)
        case EntraMatcher():
            asked_entra = {
                "entra_object": matcher.object_id,
                "entra_app": matcher.app_id,
                "entra_role": matcher.roles,
            }
            return ("entra_tenant", *(field for field, value in asked_entra.items() if value))
        case OidcMatcher():
            return ("issuer", *(f"claims.{name}" for name, _ in matcher.claims))
        case _ as never:
            assert_never(never)


def values(matcher: Matcher) -> dict[str, object]:
    """The matcher as the policy writes it."""
    match matcher:
        case AwsMatcher():
            written: dict[str, object] = {
                "aws_role": str(matcher.role or ""),
                "aws_user": str(matcher.user or ""),
                "aws_account": matcher.account,
                "aws_organization": matcher.organization,
            }
        case LambdaMatcher():
            written = {"lambda_alias": matcher.alias}
        case EntraMatcher():
            written = {
                "entra_tenant": matcher.tenant,
                "entra_object": matcher.object_id,
                "entra_app": matcher.app_id,
                "entra_role": list(matcher.roles),
            }
        case OidcMatcher():
            claims = {name: str(value) for name, value in matcher.claims}
            written = {"issuer": matcher.issuer, "claims": claims}
        case _ as never:
            assert_never(never)
    return {field: value for field, value in written.items() if value}


def written(matcher: Matcher) -> str:
    """The matcher in one line, as the policy writes it."""
    flat: dict[str, object] = {}
    for field, value in values(matcher).items():
        if isinstance(value, dict):
            flat |= {f"{field}.{name}": each for name, each in value.items()}
        else:
            flat[field] = "+".join(value) if isinstance(value, list) else value
    return " ".join(f"{field}={value}" for field, value in flat.items())


def _aws_mismatch(matcher: AwsMatcher, caller: AwsCaller) -> str:
    kind = _resource_kind(caller)
    if kind not in ("role", "user"):
        return "only IAM roles and users are matched, not root, federated users or services"
    for wanted, pattern in (("role", matcher.role), ("user", matcher.user)):
        if pattern is None:
            continue
        if kind != wanted:
            return f"the caller is an IAM {kind}, and aws_{wanted} asks for a {wanted}"
        if not pattern.matches(caller.arn):
            return f"{shown(caller.arn)} is not {shown(str(pattern))}"
    if matcher.account and caller.account != matcher.account:
        return f"the caller's account is {shown(caller.account)}, not {shown(matcher.account)}"
    if matcher.organization and caller.organization != matcher.organization:
        known = shown(caller.organization) if caller.organization else "not known here"
        return f"the caller's organisation is {known}, not {shown(matcher.organization)}"
    return ""


def _resource_kind(caller: AwsCaller) -> str:
    """`role`, `user` or another kind; empty where ARN and account contradict each other."""
    parts = caller.arn.split(":", 5)
    match parts:
        case ["arn", _, "iam", "", account, resource] if account == caller.account:
            return resource.partition("/")[0]
        case _:
            return ""


def _entra_mismatch(matcher: EntraMatcher, caller: EntraCaller) -> str:
    pairs = (
        ("tenant", matcher.tenant, caller.tenant),
        ("object id", matcher.object_id, caller.object_id),
        ("application id", matcher.app_id, caller.app_id),
    )
    for what, wanted, got in pairs:
        # Entra writes GUIDs in lower case, its portal and scripts not always.
        if wanted and wanted != got.lower():
            return f"the caller's {what} is {shown(got)}, not {shown(wanted)}"
    for role in matcher.roles:
        if role not in caller.roles:
            return f"the caller's token lacks the app role {shown(role)}"
    return ""


def _oidc_mismatch(matcher: OidcMatcher, caller: OidcCaller) -> str:
    if caller.issuer != matcher.issuer:
        return f"the caller's issuer is {shown(caller.issuer)}, not {shown(matcher.issuer)}"
    claims = claims_of(caller)
    for name, pattern in matcher.claims:
        got = claims.get(name)
        if got is None:
            return f"the caller's token has no claim {shown(name)}"
        if not pattern.matches(got):
            return f"the claim {shown(name)} is {shown(got)}, not {shown(str(pattern))}"
    return ""


def claims_of(caller: OidcCaller) -> dict[str, str]:
    """What the caller's token claims; `sub` always is the subject that was verified."""
    return {**dict(caller.claims), "sub": caller.subject}


def _kind(matcher: Matcher) -> str:
    match matcher:
        case AwsMatcher():
            return "AWS callers"
        case LambdaMatcher():
            return "direct invokes of an alias"
        case EntraMatcher():
            return "Entra callers"
        case OidcMatcher():
            return f"callers of the issuer {shown(matcher.issuer)}"
        case _ as never:
            assert_never(never)
