"""What leaves for another machine and what comes back; `egress` is the door that both pass."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tokenvend.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.deadline import Deadline

MAX_RETRY_AFTER = 3600


@dataclass(frozen=True, slots=True)
class Call:
    """One outgoing request. Headers and body may hold tokens, so neither is in the repr."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def json(self) -> object:
        """The body as JSON. Raises UpstreamUnavailable when it is none."""
        # Raised outside `except`: the decoder's error quotes the document, which may hold a token.
        with suppress(ValueError, RecursionError):
            return json.loads(self.body)
        raise UpstreamUnavailable(cause=f"status {self.status}, body is not JSON")


class Sender(Protocol):
    """Gives the answer to a call: the door out, and below it the sockets or a test's network.

    `repeatable`: whether sending the same call twice does no harm.
    """

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer: ...  # noqa: D102


def retry_after(headers: Mapping[str, str], now: float) -> int | None:
    """Seconds that an answer asks us to wait (RFC 9110 section 10.2.3), 0-3600, None if unsaid."""
    from email.utils import parsedate_to_datetime  # noqa: PLC0415 - few answers ask for a wait

    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,10}", value):
        return min(int(value), MAX_RETRY_AFTER)
    try:
        seconds = parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return max(0, min(round(seconds + 0.5), MAX_RETRY_AFTER))
