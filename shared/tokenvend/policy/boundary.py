"""The boundary of an access token: parsed and checked in full, then refused.

A credential access boundary narrows a token to buckets and prefixes. This version cannot enforce
one, and a limit that is written but not enforced would be a hole, so a policy with a boundary does
not load. Its own mistakes are told all the same.
https://cloud.google.com/iam/docs/downscoping-short-lived-credentials
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tokenvend.policy.callers import KINDS
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.policy.callers.matcher import Matcher
    from tokenvend.policy.reading.table import Table

# Google's own limit on rules in one boundary.
MAX_RULES = 10
MAX_ROLES = 10
# https://cloud.google.com/storage/docs/objects#naming: bytes of UTF-8.
MAX_PREFIX = 1_024

# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"
_ROLE = (
    r"(?:roles|projects/[a-z0-9.:-]{1,80}/roles|organizations/[0-9]{1,20}/roles)"
    r"/[A-Za-z0-9_.]{1,64}"
)
_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_CLAIM = re.compile(r"caller\.claims\.[A-Za-z0-9_.:/-]{1,200}")


def check_boundary(access_token: Table, callers: tuple[Matcher, ...]) -> None:
    """Report what is wrong with `access_token.boundary`, and that it cannot be enforced."""
    bucket = of_form(_BUCKET, "must be a bucket's name without gs://")
    role = of_form(_ROLE, 'must hold roles like "roles/storage.objectViewer"')
    rules = access_token.tables(
        "boundary", most=MAX_RULES, advice="[[grant.access_token.boundary]] tables, or leave it out"
    )
    for rule in rules:
        rule.parsed("bucket", bucket, advice="the bucket's name")
        prefix = rule.parsed("prefix", _prefix)
        if prefix is not None:
            _check_templates(rule, prefix, callers)
        rule.list_of(
            "roles", role, most=MAX_ROLES, advice='roles like "roles/storage.objectViewer"'
        )
        rule.close()
    access_token.problem(
        "this version cannot enforce a boundary yet, and would hand out the full token; "
        "remove the grant until it can",
        "boundary",
    )


def _check_templates(rule: Table, prefix: str, callers: tuple[Matcher, ...]) -> None:
    if "{" in _TEMPLATE.sub("", prefix) or "}" in _TEMPLATE.sub("", prefix):
        rule.problem("`prefix` has a brace without its partner", "prefix")
    for name in _TEMPLATE.findall(prefix):
        for matcher in callers:
            known = _vouched_for(matcher)
            if name in known or ("caller.claims." in known and _CLAIM.fullmatch(name)):
                continue
            names = ", ".join(f"{{{each}}}" for each in sorted(known))
            rule.problem(
                f"`prefix` uses {shown('{' + name + '}')}, which not every caller of the grant "
                f"has; for these callers write one of {names}",
                "prefix",
            )
            break


def _vouched_for(matcher: Matcher) -> set[str]:
    """The parts of its callers that their identity provider vouches for; never a session's name."""
    names = {key: names for kind in KINDS.values() for key, names in kind.KEYS.items()}
    return {name for key in matcher.fields() for name in names.get(key, ())}


def _prefix(text: str) -> str:
    if not text or not text.isprintable() or len(text.encode(errors="replace")) > MAX_PREFIX:
        raise ValueError(
            f"must be 1 to {MAX_PREFIX} visible bytes, or be left out, not {shown(text)}"
        )
    if text.startswith("/"):
        raise ValueError(
            f"starts with /, which object names do not; write {shown(text.lstrip('/'))}"
        )
    return text
