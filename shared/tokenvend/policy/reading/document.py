"""A policy's text as a tree: TOML, or JSON where it starts with `{`.

Refuses text that is too long, malformed, nested beyond reason, or that names a JSON key twice.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

from tokenvend.policy.reading.problems import MAX_PROBLEMS, PolicyError, Problem, quoted

if TYPE_CHECKING:
    from tokenvend.policy.reading.lines import Lines
    from tokenvend.policy.reading.problems import Found, Path

# 20,000 grants of a usual size; AWS AppConfig itself stops at 2 MB.
MAX_CHARACTERS = 8 * 1024 * 1024

_TOML_PLACE = r" \(at (?:line (\d+), column \d+|end of document)\)$"


def read(text: str, source: str) -> dict[str, object]:
    """The tree in `text`. Raises PolicyError."""
    if len(text) > MAX_CHARACTERS:
        message = f"the policy is longer than {MAX_CHARACTERS:,} characters; split the endpoint"
        raise PolicyError(source, (Problem(1, "", message),))
    text = _without_mark(text)
    try:
        if text.lstrip(" \t\r\n").startswith("{"):
            return _read_json(text, source)
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = _toml_problem(text, str(error))
    except json.JSONDecodeError as error:
        problem = Problem(error.lineno, "", f"not valid JSON: {error.msg}")
    except RecursionError:
        problem = Problem(1, "", "nested too deeply; a policy has at most five levels")
    except ValueError:
        # Python's cap on digits, the one value both parsers choke on outside their own errors.
        problem = Problem(1, "", "a number in the policy is too long to be one")
    raise PolicyError(source, (problem,))


def lines_of(text: str) -> Lines:
    """The line of every key of a text that `read` has accepted."""
    # A good policy never needs to know.
    from tokenvend.policy.reading.lines import find_lines  # noqa: PLC0415

    return find_lines(_without_mark(text))


def refuse(found: Found, tree: dict[str, object], text: str, source: str) -> PolicyError:
    """The error for all problems found, each with its line and grant, in the file's order."""
    lines = lines_of(text)
    problems = sorted(
        {
            Problem(lines.of(path), _where(tree, path), message)
            for path, message in found[:MAX_PROBLEMS]
        }
    )
    return PolicyError(source, tuple(problems))


def _where(tree: dict[str, object], path: Path) -> str:
    """The grant or case that `path` lies in, as its author knows it: `[[grant]] "name"`."""
    match path:
        case [str(kind), int(index), *_]:
            entries = tree.get(kind)
            entry = entries[index] if isinstance(entries, list) else None
            name = entry.get("name") if isinstance(entry, dict) else None
            called = quoted(name) if isinstance(name, str) else f"number {index + 1}"
            return f"[[{kind}]] {called}"
        case _:
            return ""


def _without_mark(text: str) -> str:
    # Editors on Windows begin a file with a byte order mark.
    return text.removeprefix("\ufeff")


def _read_json(text: str, source: str) -> dict[str, object]:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        tree = dict(pairs)
        if len(tree) != len(pairs):
            repeated.append("")
        return tree

    tree: dict[str, object] = json.loads(text, object_pairs_hook=unique)
    if repeated:
        # Two readers that pick different duplicates would hold two different policies.
        problems = tuple(
            Problem(line, _where(tree, path), f"the key {quoted(str(path[-1]))} stands twice")
            for path, line in lines_of(text).repeated
        )
        raise PolicyError(source, problems or (Problem(1, "", "a key stands twice in one object"),))
    return tree


def _toml_problem(text: str, message: str) -> Problem:
    place = re.search(_TOML_PLACE, message)
    line = int(place[1]) if place and place[1] else text.count("\n") + 1
    said = message[: place.start()] if place else message
    if said.startswith("Cannot declare ('grant',) twice"):
        said += "; write [[grant]], not [grant]"
    return Problem(line, "", f"not valid TOML: {said}")
