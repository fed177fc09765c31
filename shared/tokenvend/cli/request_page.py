"""One audit record as its operator reads it: a page of lines, or the same as flat JSON.

A log is a stranger's text: no member is taken to be there or of its type, and nothing of it
reaches a terminal unescaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from tokenvend.audit.chain import is_intact
from tokenvend.cli.output import wrapped
from tokenvend.lifetimes import lifetime_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

_LABEL_WIDTH = 11
# Microseconds in a millisecond, and in a day: no request takes so long, only a forged record.
_MICROSECONDS = 1000
_LONGEST = 86_400_000_000
# What only places the record in its chain.
_OF_CHAIN = ("schema", "previous", "hash")
_OF_GRANT = ("kind", "service_account", "delegates", "scopes", "audience", "lifetime")


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as flat JSON: what it says of the caller and of what was granted beside the rest.

    None: not there. `intact`: whether the record's hash fits.
    """
    caller, grant = _mapping(record, "caller"), _mapping(record, "grant")
    return {
        **{name: value for name, value in record.items() if name not in _OF_CHAIN},
        "caller": caller.get("id"),
        "session": caller.get("session"),
        "grant": grant.get("name"),
        **{name: grant.get(name) for name in _OF_GRANT},
        "intact": is_intact(record),
    }


def print_page(console: Console, found: Mapping[str, Any]) -> None:
    """A summary as a page: what is not there has no line, and nothing that is there is cut."""
    for label, text, style in _lines(found):
        room = console.width - _LABEL_WIDTH
        # A pipe gets each line whole.
        for number, part in enumerate(wrapped(text, room) if console.is_terminal else [text]):
            start = "" if number else label
            console.print(
                Text.assemble((start.ljust(_LABEL_WIDTH), "bold"), (printable(part), style))
            )
    console.print()


def printable(text: str) -> str:
    """The text without what could rewrite what a terminal shows."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Label, text and style of each line that has something to say."""
    say = found.get
    good = say("outcome") in ("vended", "answered")
    lines = (
        ("request", say("request_id"), ""),
        ("", _named("platform", say("platform_request_id")), ""),
        ("", _named("Google", say("upstream_request_id")), ""),
        ("", _named("trace", say("trace_id")), ""),
        ("time", say("time"), ""),
        ("outcome", f"{say('outcome')}, status {say('status')}", "green" if good else "red"),
        ("reason", say("reason"), ""),
        ("shadow", say("would_deny"), "yellow"),
        ("caller", _joined(", ", say("caller"), _named("session", say("session"))), ""),
        ("from", _joined(", ", say("source"), say("user_agent")), ""),
        ("asked", _joined(": ", say("route"), _asked(_mapping(found, "asked"))), ""),
        ("named by", _words(say("matched")), ""),
        ("grant", _joined(": ", say("grant"), _allowed(found) if say("kind") else ""), ""),
        ("token", say("token_fingerprint"), ""),
        ("", _named("expires", say("expires_at")), ""),
        ("cache", say("cache"), ""),
        ("bridged", say("bridged"), "yellow"),
        ("policy", say("policy"), ""),
        ("took", _durations(_mapping(found, "durations_us")), ""),
        ("record", f"{say('sequence')} of instance {say('instance')}", ""),
        ("", "" if say("intact") else _ALTERED, "red"),
    )
    return ((label, str(text), style) for label, text, style in lines if text)


_ALTERED = "This record was altered: its hash does not fit its content."


def _allowed(found: Mapping[str, Any]) -> str:
    """The token that the decision allowed, whether or not it was made."""
    account, lifetime = found["service_account"] or "the pool (direct)", found["lifetime"]
    return _joined(
        ", ",
        f"{str(found['kind']).replace('_', ' ')} of {account}",
        _named("through", _words(found["delegates"])),
        _words(found["scopes"]),
        _named("for", found["audience"]),
        lifetime_text(lifetime) if type(lifetime) is int else "",
    )


def _asked(asked: Mapping[str, Any]) -> str:
    """The wishes of a request; what it left to the grant has no word."""
    wishes = [(name, value) for name, value in asked.items() if value and name != "kind"]
    return ", ".join(f"{name.replace('_', ' ')} {_words(value)}" for name, value in wishes)


def _durations(steps: Mapping[str, Any]) -> str:
    told = {
        name: f"{value / _MICROSECONDS:,.1f}"
        for name, value in steps.items()
        if isinstance(value, int) and value < _LONGEST
    }
    total = f"{told.pop('total', '?')} ms" if steps else ""
    return _joined(": ", total, ", ".join(f"{name} {value}" for name, value in told.items()))


def _mapping(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _words(value: object) -> str:
    return _joined(" ", *(value if isinstance(value, list) else [value]))


def _named(name: str, value: object) -> str:
    return f"{name} {value}" if value else ""


def _joined(between: str, *parts: object) -> str:
    return between.join(str(part) for part in parts if part)
