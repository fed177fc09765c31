"""The AWS function's metrics: one set in CloudWatch's embedded format for each request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.callers import Caller
from tests.canary import logs_of

if TYPE_CHECKING:
    from localcloud.cloud import Cloud


def metric_sets(cloud: Cloud) -> list[dict[str, Any]]:
    """Every EMF line that the function has written."""
    lines = [
        line
        for name, text in logs_of(cloud).items()
        if name.startswith("lambda")
        for line in text.splitlines()
        if '"_aws"' in line
    ]
    return [json.loads(line) for line in lines]


def test_outcome_latency_cache_and_policy_are_counted(cloud: Cloud) -> None:
    before = len(metric_sets(cloud))
    caller = Caller(cloud.environment_for("etl"))
    grants = caller.ask("GET", "/v1/grants").json()
    caller.token("/v1/access-token", lifetime="3001s")
    Caller(cloud.environment_for("stranger")).ask("POST", "/v1/access-token", b"{}")
    answered, vended, denied = metric_sets(cloud)[before:]
    assert (answered["route"], vended["route"]) == ("/v1/grants", "/v1/access-token")
    assert vended["vended"] == [1.0]
    assert vended["cache_miss"] == [1.0]
    assert denied["denied"] == [1.0]
    assert "cache_miss" not in denied
    for each in (answered, vended, denied):
        (directive,) = each["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "tokenvend"
        assert directive["Dimensions"] == [["service"], ["service", "route"]]
        assert each["service"] == "tokenvend"
        assert each["latency"][0] > 0
        assert each["policy"] == grants["policy"]["digest"]
        assert 0 <= each["policy_age"][0] <= 120
