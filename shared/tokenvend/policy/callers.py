"""Reading the `callers` of a grant. Refuses a matcher that is empty, that could fit nobody, or that
would fit everyone an identity provider knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenvend.policy.matchers import AwsMatcher, EntraMatcher, LambdaMatcher, Matcher, OidcMatcher
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.values import pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.table import Table

MAX_CALLERS = 500
MAX_CLAIMS = 20
MAX_ROLES = 20

FAMILIES = {
    "aws_role": "aws",
    "aws_user": "aws",
    "aws_account": "aws",
    "aws_organization": "aws",
    "lambda_alias": "lambda",
    "entra_tenant": "entra",
    "entra_object": "entra",
    "entra_app": "entra",
    "entra_role": "entra",
    "issuer": "oidc",
    "claims": "oidc",
}

# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html; partition and account
# are spelt out, so that no pattern ever reaches into an account nobody named.
_ARN = (
    r"arn:(?:aws|aws-cn|aws-us-gov|aws-eusc|aws-iso|aws-iso-b|aws-iso-e|aws-iso-f):iam::[0-9]{12}:"
)
_ROLE = re.compile(_ARN + r"role/([A-Za-z0-9_+=,.@*-]{1,64})")
_ROLE_WITH_PATH = re.compile(_ARN + r"role/.+/[^/]+")
_USER = re.compile(_ARN + r"user/(?:[\x21-\x7e]{1,512}/)?[A-Za-z0-9_+=,.@*-]{1,64}")
_SESSION = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/.*")
_ACCOUNT = re.compile(r"[0-9]{12}")
# https://docs.aws.amazon.com/organizations/latest/APIReference/API_Organization.html
_ORGANIZATION = re.compile(r"o-[a-z0-9]{10,32}")
# https://docs.aws.amazon.com/lambda/latest/api/API_CreateAlias.html: never only digits.
_ALIAS = re.compile(r"(?![0-9]+$)[A-Za-z0-9_-]{1,128}")
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# https://learn.microsoft.com/entra/identity-platform/howto-add-app-roles-in-apps
_APP_ROLE = re.compile(r"[\x21-\x7e]{1,120}")
# OpenID Connect Discovery 1.0 section 2: https, no query, no fragment; and no user info.
_ISSUER = re.compile(r"https://[a-z0-9.-]{1,253}(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/-]{0,512})?")
_CLAIM = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")


def read_callers(grant: Table) -> tuple[Matcher, ...]:
    """The matchers of one grant; what is wrong is reported."""
    advice = 'who may use the grant, such as [{ aws_role = "arn:aws:iam::111122223333:role/etl" }]'
    tables = grant.tables("callers", most=MAX_CALLERS, advice=advice)
    if not tables and grant.tree.get("callers") == []:
        grant.problem(
            f"`callers` is empty, so nobody could use the grant; write {advice}", "callers"
        )
    return tuple(found for table in tables if (found := _read_caller(table)) is not None)


def _read_caller(table: Table) -> Matcher | None:
    families = {FAMILIES[key] for key in table.tree if key in FAMILIES}
    if len(families) > 1:
        keys = ", ".join(key for key in table.tree if key in FAMILIES)
        table.problem(f"no caller is all of {keys}; write one entry of `callers` for each")
        return None
    family = next(iter(families), "")
    reader = _READERS.get(family)
    if reader is None:
        unknown = ", ".join(shown(key) for key in table.tree)
        table.problem(
            f"unknown key {unknown}; known: {', '.join(FAMILIES)}"
            if unknown
            else "an empty matcher fits nobody; name a role, an alias, a workload or an issuer"
        )
        return None
    matcher = reader(table)
    table.close()
    return matcher


def _read_aws(table: Table) -> Matcher | None:
    role = table.parsed("aws_role", _role)
    user = table.parsed("aws_user", _user)
    account = table.parsed("aws_account", _account)
    organization = table.parsed("aws_organization", _organization)
    if table.has("aws_role") and table.has("aws_user"):
        table.problem("nobody is both aws_role and aws_user; write one entry of `callers` for each")
    arn = role or user
    if arn is not None and account is not None and arn.prefix.split(":")[4] != account:
        table.problem(f"`aws_account` contradicts the account in {shown(str(arn))}", "aws_account")
    return AwsMatcher(role, user, account or "", organization or "")


def _read_lambda(table: Table) -> Matcher | None:
    alias = table.parsed("lambda_alias", _alias)
    return None if alias is None else LambdaMatcher(alias)


def _read_entra(table: Table) -> Matcher | None:
    tenant = table.parsed(
        "entra_tenant", _guid, advice="the tenant's id; ids repeat across tenants"
    )
    object_id = table.parsed("entra_object", _guid)
    app_id = table.parsed("entra_app", _guid)
    if isinstance(table.tree.get("entra_role"), list):
        roles = table.list_of("entra_role", _app_role, most=MAX_ROLES, advice="an app role's value")
    else:
        one = table.parsed("entra_role", _app_role)
        roles = () if one is None else (one,)
    if not any(table.has(key) for key in ("entra_object", "entra_app", "entra_role")):
        table.problem(
            "`entra_tenant` alone would fit every workload of the tenant; "
            "add `entra_object`, `entra_app` or `entra_role`"
        )
    return EntraMatcher(tenant or "", object_id or "", app_id or "", roles)


def _read_oidc(table: Table) -> Matcher | None:
    advice = "the issuer's URL, exactly as its tokens have it"
    issuer = table.parsed("issuer", _issuer, advice=advice)
    claims = table.table("claims")
    if claims is None:
        if not table.has("claims"):
            table.problem(
                "`issuer` alone would fit everyone the issuer knows; "
                'add `claims`, such as { sub = "repo:acme/etl:ref:refs/heads/main" }'
            )
        return None
    return OidcMatcher(issuer or "", _read_claims(claims))


def _read_claims(claims: Table) -> tuple[tuple[str, Glob], ...]:
    if not claims.tree:
        claims.problem("`claims` is empty and would fit everyone the issuer knows; name a claim")
    if len(claims.tree) > MAX_CLAIMS:
        claims.problem(f"`claims` names more than {MAX_CLAIMS} claims")
        return ()
    found: list[tuple[str, Glob]] = []
    for name in claims.tree:
        if not _CLAIM.fullmatch(name):
            claims.problem(f"{shown(name)} is no name of a claim", name)
            continue
        value = claims.parsed(name, pattern)
        if value is not None:
            found.append((name, value))
    if found and all(str(value) == "*" for _, value in found):
        claims.problem('`claims` that are all "*" fit almost anyone; name a value')
    return tuple(sorted(found, key=lambda claim: claim[0]))


def _role(text: str) -> Glob:
    if _ROLE.fullmatch(text):
        return pattern(text)
    if _SESSION.fullmatch(text):
        msg = (
            "names a session, whose name its user chose; write the role, "
            "arn:aws:iam::ACCOUNT:role/NAME"
        )
        raise ValueError(msg)
    if _ROLE_WITH_PATH.fullmatch(text):
        msg = (
            "has a path, which AWS leaves out of a session's ARN, so it would never match; "
            f"write {shown(text[: text.index('role/') + 5] + text.rsplit('/', 1)[1])}"
        )
        raise ValueError(msg)
    msg = (
        "must be arn:aws:iam::ACCOUNT:role/NAME with partition and account spelt out "
        f"(`*` only in NAME), not {shown(text)}"
    )
    raise ValueError(msg)


def _user(text: str) -> Glob:
    if _USER.fullmatch(text):
        return pattern(text)
    msg = (
        "must be arn:aws:iam::ACCOUNT:user/NAME with partition and account spelt out, "
        f"not {shown(text)}"
    )
    raise ValueError(msg)


def _shape(form: re.Pattern[str], advice: str, *, lower: bool = False) -> Callable[[str], str]:
    def parse(text: str) -> str:
        value = text.lower() if lower else text
        if not form.fullmatch(value):
            msg = f"{advice}, not {shown(text)}"
            raise ValueError(msg)
        return value

    return parse


_account = _shape(_ACCOUNT, "must be 12 digits")
_organization = _shape(_ORGANIZATION, "must be an id like o-a1b2c3d4e5")
_alias = _shape(_ALIAS, "must be the name of an alias (no version, not $LATEST)")
_guid = _shape(_GUID, "must be a GUID like 00000000-0000-0000-0000-000000000000", lower=True)
_app_role = _shape(_APP_ROLE, "must be an app role's value, without spaces")
_issuer = _shape(_ISSUER, "must be the issuer's https URL, without query")
_READERS = {"aws": _read_aws, "lambda": _read_lambda, "entra": _read_entra, "oidc": _read_oidc}
