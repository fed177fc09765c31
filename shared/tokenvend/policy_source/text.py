"""What a source may hold: UTF-8 text of at most 1 MiB."""

from __future__ import annotations

from tokenvend.errors import Misconfigured

# Far beyond any policy that people can read; AppConfig itself stops at 2 MiB.
MAX_BYTES = 1024 * 1024
POLICY_UNREAD = "The endpoint's policy cannot be read. Ask its operator to look at the log."


def policy_text(content: bytes | str) -> str:
    """`content` as text. Raises Misconfigured when it is too long or not UTF-8."""
    try:
        data = content.encode() if isinstance(content, str) else content
        text = content if isinstance(content, str) else content.decode()
    except UnicodeError:
        raise Misconfigured(POLICY_UNREAD, cause="what it holds is not UTF-8 text") from None
    if len(data) > MAX_BYTES:
        raise Misconfigured(POLICY_UNREAD, cause=f"it is longer than {MAX_BYTES} bytes")
    return text
