"""What README.md prints runs as printed, and answers as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MADE, AWS, AZURE, WHY = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
PRINTED_ID = re.search(r"--request-id ([0-9a-f]{8}) ", WHY)


def commands(block: str) -> str:
    """What a reader types: the lines after `$` and those that continue them."""
    return "\n".join(
        line.removeprefix("$ ") for line in block.splitlines() if line.startswith(("$ ", "    "))
    )


def answer(block: str) -> str:
    return "\n".join(line for line in block.splitlines() if not line.startswith(("$ ", "    ")))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that looks like a clone in which `make up` runs."""
    root = tmp_path_factory.mktemp("clone")
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "tokenvend").symlink_to(Path(sys.executable).with_name("tokenvend"))
    running = subprocess.Popen(
        [".venv/bin/tokenvend", "local", "up", "--json"],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["ready"]
        yield root
    finally:
        running.terminate()
        running.communicate(timeout=30)


def typed(script: str, clone: Path) -> str:
    done = subprocess.run(  # noqa: S603 -- the page's own commands
        ["/bin/sh", "-ec", script],
        cwd=clone,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("block", [AWS, AZURE], ids=["aws", "azure"])
def test_a_callers_request_is_answered_as_printed(clone: Path, block: str) -> None:
    got, printed = json.loads(typed(commands(block), clone)), json.loads(answer(block))
    secret = {"access_token", "id_token", "expires_at"}
    assert got.keys() == printed.keys()
    # What is left of its life when it is answered: a busy machine takes a second or more.
    assert 0 < got.pop("expires_in") <= printed.pop("expires_in")
    assert {k: v for k, v in got.items() if k not in secret} == {
        k: v for k, v in printed.items() if k not in secret
    }
    assert all(got[name][:3] == printed[name][:3] for name in secret & printed.keys())


def test_the_operator_finds_the_reason_of_a_denial_as_printed(clone: Path) -> None:
    denied = json.loads(typed(commands(AWS).replace("--as etl", "--as stranger"), clone))
    assert denied["status"] == 403
    assert PRINTED_ID is not None
    found = typed(commands(WHY).replace(PRINTED_ID[1], denied["request_id"][:8]), clone)
    printed = [line for line in answer(WHY).splitlines() if not line.startswith("request ")]
    assert printed
    assert [line for line in printed if line not in found.splitlines()] == []


def test_the_targets_that_the_page_names_exist() -> None:
    for target in re.findall(r"^\$ make ([a-z]+)", MADE, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_every_page_that_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
