"""A glob matches whole strings, and a star crosses neither `/` nor `:`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenvend.policy.patterns import MAX_STARS, UNRESERVED, glob


def test_globs(subtests: pytest.Subtests) -> None:
    for pattern, text, expected in [
        ("a", "a", True),
        ("a", "aa", False),
        ("a|b", "a", False),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("a?", "ab", False),
        ("*", "", True),
        ("*", "anything", True),
        ("*", "a/b", False),
        ("*", "a:b", False),
        ("*", "a\n", True),
        ("etl-*", "etl-", True),
        ("etl-*", "etl-1\nx", True),
        ("etl-*", "x-etl-1", False),
        ("*-etl", "a-etl", True),
        ("*-etl", "a-etl2", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*ba", "aba", False),
        ("*b*c", "abbc", True),
        ("*a*a*", "xa", False),
        ("*b*", "a/b", False),
        ("*b*", "b:a", False),
        ("a*b*c", "a:bc", False),
        ("https://orders-*.run.app", "https://orders-x.a.run.app", True),
        ("https://orders-*.run.app", "https://orders-x/.run.app", False),
        ("https://orders-*.run.app", "https://orders-x.run.app/", False),
        ("https://orders-*.run.app", "https://orders-evil.example:1.run.app", False),
        ("*:*/x", "a:b/x", True),
        ("*:*/x", "a:b:c/x", False),
    ]:
        with subtests.test(pattern=pattern, text=text, expected=expected):
            assert glob(pattern).matches(text) is expected


def test_patterns_that_mean_too_little_or_too_much_are_refused(subtests: pytest.Subtests) -> None:
    for pattern in ["", "**", "a**b", "*x" * (MAX_STARS + 1)]:
        with subtests.test(pattern=pattern), pytest.raises(ValueError, match="write"):
            glob(pattern)


@given(st.text("ab/:*", max_size=8), st.text("ab/:", max_size=10))
def test_a_glob_means_what_the_regular_expression_means(pattern: str, text: str) -> None:
    expected = re.fullmatch("[^/:]*".join(map(re.escape, pattern.split("*"))), text)
    try:
        compiled = glob(pattern)
    except ValueError:
        assert not pattern or "**" in pattern
        return
    assert compiled.matches(text) is (expected is not None)
    assert str(compiled) == pattern


_hosts = st.text("a.-~_?#@\\%/: *\t\n\x00é", max_size=10)


@given(st.text("a./*", max_size=8), _hosts)
def test_a_star_of_an_audience_stands_for_unreserved_characters_alone(
    pattern: str, text: str
) -> None:
    expected = re.fullmatch("[A-Za-z0-9._~-]*".join(map(re.escape, pattern.split("*"))), text)
    try:
        compiled = glob(pattern, UNRESERVED)
    except ValueError:
        assert not pattern or "**" in pattern
        return
    assert compiled.matches(text) is (expected is not None)
    assert str(compiled) == pattern


def test_many_stars_take_no_exponential_time() -> None:
    pattern = glob("*a" * MAX_STARS)
    assert not pattern.matches("a" * 50_000 + "b")
