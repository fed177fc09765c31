"""Clients of Cloud Storage as subprocesses: libraries in their own languages, and command lines.

Each gets an environment in which the embedded cloud is the internet, and a token that the endpoint
vended. None is told an address: they go where they go in production.
"""

from __future__ import annotations

import json
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 180
"""How long one order may take; the longest moves 300 MiB."""


class ClientError(Exception):
    """What a client said when it did not do what it was told."""


@dataclass(frozen=True)
class Place:
    """Where a client works: a bucket, its environment, and a home of its own."""

    bucket: str
    environment: Mapping[str, str] = field(repr=False)
    home: Path


class Client(Protocol):
    """One client of one bucket."""

    def do(self, operation: str, **arguments: Any) -> Any:
        """Carry out one operation; raises ClientError.

        upload(file, name), download(name, file), list(prefix, delimiter) giving names and common
        prefixes in order, copy(name, to), move(name, to), compose(names, to), delete(names).
        """

    def close(self) -> None:
        """End what runs for it."""


class Library:
    """A client library behind a script that speaks `scripts/orders.py`'s protocol."""

    def __init__(self, place: Place, *command: str, directory: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603 -- our own scripts
            [*command, place.bucket],
            cwd=directory,
            env=dict(place.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, operation: str, **arguments: Any) -> Any:
        """Ask the script."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": operation, **arguments}, default=str) + "\n")
        process.stdin.flush()
        watchdog = threading.Timer(SECONDS, process.kill)
        watchdog.start()
        try:
            answer = json.loads(process.stdout.readline() or '{"error": "the client ended"}')
        finally:
            watchdog.cancel()
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["result"]

    def close(self) -> None:
        """End the script's input, and so the script."""
        try:
            self._process.communicate(timeout=10)
        finally:
            self._process.kill()


class Program:
    """A command line; `run` is one call of it, with what it printed."""

    def __init__(self, place: Place, *command: str) -> None:
        self._place = place
        self._command = command

    def run(self, *arguments: object, standard_input: bytes = b"") -> bytes:
        """Standard output of a call that succeeded; raises ClientError with the rest."""
        done = subprocess.run(  # noqa: S603 -- programs named by the tests
            [*self._command, *map(str, arguments)],
            cwd=self._place.home,
            env=dict(self._place.environment),
            input=standard_input,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            raise ClientError((done.stderr + done.stdout).decode(errors="replace"))
        return done.stdout


class Gcloud:
    """`gcloud storage`."""

    def __init__(self, place: Place, path: str) -> None:
        self.program = Program(place, path, "--quiet", "storage")
        self._bucket = f"gs://{place.bucket}/"

    def do(self, operation: str, **arguments: Any) -> Any:
        """One call."""
        at = self._bucket
        match operation, arguments:
            case "upload", {"file": file, "name": name}:
                self.program.run("cp", file, at + name)
            case "download", {"name": name, "file": file}:
                self.program.run("cp", at + name, file)
            case "list", {"prefix": prefix, "delimiter": "/"}:
                lines = self.program.run("ls", at + prefix).decode().splitlines()
                return sorted(line.removeprefix(at) for line in lines)
            case "copy", {"name": name, "to": to}:
                self.program.run("cp", at + name, at + to)
            case "move", {"name": name, "to": to}:
                self.program.run("mv", at + name, at + to)
            case "compose", {"names": names, "to": to}:
                sources = [at + name for name in names]
                self.program.run("objects", "compose", *sources, at + to)
            case "delete", {"names": names}:
                self.program.run("rm", *(at + name for name in names))
        return None

    def close(self) -> None:
        """Nothing runs between calls."""


class Rclone:
    """rclone, with its remote on the command line."""

    def __init__(self, place: Place, path: str) -> None:
        self._program = Program(place, path, "--config", "", "--retries", "1")
        self._bucket = f":gcs:{place.bucket}/"

    def do(self, operation: str, **arguments: Any) -> Any:
        """One call, or one for each object deleted."""
        at = self._bucket
        match operation, arguments:
            case "upload", {"file": file, "name": name}:
                self._program.run("copyto", file, at + name)
            case "download", {"name": name, "file": file}:
                self._program.run("copyto", at + name, file)
            case "list", {"prefix": prefix, "delimiter": "/"}:
                lines = self._program.run("lsf", at + prefix).decode().splitlines()
                return sorted(prefix + line for line in lines)
            case ("copy" | "move") as verb, {"name": name, "to": to}:
                self._program.run(f"{verb}to", at + name, at + to)
            case "delete", {"names": names}:
                for name in names:
                    self._program.run("deletefile", at + name)
        return None

    def close(self) -> None:
        """Nothing runs between calls."""
