"""Who Google is told is asking, where a grant says `attribute = "caller"`.

On AWS the endpoint then acts as a session of its own role that is named after the caller; Google's
attribute mapping makes that name the federated subject. Refused at load: such a grant where the
platform cannot carry the caller.

The name must be one that no two callers share and none can give itself. Callers choose a part of
theirs (a role's name, a GitHub ref), so the readable part alone would let one dress up as another;
it is the digest that tells them apart.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING, assert_never

from tokenvend.model import AwsCaller, EntraCaller, LambdaCaller, OidcCaller
from tokenvend.policy.reading.document import lines_of
from tokenvend.policy.reading.problems import PolicyError, Problem, quoted

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.compiled import CompiledPolicy

# RoleSessionName and SourceIdentity: `[\w+=,.@-]{2,64}`, AWS STS API Reference, AssumeRole.
MAX_SESSION_NAME = 64
# No Lambda function's name, which is its own session's name, has a dot: a session that was not
# made for a caller cannot be taken for one that was.
SESSION_PREFIX = "caller."
# A GUID fits whole.
MAX_READABLE = 36
# 20 letters of base32 are 100 bits: who can choose names freely cannot search for another's digest.
DIGEST_LETTERS = 20


def caller_label(caller: Caller) -> str:
    """The caller as Google sees it, in `attribute.caller`: what can be read, a dot, a digest.

    At most 57 characters, letters, digits and `._-`.
    """
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", _readable(caller)).strip("-")[:MAX_READABLE]
    return f"{readable or caller.kind}.{_digest(caller)}"


def session_name(caller: Caller) -> str:
    """The RoleSessionName and SourceIdentity that stand for the caller, at most 64 characters."""
    return SESSION_PREFIX + caller_label(caller)


def check_attribution(policy: CompiledPolicy, text: str, *, source: str, obstacle: str) -> None:
    """Refuse a policy with attributed grants where `obstacle` (if any) says why there can be none.

    `text`, `source`: what the policy was compiled from. Raises PolicyError with each grant's line.
    """
    attributed = [place for place, grant in enumerate(policy.grants) if grant.attributed]
    if not obstacle or not attributed:
        return
    lines = lines_of(text)
    raise PolicyError(
        source,
        tuple(
            Problem(
                lines.of(("grant", place, "attribute")),
                f"[[grant]] {quoted(policy.grants[place].name)}",
                f'`attribute = "caller"` {obstacle}',
            )
            for place in attributed
        ),
    )


def _readable(caller: Caller) -> str:
    match caller:
        case AwsCaller():
            return caller.role_name or caller.arn.rpartition("/")[2]
        case LambdaCaller():
            return caller.alias
        case EntraCaller():
            return caller.object_id
        case OidcCaller():
            return caller.subject
        case _ as never:
            assert_never(never)


def _digest(caller: Caller) -> str:
    """Over separate fields: no separator that stands in a subject makes it another issuer's."""
    match caller:
        case OidcCaller():
            names = [caller.kind, caller.issuer, caller.subject]
        case _:
            names = [caller.kind, caller.id]
    digest = hashlib.sha256(json.dumps(names).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:DIGEST_LETTERS]
