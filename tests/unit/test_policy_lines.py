"""A problem's line is the line an editor shows."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tokenvend.policy.reading.lines import find_lines

if TYPE_CHECKING:
    import pytest

TOML = '''# a comment = "with [[brackets]]"
version = 1
"quoted.key" = { inner = [1,
  2] }
text = """
[[grant]]
name = "not a grant"
"""
literal = \'\'\'
x = 1\'\'\'

[[grant]]
name = "a # b"    # name = "c"
callers = [
  { lambda_alias = "one" },  # }
  { issuer = "https://a", claims = { sub = "x]" } },
]
access_token.scopes = ["s", "t"]
[[grant]]
when = 2026-01-01T00:00:00Z
[grant.access_token]
max_lifetime = "1h"
[[grant.access_token.boundary]]
bucket = "b"
[[grant.access_token.boundary]]
bucket = \'c\'
'''


def test_toml_keys_are_found_on_their_line(subtests: pytest.Subtests) -> None:
    for path, line in [
        (("version",), 2),
        (("quoted.key",), 3),
        (("quoted.key", "inner"), 3),
        (("quoted.key", "inner", 1), 4),
        (("text",), 5),
        (("literal",), 9),
        (("grant",), 12),
        (("grant", 0), 12),
        (("grant", 0, "name"), 13),
        (("grant", 0, "callers"), 14),
        (("grant", 0, "callers", 0), 15),
        (("grant", 0, "callers", 1, "claims", "sub"), 16),
        (("grant", 0, "access_token", "scopes", 1), 18),
        (("grant", 1), 19),
        (("grant", 1, "when"), 20),
        (("grant", 1, "access_token"), 21),
        (("grant", 1, "access_token", "max_lifetime"), 22),
        (("grant", 1, "access_token", "boundary", 0, "bucket"), 24),
        (("grant", 1, "access_token", "boundary", 1), 25),
        (("grant", 1, "access_token", "boundary", 1, "bucket"), 26),
        (("grant", 1, "access_token", "nothing"), 21),
        (("nothing",), 1),
    ]:
        with subtests.test(path=path, line=line):
            assert tomllib.loads(TOML)
            assert find_lines(TOML).of(path) == line


def test_json_keys_are_found_on_their_line() -> None:
    text = json.dumps({"a": [1, {"b": ["x", "y"]}], "c": {"d": "}]"}, "e": 1}, indent=1)
    lines = find_lines(text)
    found = {
        path: text.splitlines()[line - 1].strip().rstrip(",") for path, line in lines.at.items()
    }
    assert found[("a", 1, "b", 1)] == '"y"'
    assert found[("c", "d")] == '"d": "}]"'
    assert found[("e",)] == '"e": 1'


def paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    inner: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return {path} | {each for key, below in inner for each in paths(below, (*path, key))}


@given(
    st.dictionaries(
        st.text("ab.#]}= '", max_size=4),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text("ab#]},[{=: '", max_size=4),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=3,
    ),
    st.sampled_from([None, 1]),
)
def test_every_key_and_entry_of_any_json_is_found(tree: dict[str, object], indent: int) -> None:
    lines = find_lines(json.dumps(tree, indent=indent))
    assert lines.at.keys() | {()} == paths(tree)
    assert lines.repeated == []


def test_json_deeper_than_python_recurses_is_told_as_far_as_it_was_read() -> None:
    text = '{"a":\n' + "[" * 5_000 + "]" * 5_000 + "}"
    assert find_lines(text).of(("a", 0)) == 2


def test_a_repeated_json_key_is_found_where_it_stands_again() -> None:
    text = '{"a": {"x": 1},\n "b": {"x": 2,\n "x": 3}}'
    assert find_lines(text).repeated == [(("b", "x"), 3)]
