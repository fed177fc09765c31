"""docs/threat-model.md: every row is shown by a test, and every test it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "threat-model.md").read_text()
ROW = re.compile(r"\| ([A-D]?[0-9]+) \|.*")
TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::([a-z0-9_]+)`")
ROWS = {match[1]: match[0] for match in ROW.finditer(DOCUMENT)}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_its_row() -> None:
    assert ROWS.keys() >= {str(number) for number in range(1, 26)}
    assert len(ROWS) == len(ROW.findall(DOCUMENT))


def test_every_row_is_shown_by_tests_that_exist() -> None:
    known = {file: names_in(ROOT / file) for file in {each[0] for each in TEST.findall(DOCUMENT)}}
    for number, row in ROWS.items():
        named = TEST.findall(row)
        assert named, number
        assert [each for each in named if each[1] not in known[each[0]]] == [], number


def test_nothing_that_looks_like_a_test_is_misspelt() -> None:
    assert DOCUMENT.count("::") == len(TEST.findall(DOCUMENT))
