"""Routes, statuses and the audit record, with the world behind the service played by functions."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tokenvend import errors
from tokenvend.audit.chain import AuditLog, verify
from tokenvend.http import STATUSES, Api, Ready, outcome_of
from tokenvend.model import (
    AccessTokenSpec,
    AwsCaller,
    HttpRequest,
    HttpResponse,
    Secret,
    VendedToken,
)
from tokenvend.policy import compile_policy
from tokenvend.policy_source import PolicyInForce

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.audit.record import AuditRecord
    from tokenvend.deadline import Deadline
    from tokenvend.model import Caller, TokenRequest

NOW = 1_800_000_000
TOKEN = "ya29.canary-token"
CALLER = AwsCaller("arn:aws:iam::111122223333:role/etl", "111122223333", "etl", "session")
POLICY = compile_policy(
    """
    version = 1
    [[grant]]
    name = "reader"
    callers = [{ aws_role = "arn:aws:iam::111122223333:role/etl" }]
    service_account = "reader@acme.iam.gserviceaccount.com"
    [grant.access_token]
    scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
    """
)


@dataclass
class World:
    """An `Api` whose vending ends as the test says, and the records it wrote."""

    outcome: Callable[[], None] = lambda: None
    sink_fails: bool = False
    fail_closed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)

    def authenticate(self, request: HttpRequest, now: float, deadline: Deadline) -> Caller:
        if request.headers.get("authorization") != "Bearer good":
            raise errors.Unauthenticated("Send a bearer token.", cause="none came")
        return CALLER

    def vend(
        self,
        caller: Caller,
        request: TokenRequest,
        now: int,
        deadline: Deadline,
        record: AuditRecord,
    ) -> VendedToken:
        self.outcome()
        grant = AccessTokenSpec("reader", None, ("s",), None)
        record.spec = grant
        return VendedToken(Secret(TOKEN), grant, NOW, NOW + 3600)

    def policy(self, deadline: Deadline) -> PolicyInForce:
        return PolicyInForce(POLICY, loaded_at=NOW - 120, checked_at=NOW - 60)

    def write(self, record: Mapping[str, Any]) -> None:
        if self.sink_fails:
            raise OSError("disk full")
        self.records.append(dict(record))

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> HttpResponse:
        api = Api(
            state=Ready(self, self, "//tokenvend.example"),  # type: ignore[arg-type]
            audit=AuditLog(self, instance="test"),
            budget=10,
            fail_closed=self.fail_closed,
            now=lambda: NOW,
            monotonic=lambda: 0.0,
            report=self.reports.append,
        )
        sent = {"authorization": "Bearer good", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return api.handle(HttpRequest(method, path, sent, body))


def test_every_answer_forbids_storing_and_carries_a_request_id() -> None:
    world = World()
    for asked in ("GET /healthz", "POST /v1/access-token", "GET /nope", "PUT /healthz"):
        method, path = asked.split()
        response = world.ask(method, path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-Id"] == world.records[-1]["request_id"]


def test_a_vended_token_is_recorded_by_its_fingerprint_alone() -> None:
    world = World()
    response = world.ask("POST", "/v1/access-token")
    assert json.loads(response.body)["access_token"] == TOKEN
    record = world.records[0]
    assert record["outcome"] == "vended"
    assert record["token_fingerprint"] == Secret(TOKEN).fingerprint()
    assert set(record["durations_us"]) == {"authenticate", "vend", "total"}
    assert TOKEN not in json.dumps(world.records)


@pytest.mark.parametrize("kind", [k for k in STATUSES if k is not errors.MethodNotAllowed])
def test_every_outcome_has_its_status_and_says_what_to_do(
    kind: type[errors.TokenvendError],
) -> None:
    def fail() -> None:
        raise kind("Do this next.", cause="the operator's reason")

    world = World(outcome=fail)
    response = world.ask("POST", "/v1/access-token")
    problem = json.loads(response.body)
    assert response.status == STATUSES[kind][0] == problem["status"]
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["code"] == kind.code
    assert problem["detail"] == "Do this next."
    assert "the operator's reason" not in response.body.decode()
    assert world.records[0]["reason"] == "the operator's reason"
    assert ("Retry-After" in response.headers) == (response.status in {429, 503})


def test_every_error_class_is_in_the_table() -> None:
    direct = set(errors.TokenvendError.__subclasses__())
    assert direct <= STATUSES.keys()


def test_a_subclass_of_an_outcome_has_the_outcomes_status() -> None:
    class Particular(errors.Misconfigured):
        pass

    def fail() -> None:
        raise Particular("Mend it.")

    assert World(outcome=fail).ask("POST", "/v1/access-token").status == 500


def test_a_crash_is_answered_recorded_and_its_text_kept_back() -> None:
    def crash() -> None:
        raise RuntimeError("upstream said ya29.leak")

    world = World(outcome=crash)
    response = world.ask("POST", "/v1/access-token")
    assert response.status == 500
    assert len(world.records) == 1
    assert "RuntimeError" in world.records[0]["reason"]
    assert "ya29.leak" not in json.dumps(world.records) + response.body.decode()


@pytest.mark.parametrize(
    ("method", "path", "status", "outcome"),
    [
        ("GET", "/v1/access-token", 405, "method_not_allowed"),
        ("POST", "/v1/access-token/", 404, "not_found"),
        ("POST", "//v1/access-token", 404, "not_found"),
        ("GET", "/v1/../healthz", 404, "not_found"),
        ("GET", "/V1/grants", 404, "not_found"),
        ("HEAD", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_what_is_no_route_is_refused_and_recorded(
    method: str, path: str, status: int, outcome: str
) -> None:
    world = World()
    response = world.ask(method, path)
    assert response.status == status
    assert world.records[0]["outcome"] == outcome
    assert ("Allow" in response.headers) == (status == 405)


def test_a_megabyte_of_body_is_too_large() -> None:
    response = World().ask("POST", "/v1/access-token", b" " * 1_000_000)
    assert response.status == 413


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_in_another_format_is_not_supported(media_type: str) -> None:
    response = World().ask("POST", "/v1/access-token", b"{}", content_type=media_type)
    assert response.status == 415


def test_json_with_a_charset_is_supported() -> None:
    response = World().ask("POST", "/v1/access-token", b"{}", content_type="Application/JSON; a=b")
    assert response.status == 200


def test_an_unauthenticated_request_is_recorded_before_its_body_is_read() -> None:
    world = World()
    response = world.ask("POST", "/v1/access-token", b"not json", authorization="Bearer bad")
    assert response.status == 401
    assert "Bearer" in response.headers["WWW-Authenticate"]
    assert world.records[0]["outcome"] == "unauthenticated"
    assert world.records[0]["caller"] is None


def test_grants_tells_the_caller_who_it_is_and_what_it_may_have() -> None:
    answer = json.loads(World().ask("GET", "/v1/grants").body)
    assert answer["caller"]["id"] == "arn:aws:iam::111122223333:role/etl"
    assert [grant["name"] for grant in answer["grants"]] == ["reader"]
    assert answer["policy"] == {
        "digest": POLICY.digest,
        "mode": "enforce",
        "loaded_at": "2027-01-15T07:58:00Z",
        "checked_at": "2027-01-15T07:59:00Z",
    }


def test_no_token_leaves_unrecorded_when_vending_fails_closed() -> None:
    world = World(sink_fails=True, fail_closed=True)
    response = world.ask("POST", "/v1/access-token")
    assert response.status == 500
    assert TOKEN not in response.body.decode()
    assert world.reports


def test_a_lost_record_is_reported_when_vending_fails_open() -> None:
    world = World(sink_fails=True)
    assert world.ask("POST", "/v1/access-token").status == 200
    assert "not taken" in world.reports[0]


def test_a_misconfigured_endpoint_says_so_on_every_route() -> None:
    records: list[dict[str, Any]] = []

    class Sink:
        def write(self, record: Mapping[str, Any]) -> None:
            records.append(dict(record))

    wrong = errors.Misconfigured("Tell the operator.", cause="no policy")
    api = Api(
        state=wrong,
        audit=AuditLog(Sink(), instance="test"),
        budget=1,
        fail_closed=True,
        now=lambda: NOW,
        monotonic=lambda: 0.0,
        report=lambda _: None,
    )
    for method, path in (("GET", "/healthz"), ("POST", "/v1/id-token"), ("GET", "/v1/grants")):
        response = api.handle(HttpRequest(method, path))
        assert response.status == 500
        assert json.loads(response.body)["code"] == "misconfigured"
    assert [record["reason"] for record in records] == ["no policy"] * 3
    assert list(verify(records)) == []
    once = len(traceback.extract_tb(wrong.__traceback__))
    for _ in range(5):
        api.handle(HttpRequest("GET", "/healthz"))
    assert len(traceback.extract_tb(wrong.__traceback__)) <= once


def test_a_door_without_statuses_raises_the_outcome_by_its_class() -> None:
    def deny() -> None:
        raise errors.Denied("Not that.", cause="secret reason")

    response = World(outcome=deny).ask("POST", "/v1/access-token")
    with pytest.raises(errors.Denied, match=r"Not that. \(request [0-9a-f-]{36}\)"):
        outcome_of(response)
    assert outcome_of(World().ask("GET", "/healthz"))["status"] == "ok"
