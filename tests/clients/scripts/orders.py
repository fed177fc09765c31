"""How the scripts beside this file are driven: an order a line on standard input, an answer a line.

An order is a JSON object, ``{"do": "upload", …}``; its answer is ``{"result": …}``, or
``{"error": "…"}`` with what the client raised. The scripts run in the clients' own environment and
know nothing of this project.
"""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def serve(operations: Mapping[str, Callable[..., Any]]) -> None:
    """Carry out orders until standard input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"result": operations[order.pop("do")](**order)}
        except Exception as failure:  # noqa: BLE001 -- whatever a client raises is its answer
            answer = {"error": f"{type(failure).__name__}: {failure}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
