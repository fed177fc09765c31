"""The Functions host around a small app of its own, in a real child process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localcloud.azure import FunctionsHost, FunctionsHostError
from localcloud.azure.routing import BadRouteError, Route, Routes, compile_template
from localcloud.wire.web import Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APP = Path(__file__).with_name("azure_app")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsHost]:
    logs = tmp_path_factory.mktemp("logs")
    settings = {"TOKENVEND_SETTING": "given"}
    running = FunctionsHost(APP, app="tokenvend", log_directory=logs, settings=settings).start()
    yield running
    running.stop()


def call(
    host: FunctionsHost,
    target: str,
    *headers: tuple[str, str],
    method: str = "GET",
    body: bytes = b"",
) -> Response:
    return host(Request(method, host.host, target, Headers(headers), body, peer="127.0.0.9"))


def echoed(response: Response) -> dict[str, Any]:
    assert response.status == 200, response
    seen: dict[str, Any] = json.loads(response.body)
    return seen


def test_request_reaches_the_handler_as_azure_hands_it_over(host: FunctionsHost) -> None:
    answer = call(
        host,
        "/v1/echo/bob?a=1&A=2&empty=&b=%20",
        ("X-Mixed-Case", "One"),
        ("x-mixed-case", "Two"),
        ("X-Functions-Key", "somebody's key"),
        ("X-MS-CLIENT-PRINCIPAL", "spoofed"),
        method="POST",
        body=b"\x00\xffbytes",
    )
    seen = echoed(answer)
    assert seen["method"] == "POST"
    assert seen["url"] == "https://tokenvend.azurewebsites.net/v1/echo/bob?a=1&A=2&empty=&b=%20"
    assert seen["params"] == {"a": "1,2", "b": " "}
    assert seen["route_params"] == {"name": "bob"}
    assert seen["body"] == "\x00\xffbytes"
    assert seen["headers"]["x-mixed-case"] == "One,Two"
    assert seen["headers"]["x-functions-key"] == "somebody's key"
    assert seen["headers"]["x-ms-client-principal"] == "spoofed"
    assert dict(answer.headers)["X-Shown"] == "yes"


def test_front_end_sets_the_forwarding_headers_itself(host: FunctionsHost) -> None:
    spoofed = [("X-Forwarded-Proto", "http"), ("X-Forwarded-For", "1.2.3.4"), ("Host", "evil")]
    seen = echoed(call(host, "/v1/echo/bob", *spoofed))
    assert seen["url"] == "https://tokenvend.azurewebsites.net/v1/echo/bob"
    assert seen["headers"]["x-forwarded-for"] == "1.2.3.4, 127.0.0.9:49152"
    assert seen["headers"]["x-forwarded-proto"] == "https"


ROUTES = {
    "an unknown route": ("GET", "/v1/nowhere", 404, b""),
    "outside routePrefix": ("GET", "/echo/bob", 404, b""),
    "a known route with another method": ("DELETE", "/v1/echo/bob", 404, b""),
    "a trailing slash": ("GET", "/v1/plain/", 200, b"just text"),
    "another case": ("GET", "/V1/PLAIN", 200, b"just text"),
    "literals around a parameter": ("POST", "/v1/accounts/a%40b.c:sign", 200, b"a@b.c"),
    "an encoded slash in a segment": ("POST", "/v1/accounts/..%2Fa:sign", 200, b"..%2Fa"),
    "a catch-all": ("GET", "/v1/files/a/b", 200, b"a/b"),
    "a catch-all without rest": ("GET", "/v1/files", 200, b"(none)"),
    "a raw non-ASCII byte in the path": ("GET", "/v1/files/\xe9", 400, b""),
    "a constraint that holds": ("GET", "/v1/items/12", 200, b"12"),
    "a constraint that fails": ("GET", "/v1/items/twelve", 404, b""),
    "a handler that raises": ("GET", "/v1/fails", 500, b""),
    "a handler that returns nothing": ("GET", "/v1/nothing", 500, b""),
    "a function key that is missing": ("GET", "/v1/keyed", 401, b""),
    "a function key that is wrong": ("GET", "/v1/keyed?code=wrong", 401, b""),
}


@pytest.mark.parametrize("case", ROUTES)
def test_host_answers(host: FunctionsHost, case: str) -> None:
    method, target, status, body = ROUTES[case]
    answer = call(host, target, method=method)
    assert (answer.status, answer.body) == (status, body)


def test_root_shows_the_homepage(host: FunctionsHost) -> None:
    assert b"up and running" in call(host, "/").body


@pytest.mark.parametrize(
    ("target", "key", "status"),
    [
        ("/v1/keyed", "default", 200),
        ("/v1/keyed", "master", 200),
        ("/v1/admin-only", "default", 401),
        ("/v1/admin-only", "master", 200),
    ],
)
def test_keys_open_what_they_are_for(
    host: FunctionsHost, target: str, key: str, status: int
) -> None:
    assert call(host, target, ("x-functions-key", host.keys[key])).status == status
    assert call(host, f"{target}?code={host.keys[key]}").status == status


def test_handlers_exception_goes_to_the_log_and_not_to_the_caller(host: FunctionsHost) -> None:
    answer = call(host, "/v1/fails")
    assert answer.body == b""
    assert "the text that belongs in the log" in host.log_path.read_text()


def test_query_never_enters_the_log(host: FunctionsHost) -> None:
    call(host, "/v1/keyed?code=canary-of-the-query")
    call(host, "/v1/echo/bob?code=canary-of-the-query", ("x-functions-key", "canary-of-the-header"))
    assert "canary" not in host.log_path.read_text()


def test_environment_is_azures_and_the_settings(host: FunctionsHost) -> None:
    seen = json.loads(call(host, "/v1/environment").body)
    assert seen["WEBSITE_HOSTNAME"] == "tokenvend.azurewebsites.net"
    assert seen["FUNCTIONS_WORKER_RUNTIME"] == "python"
    assert seen["TOKENVEND_SETTING"] == "given"
    assert not set(seen.values()) & set(host.keys.values())
    assert "VIRTUAL_ENV" not in seen


def test_sync_handlers_run_side_by_side(host: FunctionsHost) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(host, "/v1/meet"), range(8)))
    assert [answer.body for answer in answers] == [b"met"] * 8


def test_function_timeout_of_host_json_ends_the_call(host: FunctionsHost) -> None:
    assert call(host, "/v1/slow").status == 500
    assert "Timeout value of 1.0 s was exceeded" in host.log_path.read_text()


BROKEN = {
    "no function_app.py": (None, '{"version": "2.0"}', "0 functions found"),
    "no function in it": (
        "import azure.functions as func\napp = func.FunctionApp()\n",
        '{"version": "2.0"}',
        "0 functions found",
    ),
    "an app that cannot be imported": (
        "import a_module_that_is_not_there\n",
        '{"version": "2.0"}',
        "a_module_that_is_not_there",
    ),
    "host.json of another version": (None, '{"version": "1.0"}', "version must be 2.0"),
    "a route with a leading slash": (
        (
            "import azure.functions as func\napp = func.FunctionApp()\n"
            "@app.route('/x')\ndef x(req: func.HttpRequest) -> str:\n    return ''\n"
        ),
        '{"version": "2.0"}',
        "cannot start with",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_app_that_azure_would_not_serve_fails_to_start(tmp_path: Path, case: str) -> None:
    source, settings, text = BROKEN[case]
    (tmp_path / "host.json").write_text(settings)
    if source is not None:
        (tmp_path / "function_app.py").write_text(source)
    host = FunctionsHost(tmp_path, app="broken", log_directory=tmp_path, settings={})
    with pytest.raises(FunctionsHostError, match=text):
        host.start()


def test_stopped_app_answers_502(tmp_path: Path) -> None:
    host = FunctionsHost(APP, app="tokenvend", log_directory=tmp_path, settings={}).start()
    assert call(host, "/v1/plain").status == 200
    host.stop()
    assert call(host, "/v1/plain").status == 502


def test_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "from localcloud.azure import FunctionsHost\n"
        "app, logs = map(pathlib.Path, sys.argv[1:])\n"
        "host = FunctionsHost(app, app='orphan', log_directory=logs, settings={}).start()\n"
        "print(host.port, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", program, str(APP), str(tmp_path)]
    parent = subprocess.run(command, check=False, capture_output=True, timeout=30)  # noqa: S603
    assert parent.returncode == -9
    port = int(parent.stdout)
    assert eventually(lambda: not listens(port))


def eventually(holds: Callable[[], bool]) -> bool:
    for _ in range(200):
        if holds():
            return True
        time.sleep(0.05)
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_functions_are_tried_by_name_as_azure_does() -> None:
    def route(function: str, template: str) -> Route:
        pattern = compile_template("", template)
        return Route(function, "req", frozenset({"GET"}), "ANONYMOUS", pattern)

    routes = Routes([route("z_list", "items/list"), route("a_one", "items/{id}")])
    found = routes.find("GET", "/items/list")
    assert found is not None
    assert found.route.function == "a_one"


@pytest.mark.parametrize(
    "template",
    ["/x", "~x", "admin/x", "runtime/x", "x/{", "x/{a*}", "x/{a:unknown}", "x/{a?}.txt", "a*"],
)
def test_template_that_the_host_rejects_is_refused(template: str) -> None:
    with pytest.raises(BadRouteError):
        compile_template("", template)
