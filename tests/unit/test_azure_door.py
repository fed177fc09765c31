"""The Azure function in a process of its own: every request is answered and recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Nothing is configured, so whatever can be read ends as a misconfiguration.
ASK = """
import logging, sys
import azure.functions as func
from functions.azure import api

class Context:
    invocation_id = "id"

logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
door = api.api_door.build().get_user_function()
asked = func.HttpRequest("GET", sys.argv[1], headers={}, params={}, route_params={}, body=b"")
print(door(asked, Context()).status_code)
"""


@pytest.mark.parametrize(
    ("url", "status", "outcome"),
    [
        ("http://vend.example/healthz", 500, "misconfigured"),
        ("http://[.]/healthz", 400, "invalid_request"),
        ("http://[/healthz", 400, "invalid_request"),
    ],
)
def test_a_host_header_that_is_no_host_is_answered_and_recorded(
    url: str, status: int, outcome: str
) -> None:
    environ = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = subprocess.run(  # noqa: S603 -- our own interpreter and script
        [sys.executable, "-c", ASK, url], env=environ, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *_, record, answered = done.stdout.splitlines()
    assert json.loads(record)["audit"]["outcome"] == outcome
    assert int(answered) == status
