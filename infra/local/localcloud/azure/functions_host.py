"""The Functions host's process: `python -m localcloud.azure.functions_host --root DIR`.

Reads its start message (keys and the name it is reached by) as one JSON line from standard input,
serves the function app in DIR over plain HTTP on a free loopback port, writes one JSON line with
port and functions to the file descriptor `--ready-fd`, and ends when standard input closes, so it
never outlives the process that started it. Everything it and the app print is the host's log.

It imitates Azure's host where an app can tell: routes, methods and auth levels from the indexed
metadata, routePrefix and functionTimeout from host.json, lower-case header names, empty query
values dropped, an absolute URL, and a failed handler as HTTP 500 with an empty body.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import json
import logging
import os
import sys
import threading
import time
import uuid
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from localcloud.azure import worker
from localcloud.azure.routing import Route, Routes, compile_template, decode_path
from localcloud.wire.web import Request, Response, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("Host")

DEFAULT_PREFIX = "api"
# Flex Consumption's default is 30 minutes; host.json's functionTimeout replaces it.
DEFAULT_TIMEOUT = 30 * 60.0
HOMEPAGE = b"<!DOCTYPE html><title>Your Function App is up and running</title>\n"


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What host.json says, as far as it decides anything here."""

    route_prefix: str
    timeout: float
    """Seconds that one invocation may take."""


class Host:
    """The function app behind HTTP. `keys`: key name (`master`, `default`, a function) to key."""

    def __init__(
        self,
        functions: tuple[worker.Function, ...],
        config: HostConfig,
        keys: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._functions = {function.name: function for function in functions}
        self._routes = Routes(_routes(functions, config.route_prefix))
        self._config = config
        self._keys = keys
        self._loop = loop

    def site(self, request: Request) -> Response:
        """Answer one request as Azure's host would."""
        found = self._routes.find(request.method, request.path)
        if found is None:
            return _unhandled(request.path)
        if not self._allowed(found.route, request):
            return Response(401)
        call = worker.HttpInvocation(
            method=request.method,
            url=_url(request),
            headers=_headers(request),
            query=_query(request),
            params=found.params,
            body=request.body,
        )
        return self._run(found.route, call)

    def _allowed(self, route: Route, request: Request) -> bool:
        if route.level == "ANONYMOUS":
            return True
        presented = request.headers.get("x-functions-key") or request.params.get("code", "")
        names = ("master",) if route.level == "ADMIN" else ("master", "default", route.function)
        accepted = [self._keys[name] for name in names if self._keys.get(name)]
        return any(hmac.compare_digest(presented.encode(), key.encode()) for key in accepted)

    def _run(self, route: Route, call: worker.HttpInvocation) -> Response:
        function = self._functions[route.function]
        invocation, started = uuid.uuid4(), time.monotonic()
        log.info("Executing 'Functions.%s' (Id=%s)", route.function, invocation)
        running = asyncio.run_coroutine_threadsafe(
            worker.invoke_http(function, route.parameter, call), self._loop
        )
        outcome = "Failed"
        try:
            answer = running.result(self._config.timeout)
            outcome = "Succeeded"
        except FutureTimeoutError:
            running.cancel()
            log.error("Timeout value of %s s was exceeded", self._config.timeout)  # noqa: TRY400
            return Response(500)
        except worker.WorkerError as failure:
            # Azure's host logs the handler's exception text; an app that puts a secret there leaks.
            log.error("Executed 'Functions.%s' (Failed): %s", route.function, failure)  # noqa: TRY400
            return Response(500)
        finally:
            spent = round((time.monotonic() - started) * 1000)
            summary = (route.function, outcome, invocation, spent)
            log.info("Executed 'Functions.%s' (%s, Id=%s, Duration=%dms)", *summary)
        return Response(answer.status, answer.body, answer.headers)


def read_host_json(root: Path) -> HostConfig:
    """host.json of the function app; ValueError when it is not version 2.0 or not readable."""
    path = root / "host.json"
    settings = json.loads(path.read_text())
    if settings.get("version") != "2.0":
        raise ValueError(f"{path}: version must be 2.0")
    prefix = settings.get("extensions", {}).get("http", {}).get("routePrefix", DEFAULT_PREFIX)
    return HostConfig(prefix, _seconds(settings.get("functionTimeout")))


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stdout,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    start = json.loads(sys.stdin.readline())
    asyncio.run(_serve(options.root.resolve(), start, options.ready_fd))


async def _serve(root: Path, start: Mapping[str, Any], ready_fd: int) -> None:
    config = read_host_json(root)
    functions = await worker.load(root)
    host = Host(functions, config, start["keys"], asyncio.get_running_loop())
    server = Server(host.site).start()
    ready = {"port": server.port, "functions": [function.name for function in functions]}
    with os.fdopen(ready_fd, "w") as pipe:
        pipe.write(json.dumps(ready) + "\n")
    parent_gone = asyncio.Event()
    threading.Thread(
        target=_wait_for_end, args=(asyncio.get_running_loop(), parent_gone), daemon=True
    ).start()
    await parent_gone.wait()
    # Without the usual goodbyes: a handler that still runs must not keep the process alive.
    sys.stdout.flush()
    os._exit(0)


def _wait_for_end(loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
    while sys.stdin.readline():
        continue
    loop.call_soon_threadsafe(ended.set)


def _routes(functions: tuple[worker.Function, ...], prefix: str) -> list[Route]:
    routes = []
    for function in functions:
        binding = function.trigger("httpTrigger")
        if binding is not None:
            routes.append(
                Route(
                    function=function.name,
                    parameter=binding["name"],
                    methods=frozenset(str(m).upper() for m in binding.get("methods") or ()),
                    level=str(binding.get("authLevel") or "FUNCTION").upper(),
                    pattern=compile_template(prefix, binding.get("route", function.name)),
                )
            )
    return routes


def _unhandled(path: str) -> Response:
    if path not in ("", "/"):
        return Response(404)
    disabled = os.environ.get("AzureWebJobsDisableHomepage", "")  # noqa: SIM112 - Azure's name
    if disabled.lower() == "true":
        return Response(204)
    return Response(200, HOMEPAGE, (("Content-Type", "text/html"),))


def _url(request: Request) -> str:
    # The host shows the path decoded and the query as it came.
    scheme = request.headers.get("X-Forwarded-Proto", "http").split(",")[0].strip()
    query = f"?{request.query}" if request.query else ""
    return f"{scheme}://{request.headers.get('Host')}{decode_path(request.path)}{query}"


def _headers(request: Request) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for name, value in request.headers.fields:
        values.setdefault(name.lower(), []).append(value)
    return {name: ",".join(found) for name, found in values.items()}


def _query(request: Request) -> dict[str, str]:
    # ASP.NET joins repeated names, whatever their case; the host then drops empty values.
    names: dict[str, str] = {}
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        names.setdefault(name.lower(), name)
        values.setdefault(name.lower(), []).append(value)
    joined = {names[key]: ",".join(found) for key, found in values.items()}
    return {name: value for name, value in joined.items() if value}


def _seconds(timeout: str | None) -> float:
    if timeout is None:
        return DEFAULT_TIMEOUT
    hours, minutes, seconds = timeout.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


if __name__ == "__main__":
    main()
