"""Text -> CompiledPolicy. Refuses whatever it does not know for certain how to enforce.

All problems are told at once, each with its line, its grant and what to write instead.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from tokenvend.lifetimes import DEFAULT_LIFETIME
from tokenvend.policy import values
from tokenvend.policy.callers import read_callers
from tokenvend.policy.compiled import CompiledPolicy, Grant, Mode
from tokenvend.policy.index import build_index
from tokenvend.policy.reading.document import read, refuse
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.reading.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.problems import Found

MAX_GRANTS = 20_000
MAX_SCOPES = 50
MAX_AUDIENCES = 100
MAX_DELEGATES = 10


def compile_policy(text: str, *, source: str = "policy.toml") -> CompiledPolicy:
    """Compile TOML, or JSON where the text starts with `{`. `source` names it in messages.

    Raises PolicyError with every problem found.
    """
    tree = read(text, source)
    found: Found = []
    root = Table(tree, (), found)
    _check_version(root)
    mode = _mode(root) or Mode.ENFORCE
    grants = tuple(_grant(table, mode) for table in root.tables("grant", most=MAX_GRANTS))
    root.close()
    _check_names(root, grants)
    if found:
        raise refuse(found, tree, text, source)
    return CompiledPolicy(
        digest=_digest(mode, grants),
        mode=mode,
        grants=grants,
        names=frozenset(grant.name for grant in grants),
        by_fact=build_index(grant.callers for grant in grants),
    )


def check_platform(
    policy: CompiledPolicy, text: str, *, source: str, obstacles: Mapping[str, str]
) -> None:
    """Refuse a policy with what this platform cannot do.

    `obstacles`: why there can be no `attribute` or no `entra_user` here, said of it; empty or
    missing where there can. `text`, `source`: what the policy was compiled from. Raises PolicyError
    with the line of each.
    """
    refused: Found = []
    for place, grant in enumerate(policy.grants if any(obstacles.values()) else ()):
        if grant.attributed and obstacles.get("attribute"):
            message = f'`attribute = "caller"` {obstacles["attribute"]}'
            refused.append((("grant", place, "attribute"), message))
        for number, matcher in enumerate(grant.callers if obstacles.get("entra_user") else ()):
            if "entra_user" in matcher.fields():
                message = f"`entra_user` {obstacles['entra_user']}"
                refused.append((("grant", place, "callers", number, "entra_user"), message))
    if refused:
        raise refuse(refused, read(text, source), text, source)


def _check_version(root: Table) -> None:
    version = root.typed(int, "version", advice="version = 1")
    if version is not None and version != 1:
        root.problem(f"`version` {version} is not known here; write version = 1", "version")


def _check_names(root: Table, grants: Iterable[Grant]) -> None:
    """A second grant of the same name would make `grant` in a request, and the audit, ambiguous."""
    seen: set[str] = set()
    for place, grant in enumerate(grants):
        if grant.name and grant.name in seen:
            root.problem(f"the name {shown(grant.name)} is taken; choose another", "grant", place)
        seen.add(grant.name)


def _grant(table: Table, mode: Mode) -> Grant:
    name = table.parsed("name", values.name, advice="a name that the audit record can show")
    callers = read_callers(table)
    service_account = table.parsed("service_account", values.service_account)
    direct = table.typed(bool, "direct")
    _check_target(table, direct=direct)
    delegates = table.list_of("delegates", values.service_account, most=MAX_DELEGATES)
    if direct and delegates:
        table.problem("`delegates` has no meaning for a direct grant; remove it", "delegates")
    scopes, max_lifetime = _access_token(table, callers, direct=direct)
    audiences = _id_token(table, direct=direct)
    if not table.has("access_token") and not table.has("id_token"):
        table.problem("grants nothing; add [grant.access_token] or [grant.id_token]")
    not_before, expires = table.moment("not_before", up=True), table.moment("expires")
    if not_before is not None and expires is not None and not_before >= expires:
        table.problem("`expires` is not after `not_before`, so the grant never holds", "expires")
    own_mode = _mode(table)
    as_caller = values.of_form("caller", 'must be "caller", or be left out to act as the endpoint')
    attribute = table.parsed("attribute", as_caller)
    table.close()
    return Grant(
        name=name or "",
        callers=callers,
        service_account=service_account,
        scopes=scopes,
        max_lifetime=max_lifetime,
        audiences=audiences,
        delegates=delegates,
        not_before=not_before,
        expires=expires,
        mode=own_mode or mode,
        attributed=attribute is not None,
    )


def _check_target(table: Table, *, direct: bool | None) -> None:
    if direct and table.has("service_account"):
        table.problem("has both `service_account` and `direct`; keep the one you mean", "direct")
    elif direct is False and not table.has("service_account"):
        table.problem("`direct = false` names no target; write `service_account`", "direct")
    elif not table.has("direct") and not table.has("service_account"):
        table.problem("names no target; write `service_account`, or `direct = true`")


def _access_token(
    grant: Table, callers: tuple[Matcher, ...], *, direct: bool | None
) -> tuple[tuple[str, ...], int | None]:
    table = grant.table("access_token")
    if table is None:
        return (), None
    advice = 'the scopes the tokens have, such as ["https://www.googleapis.com/auth/pubsub"]'
    scopes = table.list_of("scopes", values.scope, most=MAX_SCOPES, advice=advice)
    for index, scope in enumerate(scopes if direct else ()):
        if scope in values.IMPERSONATING:
            table.problem(
                f"{shown(scope)} would give away the endpoint's own identity: with it a direct "
                "token can impersonate every service account that the endpoint can; write the "
                "narrower scopes that are needed, or `service_account` instead of `direct`",
                "scopes",
                index,
            )
    max_lifetime = table.parsed("max_lifetime", values.lifetime)
    if direct and table.has("max_lifetime"):
        table.problem(
            "`max_lifetime` cannot be held for a direct token, whose life Google's STS decides; "
            "remove it",
            "max_lifetime",
        )
    if table.has("boundary"):
        from tokenvend.policy.boundary import check_boundary  # noqa: PLC0415 - refused so far

        check_boundary(table, callers)
    table.close()
    return scopes, None if direct else max_lifetime or DEFAULT_LIFETIME


def _id_token(grant: Table, *, direct: bool | None) -> tuple[Glob, ...]:
    table = grant.table("id_token")
    if table is None:
        return ()
    if direct:
        table.problem("a direct grant has no service account to be named in an ID token; remove it")
    advice = 'who accepts the tokens, such as ["https://orders-*.run.app"]'
    audiences = table.list_of("audiences", values.audience, most=MAX_AUDIENCES, advice=advice)
    table.close()
    return audiences


def _mode(table: Table) -> Mode | None:
    words = values.of_form("|".join(Mode), 'must be "enforce" or "shadow"')
    mode = table.parsed("mode", words)
    return None if mode is None else Mode(mode)


def _digest(mode: Mode, grants: Iterable[Grant]) -> str:
    content = {"version": 1, "mode": mode, "grant": [_canonical(grant) for grant in grants]}
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _canonical(grant: Grant) -> dict[str, object]:
    """The grant's content in one fixed form: every key, in one order, times in epoch seconds."""
    return {
        "name": grant.name,
        "callers": [
            [(key, str(wanted)) for key, wanted in matcher.asked] for matcher in grant.callers
        ],
        "service_account": grant.service_account,
        "delegates": grant.delegates,
        "scopes": grant.scopes or None,
        "max_lifetime": grant.max_lifetime,
        "audiences": [str(audience) for audience in grant.audiences] or None,
        "not_before": grant.not_before,
        "expires": grant.expires,
        "mode": grant.mode,
        "attribute": "caller" if grant.attributed else None,
    }
