"""IAM roles and users, as AWS verified them.

Threat: an IAM user may have a path like `assumed-role/…`, so a caller's ARN is taken apart before
any pattern sees it, and is known as a role's or as a user's alone. A session's name, which its
user chose, is never looked at.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenvend.identifiers import AWS_ACCOUNT, AWS_ORGANIZATION, PARTITION
from tokenvend.policy.callers.matcher import Facts, Matcher, matcher
from tokenvend.policy.patterns import glob
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.model import AwsCaller
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.table import Table

KEYS = {
    "aws_role": ("caller.account", "caller.role_name"),
    "aws_user": ("caller.account",),
    "aws_account": ("caller.account",),
    "aws_organization": ("caller.account",),
}
OWN = ("aws_role", "aws_user")

_WHOM = "IAM roles and users"
# Partition and account are spelt out, so that no pattern reaches into an account nobody named.
_ARN = rf"arn:(?:{PARTITION}):iam::[0-9]{{12}}:"
_NAME = r"[A-Za-z0-9_+=,.@*-]{1,64}"


def read(table: Table) -> Matcher:
    """The matcher in `table`; at least one key is there."""
    role, user = table.parsed("aws_role", _role), table.parsed("aws_user", _user)
    account = table.parsed("aws_account", of_form(AWS_ACCOUNT, "must be 12 digits"))
    organization = table.parsed(
        "aws_organization", of_form(AWS_ORGANIZATION, "must be an id like o-a1b2c3d4e5")
    )
    if table.has("aws_role") and table.has("aws_user"):
        table.problem("nobody is both aws_role and aws_user; write one entry of `callers` for each")
    arn = role or user
    if arn is not None and account is not None and account_of(arn) != account:
        table.problem(f"`aws_account` contradicts the account in {shown(str(arn))}", "aws_account")
    return matcher(_WHOM, zip(KEYS, (role, user, account, organization), strict=True))


def facts(caller: AwsCaller) -> Facts:
    """ARN, account and organisation of a role or a user; of anybody else, nothing."""
    name = caller.role_name or caller.arn.rpartition("/")[2]
    match caller.arn.split(":", 5):
        case ["arn", _, "iam", "", caller.account, resource]:
            kind = resource.partition("/")[0]
        case _:
            kind = ""
    if kind not in ("role", "user"):
        return Facts("AWS's root users, federated users and services", name, {})
    known = {f"aws_{kind}": (caller.arn,), "aws_account": (caller.account,)}
    if caller.organization:
        known["aws_organization"] = (caller.organization,)
    return Facts(_WHOM, name, known)


def account_of(arn: Glob) -> str:
    """The account that every ARN of this pattern is in."""
    return arn.prefix.split(":")[4]


def _role(text: str) -> Glob:
    if re.fullmatch(f"{_ARN}role/{_NAME}", text):
        return glob(text)
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
        return glob(text)
    raise ValueError(
        "must be arn:aws:iam::ACCOUNT:user/NAME with partition and account spelt out, "
        f"not {shown(text)}"
    )
