"""What is allowed to be written and seldom meant: findings on a policy, for review and CI.

A policy that does not load has one finding for every problem; one that loads is read for what is
too wide, what can never apply and what is past its time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tokenvend.lifetimes import DEFAULT_LIFETIME, lifetime_text
from tokenvend.policy.compiled import Mode
from tokenvend.policy.compiler import compile_policy
from tokenvend.policy.reading.document import lines_of
from tokenvend.policy.reading.problems import PolicyError, quoted, shown
from tokenvend.policy.review.coverage import covers, gives_all, target_of
from tokenvend.policy.review.scopes import is_known, meant
from tokenvend.policy.values import CLOUD_PLATFORM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tokenvend.policy.compiled import Grant
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.problems import Path
    from tokenvend.policy.review.coverage import Target


class Severity(StrEnum):
    """How bad; the names are SARIF's levels."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


# Each rule's id, and what it is about. SARIF carries these texts into a review.
RULES = {
    "invalid": "The policy does not load.",
    "empty": "The policy has no grant, so everyone is denied.",
    "wide-caller": "A matcher fits more callers than one could name.",
    "anyone-at-issuer": "Anyone can get a token from this issuer that fits the matcher.",
    "mutable-claim": "A matcher relies on a claim that its holder can change.",
    "redundant-caller": "A matcher fits nobody whom another of the grant does not fit.",
    "shadowed": "Whatever the grant gives, an earlier grant gives first.",
    "issuer-slash": "An issuer ends in a slash, which few do.",
    "reusable-name": "A matcher relies on a name that somebody else can register later.",
    "unknown-scope": "A scope is not known; it may be misspelt.",
    "cloud-platform": "The scope cloud-platform reaches every Google Cloud API.",
    "wildcard-host": "An audience has a wildcard in its host.",
    "long-lifetime": "Tokens live longer than an hour.",
    "expired": "The grant's time is over.",
    "expires-soon": "The grant's time is over within two weeks.",
    "shadow-mode": "The grant's limits are reported and not held.",
}
_SOON = 14 * 24 * 3_600
# Anyone can make an account with these, so a matcher must pin an owner.
_PUBLIC_ISSUERS = {
    "https://token.actions.githubusercontent.com": (
        "sub", "repository", "repository_id", "repository_owner", "repository_owner_id",
    ),
    "https://gitlab.com": ("sub", "project_path", "project_id", "namespace_path", "namespace_id"),
    "https://accounts.google.com": ("sub", "email"),
    "https://app.terraform.io": ("sub", "terraform_organization_id", "terraform_workspace_id"),
    "https://agent.buildkite.com": ("sub", "organization_slug", "organization_id"),
}  # fmt: skip
# What names an owner or a repository, and what stays when the name is given up and taken anew.
_REUSABLE = {
    "https://token.actions.githubusercontent.com": (
        "repository repository_owner sub",
        "repository_owner_id repository_id",
    ),
    "https://gitlab.com": ("project_path namespace_path sub", "namespace_id project_id"),
}
# Auth0's issuers and Entra's of version 1 do end in a slash.
_SLASHED = (".auth0.com/", "https://sts.windows.net/")
_MUTABLE = ("actor", "email", "name", "nickname", "preferred_username", "upn", "user_login")
# Fewer letters than this beside a star say nothing about who is meant.
_FEW = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark. `rule`: a key of RULES; `line`: from 1; `where`: the grant as its author knows it
    (`[[grant]] "name"`), empty for the policy as a whole.
    """

    rule: str
    severity: Severity
    line: int
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def lint(text: str, *, source: str = "policy.toml", now: int) -> tuple[Finding, ...]:
    """The findings on a policy, by line. `now`: epoch seconds. Raises nothing."""
    try:
        policy = compile_policy(text, source=source)
    except PolicyError as error:
        return tuple(
            Finding("invalid", Severity.ERROR, problem.line, problem.where, problem.message)
            for problem in error.problems
        )
    if not policy.grants:
        return (Finding("empty", Severity.NOTE, 1, "", "no grant: everyone is denied"),)
    lines = lines_of(text)
    before: dict[Target, list[Grant]] = defaultdict(list)
    found = []
    for place, grant in enumerate(policy.grants):
        earlier = before[target_of(grant)]
        for rule, severity, path, message in _remarks(grant, earlier, now):
            line = lines.of(("grant", place, *path))
            found.append(Finding(rule, severity, line, f"[[grant]] {quoted(grant.name)}", message))
        earlier.append(grant)
    return tuple(sorted(found, key=lambda finding: (finding.line, finding.rule)))


_Remark = tuple[str, Severity, "Path", str]


def _remarks(grant: Grant, earlier: list[Grant], now: int) -> Iterator[_Remark]:
    yield from _on_order(grant, earlier)
    yield from _on_callers(grant)
    yield from _on_access(grant)
    yield from _on_audiences(grant)
    yield from _on_time(grant, now)


def _on_order(grant: Grant, earlier: list[Grant]) -> Iterator[_Remark]:
    # A grant in shadow mode gives way to any that enforces.
    for wide in earlier if grant.mode is Mode.ENFORCE else ():
        if wide.mode is Mode.ENFORCE and gives_all(wide, grant):
            message = (
                f"grant {shown(wide.name)} before it gives its callers all of this, so it is "
                "reached only by name; remove it, or move it up"
            )
            yield "shadowed", Severity.WARNING, (), message
            return


def _on_callers(grant: Grant) -> Iterator[_Remark]:
    for index, matcher in enumerate(grant.callers):
        path: Path = ("callers", index)
        asked = dict(matcher.asked)
        if message := _wide_aws(asked):
            yield "wide-caller", Severity.WARNING, path, message
        if "issuer" in asked:
            yield from _on_claims(asked, path)
        # Of two that fit the same callers the later one goes.
        if any(
            covers(other, matcher) and (place < index or not covers(matcher, other))
            for place, other in enumerate(grant.callers)
            if place != index
        ):
            message = "another matcher of this grant fits all of these callers; remove this one"
            yield "redundant-caller", Severity.NOTE, path, message


def _wide_aws(asked: dict[str, Glob]) -> str:
    if arn := asked.get("aws_role") or asked.get("aws_user"):
        is_vague = _is_vague(str(arn).rpartition("/")[2])
        return f"{shown(str(arn))} fits almost every name; write more of it" if is_vague else ""
    for key, whole in (("aws_account", "account"), ("aws_organization", "organisation")):
        if key in asked:
            return f"every role and user of the {whole} {asked[key]} fits; name the roles"
    return ""


def _on_claims(asked: dict[str, Glob], path: Path) -> Iterator[_Remark]:
    issuer = str(asked["issuer"])
    owners = _PUBLIC_ISSUERS.get(issuer)
    claims = {
        key.removeprefix("claims."): wanted
        for key, wanted in asked.items()
        if key.startswith("claims.")
    }
    if owners and not any(name in claims and _pins_owner(claims[name]) for name in owners):
        message = (
            f"anyone can get such a token from {issuer}; "
            f"pin the owner with one of {', '.join(owners)}"
        )
        yield "anyone-at-issuer", Severity.ERROR, path, message
    elif all(_is_vague(str(pattern)) for pattern in claims.values()):
        message = "its claims fit almost any token of the issuer; write more of one"
        yield "wide-caller", Severity.WARNING, path, message
    names, ids = _REUSABLE.get(issuer, ("", ""))
    by_name = [name for name in names.split() if name in claims]
    if by_name and not any(each in claims for each in ids.split()):
        message = (
            f"the name in {shown(by_name[0])} can be given up and registered by somebody else; "
            f"add {ids.replace(' ', ' or ')}"
        )
        yield "reusable-name", Severity.NOTE, (*path, "claims", by_name[0]), message
    if issuer.endswith("/") and not any(each in issuer for each in _SLASHED):
        known = issuer.rstrip("/") in _PUBLIC_ISSUERS
        message = f"{shown(issuer)} ends in a slash; tokens must have the same, and " + (
            "this issuer's have none" if known else "most issuers have none"
        )
        severity = Severity.WARNING if known else Severity.NOTE
        yield "issuer-slash", severity, (*path, "issuer"), message
    for name in claims:
        if name in _MUTABLE and not (name == "email" and issuer == "https://accounts.google.com"):
            message = f"the holder can change the claim {shown(name)}; match an id, such as sub"
            yield "mutable-claim", Severity.WARNING, (*path, "claims", name), message


def _pins_owner(pattern: Glob) -> bool:
    """Whether the part up to the first separator, or all of it, is spelt out."""
    if pattern.exact:
        return True
    # GitHub and GitLab subjects begin with a kind: `repo:acme/etl:…`, `project_path:acme/…`.
    kind, _, rest = pattern.prefix.partition(":")
    owner = rest if kind in ("repo", "project_path", "organization") else pattern.prefix
    return "/" in owner or ":" in owner


def _is_vague(pattern: str) -> bool:
    return "*" in pattern and len(pattern.replace("*", "")) < _FEW


def _on_access(grant: Grant) -> Iterator[_Remark]:
    for index, scope in enumerate(grant.scopes):
        if is_known(scope):
            continue
        near = meant(scope)
        advice = f"did you mean {shown(near)}?" if near else "is it spelt as Google has it?"
        severity = Severity.WARNING if near else Severity.NOTE
        message = f"{shown(scope)} is no scope of Google's that is known here; {advice}"
        yield "unknown-scope", severity, ("access_token", "scopes", index), message
    if CLOUD_PLATFORM in grant.scopes:
        path: Path = ("access_token", "scopes", grant.scopes.index(CLOUD_PLATFORM))
        message = (
            "this reaches every API that the service account may use; "
            "write the scopes that are needed"
        )
        yield "cloud-platform", Severity.WARNING, path, message
    if grant.max_lifetime is not None and grant.max_lifetime > DEFAULT_LIFETIME:
        message = (
            f"{lifetime_text(grant.max_lifetime)} is more than an hour, which Google gives only "
            "where constraints/iam.allowServiceAccountCredentialLifetimeExtension names the account"
        )
        yield "long-lifetime", Severity.WARNING, ("access_token", "max_lifetime"), message


def _on_audiences(grant: Grant) -> Iterator[_Remark]:
    for index, pattern in enumerate(grant.audiences):
        text = str(pattern)
        host = text.partition("://")[2].partition("/")[0] if "://" in text else text
        if "*" not in host:
            continue
        fixed = host.rpartition("*")[2]
        owned = "." in fixed.strip(".")
        severity = Severity.WARNING if owned else Severity.ERROR
        message = (
            f"whoever can make a host ending in {shown(fixed)} is fitted; write the whole host"
            if owned
            else f"{shown(text)} fits hosts that anyone can own; write the whole host"
        )
        yield "wildcard-host", severity, ("id_token", "audiences", index), message


def _on_time(grant: Grant, now: int) -> Iterator[_Remark]:
    if grant.expires is not None and grant.expires <= now:
        yield "expired", Severity.WARNING, ("expires",), "its time is over; remove or renew it"
    elif grant.expires is not None and grant.expires - now < _SOON:
        days = (grant.expires - now) // 86_400
        yield "expires-soon", Severity.NOTE, ("expires",), f"it ends in {days} days"
    if grant.mode is Mode.SHADOW:
        message = "in shadow mode scopes, audiences, lifetimes and dates are reported and not held"
        yield "shadow-mode", Severity.NOTE, ("mode",), message
