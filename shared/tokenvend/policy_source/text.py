"""What a source may hold: UTF-8 text that says something, no longer than a policy may be."""

from __future__ import annotations

from tokenvend.errors import Misconfigured
from tokenvend.policy.reading.document import MAX_CHARACTERS

# A policy's own limit, and no character has less than a byte. Some sources' are lower: AppConfig
# holds 1 MB (2 MiB where the quota was raised), a parameter of SSM 8 KB at most, a key-value of App
# Configuration 10,000 characters.
MAX_BYTES = MAX_CHARACTERS


def policy_text(content: bytes | str) -> str:
    """`content` as text. Raises Misconfigured when it is empty, too long or not UTF-8."""
    try:
        data = content.encode() if isinstance(content, str) else content
        text = content if isinstance(content, str) else content.decode()
    except UnicodeError:
        raise Misconfigured(cause="what it holds is not UTF-8 text") from None
    if not text.strip():
        # Nobody writes one; a half-done upload or a deleted file's remains look like this.
        raise Misconfigured(cause="it is empty, and an empty text is no policy: restore it")
    if len(data) > MAX_BYTES:
        raise Misconfigured(cause=f"it is longer than {MAX_BYTES:,} bytes")
    return text
