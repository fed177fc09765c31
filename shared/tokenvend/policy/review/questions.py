"""A caller and a request as an operator writes them, for `explain` and `test`.

The same words as in a policy, without patterns, such as `{ lambda_alias = "etl" }`.
An assumed role's ARN, as `aws sts get-caller-identity` prints it, is taken for its role.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenvend.identifiers import AWS_NAME, AWS_SESSION_ARN, AWS_USER_ARN, PARTITION
from tokenvend.lifetimes import lifetime_text
from tokenvend.model import (
    AccessTokenRequest,
    AwsCaller,
    EntraCaller,
    IdTokenRequest,
    LambdaCaller,
    OidcCaller,
)
from tokenvend.policy import values
from tokenvend.policy.callers import KEYS, KINDS
from tokenvend.policy.reading.problems import nearest, shown

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest
    from tokenvend.policy.reading.table import Table

_CALLER = (
    'who calls, such as { aws_role = "arn:aws:iam::111122223333:role/etl" }, '
    '{ lambda_alias = "etl" }, { entra_tenant = "…", entra_object = "…" } (or entra_user), or '
    '{ issuer = "https://…", claims = { sub = "…" } }'
)
_ROLE_ARN = re.compile(
    rf"arn:(?P<partition>{PARTITION}):iam::(?P<account>[0-9]{{12}}):role/"
    rf"(?:{AWS_NAME}{{1,510}}/)*(?P<role>{AWS_NAME}{{1,64}})"
)


def read_caller(table: Table) -> Caller | None:
    """The caller that the table describes; what is wrong with it is reported."""
    unknown = [key for key in table.tree if key not in KEYS]
    for key in unknown:
        table.problem(f"unknown key {shown(key)}; {nearest(key, KEYS)}", key)
    if unknown:
        return None
    kinds = [kind for kind in KINDS if not table.tree.keys().isdisjoint(KINDS[kind].KEYS)]
    if len(kinds) != 1:
        table.problem(f"describes no single caller; write {_CALLER}")
        return None
    caller = _READERS[kinds[0]](table)
    table.close()
    return caller


def read_request(table: Table) -> TokenRequest:
    """The request that the table describes: with an `audience` for an ID token, else access."""
    service_account = table.parsed("service_account", values.service_account)
    grant = table.parsed("grant", values.name)
    if table.has("audience"):
        audience = table.typed(str, "audience") or ""
        include_email = table.typed(bool, "include_email")
        table.close()
        return IdTokenRequest(
            audience, service_account, grant, include_email=include_email is not False
        )
    scopes = table.list_of("scopes", str, most=100)
    lifetime = table.parsed("lifetime", values.lifetime)
    table.close()
    return AccessTokenRequest(service_account, grant, scopes, lifetime)


def describe(request: TokenRequest) -> str:
    """The request in words."""
    match request:
        case IdTokenRequest():
            asked = f"an ID token for {shown(request.audience)}"
        case AccessTokenRequest():
            scopes = ", ".join(map(shown, request.scopes))
            asked = "an access token"
            asked += f" with {scopes}" if scopes else ""
            asked += (
                f" for {lifetime_text(request.lifetime)}" if request.lifetime is not None else ""
            )
    asked += f" of {request.service_account}" if request.service_account is not None else ""
    return asked + (f" by the grant {shown(request.grant_name)}" if request.grant_name else "")


def kind_in_words(caller: Caller) -> str:
    """What kind of caller it is."""
    match caller:
        case AwsCaller():
            return "an IAM user" if ":user/" in caller.arn else "an IAM role"
        case LambdaCaller():
            return "a direct invoke of an alias"
        case EntraCaller(is_user=True):
            return "a person in Entra"
        case EntraCaller():
            return "a workload in Entra"
        case OidcCaller():
            return "a workload of an OpenID Connect issuer"


def _aws(table: Table) -> Caller | None:
    key = "aws_user" if table.has("aws_user") else "aws_role"
    organization = table.typed(str, "aws_organization") or ""
    caller = table.parsed(key, _principal, advice="the caller's ARN")
    if caller is None:
        return None
    account = table.typed(str, "aws_account")
    if account not in (None, caller.account):
        table.problem(
            f"`aws_account` contradicts the account in {shown(caller.arn)}", "aws_account"
        )
    return AwsCaller(
        caller.arn, caller.account, caller.role_name, caller.session, organization=organization
    )


def _principal(arn: str) -> AwsCaller:
    if (user := AWS_USER_ARN.fullmatch(arn)) is not None:
        return AwsCaller(arn, user["account"])
    session = AWS_SESSION_ARN.fullmatch(arn)
    found = session or _ROLE_ARN.fullmatch(arn)
    if found is None:
        raise ValueError(
            f"must be the ARN of a role, of its session or of a user, not {shown(arn)}"
        )
    # AWS leaves a role's path out of its sessions' ARNs, and so of what a gateway tells us.
    role = f"arn:{found['partition']}:iam::{found['account']}:role/{found['role']}"
    return AwsCaller(role, found["account"], found["role"], session["session"] if session else "")


def _lambda(table: Table) -> Caller | None:
    alias = table.typed(str, "lambda_alias")
    return None if alias is None else LambdaCaller(alias, "")


def _entra(table: Table) -> Caller | None:
    tenant = table.typed(str, "entra_tenant", advice="the tenant's id")
    roles = table.strings("entra_role", str, most=100)
    workload, person = table.typed(str, "entra_object"), table.typed(str, "entra_user")
    if workload is not None and person is not None:
        table.problem("nobody is both entra_user and entra_object; write one")
    return EntraCaller(
        tenant=tenant or "",
        object_id=workload or person or "",
        app_id=table.typed(str, "entra_app") or "",
        roles=frozenset(roles),
        is_user=person is not None,
    )


def _oidc(table: Table) -> Caller | None:
    issuer = table.typed(str, "issuer", advice="the issuer's URL")
    claims = table.table("claims", advice='what the token says, such as { sub = "…" }')
    if claims is None:
        return None
    said = {name: claims.typed(str, name) or "" for name in claims.tree}
    return OidcCaller(issuer or "", said.pop("sub", ""), tuple(sorted(said.items())))


_READERS = {AwsCaller: _aws, LambdaCaller: _lambda, EntraCaller: _entra, OidcCaller: _oidc}
