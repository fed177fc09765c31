"""No token, key, header or upstream body in any log: the logs of everything else are searched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from localcloud.wire.faults import Fault, Kind
from tests.callers import Caller
from tests.canary import leaks, logs_of, secrets_of

if TYPE_CHECKING:
    from localcloud.cloud import Cloud

ORDERS = "https://orders-4x7k2q9d1a-uc.a.run.app"


@pytest.mark.parametrize(
    "text",
    [
        "token ya29.c.abcdefghijklmnopqrstuvwxyz",
        "jwt eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9mLXRva2Vu",
        "Authorization: AWS4-HMAC-SHA256 Credential=A, Signature=" + "0" * 64,
        "authorization: Bearer abcdefghijklmnopqrst",
        "my planted secret",
    ],
)
def test_the_canary_sings_when_a_secret_is_planted(text: str) -> None:
    assert leaks(text, ["planted secret"])


@pytest.mark.parametrize("name", ["etl", "stranger", "reporting", "outsider"])
def test_no_path_logs_a_secret(cloud: Cloud, name: str) -> None:
    caller = Caller(cloud.environment_for(name))
    ask = caller.ask
    ask("POST", "/v1/access-token", b"{}")
    ask("POST", "/v1/id-token", json.dumps({"audience": ORDERS}).encode())
    ask("GET", "/v1/grants")
    ask("POST", "/v1/access-token", b'{"grant": "unbound"}')
    ask("POST", "/v1/access-token", b'{"service_account": "my planted secret"}')
    ask("POST", "/v1/access-token?token=my+planted+secret", b"my planted secret")
    ask("GET", "/v1/my planted secret", headers={"X-Planted": "my planted secret"})
    logs = logs_of(cloud)
    assert any("lambda" in file for file in logs)
    assert len(logs) >= 2
    for file, text in logs.items():
        assert leaks(text, [*secrets_of(cloud), "planted secret", "planted+secret"]) == [], file


IAM = "iamcredentials.googleapis.com"


@pytest.mark.parametrize("name", ["etl", "reporting"])
@pytest.mark.parametrize(
    ("number", "fault"),
    list(
        enumerate(
            [
                Fault(IAM, Kind.GARBAGE),
                Fault(IAM, Kind.TRUNCATED),
                Fault(IAM, Kind.RESET),
                Fault(IAM, Kind.STATUS, status=503),
                Fault(IAM, Kind.STATUS, status=500, retry_after="1"),
            ]
        )
    ),
    ids=["garbage", "truncated", "reset", "503", "500"],
)
def test_an_upstreams_bad_minute_is_told_honestly_and_leaks_nothing(
    cloud: Cloud, name: str, number: int, fault: Fault
) -> None:
    # A lifetime that nobody else asks for, so that no cache answers.
    body = json.dumps({"lifetime": f"{2000 + number}s"}).encode()
    cloud.faults.add(fault)
    try:
        answer = Caller(cloud.environment_for(name)).ask("POST", "/v1/access-token", body)
    finally:
        cloud.faults.clear()
    assert answer.status_code == 503
    assert answer.json()["code"] == "upstream_unavailable"
    assert int(answer.headers["Retry-After"]) >= 1
    assert leaks(answer.text) == []
    for file, text in logs_of(cloud).items():
        assert leaks(text, secrets_of(cloud)) == [], file


@pytest.mark.parametrize("name", ["etl", "reporting"])
def test_a_spent_quota_is_a_429_with_its_wait(cloud: Cloud, name: str) -> None:
    cloud.faults.add(Fault(IAM, Kind.STATUS, status=429, retry_after="17"))
    try:
        answer = Caller(cloud.environment_for(name)).ask(
            "POST", "/v1/access-token", b'{"lifetime": "2100s"}'
        )
    finally:
        cloud.faults.clear()
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "17"
