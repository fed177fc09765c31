"""`tokenvend local` as a user runs it: real processes, real cloud, both functions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TOKENVEND = Path(sys.executable).with_name("tokenvend")
# Google's access tokens, JWTs, AWS's secret keys and session tokens: none belongs on a screen.
SECRET = re.compile(r"ya29\.|eyJ[A-Za-z0-9_-]{10}|[A-Za-z0-9/+_-]{40,}")


def shell(script: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own script
        ["/bin/sh", "-c", script], cwd=cwd, capture_output=True, text=True, check=True, timeout=60
    )


def command(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own command
        [str(TOKENVEND), "local", *arguments],
        cwd=cwd,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_demo_vends_uses_and_denies_on_both_clouds_and_shows_no_token(tmp_path: Path) -> None:
    done = command("demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert [step["cloud"] for step in report["steps"]] == ["AWS"] * 7 + ["Azure"] * 7
    assert all(step["ok"] for step in report["steps"])
    denials = [step for step in report["steps"] if "denied" in step["title"]]
    assert all(step["detail"].startswith("403 denied, request ") for step in denials)
    assert not SECRET.search(done.stdout + done.stderr)


def test_demo_fits_80_columns_and_what_it_names_next_works_as_printed(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    done = command("demo", cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert "  ask for tokens yourself, of a cloud that keeps running:" in lines
    (printed,) = [line.strip() for line in lines if "audit find --request-id" in line]
    seen = shell(printed, cwd=tmp_path)
    assert "outcome    denied, status 403" in seen.stdout
    assert "role/stranger" in seen.stdout
    fingerprint = re.findall(r"token (sha256:[0-9a-f]+)", done.stdout)[0]
    find = f".venv/bin/tokenvend audit find --fingerprint {fingerprint} .local/demo/*.log"
    assert "grant      landing-writer: access token" in shell(find, cwd=tmp_path).stdout
    assert (tmp_path / ".local").stat().st_mode & 0o077 == 0


def test_up_serves_until_it_is_told_to_stop_and_leaves_no_address(tmp_path: Path) -> None:
    running = subprocess.Popen(  # noqa: S603 -- our own command
        [str(TOKENVEND), "local", "up", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stdout is not None
        endpoints = json.loads(running.stdout.readline())
        directory = tmp_path / ".local"
        assert json.loads((directory / "endpoints.json").read_text()) == endpoints
        assert endpoints["ready"] is True
        assert directory.stat().st_mode & 0o077 == 0
        lines = command("env", "--as", "reporting", cwd=tmp_path).stdout.splitlines()
        assert f"export TOKENVEND_URL={endpoints['azure']}" in lines
        task = command("env", "--as", "etl", "--on", "ecs", "--link-local", cwd=tmp_path).stdout
        assert "export AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/v2/credentials/" in task
        assert "AWS_ACCESS_KEY_ID" in task.splitlines()[0].split()
        unfit = command("env", "--as", "operator", "--on", "ec2", cwd=tmp_path)
        assert (unfit.returncode, unfit.stdout) == (1, "")
        assert "operator is somebody with keys" in unfit.stderr
        assert command("env", "--as", "nobody", cwd=tmp_path).returncode == 1
        assert command("fault", cwd=tmp_path).returncode == 2
        for arguments, answered in ((["*", "status", "--status", "418"], 418), (["--clear"], 200)):
            assert command("fault", *arguments, cwd=tmp_path).returncode == 0
            health = requests.get(f"{endpoints['azure_http']}/healthz", timeout=9)
            assert health.status_code == answered
        unknown = command("fault", "sts.google.com", "reset", cwd=tmp_path)
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert "iamcredentials.googleapis.com" in unknown.stderr
        told = command("fault", "STS.googleapis.com", "reset", "--times", "2", cwd=tmp_path)
        assert told.stdout == "sts.googleapis.com answers with: reset, 2 times more\n"
        assert "Tokens that are cached still serve" in told.stderr
        assert command("fault", "--list", cwd=tmp_path).stdout == told.stdout
        shut = command("fault", "169.254.169.254", "refused", cwd=tmp_path)
        assert shut.stdout.splitlines()[-1] == "169.254.169.254 refuses connections"
        assert command("fault", "--clear", cwd=tmp_path).stdout == "No faults are set.\n"
        second = command("up", cwd=tmp_path)
        assert second.returncode == 1
        assert "already runs in" in second.stderr
        assert json.loads((directory / "endpoints.json").read_text()) == endpoints
    finally:
        running.send_signal(signal.SIGINT)
        _, complaints = running.communicate(timeout=30)
    assert running.returncode == 0, complaints
    assert not (directory / "endpoints.json").exists()
    assert "`make up`" in command("env", "--as", "etl", cwd=tmp_path).stderr


def test_shell_made_a_caller_calls_the_endpoint(tmp_path: Path) -> None:
    running = subprocess.Popen(  # noqa: S603 -- our own command
        [str(TOKENVEND), "local", "up", "--json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    program = (
        "import os, requests, boto3\n"
        "print(boto3.client('sts').get_caller_identity()['Arn'])\n"
        "print(requests.get(os.environ['TOKENVEND_URL'] + '/healthz', timeout=9).json()['status'])"
    )
    script = f'eval "$({TOKENVEND} local env --as etl)" && exec {sys.executable} -c "$0"'
    try:
        assert running.stdout is not None
        running.stdout.readline()
        seen = subprocess.run(  # noqa: S603 -- our own script
            ["/bin/sh", "-c", script, program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={"PATH": os.defpath},
        )
    finally:
        running.terminate()
        running.communicate(timeout=30)
    assert seen.stdout.splitlines() == ["arn:aws:sts::111122223333:assumed-role/etl/local", "ok"]


@contextmanager
def running(cwd: Path, *arguments: str) -> Iterator[dict[str, str]]:
    """`tokenvend local up` with its endpoints, until it is told to stop."""
    process = subprocess.Popen(  # noqa: S603 -- our own command
        [str(TOKENVEND), "local", "up", "--json", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_world_is_saved_and_started_again(tmp_path: Path) -> None:
    saved = tmp_path / "saved.yaml"
    with running(tmp_path) as endpoints:
        text = command("world", cwd=tmp_path).stdout
        assert World.parse(text) == World.load()
        lines = [command("env", "--as", n, cwd=tmp_path).stdout for n in ("etl", "admin")]
        secrets = re.findall(r"(?:KEY|TOKEN)='?([^'\n]+)", "\n".join(lines))
        assert len(secrets) == 4
        text = command("world", cwd=tmp_path).stdout
        assert [secret for secret in secrets if secret in text] == []
        changed = World.parse(text)
        account = changed.google.service_accounts[0]
        account.display_name = "Landing"
        account.iam_policy.grant("roles/iam.serviceAccountUser", "user:admin@acme.example")
        saved.write_text(changed.dump())
    with running(tmp_path, "--world", str(saved)) as endpoints:
        again = command("world", cwd=tmp_path).stdout
        assert again == saved.read_text()
        assert json.loads(command("world", "--json", cwd=tmp_path).stdout) == changed.document()
        answer = requests.get(f"{endpoints['aws_http']}/readyz", timeout=9)
        assert answer.status_code == 200


def test_up_refuses_a_world_with_a_slip_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text(World.load().dump().replace("projectId", "projectID", 1))
    refused = command("up", "--world", "wrong.yaml", cwd=tmp_path)
    assert refused.returncode == 1
    assert "wrong.yaml: google.projects[0]: unknown key projectID" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_up_takes_the_templates_parameters(tmp_path: Path) -> None:
    assert command("up", "--parameter", "GoogleProvider", cwd=tmp_path).returncode == 2
    unknown = command("up", "--parameter", "NoSuchThing=1", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "NoSuchThing" in unknown.stderr
    assert "Traceback" not in unknown.stderr


def test_up_says_where_its_logs_are_and_what_to_try_next(tmp_path: Path) -> None:
    running = subprocess.Popen(  # noqa: S603 -- our own command
        [str(TOKENVEND), "local", "up"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    try:
        assert running.stdout is not None
        lines: list[str] = []
        while not lines or "local fault" not in lines[-1]:
            lines.append(running.stdout.readline().rstrip("\n"))
            assert running.poll() is None
        named = [line.split()[-1] for line in lines if line.endswith(".log") and "find" not in line]
        assert all((tmp_path / name).is_file() for name in named)
        assert len(named) == 2
        assert any("audit find --request-id" in line for line in lines)
        # The CA's path is as long as the directory; nothing else may need a wider terminal.
        assert [line for line in lines if len(line) > 80 and "CA bundle" not in line] == []
    finally:
        running.terminate()
        running.communicate(timeout=30)
    assert running.returncode == 0
    assert not (tmp_path / ".local" / "endpoints.json").exists()


def test_up_names_the_directory_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "nobody").symlink_to("/proc")
    refused = command("up", "--directory", "nobody/cloud", cwd=tmp_path)
    assert refused.returncode == 1
    assert "Error: cannot keep files in /proc/cloud" in refused.stderr
    assert "Traceback" not in refused.stderr
