"""`tokenvend local env` and its refusals, against an admin door of the test's own."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from localcloud.wire.web import Request, Response, Server
from tokenvend.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "admin-token"
AWKWARD = """it's "quoted" $HOME `id` \\ end"""


def admin(request: Request) -> Response:
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        return Response(401)
    if request.path != "/env/etl":
        return Response(404)
    return Response.json(200, {"TOKENVEND_URL": "https://example.test", "AWKWARD": AWKWARD})


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    server = Server(admin).start()
    door = {"url": f"http://127.0.0.1:{server.port}", "token": TOKEN}
    (tmp_path / "admin.json").write_text(json.dumps(door))
    yield tmp_path
    server.stop()


def env(directory: Path, name: str) -> tuple[int, str]:
    arguments = ["local", "env", "--as", name, "--directory", str(directory)]
    result = CliRunner().invoke(main, arguments)
    return result.exit_code, result.output


def test_env_prints_lines_that_a_shell_reads_back_unchanged(directory: Path) -> None:
    code, output = env(directory, "etl")
    assert code == 0
    script = f'{output}\nprintf %s "$AWKWARD"'
    seen = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", script], capture_output=True, text=True, check=True
    )
    assert seen.stdout == AWKWARD
    assert f"export TOKENVEND_URL={shlex.quote('https://example.test')}" in output.splitlines()


def test_env_leaves_nothing_of_the_caller_that_the_shell_was_before(directory: Path) -> None:
    _, output = env(directory, "etl")
    script = f'{output}\nprintf %s "$AWS_SESSION_TOKEN$IDENTITY_HEADER$TOKENVEND_URL"'
    before = {"AWS_SESSION_TOKEN": "a", "IDENTITY_HEADER": "i", "TOKENVEND_URL": "u"}
    seen = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", script], capture_output=True, text=True, check=True, env=before
    )
    assert seen.stdout == "https://example.test"


def test_env_for_an_unknown_caller_says_so(directory: Path) -> None:
    assert env(directory, "nobody") == (1, "Error: The local cloud knows no caller 'nobody'.\n")


def test_env_says_make_up_when_nothing_runs(tmp_path: Path) -> None:
    code, output = env(tmp_path, "etl")
    assert code == 1
    assert "`make up`" in output


def test_env_says_make_up_when_a_killed_cloud_left_its_files(directory: Path) -> None:
    server = Server(admin).start()
    server.stop()
    door = {"url": f"http://127.0.0.1:{server.port}", "token": TOKEN}
    (directory / "admin.json").write_text(json.dumps(door))
    code, output = env(directory, "etl")
    assert code == 1
    assert "`make up`" in output


def test_env_says_make_up_when_the_files_are_broken(directory: Path) -> None:
    (directory / "admin.json").write_text("{")
    code, output = env(directory, "etl")
    assert code == 1
    assert "admin.json cannot be read" in output
    assert "`make up`" in output


def test_help_names_the_subcommands_without_loading_the_embedded_cloud() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from tokenvend.cli import main\n"
        "assert CliRunner().invoke(main, ['--version']).exit_code == 0\n"
        "assert not [m for m in sys.modules if m.startswith(('localcloud', 'rich', 'boto'))]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)  # noqa: S603
    assert done.returncode == 0
