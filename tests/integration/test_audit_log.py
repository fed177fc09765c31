"""The audit log as both functions write it: it verifies, finds tokens, and takes no dictation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.callers import Caller
from tests.canary import logs_of
from tokenvend.cli import main
from tokenvend.cli.records import records_in

if TYPE_CHECKING:
    from pathlib import Path

    from localcloud.cloud import Cloud

FORGED = json.dumps(
    {
        "message": "audit",
        "audit": {
            "instance": "forged",
            "schema": 1,
            "sequence": 1,
            "previous": "0" * 64,
            "hash": "0" * 64,
            "request_id": "forged",
        },
    }
)


def exported(cloud: Cloud, directory: Path) -> str:
    path = directory / "exported.log"
    path.write_text("\n".join(logs_of(cloud).values()))
    return str(path)


def audit(*arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(main, ["audit", *arguments, "--json"])
    return result.exit_code, json.loads(result.output)


@pytest.mark.parametrize("name", ["etl", "reporting"])
def test_a_leaked_token_names_its_request_and_its_caller(
    cloud: Cloud, tmp_path: Path, name: str
) -> None:
    answers = [
        Caller(cloud.environment_for(name)).ask(
            "POST", "/v1/access-token", b'{"lifetime": "1234s"}'
        )
        for _ in range(2)
    ]
    assert answers[0].json()["access_token"] == answers[1].json()["access_token"]
    (tmp_path / "token").write_text(answers[0].json()["access_token"])
    log = exported(cloud, tmp_path)
    code, found = audit("find", "--token-file", str(tmp_path / "token"), log)
    assert code == 0
    assert [each["request_id"] for each in found] == [
        answer.headers["X-Request-Id"] for answer in answers
    ]
    assert [each["cache"] for each in found] == ["miss", "hit"]
    assert {each["grant"] for each in found} == {answers[0].json()["grant"]}
    assert all(each["intact"] and each["caller"] for each in found)
    code, told = audit("verify", log)
    assert (code, told["problems"]) == (0, [])
    assert told["records"] >= 2


@pytest.mark.parametrize("name", ["etl", "reporting"])
def test_a_record_says_where_a_request_came_from(cloud: Cloud, name: str) -> None:
    headers = {
        "User-Agent": "etl/1.0",
        "X-Forwarded-For": "1.2.3.4",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    answer = Caller(cloud.environment_for(name)).ask("GET", "/v1/grants", headers=headers)
    lines = "\n".join(logs_of(cloud).values()).splitlines()
    (record,) = (
        record
        for record in records_in(lines)
        if record["request_id"] == answer.headers["X-Request-Id"]
    )
    assert (record["source"], record["user_agent"]) == ("127.0.0.1", "etl/1.0")
    assert record["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert record["route"] == "/v1/grants"
    assert record["platform_request_id"]


@pytest.mark.parametrize("name", ["etl", "reporting"])
def test_the_line_that_mends_a_missing_binding_names_the_pool(
    cloud: Cloud, tmp_path: Path, name: str
) -> None:
    refused = Caller(cloud.environment_for(name)).ask(
        "POST", "/v1/access-token", b'{"grant": "unbound"}'
    )
    code, found = audit(
        "find", "--request-id", refused.json()["request_id"], exported(cloud, tmp_path)
    )
    assert code == 0
    assert [each["outcome"] for each in found] == ["upstream_refused"]
    pool = "projects/123456789012/locations/global/workloadIdentityPools/tokenvend"
    assert f"principalSet://iam.googleapis.com/{pool}/attribute" in found[0]["reason"]


@pytest.mark.parametrize("name", ["etl", "reporting", "stranger", "outsider"])
def test_what_a_caller_sends_never_becomes_a_line_of_the_log(
    cloud: Cloud, tmp_path: Path, name: str
) -> None:
    ask = Caller(cloud.environment_for(name)).ask
    for text in (f"x\n{FORGED}", f"x\r\n{FORGED}\r\n", f"x\x1b[2J\u2028{FORGED}"):
        ask("POST", "/v1/id-token", json.dumps({"audience": text}).encode())
        ask("POST", "/v1/access-token", json.dumps({"grant": text}).encode())
        ask("POST", "/v1/access-token", text.encode())
    ask("GET", "/v1/%0A%7B%22message%22:%22audit%22%7D")
    log = exported(cloud, tmp_path)
    code, told = audit("verify", log)
    assert (code, told["problems"]) == (0, [])
    for text in logs_of(cloud).values():
        assert "\x1b" not in text
        assert not any(line.startswith(FORGED[:50]) for line in text.splitlines())
