"""Grants, callers and matchers in an operator's words, the same in every tool."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, assert_never

from tokenvend.model import AccessTokenSpec, IdTokenSpec, TokenKind
from tokenvend.policy.callers import KINDS, facts_of
from tokenvend.policy.compiled import Mode
from tokenvend.policy.values import date_of

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenSpec
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.compiled import Grant

_SCOPE_ROOT = "https://www.googleapis.com/auth/"


def in_line(matcher: Matcher) -> str:
    """The matcher as `key=value`, the way `--caller` takes it."""
    return " ".join(f"{key}={wanted}" for key, wanted in matcher.asked)


def as_entry(caller: Caller) -> str:
    """The narrowest entry of `callers` that fits this caller."""
    known = facts_of(caller).known
    own = {key: known[key][0] for key in KINDS[type(caller)].OWN if key in known}
    parts = [
        f"claims = {{ {key.removeprefix('claims.')} = {_quoted(value)} }}"
        if key.startswith("claims.")
        else f"{key} = {_quoted(value)}"
        for key, value in own.items()
    ]
    return f"{{ {', '.join(parts)} }}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def limits(grant: Grant, kind: TokenKind | None = None) -> str:
    """Lifetime, dates, mode and attribution, of one kind of token or of all the grant has."""
    access = grant.access_token if kind is not TokenKind.ID else None
    lifetime = access.max_lifetime if access else None
    parts = [f"up to {lifetime} s"] if lifetime is not None else []
    parts += [f"from {date_of(grant.not_before)}"] if grant.not_before is not None else []
    parts += [f"until {date_of(grant.expires)}"] if grant.expires is not None else []
    parts += ["in shadow mode"] if grant.mode is Mode.SHADOW else []
    parts += ["attributed to the caller"] if grant.attributed else []
    return ", ".join(parts)


def what(grant: Grant) -> tuple[str, ...]:
    """Scopes, without what all of Google's begin with, and audiences."""
    scopes = grant.access_token.scopes if grant.access_token else ()
    audiences = grant.id_token.audiences if grant.id_token else ()
    return (
        *(scope.removeprefix(_SCOPE_ROOT) for scope in scopes),
        *(str(audience) for audience in audiences),
    )


def gives(grant: Grant) -> str:
    """Whose tokens a grant gives, for what, within which limits: a sentence's worth."""
    within = limits(grant)
    return (
        f"{grant.service_account or 'the endpoint itself (direct)'}: {', '.join(what(grant))}"
        + (f" ({within})" if within else "")
    )


def token_in_words(spec: TokenSpec) -> str:
    """What a decision allows."""
    of = spec.service_account or "the endpoint itself (direct)"
    match spec:
        case AccessTokenSpec():
            life = f" for {spec.lifetime} s" if spec.lifetime is not None else ""
            return f"an access token of {of} with {', '.join(spec.scopes)}{life}"
        case IdTokenSpec():
            return f"an ID token of {of} for {spec.audience}"
        case _ as never:
            assert_never(never)


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
