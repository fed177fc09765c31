"""Runs one Lambda handler in this process: vends for real once, then times vends of what it keeps.

`vending_worker.py MODULE`; orders are JSON lines: first an event, then how many vends to time.
Standard library alone, because it also runs with another checkout's interpreter.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from types import SimpleNamespace
from typing import Any

FUNCTION_ARN = "arn:aws:lambda:us-east-1:111122223333:function:tokenvend"


def main() -> int:
    """Answer orders until there are no more."""
    # The handler logs to standard output, as on Lambda; the answers keep the pipe to themselves.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    start = time.perf_counter_ns()
    handler = importlib.import_module(sys.argv[1]).handler
    init = time.perf_counter_ns() - start
    event: dict[str, Any] = {}
    token = ""
    for line in sys.stdin:
        order = json.loads(line)
        if isinstance(order, dict):
            event = order
            first, answer = _vend(handler, event, 0)
            token, refusal = _token(answer), ""
            if not token:
                refusal = answer["body"]
            reply: dict[str, Any] = {"init_ns": init, "first_ns": first, "refusal": refusal}
        else:
            took = [0] * order
            for number in range(order):
                took[number], answer = _vend(handler, event, number)
            reply = {"ns": took, "same": _token(answer) == token}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    return 0


def _vend(handler: Any, event: dict[str, Any], number: int) -> tuple[int, dict[str, Any]]:
    """Nanoseconds of one vend, and its answer. Every request has an id of its own."""
    request_id = f"{number:08x}-0000-4000-8000-000000000000"
    event["requestContext"]["requestId"] = request_id
    context = SimpleNamespace(
        invoked_function_arn=FUNCTION_ARN,
        aws_request_id=request_id,
        function_name="tokenvend",
        function_version="$LATEST",
        memory_limit_in_mb=512,
        get_remaining_time_in_millis=lambda: 29_000,
    )
    start = time.perf_counter_ns()
    answer = handler(event, context)
    return time.perf_counter_ns() - start, answer


def _token(answer: dict[str, Any]) -> str:
    return str(json.loads(answer["body"]).get("access_token", ""))


if __name__ == "__main__":
    raise SystemExit(main())
