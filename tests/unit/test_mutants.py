"""The list of `make mutants` keeps up with the code; the run itself takes minutes."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.run import mutants

ROOT = Path(__file__).parents[2]
LISTED = mutants()


def test_every_listed_guard_is_in_the_code_once_and_its_test_exists() -> None:
    for mutant in LISTED:
        assert mutant.fits(ROOT), f"{mutant.file} does not hold, exactly once: {mutant.old}"
        assert mutant.new != mutant.old
        file, _, name = mutant.test.partition("::")
        assert not name or f"def {name}(" in (ROOT / file).read_text(), mutant.test


def test_no_guard_is_listed_twice() -> None:
    assert len({mutant.guard for mutant in LISTED}) == len(LISTED)
