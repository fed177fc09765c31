"""docs/clients.md names the clients that are run, as they are pinned, and what each cannot."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.clients.clients import CLIENTS

ROOT = Path(__file__).parents[2]
COMPOSE = 6


def rows() -> dict[str, list[str]]:
    page = (ROOT / "docs/clients.md").read_text("utf-8")
    lines = [line for line in page.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in cells}


def test_the_page_has_the_clients_that_are_run() -> None:
    assert list(rows()) == [*CLIENTS, "terraform"]


def test_the_versions_are_those_that_make_clients_installs() -> None:
    pinned = dict(
        re.findall(r"(?m)^([a-z-]+)==(\S+)$", (ROOT / "tests/clients/requirements.txt").read_text())
    )
    package = json.loads((ROOT / "tests/clients/node/package.json").read_text())
    pinned["node"] = package["dependencies"]["@google-cloud/storage"]
    known = {name: row[1] for name, row in rows().items() if name in pinned}
    assert known == {name: pinned[name] for name in known}
    assert len(known) == 5


def test_what_the_page_says_a_client_cannot_is_not_asked_of_it() -> None:
    page = {name for name, row in rows().items() if row[COMPOSE] == "no"}
    assert page == {name for name, kind in CLIENTS.items() if "compose" in kind.cannot}
