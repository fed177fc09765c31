"""The AWS function: API Gateway (HTTP and REST), Function URL and direct invoke, one handler.

An event becomes an `HttpRequest`; everything that is decided is decided in the core.
"""

from __future__ import annotations

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
from tokenvend.app.common import Machine

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

    from tokenvend.audit.record import AuditRecord

logger = Logger(service="tokenvend")
redaction.install(logging.getLogger(), logging.getLogger("tokenvend"))
metrics = Metrics(namespace="tokenvend", service="tokenvend")


def write_record(line: str, record: AuditRecord) -> None:
    """One structured log line for each record, and one set of metrics (EMF).

    Raises OSError when the line was not taken. A metric that fails is reported and fails nothing:
    the record is what counts.
    """
    try:
        # Not by the logger: it drops what its level leaves out, and hides from whoever asks that a
        # line could not be written.
        sys.stdout.write(
            f'{{"level":"INFO","message":"audit","timestamp":"{record.time}",'
            f'"service":"tokenvend","audit":{line}}}\n'
        )
        sys.stdout.flush()
    except Exception:
        _count(record, {"audit_failed": (MetricUnit.Count, 1)})
        raise
    counted = {
        record.outcome: (MetricUnit.Count, 1),
        "latency": (MetricUnit.Microseconds, record.steps.durations["total"]),
    }
    if record.policy_checked_at:
        age = max(0, int(time.time()) - record.policy_checked_at)
        counted["policy_age"] = (MetricUnit.Seconds, age)
    if record.bridged:
        counted["bridged"] = (MetricUnit.Count, 1)
    if record.cache:
        counted[f"cache_{record.cache}"] = (MetricUnit.Count, 1)
    _count(record, counted)


def _count(record: AuditRecord, counted: dict[str, tuple[MetricUnit, int]]) -> None:
    """One set of metrics, by service and by service and route."""
    try:
        metrics.add_dimensions(service="tokenvend", route=record.route or "none")
        for name, (unit, value) in counted.items():
            metrics.add_metric(name=name, unit=unit, value=value)
        if record.policy:
            metrics.add_metadata(key="policy", value=record.policy)
        metrics.flush_metrics()
    except Exception as failure:  # noqa: BLE001 -- what was recorded stays a success
        # Or the next request's set would hold this one's.
        metrics.clear_metrics()
        logger.warning("metrics were not written: %s", type(failure).__name__)


api = build_aws(os.environ, Machine(write_record, logger.warning))
register_after_restore(api.endpoint.restored)


def handler(event: Any, context: LambdaContext) -> Any:
    """Lambda's entry: a gateway's event -> its answer; a direct invoke -> the answer's body.

    A direct invoke that fails raises, so that Step Functions can match the error's class name.
    """
    request = events.request_of(event, context.invoked_function_arn, context.aws_request_id)
    if events.is_direct(event):
        return api.invoke(request)
    response = api.handle(request)
    return {
        "statusCode": response.status,
        "headers": dict(response.headers),
        "body": response.body.decode(),
        "isBase64Encoded": False,
    }
