"""The AWS function in a process of its own: what becomes of its audit records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

# Nothing is configured, so every request ends as a misconfiguration; it is recorded all the same.
ASK = """
import json, sys
from functions.aws import api

class Context:
    invoked_function_arn = "arn:aws:lambda:us-east-1:111122223333:function:vend"
    aws_request_id = "id"

event = json.loads(sys.argv[1])
api.handler(event, Context())
"""
EVENT: dict[str, Any] = {
    "version": "2.0",
    "rawPath": "/v1/token",
    "headers": {},
    "requestContext": {"stage": "$default", "http": {"method": "POST"}, "requestId": "id"},
}
# Standard output that takes everything but the audit record.
WRITE = """
import io, sys
from functions.aws import api

class Full(io.StringIO):
    def write(self, text):
        if '"audit"' in text:
            raise OSError("no space left")
        return len(text)

record = {"time": "t", "route": "r", "outcome": "vended", "durations_us": {"total": 1},
          "policy_checked_at": 0, "cache": ""}
sys.stdout = Full()
try:
    api.LogSink().write(record)
except OSError:
    sys.exit(0)
sys.exit("the record counts as written")
"""


def run(script: str, *arguments: str, **environ: str) -> str:
    environ |= {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", script, *arguments],
        env=environ,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(output: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in output.splitlines()]
    return [line["audit"] for line in lines if "audit" in line]


@pytest.mark.parametrize("variable", ["POWERTOOLS_LOG_LEVEL", "AWS_LAMBDA_LOG_LEVEL"])
def test_no_log_level_drops_a_record(variable: str) -> None:
    written = records(run(ASK, json.dumps(EVENT), **{variable: "ERROR"}))
    assert [record["outcome"] for record in written] == ["misconfigured"]


def test_a_forged_event_cannot_make_its_record_unwritable() -> None:
    event = {**EVENT, "requestContext": {**EVENT["requestContext"], "requestId": "\ud800"}}
    (record,) = records(run(ASK, json.dumps(event)))
    assert record["platform_request_id"] == "\ud800"


def test_a_line_that_cannot_be_written_is_no_record() -> None:
    assert records(run(WRITE)) == []
