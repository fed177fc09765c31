"""The AWS function in a process of its own: what becomes of its audit records and its metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Nothing is configured, so what needs settings ends as a misconfiguration; it is recorded all the
# same. `output` stands in for standard output, and takes every line but those that hold `full`.
ASK = """
import io, json, sys
from functions.aws import api

class Context:
    invoked_function_arn = "arn:aws:lambda:us-east-1:111122223333:function:vend"
    aws_request_id = "id"

class Output(io.StringIO):
    held = ""
    def write(self, text):
        if at == "write" and full in text:
            raise OSError("no space left")
        self.held = text
        return real.write(text)
    def flush(self):
        if at == "flush" and full in self.held:
            raise OSError("no space left")

real, event, full, at = sys.stdout, json.load(sys.stdin), *sys.argv[1:]
sys.stdout = Output()
answer = api.handler(event, Context())
sys.stdout = real
real.write(json.dumps({"answer": answer}) + "\\n")
"""
EVENT: dict[str, Any] = {
    "version": "2.0",
    "rawPath": "/v1/token",
    "headers": {},
    "requestContext": {"stage": "$default", "http": {"method": "POST"}, "requestId": "id"},
}
HEALTH: dict[str, Any] = {
    **EVENT,
    "rawPath": "/healthz",
    "requestContext": {**EVENT["requestContext"], "http": {"method": "GET"}},
}


def run(event: Any, full: str = "", at: str = "", **environ: str) -> list[dict[str, Any]]:
    """Every line of the log; `at` (a write or a flush) the stream does not take what has `full`."""
    environ |= {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", ASK, full, at],
        input=json.dumps(event),
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def only(name: str, lines: list[dict[str, Any]]) -> list[Any]:
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize("variable", ["POWERTOOLS_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL"])
def test_no_log_level_drops_a_record(variable: str) -> None:
    (record,) = only("audit", run(EVENT, **{variable: "ERROR"}))
    assert record["outcome"] == "misconfigured"


def test_a_forged_event_cannot_make_its_record_unwritable() -> None:
    event = {**EVENT, "requestContext": {**EVENT["requestContext"], "requestId": "\ud800"}}
    (record,) = only("audit", run(event))
    assert record["platform_request_id"] == "[malformed, length 1]"


def test_row_29_a_forged_event_cannot_make_its_record_too_long_to_keep() -> None:
    http = {"method": "POST", "sourceIp": "x" * 400_000}
    gateway = {"stage": "$default", "requestId": "x" * 400_000, "http": http}
    event = {**EVENT, "requestContext": gateway, "headers": {"user-agent": "x" * 400_000}}
    lines = run(event)
    assert max(len(json.dumps(line)) for line in lines) < 16 * 1024
    (record,) = only("audit", lines)
    assert record["source"] == record["platform_request_id"] == "[malformed, length 400000]"
    assert record["user_agent"].endswith("x [cut, length 400000]")


def test_a_line_that_cannot_be_written_is_no_record() -> None:
    for at in ("write", "flush"):
        lines = run(HEALTH, full='"audit"', at=at)
        assert len(only("audit", lines)) == (at == "flush")
        assert only("audit_failed", lines) == [[1.0]]
        assert only("answered", lines) == []
        assert any("was not taken: OSError" in str(line.get("message")) for line in lines)


def test_a_metric_that_cannot_be_written_makes_no_error_of_what_was_recorded() -> None:
    lines = run(HEALTH, full='"_aws"', at="write")
    assert only("answer", lines)[0]["statusCode"] == 200
    assert only("audit", lines)[0]["outcome"] == "answered"
    assert any("metrics were not written: OSError" in str(line.get("message")) for line in lines)


def test_metrics_are_by_service_and_by_service_and_route() -> None:
    (line,) = (line for line in run(HEALTH) if "_aws" in line)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["service"], ["service", "route"]]
    assert directive["Namespace"] == "tokenvend"
    assert (line["service"], line["route"], line["answered"]) == ("tokenvend", "/healthz", [1.0])
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert units == {"answered": "Count", "latency": "Microseconds"}
    (lost,) = (line for line in run(EVENT | {"rawPath": "/nope"}) if "_aws" in line)
    assert (lost["route"], lost["not_found"]) == ("none", [1.0])
