"""One audit record as its operator reads it: a page of lines, or the same as flat JSON.

A log is a stranger's text: no member is taken to be there or of its type, and nothing of it
reaches a terminal unescaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from tokenvend.audit.chain import is_intact
from tokenvend.cli.output import wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

_LABEL_WIDTH = 11
# Microseconds in a millisecond, and in a day: no request takes so long, only a forged record.
_MICROSECONDS = 1000
_LONGEST = 86_400_000_000
_OF_RECORD = (
    "request_id",
    "platform_request_id",
    "upstream_request_id",
    "trace_id",
    "time",
    "outcome",
    "status",
    "reason",
    "would_deny",
    "source",
    "user_agent",
    "route",
    "asked",
    "matched",
    "token_fingerprint",
    "expires_at",
    "cache",
    "bridged",
    "policy",
    "durations_us",
    "instance",
    "sequence",
)
_OF_GRANT = ("kind", "service_account", "delegates", "scopes", "audience", "lifetime")


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """What became of the request, one member for each thing an operator asks; None: not there."""
    caller, grant = _mapping(record, "caller"), _mapping(record, "grant")
    return {
        **{name: record.get(name) for name in _OF_RECORD},
        "caller": caller.get("id"),
        "session": caller.get("session"),
        "grant": grant.get("name"),
        **{name: grant.get(name) for name in _OF_GRANT},
        "intact": is_intact(record),
    }


def print_page(console: Console, record: Mapping[str, Any]) -> None:
    """The record as a page: what is not there has no line, and nothing that is there is cut."""
    for label, text, style in _lines(summary(record)):
        room = console.width - _LABEL_WIDTH
        # A pipe gets each line whole.
        parts = wrapped(text, room) if console.is_terminal else [text]
        for number, part in enumerate(parts):
            start = ("" if number else label).ljust(_LABEL_WIDTH)
            console.print(
                Text.assemble((start, "bold" if start.strip() else ""), (printable(part), style))
            )
    console.print()


def printable(text: str) -> str:
    """The text without what could rewrite what a terminal shows."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, text and style of each line that has something to say."""
    good = found["outcome"] in ("vended", "answered")
    status = f"status {found['status']}"
    lines = (
        ("request", found["request_id"], ""),
        ("", _named("platform", found["platform_request_id"]), ""),
        ("", _named("Google", found["upstream_request_id"]), ""),
        ("", _named("trace", found["trace_id"]), ""),
        ("time", found["time"], ""),
        ("outcome", _joined(", ", found["outcome"], status), "green" if good else "red"),
        ("reason", found["reason"], ""),
        ("shadow", found["would_deny"], "yellow"),
        ("caller", _joined(", ", found["caller"], _named("session", found["session"])), ""),
        ("from", _joined(", ", found["source"], found["user_agent"]), ""),
        ("asked", _joined(": ", found["route"], _asked(found["asked"])), ""),
        ("named by", _joined(" ", *_items(found["matched"])), ""),
        ("grant", _joined(": ", found["grant"], _allowed(found)), ""),
        ("token", found["token_fingerprint"], ""),
        ("", _named("expires", found["expires_at"]), ""),
        ("cache", found["cache"], ""),
        ("bridged", found["bridged"], "yellow"),
        ("policy", found["policy"], ""),
        ("took", _durations(found["durations_us"]), ""),
        ("record", f"{found['sequence']} of instance {found['instance']}", ""),
        ("", "" if found["intact"] else _ALTERED, "red"),
    )
    return ((label, str(text), style) for label, text, style in lines if text)


_ALTERED = "This record was altered: its hash does not fit its content."


def _allowed(found: Mapping[str, Any]) -> str:
    """The token that the decision allowed, whether or not it was made."""
    if not found["kind"]:
        return ""
    account, lifetime = found["service_account"] or "the pool (direct)", found["lifetime"]
    return _joined(
        ", ",
        f"{str(found['kind']).replace('_', ' ')} of {account}",
        _named("through", _joined(" ", *_items(found["delegates"]))),
        _joined(" ", *_items(found["scopes"])),
        _named("for", found["audience"]),
        f"{lifetime} s" if lifetime else "",
    )


def _asked(asked: object) -> str:
    """The wishes of a request; what it left to the grant has no word."""
    if not isinstance(asked, dict):
        return ""
    return _joined(
        ", ",
        *(
            f"{name.replace('_', ' ')} {_joined(' ', *_items(value))}"
            for name, value in asked.items()
            if value and name != "kind"
        ),
    )


def _durations(steps: object) -> str:
    if not isinstance(steps, dict):
        return ""
    told = {
        name: f"{value / _MICROSECONDS:,.1f}"
        for name, value in steps.items()
        if isinstance(value, int) and value < _LONGEST
    }
    total = f"{told.pop('total', '?')} ms"
    return _joined(": ", total, ", ".join(f"{name} {value}" for name, value in told.items()))


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _named(name: str, value: object) -> str:
    return f"{name} {value}" if value else ""


def _joined(between: str, *parts: object) -> str:
    return between.join(str(part) for part in parts if part)
