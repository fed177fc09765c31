"""A handler that shows what reached it, or ends as it is told."""

from __future__ import annotations

import json
import os
import time
from typing import Any


def handler(event: dict[str, Any], context: Any) -> Any:
    order = _order(event)
    match order.get("do"):
        case "raise":
            raise ValueError("as told")
        case "sleep":
            time.sleep(order["seconds"])
        case "exit":
            os._exit(3)
        case "answer":
            return order["result"]
    seen = {
        "event": event,
        "arn": context.invoked_function_arn,
        "name": context.function_name,
        "environment": dict(os.environ),
        "pid": os.getpid(),
        "custom": context.client_context.custom if context.client_context else None,
    }
    if "requestContext" not in event:
        return seen
    headers = {"Content-Type": "application/json", "X-Lab": "yes"}
    return {"statusCode": 200, "headers": headers, "body": json.dumps(seen)}


def _order(event: dict[str, Any]) -> dict[str, Any]:
    if "requestContext" not in event:
        return event
    try:
        found = json.loads(event.get("body") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
