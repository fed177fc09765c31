"""Who Google is told is asking, where a grant says `attribute = "caller"`.

On AWS the endpoint then acts as a session of its own role that is named after the caller; Google's
attribute mapping makes that name the federated subject.

The name must be one that no two callers share and none can give itself. Callers choose a part of
theirs (a role's name, a GitHub ref), so the readable part alone would let one dress up as another;
it is the digest that tells them apart.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import TYPE_CHECKING

from tokenvend.policy.callers import facts_of

if TYPE_CHECKING:
    from tokenvend.model import Caller

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
    words = re.sub(r"[^A-Za-z0-9_]+", "-", facts_of(caller).name).strip("-")[:MAX_READABLE]
    return f"{words or caller.kind}.{_digest(caller)}"


def session_name(caller: Caller) -> str:
    """The RoleSessionName and SourceIdentity that stand for the caller: 2 to 64 letters, digits and
    `_+=,.@-` (AWS STS API Reference, AssumeRole).
    """
    return SESSION_PREFIX + caller_label(caller)


def _digest(caller: Caller) -> str:
    # No two callers of a kind share an id.
    digest = hashlib.sha256(json.dumps([caller.kind, caller.id]).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:DIGEST_LETTERS]
