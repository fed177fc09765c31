"""How much API Gateway and Lambda take, how fast, how late and how often."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localcloud.aws import Accounts, Template, gateway
from localcloud.aws.functions import Functions
from localcloud.aws.template import Throttle
from localcloud.aws.throttling import Buckets
from localcloud.cloud import Cloud
from localcloud.wire.web import Headers, Request, Response
from localcloud.world import World
from tests.conformance.aws_lab import own_template, permit, signed, with_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.aws import AccessKey
    from localcloud.wire.web import Site

APP = Path(__file__).with_name("aws_app")
FUNCTION = "tokenvend-Lab"


class Stopped:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Stopped:
    return Stopped()


@pytest.fixture
def template() -> Template:
    return own_template()


def lambdas(clock: Stopped, template: Template, root: Path) -> tuple[Functions, Accounts]:
    """The template's functions, none of them started."""
    accounts = Accounts(World.load().aws, clock)
    return Functions(template, accounts, root=root, log_directory=root, environment={}), accounts


@pytest.fixture
def api(clock: Stopped, template: Template, tmp_path: Path) -> Site:
    """The repository's own API; nothing here reaches its function."""
    return gateway.http_api(template.apis[0], *lambdas(clock, template, tmp_path))


def unsigned(template: Template, path: str = "/v1/grants") -> Request:
    host = template.apis[0].domain
    return Request("GET", host, path, Headers([("Host", host)]))


def test_a_route_is_throttled_by_the_templates_own_numbers(
    api: Site, clock: Stopped, template: Template
) -> None:
    def passed() -> int:
        answers = [api(unsigned(template)) for _ in range(200)]
        refused = [json.loads(answer.body) for answer in answers if answer.status == 429]
        assert refused == [{"message": "Too Many Requests"}] * len(refused)
        return 200 - len(refused)

    assert passed() == 100
    clock.now += 1
    assert passed() == 50
    clock.now += 3600
    assert passed() == 100
    # A clock that is set back fills nothing.
    clock.now -= 3600
    assert passed() == 0


def test_each_route_has_a_bucket_of_its_own(template: Template, clock: Stopped) -> None:
    first, second = (
        replace(route, throttle=Throttle(1, 1.0)) for route in template.apis[0].routes[:2]
    )
    buckets = Buckets()
    assert [buckets.take(first, clock.now) for _ in range(2)] == [True, False]
    assert buckets.take(second, clock.now)
    endless = replace(first, throttle=None)
    assert all(buckets.take(endless, clock.now) for _ in range(1000))


@pytest.mark.parametrize(("size", "status"), [(9_000, 403), (10_300, 431)])
def test_an_http_api_takes_10240_bytes_of_headers(
    api: Site, template: Template, size: int, status: int
) -> None:
    assert api(with_header(unsigned(template), "X-Long", "a" * size)).status == status
    assert api(unsigned(template, f"/v1/grants?a={'a' * size}")).status == status


def test_a_rest_api_takes_no_more(clock: Stopped, template: Template, tmp_path: Path) -> None:
    site = gateway.rest_api(template.apis[0], *lambdas(clock, template, tmp_path))
    for size, status in ((9_000, 403), (10_300, 431)):
        assert (
            site(with_header(unsigned(template, "/prod/"), "X-Long", "a" * size)).status == status
        )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    world = permit(World.load(), "etl", "lambda:*", "arn:aws:lambda:*:*:function:*")
    directory = tmp_path_factory.mktemp("limits")
    with Cloud(world, directory, functions=("aws",), root=APP) as running:
        yield running


@pytest.fixture
def etl(cloud: Cloud) -> AccessKey:
    return cloud.accounts.session("etl", "limits")


@pytest.mark.parametrize("minutes", [-6, -4, 4, 6])
@pytest.mark.parametrize("service", ["execute-api", "lambda"])
def test_a_signature_is_good_for_five_minutes_where_sts_takes_fifteen(
    cloud: Cloud, etl: AccessKey, service: str, minutes: int
) -> None:
    assert cloud.lambdas is not None
    template = cloud.lambdas.template
    host = template.apis[0].domain if service == "execute-api" else template.functions[0].url.domain
    request = signed(etl, "/things/a", host=host, service=service)
    cloud.clock.skew = minutes * 60
    try:
        status = cloud.router(request).status
    finally:
        cloud.clock.skew = 0
    assert status == (200 if abs(minutes) < 5 else 403)


