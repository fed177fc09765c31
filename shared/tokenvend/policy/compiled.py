"""A policy ready to be asked: immutable grants, and their index."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.index import Index
    from tokenvend.policy.patterns import Glob


class Mode(StrEnum):
    """Whether a grant's limits are held, or only reported when they are passed."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class Grant(NamedTuple):
    """One `[[grant]]`. `service_account` None means direct: the federated token itself.

    `scopes`: of access tokens, empty where it gives none; `max_lifetime`: theirs, seconds; None for
    a direct token, where STS decides. `audiences`: of ID tokens, empty where it gives none.
    `not_before`, `expires`: epoch seconds; the grant holds from the first to before the second.
    `attributed`: whether Google is to see the caller (`attribute = "caller"`).
    """

    name: str
    callers: tuple[Matcher, ...]
    service_account: str | None
    scopes: tuple[str, ...] = ()
    max_lifetime: int | None = None
    audiences: tuple[Glob, ...] = ()
    delegates: tuple[str, ...] = ()
    not_before: int | None = None
    expires: int | None = None
    mode: Mode = Mode.ENFORCE
    attributed: bool = False


class CompiledPolicy(NamedTuple):
    """A policy in force. `digest`: SHA-256 of its content, 64 hex digits, the same however the
    text is laid out. `mode`: of grants that do not say their own. `names`: the grants'; `by_fact`:
    their index.
    """

    digest: str
    mode: Mode
    grants: tuple[Grant, ...]
    names: frozenset[str]
    by_fact: Index

    def __repr__(self) -> str:
        return f"CompiledPolicy({self.digest[:12]}, {len(self.grants)} grants)"
