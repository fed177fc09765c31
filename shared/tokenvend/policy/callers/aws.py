"""IAM roles and users, as AWS verified them.

Threat: an IAM user may have a path like `assumed-role/…`, so a caller's ARN is taken apart and its
resource kind compared before any pattern sees it. A session's name, which its user chose, is never
looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tokenvend.identifiers import AWS_ACCOUNT, PARTITION
from tokenvend.model import AwsCaller
from tokenvend.policy.patterns import Glob
from tokenvend.policy.reading.problems import contrast, shown
from tokenvend.policy.values import of_form, pattern

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.callers import Fact, Matcher
    from tokenvend.policy.reading.table import Table

KEYS = ("aws_role", "aws_user", "aws_account", "aws_organization")

# Partition and account are spelt out, so that no pattern reaches into an account nobody named.
_ARN = rf"arn:(?:{PARTITION}):iam::[0-9]{{12}}:"
_NAME = r"[A-Za-z0-9_+=,.@*-]{1,64}"
# https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
_ORGANIZATION = r"o-[a-z0-9]{10,32}"


class AwsMatcher(NamedTuple):
    """What is None or empty is not asked for; at least one thing is."""

    role: Glob | None = None
    user: Glob | None = None
    account: str = ""
    organization: str = ""

    def mismatch(self, caller: Caller) -> str:  # noqa: PLR0911 - a condition, a reason
        """Why it does not fit."""
        if not isinstance(caller, AwsCaller):
            return "it is for AWS callers"
        kind = _resource_kind(caller)
        if kind not in ("role", "user"):
            return "only IAM roles and users are matched, not root, federated users or services"
        for wanted, arn in (("role", self.role), ("user", self.user)):
            if arn is not None and kind != wanted:
                return f"the caller is an IAM {kind}, and aws_{wanted} asks for a {wanted}"
            if arn is not None and not arn.matches(caller.arn):
                return contrast(caller.arn, arn)
        if self.account not in ("", caller.account):
            return f"the caller's account {contrast(caller.account, self.account)}"
        if self.organization not in ("", caller.organization):
            known = caller.organization or "unknown"
            return f"the caller's organisation {contrast(known, self.organization)}"
        return ""

    def written(self) -> dict[str, str | tuple[str, ...]]:
        """By the policy's keys."""
        asked = (str(self.role or ""), str(self.user or ""), self.account, self.organization)
        return {key: value for key, value in zip(KEYS, asked, strict=True) if value}

    def wanted(self) -> list[tuple[Fact, str | Glob]]:
        """The ARN where there is one; it names the account too."""
        if arn := self.role or self.user:
            return [(("arn",), arn)]
        asked = (("account", self.account), ("organization", self.organization))
        return [((kind,), value) for kind, value in asked if value]

    def covers(self, narrow: Matcher) -> bool:
        """Whether it fits whomever `narrow` fits."""
        if not isinstance(narrow, AwsMatcher):
            return False
        arn = narrow.role or narrow.user
        account = narrow.account or (arn.prefix.split(":")[4] if arn else "")
        return (
            (self.role is None or (narrow.role is not None and self.role.covers(narrow.role)))
            and (self.user is None or (narrow.user is not None and self.user.covers(narrow.user)))
            and self.account in ("", account)
            and self.organization in ("", narrow.organization)
        )

    def templates(self) -> frozenset[str]:
        """A role's name only where there is a role."""
        names = ("caller.account", "caller.role_name")
        return frozenset(names if self.role else names[:1])


def read(table: Table) -> AwsMatcher:
    """The matcher in `table`."""
    role = table.parsed("aws_role", _role)
    user = table.parsed("aws_user", _user)
    account = table.parsed("aws_account", of_form(AWS_ACCOUNT, "must be 12 digits"))
    organization = table.parsed(
        "aws_organization", of_form(_ORGANIZATION, "must be an id like o-a1b2c3d4e5")
    )
    if table.has("aws_role") and table.has("aws_user"):
        table.problem("nobody is both aws_role and aws_user; write one entry of `callers` for each")
    arn = role or user
    if arn is not None and account is not None and arn.prefix.split(":")[4] != account:
        table.problem(f"`aws_account` contradicts the account in {shown(str(arn))}", "aws_account")
    return AwsMatcher(role, user, account or "", organization or "")


def facts(caller: AwsCaller) -> list[tuple[Fact, str]]:
    """ARN, account, organisation."""
    return [
        (("arn",), caller.arn),
        (("account",), caller.account),
        (("organization",), caller.organization),
    ]


def readable(caller: AwsCaller) -> str:
    """The role's or user's name."""
    return caller.role_name or caller.arn.rpartition("/")[2]


def principal(caller: AwsCaller) -> tuple[str, ...]:
    """The ARN."""
    return (caller.arn,)


def narrowest(caller: AwsCaller) -> AwsMatcher:
    """The one role or user."""
    arn = Glob(caller.arn)
    return AwsMatcher(user=arn) if _resource_kind(caller) == "user" else AwsMatcher(role=arn)


def _resource_kind(caller: AwsCaller) -> str:
    """`role`, `user` or another kind; empty where ARN and account contradict each other."""
    match caller.arn.split(":", 5):
        case ["arn", _, "iam", "", account, resource] if account == caller.account:
            return resource.partition("/")[0]
        case _:
            return ""


def _role(text: str) -> Glob:
    if re.fullmatch(f"{_ARN}role/{_NAME}", text):
        return pattern(text)
    if re.fullmatch(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/.*", text):
        raise ValueError(
            "names a session, whose name its user chose; write the role, "
            "arn:aws:iam::ACCOUNT:role/NAME"
        )
    if re.fullmatch(f"{_ARN}role/.+/[^/]+", text):
        raise ValueError(
            "has a path, which AWS leaves out of a session's ARN, so it would never match; "
            f"write {shown(text[: text.index('role/') + 5] + text.rsplit('/', 1)[1])}"
        )
    raise ValueError(
        "must be arn:aws:iam::ACCOUNT:role/NAME with partition and account spelt out "
        f"(`*` only in NAME), not {shown(text)}"
    )


def _user(text: str) -> Glob:
    if re.fullmatch(rf"{_ARN}user/(?:[\x21-\x7e]{{1,512}}/)?{_NAME}", text):
        return pattern(text)
    raise ValueError(
        "must be arn:aws:iam::ACCOUNT:user/NAME with partition and account spelt out, "
        f"not {shown(text)}"
    )
