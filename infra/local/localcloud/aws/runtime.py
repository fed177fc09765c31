"""One Lambda execution environment: AWS's Runtime Interface Emulator with awslambdaric under it.

The emulator breaks when two invocations overlap, so whoever owns a `Worker` invokes it one at a
time. Between emulator and runtime stands a relay of the Runtime API: the emulator names a fixed
account and no alias in the invoked ARN, and does not say whether its answer was an error; the relay
mends the first and sees the second.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from localcloud.wire.web import Request, Response, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

_REPOSITORY = Path(__file__).resolve().parents[4]
START_SECONDS = 10
STOP_SECONDS = 5
_ARN_FIELD = "lambda-runtime-invoked-function-arn"
_HOP = {"host", "connection", "content-length", "transfer-encoding", "expect", "date"}
# Ends the emulator when our end of its standard input closes, which the kernel sees to even when
# this process is killed. `kill 0` is the group that `start_new_session` made.
_LEASH: Final = '"$@" </dev/null & child=$!; read -r _; kill "$child"; wait "$child"; kill -9 0'


class RuntimeMissingError(RuntimeError):
    """The emulator is not installed; the text says how to get it."""


class WorkerError(RuntimeError):
    """The emulator did not start; the text names its log."""


@dataclass(frozen=True)
class Outcome:
    """What an invocation came to; `failed` is what Lambda shows as X-Amz-Function-Error."""

    payload: bytes
    failed: bool = False


def emulator() -> Path:
    """Where `make setup` puts the emulator; raises RuntimeMissingError."""
    machine = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "x86_64")
    path = _REPOSITORY / ".tools/rie/samcli/local/rapid" / f"aws-lambda-rie-{machine}"
    if not path.is_file():
        raise RuntimeMissingError(f"{path} is missing: run `make setup`")
    return path


class Worker:
    """One emulator and the runtime it starts at the first invocation.

    Args:
        binary: the emulator.
        handler: `package.module.function`, importable from `root`.
        root: the function's directory, its working directory.
        environment: the whole environment of the function.
        log: the file its output is appended to; None where it may not log.
        timeout: the function's, in seconds; the emulator enforces it.

    """

    def __init__(
        self,
        binary: Path,
        handler: str,
        *,
        root: Path,
        environment: Mapping[str, str],
        log: Path | None,
        timeout: int,
    ) -> None:
        self._command = (binary, handler)
        self._root = root
        self._environment = dict(environment)
        self._log = log
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._relay: _Relay | None = None
        self._port = 0

    def start(self) -> None:
        """Start the emulator and wait until it listens; raises WorkerError."""
        with ExitStack() as reserved:
            ports = [reserved.enter_context(reserved_port()) for _ in range(2)]
            self._start(*(port.getsockname()[1] for port in ports))

    def _start(self, port: int, runtime_api: int) -> None:
        self._port = port
        self._relay = _Relay(runtime_api)
        self._relay.server.start()
        binary, handler = self._command
        command = [
            *("/bin/sh", "-c", _LEASH, "leash", str(binary), "--log-level", "warning"),
            *("--runtime-interface-emulator-address", f"127.0.0.1:{self._port}"),
            *("--runtime-api-address", f"127.0.0.1:{runtime_api}"),
            *("/usr/bin/env", f"AWS_LAMBDA_RUNTIME_API=127.0.0.1:{self._relay.server.port}"),
            *(sys.executable, "-m", "awslambdaric", handler),
        ]
        with (self._log or Path(os.devnull)).open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._root,
                env=self._environment,
                start_new_session=True,
            )
        _wait_for(self._port, self._log)

    def stop(self) -> None:
        """End the emulator and its runtime."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._relay is not None:
            self._relay.server.stop()
            self._relay = None

    def restart(self, variables: Mapping[str, str]) -> None:
        """Start anew with other values of some variables."""
        self.stop()
        self._environment.update(variables)
        self.start()

    def invoke(self, payload: bytes, arn: str, client_context: str = "") -> Outcome:
        """Run the handler once; a dead emulator is started anew and reported as a failure."""
        relay = self._relay
        if relay is None:
            raise WorkerError("the worker is not started")
        relay.expect(arn)
        fields = {"Content-Type": "application/json"}
        if client_context:
            fields["X-Amz-Client-Context"] = client_context
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout + 30)
        try:
            path = "/2015-03-31/functions/function/invocations"
            connection.request("POST", path, payload, fields)
            body = connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            self.stop()
            self.start()
            return _failure("Runtime.ExitError", "the runtime ended without an answer")
        finally:
            connection.close()
        if relay.responded:
            return Outcome(body)
        return (
            Outcome(body, failed=True)
            if _is_json(body)
            else _failure("Sandbox.Timedout", body.decode(errors="replace"))
        )


class _Relay:
    """The Runtime API (2018-06-01) as the runtime sees it."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._arn = ""
        self.responded = False
        self.server = Server(self._site)

    def expect(self, arn: str) -> None:
        """Name the ARN that the next invocation carries."""
        self._arn = arn
        self.responded = False

    def _site(self, request: Request) -> Response:
        fields = {k: v for k, v in request.headers.fields if k.lower() not in _HOP}
        if request.method == "POST" and request.path.endswith("/response"):
            # Set before the emulator hears of it: it answers the invoker at once.
            self.responded = True
        # No timeout: `next` waits for as long as nobody invokes.
        connection = http.client.HTTPConnection("127.0.0.1", self._behind)
        try:
            connection.request(request.method, request.target, request.body or None, fields)
            answer = connection.getresponse()
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP]
            body = answer.read()
        except (OSError, http.client.HTTPException):
            return Response(502)
        finally:
            connection.close()
        if request.path.endswith("/invocation/next"):
            kept = [(k, self._arn if k.lower() == _ARN_FIELD else v) for k, v in kept]
        return Response(answer.status, body, tuple(kept))


def _failure(kind: str, message: str) -> Outcome:
    text = f"RequestId: {uuid.uuid4()} Error: {message}"
    return Outcome(json.dumps({"errorType": kind, "errorMessage": text}).encode(), failed=True)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def reserved_port() -> socket.socket:
    """A free port that nobody else is given; the emulator cannot be asked to choose its own.

    The socket is bound and does not listen: the kernel then hands its port to nobody who asks for
    any port, while the emulator, which like all of Go sets SO_REUSEADDR, may listen at it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def _wait_for(port: int, log: Path | None) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    raise WorkerError(
        f"the Lambda emulator did not start; see {log or 'its role, which may not log'}"
    )
