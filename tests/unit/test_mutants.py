"""The list of `make mutants` keeps up with the code; the run itself takes minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.run import Mutant, mutants

ROOT = Path(__file__).parents[2]
LISTED = mutants()


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.guard)
def test_a_listed_guard_is_in_the_code_and_its_test_exists(mutant: Mutant) -> None:
    assert mutant.fits(ROOT), f"{mutant.file} does not hold, exactly once: {mutant.old}"
    assert mutant.new != mutant.old
    file, _, name = mutant.test.partition("::")
    assert name in (ROOT / file).read_text()


def test_no_guard_is_listed_twice() -> None:
    assert len({mutant.guard for mutant in LISTED}) == len(LISTED)
