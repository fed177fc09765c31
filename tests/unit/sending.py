"""Senders for tests of what speaks through the transport: from a script, or the embedded cloud."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from localcloud.wire.web import Headers, Request, Response
from tokenvend.transport import Answer, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.deadline import Deadline


@dataclass
class Script:
    """Gives its outcomes in turn, the last for ever; raises those that are exceptions."""

    outcomes: list[Answer | Exception]
    calls: list[Call] = field(default_factory=list)
    repeatable: list[bool] = field(default_factory=list)

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """The next outcome."""
        assert deadline.remaining() >= 0
        self.calls.append(call)
        self.repeatable.append(repeatable)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@dataclass(frozen=True)
class Embedded:
    """The embedded cloud's sites, in this process."""

    sites: Callable[[Request], Response]

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """What they answer, Host set from the URL as HTTP clients do."""
        assert deadline.remaining() > 0
        assert repeatable
        parts = urlsplit(call.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = Headers([*call.headers.items(), ("Host", parts.netloc)])
        answer = self.sites(Request(call.method, parts.netloc, target, headers, call.body))
        names = {name.lower(): value for name, value in answer.headers}
        return Answer(answer.status, names, answer.body)


def script(*outcomes: Answer | Exception) -> Script:
    """A sender with these outcomes."""
    return Script(list(outcomes))


def said(document: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer; header names are given with underscores."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, fields, json.dumps(document).encode())