def test_a_body_over_ten_megabytes_is_refused(cloud: Cloud) -> None:
    host = str(cloud.endpoints["aws"]).removeprefix("https://")
    headers = Headers([("Host", host), ("Content-Type", "application/json")])
    request = Request("POST", host, "/open", headers, b"a" * (10 * 1024 * 1024 + 1))
    answer = cloud.router(request)
    assert (answer.status, json.loads(answer.body)) == (
        413,
        {"message": "Request Entity Too Large"},
    )


# --- asynchronous invocations ---------------------------------------------------------------------


def invoke(cloud: Cloud, key: AccessKey, payload: bytes, kind: str = "Event") -> Response:
    target = f"/2015-03-31/functions/{FUNCTION}/invocations"
    headers = {"X-Amz-Invocation-Type": kind}
    host = "lambda.us-east-1.amazonaws.com"
    request = signed(key, target, host=host, service="lambda", headers=headers, body=payload)
    return cloud.router(request)


def raised(cloud: Cloud) -> int:
    """How often the function has failed as it was told, by its log."""
    assert cloud.lambdas is not None
    log = cloud.lambdas.log(cloud.lambdas.template.functions[0])
    return log.read_text().count("[ERROR] ValueError: as told")


def until(count: int, cloud: Cloud) -> None:
    end = time.monotonic() + 10
    while raised(cloud) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_event_that_fails_is_tried_two_more_times(cloud: Cloud, etl: AccessKey) -> None:
    assert cloud.lambdas is not None
    assert cloud.lambdas.retry_seconds == (60.0, 120.0)
    before = raised(cloud)
    cloud.lambdas.retry_seconds = (0.05, 0.1)
    try:
        answer = invoke(cloud, etl, b'{"do": "raise"}')
        assert (answer.status, answer.body) == (202, b"")
        until(before + 3, cloud)
        time.sleep(0.3)
    finally:
        cloud.lambdas.retry_seconds = (60.0, 120.0)
    assert raised(cloud) == before + 3


def test_an_event_that_succeeds_is_run_once(cloud: Cloud, etl: AccessKey) -> None:
    before = raised(cloud)
    assert invoke(cloud, etl, b"{}").status == 202
    time.sleep(0.2)
    assert raised(cloud) == before


SIZES: list[tuple[str, int, int]] = [
    ("Event", 1024 * 1024, 202),
    ("Event", 1024 * 1024 + 1, 413),
    ("RequestResponse", 1024 * 1024 + 1, 200),
    ("RequestResponse", 6 * 1024 * 1024 + 1, 413),
]


@pytest.mark.parametrize(("kind", "size", "status"), SIZES)
def test_a_payload_may_be_a_megabyte_later_and_six_at_once(
    cloud: Cloud, etl: AccessKey, kind: str, size: int, status: int
) -> None:
    order: Any = {"do": "answer", "result": 1, "filler": ""}
    order["filler"] = "a" * (size - len(json.dumps(order)))
    answer = invoke(cloud, etl, json.dumps(order).encode(), kind)
    assert answer.status == status
    if status == 413:
        assert dict(answer.headers)["x-amzn-ErrorType"] == "RequestTooLargeException"


@pytest.mark.parametrize(
    "payload",
    [b'{"do": NaN}', b"-Infinity", '{"do": 1}'.encode("utf-16"), b"\xff", b"[" * 100_000],
    ids=["NaN", "Infinity", "UTF-16", "no UTF-8", "too deep"],
)
def test_a_payload_that_python_alone_calls_json_is_refused(
    cloud: Cloud, etl: AccessKey, payload: bytes
) -> None:
    answer = invoke(cloud, etl, payload, "RequestResponse")
    assert answer.status == 400
    assert dict(answer.headers)["x-amzn-ErrorType"] == "InvalidRequestContentException"


def test_a_client_context_has_a_limit(cloud: Cloud, etl: AccessKey) -> None:
    target = f"/2015-03-31/functions/{FUNCTION}/invocations"
    for size, status in ((3580, 200), (3584, 400)):
        text = base64.b64encode(json.dumps({"custom": "a" * (size // 4 * 3 - 14)}).encode())
        assert len(text) == size
        request = signed(
            etl,
            target,
            host="lambda.us-east-1.amazonaws.com",
            service="lambda",
            headers={"X-Amz-Client-Context": text.decode()},
            body=b'{"do": "answer", "result": 1}',
        )
        assert cloud.router(request).status == status
