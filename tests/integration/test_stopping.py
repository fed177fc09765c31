"""However the local cloud ends, no process is left, and no file that the next start does not clear.

Real processes, each ended by its own id: Ctrl-C for the whole group, a terminal that closes,
SIGTERM and SIGKILL.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENVEND = str(Path(sys.executable).with_name("tokenvend"))
SECONDS = 30
# A session leader whose terminal is standard input: it is told when that closes.
ON_A_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)
TRANSIENT = {"endpoints.json", "admin.json", "tokens", "objects"}


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own command
        [TOKENVEND, "local", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


@contextmanager
def up(cwd: Path, *before: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A running cloud of which a pod's token lies in a file; ended in any case."""
    cwd.mkdir(exist_ok=True)
    running = subprocess.Popen(  # noqa: S603 -- our own command
        [*before, TOKENVEND, "local", "up", "--json"],
        cwd=cwd,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=not before,
    )
    try:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["ready"] is True
        assert command("env", "--as", "etl", "--on", "eks", cwd=cwd).returncode == 0
        assert list((cwd / ".local" / "tokens").iterdir())
        yield running
    finally:
        running.kill()
        running.communicate(timeout=SECONDS)


def processes_of(parent: int) -> set[int]:
    """A process and everything below it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        below.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, rest = set(), [parent]
    while rest:
        pid = rest.pop()
        found.add(pid)
        rest += below.get(pid, [])
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; one that ended but was not yet collected does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end_of(pids: set[int]) -> None:
    end = time.monotonic() + SECONDS
    while any(map(lives, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert [pid for pid in pids if lives(pid)] == []


def transient(cwd: Path) -> set[str]:
    return {path.name for path in (cwd / ".local").iterdir()} & TRANSIENT


def test_ctrl_c_for_the_whole_group_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        pids = processes_of(running.pid)
        # Two environments of Lambda, each a leash and an emulator, and the function app.
        assert len(pids) >= 6
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(SECONDS) == 0
        wait_for_the_end_of(pids)
    assert transient(tmp_path) == set()


def test_a_closed_terminal_leaves_nothing(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with up(tmp_path, sys.executable, "-c", ON_A_TERMINAL, stdin=slave) as running:
        os.close(slave)
        pids = processes_of(running.pid)
        os.close(master)
        assert running.wait(SECONDS) == 0
        wait_for_the_end_of(pids)
    assert transient(tmp_path) == set()


def test_a_killed_cloud_leaves_files_that_are_told_and_cleared_by_the_next(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        pids = processes_of(running.pid)
        running.send_signal(signal.SIGKILL)
        wait_for_the_end_of(pids)
    directory = tmp_path / ".local"
    assert transient(tmp_path) >= {"endpoints.json", "admin.json", "tokens"}
    (directory / "objects").mkdir(exist_ok=True)
    left = [directory / "objects" / "left", directory / "tokens" / "left"]
    for file in left:
        file.write_text("x")
    for arguments in (("env", "--as", "etl"), ("fault", "--list"), ("world",)):
        told = command(*arguments, cwd=tmp_path)
        assert (told.returncode, told.stdout) == (1, "")
        assert "was killed" in told.stderr
        assert "`make up`" in told.stderr
    old = (directory / "admin.json").read_text()
    with up(tmp_path) as running:
        assert (directory / "admin.json").read_text() != old
        assert [file for file in left if file.exists()] == []
        running.terminate()
        assert running.wait(SECONDS) == 0
    assert transient(tmp_path) == set()


def test_two_clouds_at_once_are_strangers(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with up(one) as first, up(two) as second:
        exports = {
            cwd: dict(
                line.removeprefix("export ").split("=", 1)
                for line in command("env", "--as", "etl", cwd=cwd).stdout.splitlines()
                if line.startswith("export ")
            )
            for cwd in (one, two)
        }
        url = "https://sts.us-east-1.amazonaws.com/"
        for own, other in ((one, two), (two, one)):
            with requests.Session() as session:
                session.trust_env = False
                session.proxies = {"https": exports[own]["HTTPS_PROXY"]}
                session.verify = exports[own]["SSL_CERT_FILE"]
                assert session.get(url, timeout=9).status_code < 500
                session.verify = exports[other]["SSL_CERT_FILE"]
                with pytest.raises(requests.exceptions.SSLError, match="VERIFY_FAILED"):
                    session.get(url, timeout=9)
        first.terminate()
        assert first.wait(SECONDS) == 0
        health = json.loads((two / ".local" / "endpoints.json").read_text())["aws_http"]
        assert requests.get(f"{health}/readyz", timeout=9).status_code == 200
        second.terminate()
        assert second.wait(SECONDS) == 0
    assert transient(one) | transient(two) == set()


def test_a_demonstration_that_is_ended_leaves_nothing_and_a_killed_one_what_the_next_clears(
    tmp_path: Path,
) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        running = subprocess.Popen(  # noqa: S603 -- our own command
            [TOKENVEND, "local", "demo"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert running.stdout is not None
            while "are up" not in running.stdout.readline():
                assert running.poll() is None
            pids = processes_of(running.pid)
            assert len(pids) >= 6
            running.send_signal(number)
            wait_for_the_end_of(pids)
        finally:
            running.kill()
            running.communicate(timeout=SECONDS)
        left = {path.name for path in (tmp_path / ".local" / "demo").iterdir()} & TRANSIENT
        assert bool(left) == (number == signal.SIGKILL)
    assert command("demo", "--json", cwd=tmp_path).returncode == 0
    assert not {path.name for path in (tmp_path / ".local" / "demo").iterdir()} & TRANSIENT


def test_a_directory_with_somebodys_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "mine").write_text("precious")
    mode = tmp_path.stat().st_mode
    refused = command("up", "--directory", str(tmp_path), cwd=tmp_path)
    assert refused.returncode == 1
    assert "holds other files" in refused.stderr
    assert (tmp_path / "objects" / "mine").read_text() == "precious"
    assert tmp_path.stat().st_mode == mode
