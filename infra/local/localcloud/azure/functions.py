"""Starts the function app's process and puts Azure's front end before it.

`FunctionsHost` is the site of `{app}.azurewebsites.net`: it runs `localcloud.azure.functions_host`
as a child with the environment that Azure gives an app and nothing of ours beside it, forwards
requests, and keeps the child's output in one log file. The front end sets the forwarding headers
itself, as App Service does, whatever the caller sent under those names.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import select
import subprocess
import sys
from typing import TYPE_CHECKING

from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG_NAME = "azure-functions.log"
START_SECONDS = 30
# App Service's front end gives up on an answer after 230 s.
FRONT_END_SECONDS = 230
_A_PORT = 49152
# As many threads as http_concurrency, so that no invocation waits for a thread.
THREADS = 32
_HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "upgrade"}
_FRONT_END = {"x-forwarded-proto", "x-forwarded-for", "disguised-host", "content-length"}

SERVICE: Service[None] = Service(
    "Azure Functions",
    ("{app}.azurewebsites.net",),
    (Route("*", "/{route+}", None, asks="the function's auth level"),),
    unserved=(Unserved("/admin, /runtime", "the host's own doors, which no app here needs"),),
)


class FunctionsHostError(Exception):
    """The function app did not start; the text names its log and repeats the log's end."""


class FunctionsHost:
    """One function app.

    Args:
        root: the folder of host.json and function_app.py.
        app: the app's name; it is reached as `{app}.azurewebsites.net`.
        log_directory: where `azure-functions.log` is written.
        settings: the app settings and whatever else its environment needs, such as
            IDENTITY_ENDPOINT and IDENTITY_HEADER, HTTPS_PROXY and REQUESTS_CA_BUNDLE.

    """

    def __init__(
        self, root: Path, *, app: str, log_directory: Path, settings: Mapping[str, str]
    ) -> None:
        self.host = f"{app}.azurewebsites.net"
        self.log_path = log_directory / LOG_NAME
        self.keys = {"master": secrets.token_urlsafe(40), "default": secrets.token_urlsafe(40)}
        self.functions: tuple[str, ...] = ()
        self._root = root.resolve()
        self._environment = {**_platform(app, self.host, self._root), **settings}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> FunctionsHost:
        """Start the child and wait until it serves; FunctionsHostError when it does not."""
        readable, writable = os.pipe()
        command = [sys.executable, "-m", "localcloud.azure.functions_host"]
        try:
            with self.log_path.open("ab") as output:
                self._process = subprocess.Popen(  # noqa: S603 - our own module, fixed arguments
                    [*command, "--root", str(self._root), "--ready-fd", str(writable)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    cwd=self._root,
                    pass_fds=(writable,),
                    # Ctrl-C is for us alone: the child ends when its input does.
                    start_new_session=True,
                )
            os.close(writable)
            self._hand_over_keys()
            ready = _first_line(readable)
        finally:
            os.close(readable)
        if not ready:
            self.stop()
            end = self.log_path.read_text(errors="replace")[-2000:]
            raise FunctionsHostError(f"the function app did not start ({self.log_path}):\n{end}")
        message = json.loads(ready)
        self.port, self.functions = message["port"], tuple(message["functions"])
        return self

    def stop(self) -> None:
        """End the child; its log stays."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __call__(self, request: Request) -> Response:
        """Forward a request as App Service's front end does; 502 when the app is gone."""
        if not request.target.isascii():
            return Response(400)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=FRONT_END_SECONDS)
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self._forwarded(request):
                connection.putheader(name, value)
            connection.endheaders(request.body)
            answer = connection.getresponse()
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP]
            return Response(answer.status, answer.read(), tuple(kept))
        except TimeoutError:
            return Response(504)
        except (OSError, http.client.HTTPException):
            return Response(502)
        finally:
            connection.close()

    def _forwarded(self, request: Request) -> list[tuple[str, str]]:
        kept = [
            (name, value)
            for name, value in request.headers.fields
            if name.lower() not in _HOP | _FRONT_END | {"host"}
        ]
        # App Service names the caller's port too; what is ours to know is the relay's.
        peer = f"[{request.peer}]" if ":" in request.peer else request.peer
        via = [*request.headers.all("X-Forwarded-For"), f"{peer}:{_A_PORT}"]
        return [
            ("Host", self.host),
            *kept,
            ("X-Forwarded-For", ", ".join(via)),
            ("X-Forwarded-Proto", "https"),
            ("Disguised-Host", self.host),
            ("Content-Length", str(len(request.body))),
        ]

    def _hand_over_keys(self) -> None:
        # Through the pipe, not the environment: the app must not find its own keys there.
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(json.dumps({"keys": self.keys}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # The child died before it read them; the missing ready line reports that.
            return


def _platform(app: str, host: str, root: Path) -> dict[str, str]:
    """The environment that the platform itself gives a Python function app."""
    return {
        "PATH": os.defpath,
        "HOME": "/home",
        "LANG": "C.UTF-8",
        "AZURE_FUNCTIONS_ENVIRONMENT": "Production",
        "AzureWebJobsScriptRoot": str(root),
        "FUNCTIONS_EXTENSION_VERSION": "~4",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "FUNCTIONS_WORKER_RUNTIME_VERSION": "3.13",
        "PYTHON_THREADPOOL_THREAD_COUNT": str(THREADS),
        "PYTHONUNBUFFERED": "1",
        "REGION_NAME": "West Europe",
        "WEBSITE_HOSTNAME": host,
        "WEBSITE_INSTANCE_ID": secrets.token_hex(32),
        "WEBSITE_SITE_NAME": app,
    }


def _first_line(descriptor: int) -> bytes:
    """What the child writes when it serves; empty when it ended or took too long."""
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([descriptor], [], [], START_SECONDS)[0]:
            return b""
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return b""
        line += chunk
    return line
