"""The embedded cloud itself: how fast it starts, and what many clients at once see of it.

Run alone: `.venv/bin/python tests/bench/bench_local_cloud.py [--clients N] [--seconds N]`. The
cloud is `tokenvend local up` in a process of its own. Each client vends a token, writes and reads
an object with it, and begins anew, half of them on AWS and half on Azure; they share one
interpreter, which they wait for too. One answer that is not what it should be fails the run.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from rich.table import Table

from tests.bench import measuring
from tests.callers import Caller

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKENVEND = Path(sys.executable).with_name("tokenvend")
CLIENTS, SECONDS, STARTS = 50, 20, 5
WAIT = 60
# Seconds that who was held back waits.
THROTTLED = 0.5
OBJECTS = "https://storage.googleapis.com"
BUCKET = "acme-landing"
SIZE = 64 * 1024


@dataclass
class Seen:
    """Milliseconds by kind of request, and what went wrong, of all clients.

    `throttled`: how often the gateway held somebody back, as the template bids it.
    """

    took: dict[str, list[float]] = field(default_factory=dict)
    throttled: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, act: Callable[[], requests.Response]) -> requests.Response | None:
        """Time one request; None when it failed."""
        started = time.perf_counter()
        try:
            answer = act()
        except requests.RequestException as failure:
            with self.lock:
                self.errors[f"{kind}: {type(failure).__name__}"] += 1
            return None
        if answer.status_code == requests.codes.too_many_requests:
            with self.lock:
                self.throttled += 1
            time.sleep(THROTTLED)
            return None
        with self.lock:
            self.took.setdefault(kind, []).append((time.perf_counter() - started) * 1000)
            if not answer.ok:
                self.errors[f"{kind}: {answer.status_code}"] += 1
        return answer if answer.ok else None


def main() -> int:
    """Print the tables; 1 when a client saw an error."""
    parser = ArgumentParser(description="The embedded cloud: its start, and many clients at once.")
    parser.add_argument("--clients", type=int, default=CLIENTS, help="at once")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="that they go on for")
    given = parser.parse_args()
    console = measuring.console()
    console.print(measuring.load())
    with tempfile.TemporaryDirectory() as directory:
        starts = [_start(Path(directory)) for _ in range(STARTS)]
        first, *again = starts
        console.print(
            f"start to ready: {first:.2f} s in an empty directory, then "
            f"{measuring.Spread.of(again).shown(2)} s"
        )
        with _running(Path(directory)) as (pid, _):
            before = _resident(pid)
            seen = _load(Path(directory), given.clients, given.seconds)
            after = _resident(pid)
    total = sum(map(len, seen.took.values()))
    title = f"{given.clients} clients for {given.seconds} s: {total} requests"
    table = Table("request", "times", "p50, ms", "p99, ms", "slowest, ms", title=title)
    for kind, took in seen.took.items():
        cells = [measuring.percentile(took, 50), measuring.percentile(took, 99), max(took)]
        table.add_row(kind, str(len(took)), *(f"{cell:.0f}" for cell in cells))
    console.print(table)
    console.print(f"{total / given.seconds:.0f} requests a second")
    console.print(f"memory of the cloud's process: {before:.0f} MB, then {after:.0f} MB")
    console.print(f"held back by the template's throttling: {seen.throttled}")
    console.print(f"errors: {dict(seen.errors) or 'none'}")
    console.print(measuring.load())
    return 1 if seen.errors else 0


@contextmanager
def _running(directory: Path) -> Iterator[tuple[int, float]]:
    """A cloud's process id, and the seconds that it took to be ready."""
    began = time.perf_counter()
    running = subprocess.Popen(  # noqa: S603 -- our own command
        [TOKENVEND, "local", "up", "--json", "--directory", str(directory / ".local")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert running.stdout is not None
        if not running.stdout.readline():
            raise SystemExit("the cloud did not start")
        yield running.pid, time.perf_counter() - began
    finally:
        running.send_signal(signal.SIGINT)
        try:
            running.communicate(timeout=WAIT)
        finally:
            running.kill()


def _start(directory: Path) -> float:
    with _running(directory) as (_, seconds):
        return seconds


def _load(directory: Path, clients: int, seconds: int) -> Seen:
    seen = Seen()
    end = time.monotonic() + seconds
    environments = [_environment(directory, name) for name in ("etl", "reporting")]
    threads = [
        threading.Thread(target=_client, args=(environments[number % 2], end, seen))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def _client(environment: dict[str, str], end: float, seen: Seen) -> None:
    caller = Caller(environment)
    where = "AWS" if caller.on_aws else "Azure"
    body = json.dumps({"grant": "landing-writer"}).encode()
    content = secrets.token_bytes(SIZE)
    while time.monotonic() < end:
        answer = seen.note(f"vend, {where}", lambda: caller.ask("POST", "/v1/access-token", body))
        if answer is None:
            continue
        bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        name = f"bench/{secrets.token_hex(8)}"
        written = seen.note(
            "write 64 KiB",
            lambda: caller.session.post(
                f"{OBJECTS}/upload/storage/v1/b/{BUCKET}/o",
                params={"uploadType": "media", "name": name},  # noqa: B023 -- called at once
                data=content,
                headers=bearer,  # noqa: B023
                timeout=WAIT,
            ),
        )
        if written is None:
            continue
        path = f"/storage/v1/b/{BUCKET}/o/{name.replace('/', '%2F')}"
        read = seen.note(
            "read 64 KiB",
            lambda: caller.session.get(
                f"{OBJECTS}{path}",  # noqa: B023
                params={"alt": "media"},
                headers=bearer,  # noqa: B023
                timeout=WAIT,
            ),
        )
        if read is not None and read.content != content:
            with seen.lock:
                seen.errors["read 64 KiB: other bytes"] += 1


def _environment(directory: Path, name: str) -> dict[str, str]:
    admin = json.loads((directory / ".local" / "admin.json").read_text())
    answer = requests.get(
        f"{admin['url']}/env/{name}",
        headers={"Authorization": f"Bearer {admin['token']}"},
        timeout=WAIT,
    )
    found: dict[str, str] = answer.json()
    return found


def _resident(pid: int) -> float:
    """Megabytes that a process holds, of /proc; 0 where there is none."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return 0.0
    (line,) = [each for each in status.read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    raise SystemExit(main())
