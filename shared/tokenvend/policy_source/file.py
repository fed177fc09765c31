"""A policy that was deployed with the function."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.errors import Misconfigured
from tokenvend.policy_source.text import MAX_BYTES, POLICY_UNREAD, policy_text

if TYPE_CHECKING:
    from pathlib import Path


def read_file(path: Path) -> str:
    """The file's text. Raises Misconfigured when it cannot be read, or as `policy_text`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        cause = f"the file cannot be read ({type(error).__name__})"
        raise Misconfigured(POLICY_UNREAD, cause=cause) from None
    return policy_text(data)
