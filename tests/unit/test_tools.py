"""A program that is missing shows in the suite's last lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WITH_GCLOUD = "tests/conformance/test_google_auth.py::test_the_vectors_are_what_gcloud_writes"


def test_a_suite_without_gcloud_says_how_many_tests_it_left_out(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", WITH_GCLOUD],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.search(r"^(\d+) skipped: gcloud is not installed$", done.stdout, re.MULTILINE)
    assert told
    assert f"{told[1]} skipped in" in done.stdout
