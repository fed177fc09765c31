"""docs/gcloud.md is the transcript of Google's guide: an unmodified gcloud runs it as printed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.tools import tool
from tests.transcript import Shell, Step, chapters, matches

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs" / "gcloud.md"
CHAPTERS = chapters(PAGE.read_text("utf-8"))
UP = re.compile(r"make up\b|\.venv/bin/tokenvend local up\b")
TOOLS = ("gcloud", "curl", "jq")
# A gcloud that nobody watches: it asks nothing and tells nobody.
OF_THE_GUIDE = (
    "services enable",
    "projects describe",
    "projects add-iam-policy-binding",
    "iam workload-identity-pools create ",
    "providers create-aws",
    "providers create-oidc",
    "providers update-oidc",
    "providers list",
    "providers describe",
    "storage buckets add-iam-policy-binding",
    "iam service-accounts create",
    "iam service-accounts add-iam-policy-binding",
    "create-cred-config",
    "--enable-imdsv2",
    "--service-account-token-lifetime-seconds",
    "--app-id-uri",
    "auth login --cred-file",
    "storage ls",
    "storage cp",
    "storage cat",
    "storage rm",
    "sts.googleapis.com/v1/token",
    ":generateAccessToken",
    ":generateIdToken",
    "/subject/",
    "/group/",
    "/attribute.",
    "/*",
)
"""What Google's guide has its reader do, and by which members it binds."""
QUIET = {
    "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
    "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "1",
    "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
}


class Reader:
    """Who follows the page: a shell, and another one in which the cloud runs."""

    def __init__(self, clone: Path, shell: Shell) -> None:
        self._clone, self._shell = clone, shell
        self._cloud: subprocess.Popen[str] | None = None
        self._next = iter(CHAPTERS)

    def follow(self, chapter: str) -> list[tuple[Step, int, str]]:
        """Go on to the end of a chapter; how each command of it ended, and what it wrote.

        All of it is run whatever comes out, so that a word that differs fails one chapter.
        """
        for name in self._next:
            ended = [(step, *self._type(step.command)) for step in CHAPTERS[name]]
            if name == chapter:
                return ended
        raise LookupError(f"{chapter} lies behind")

    def _type(self, command: str) -> tuple[int, str]:
        if not UP.match(command):
            return self._shell.run(command)
        self.stop()
        arguments = shlex.split(self._expanded(command))
        given = arguments[3:] if arguments[0] != "make" else []
        self._cloud = subprocess.Popen(  # noqa: S603 -- the page's own command
            [self._clone / ".venv/bin/tokenvend", "local", "up", "--json", *given],
            cwd=self._clone,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._cloud.stdout is not None
        assert json.loads(self._cloud.stdout.readline())["ready"]
        return 0, ""

    def _expanded(self, command: str) -> str:
        """The command with the shell's own variables in it."""
        _, text = self._shell.run(f"cat <<END\n{command}\nEND")
        return text

    def stop(self) -> None:
        """Ctrl-C in the cloud's own terminal."""
        if self._cloud is not None:
            self._cloud.terminate()
            self._cloud.communicate(timeout=30)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    for name in TOOLS:
        tool(name)
    clone = tmp_path_factory.mktemp("clone")
    (clone / ".venv").symlink_to(sys.prefix)
    environment = {"PATH": os.environ["PATH"], "HOME": str(clone), **QUIET}
    with Shell(clone, environment) as shell:
        following = Reader(clone, shell)
        try:
            yield following
        finally:
            following.stop()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_guide_runs_as_printed(reader: Reader, chapter: str) -> None:
    for step, status, answered in reader.follow(chapter):
        assert matches(step.printed, answered), _difference(step, answered)
        assert (status != 0) == step.fails, f"status {status} of: {step.command}\n{answered}"


@pytest.mark.parametrize("part", OF_THE_GUIDE)
def test_the_page_leaves_nothing_of_the_guide_out(part: str) -> None:
    assert any(part in step.command for each in CHAPTERS.values() for step in each)


def _difference(step: Step, answered: str) -> str:
    return f"$ {step.command}\n--- printed\n{step.printed}\n--- answered\n{answered}"
