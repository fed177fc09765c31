"""The AWS function: API Gateway (HTTP and REST), Function URL and direct invoke, one handler.

An event becomes an `HttpRequest`; everything that is decided is decided in the core.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from snapshot_restore_py import register_after_restore  # of Lambda's runtime, as boto3 is

from functions.aws import events
from tokenvend import redaction
from tokenvend.app.aws import build_aws
from tokenvend.errors import InvalidRequest
from tokenvend.http import outcome_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from tokenvend.model import HttpRequest

logger = Logger(service="tokenvend")
redaction.install(logging.getLogger(), logging.getLogger("tokenvend"))
metrics = Metrics(namespace="tokenvend", service="tokenvend")


class LogSink:
    """Audit records as structured log lines, and what they count as metrics (EMF)."""

    def write(self, record: Mapping[str, Any]) -> None:
        """One line and one metric set for each record. Raises OSError when it was not taken."""
        # Not by the logger: it drops what its level leaves out, and hides from whoever asks that a
        # line could not be written. ASCII, because a forged event may hold what UTF-8 cannot.
        line = {"level": "INFO", "message": "audit", "timestamp": record["time"]}
        sys.stdout.write(json.dumps({**line, "service": "tokenvend", "audit": record}) + "\n")
        sys.stdout.flush()
        metrics.add_dimension(name="route", value=record["route"] or "none")
        metrics.add_metric(name=record["outcome"], unit=MetricUnit.Count, value=1)
        metrics.add_metric(
            name="latency",
            unit=MetricUnit.Microseconds,
            value=record["durations_us"]["total"],
        )
        if record["policy_checked_at"]:
            metrics.add_metric(
                name="policy_age",
                unit=MetricUnit.Seconds,
                value=max(0, int(time.time()) - record["policy_checked_at"]),
            )
            metrics.add_metadata(key="policy", value=record["policy"])
        if record["cache"]:
            metrics.add_metric(name=f"cache_{record['cache']}", unit=MetricUnit.Count, value=1)
        metrics.flush_metrics()


api = build_aws(os.environ, sink=LogSink(), report=logger.warning)


register_after_restore(api.restored)


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Lambda's entry: a gateway's event -> its answer; a direct invoke -> the answer's body.

    A direct invoke that fails raises, so that Step Functions can match the error's class name.
    """
    arn = context.invoked_function_arn
    if events.is_direct(event):
        request = _readable(lambda: events.from_direct(event, arn, context.aws_request_id))
        answer: dict[str, Any] = outcome_of(api.handle(request))
        return answer
    response = api.handle(_readable(lambda: events.from_gateway(event, arn)))
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }


def _readable(read: Callable[[], HttpRequest]) -> HttpRequest | InvalidRequest:
    """An unreadable event is answered and recorded like any other request."""
    try:
        return read()
    except InvalidRequest as unreadable:
        return unreadable
