"""The Azure function in a process of its own: every request is answered and recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Nothing is configured, so what needs settings ends as a misconfiguration. Standard output takes
# every line but those that hold `full`.
ASK = """
import io, json, logging, sys
import azure.functions as func
from functions.azure import api

class Context:
    invocation_id = "id"

class Output(io.StringIO):
    held = ""
    def write(self, text):
        if at == "write" and full in text:
            raise BrokenPipeError("the host is gone")
        self.held = text
        return real.write(text)
    def flush(self):
        if at == "flush" and full in self.held:
            raise BrokenPipeError("the host is gone")

class Failing(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no log today")

url, path, headers, full, at, level = json.load(sys.stdin)
logging.basicConfig(stream=sys.stderr, format="%(message)s", level=level)
if level == "ERROR":
    logging.getLogger().addHandler(Failing())
real, sys.stdout = sys.stdout, Output()
door = api.api_door.build().get_user_function()
params = {"path": path} if path else {}
asked = func.HttpRequest("GET", url, headers=headers, params={}, route_params=params, body=b"")
status = door(asked, Context()).status_code
sys.stdout = real
real.write(json.dumps({"status": status}) + "\\n")
"""


def run(
    path: str = "healthz",
    url: str = "https://vend.example/healthz",
    headers: dict[str, str] | None = None,
    full: str = "",
    at: str = "",
    level: str = "INFO",
) -> tuple[list[dict[str, Any]], int, str]:
    """The records on standard output, the answer's status, and what the loggers wrote; `at` (a
    write or a flush) the stream does not take what has `full`.
    """
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", ASK],
        input=json.dumps([url, path, headers or {}, full, at, level]),
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *records, answered = map(json.loads, done.stdout.splitlines())
    return [record["audit"] for record in records], answered["status"], done.stderr


@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_no_log_level_and_no_failing_handler_loses_a_record(level: str) -> None:
    (record,), status, _ = run(level=level)
    assert (record["outcome"], status) == ("answered", 200)


def test_a_record_that_the_host_does_not_take_is_none() -> None:
    for at in ("write", "flush"):
        records, status, logged = run(full='"audit"', at=at)
        assert (len(records), status) == (at == "flush", 200)
        assert "was not taken: BrokenPipeError" in logged


@pytest.mark.parametrize("url", ["http://[.]/healthz", "http://[/healthz"])
def test_a_host_header_that_is_no_host_is_answered_and_recorded(url: str) -> None:
    (record,), status, _ = run(url=url)
    assert (record["route"], record["outcome"], status) == ("/healthz", "answered", 200)


def test_the_path_is_the_route_parameter_which_the_host_has_decoded_once() -> None:
    for path in ("%68ealthz", "healthz/", "/healthz", "HEALTHZ", "x?y=/healthz", ""):
        (record,), status, _ = run(path)
        assert (record["route"], status) == ("", 404)


@pytest.mark.parametrize(
    ("forwarded", "source"),
    [
        ("203.0.113.9:51234", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9:51234", "203.0.113.9"),
        ("1.2.3.4, 203.0.113.9", "203.0.113.9"),
        ("[2001:db8::9]:51234", "2001:db8::9"),
        ("2001:db8::9", "2001:db8::9"),
        ("", ""),
        ("for=evil\n", "[malformed, length 8]"),
    ],
)
def test_the_source_is_what_the_front_end_saw_and_no_hop_that_a_caller_wrote(
    forwarded: str, source: str
) -> None:
    (record,), _, _ = run(headers={"X-Forwarded-For": forwarded, "User-Agent": "etl/1"})
    assert (record["source"], record["user_agent"]) == (source, "etl/1")
    assert record["platform_request_id"] == "id"


def test_host_json_lets_the_records_through() -> None:
    levels = json.loads((ROOT / "host.json").read_text())["logging"]["logLevel"]
    assert levels["Host.Function.Console"] == "Information"
