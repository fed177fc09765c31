"""Routes, dialects and what a visit answers; functions play the world behind the service."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.issuing import NOW
from tokenvend import __version__, errors
from tokenvend.audit.chain import AuditLog, verify
from tokenvend.endpoint import Endpoint
from tokenvend.http import RESOURCES, Api, Backend, Resource, find
from tokenvend.model import (
    AccessTokenSpec,
    AwsCaller,
    HttpRequest,
    HttpResponse,
    Secret,
    VendedToken,
)
from tokenvend.policy import compile_policy
from tokenvend.policy_source.store import PolicyInForce
from tokenvend.wire import own, sts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.audit.record import AuditRecord
    from tokenvend.deadline import Deadline
    from tokenvend.http import Value, Visit
    from tokenvend.model import Caller, TokenRequest

TOKEN = "ya29.canary-token"
CALLER = AwsCaller("arn:aws:iam::111122223333:role/etl", "111122223333", "etl", "session")
STRANGER = AwsCaller("arn:aws:iam::111122223333:role/other", "111122223333", "other", "session")
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
    resources: Mapping[str, Resource] = field(default_factory=lambda: RESOURCES)
    state: errors.Misconfigured | None = None
    caller: Caller = CALLER
    sink_fails: bool = False
    fail_closed: bool = False
    records: list[dict[str, Any]] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    spent: float = 0.0
    times_read: list[int] = field(default_factory=list)
    given: list[float] = field(default_factory=list)

    def authenticate(self, request: HttpRequest, now: int, deadline: Deadline) -> Caller:
        if request.headers.get("authorization") != "Bearer good":
            raise errors.Unauthenticated("Send a bearer token.", cause="none came")
        return self.caller

    def authenticate_subject_token(
        self, token_type: str, token: Secret, audience: str, now: int, deadline: Deadline
    ) -> Caller:
        return self.caller

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
        return VendedToken(Secret(TOKEN), grant, now, now + 3600)

    def policy(self, deadline: Deadline) -> PolicyInForce:
        self.given.append(deadline.remaining())
        self.outcome()
        return PolicyInForce(POLICY, loaded_at=NOW - 120, checked_at=NOW - 60)

    def write(self, line: str, record: AuditRecord) -> None:
        if self.sink_fails:
            raise OSError("disk full")
        self.records.append(json.loads(line))

    def now(self) -> float:
        self.times_read.append(NOW + len(self.times_read))
        return self.times_read[-1]

    @property
    def api(self) -> Api:
        endpoint = Endpoint(
            audit=AuditLog(self.write, instance="test"),
            budget=10,
            fail_closed=self.fail_closed,
            now=self.now,
            monotonic=lambda: self.spent,
            report=self.reports.append,
        )
        state = self.state or Backend(self, self, "//tokenvend.example", self.policy)
        return Api(endpoint, state, self.resources)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> HttpResponse:
        sent = {"authorization": "Bearer good", "content-type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.handle(HttpRequest(method, path, sent, body))


def raising(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_every_answer_forbids_storing_and_carries_a_request_id() -> None:
    world = World()
    for asked in ("GET /healthz", "POST /v1/access-token", "GET /nope", "PUT /healthz"):
        response = world.ask(*asked.split())
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


def test_a_record_says_where_the_request_came_from() -> None:
    world = World()
    root = "1-67891233-abcdef012345678912345678"
    headers = {"user-agent": "etl/1.0", "x-amzn-trace-id": f"Self=1-2-3;Root={root};Sampled=1"}
    world.api.handle(HttpRequest("GET", "/healthz", headers, source="203.0.113.9"))
    headers["traceparent"] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    world.api.handle(HttpRequest("GET", "/healthz", headers, platform_request_id="id"))
    headers["traceparent"] = f"00-{'0' * 32}-00f067aa0ba902b7-01"
    world.api.handle(HttpRequest("GET", "/healthz", headers))
    first, second, third = world.records
    assert (first["source"], first["user_agent"], first["trace_id"]) == (
        "203.0.113.9",
        "etl/1.0",
        root,
    )
    assert second["platform_request_id"] == "id"
    assert second["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert third["trace_id"] == root


def test_the_clock_is_read_once_a_request() -> None:
    world = World()
    for path in ("/v1/access-token", "/v1/grants", "/readyz"):
        world.ask("POST" if path == "/v1/access-token" else "GET", path)
    assert len(world.times_read) == 3


def test_a_tokens_life_is_told_from_when_it_is_answered_not_from_when_it_was_asked_for() -> None:
    world = World()

    def slowly() -> None:
        world.spent += 9

    world.outcome = slowly
    exchange = {
        "grant_type": sts.GRANT_TYPE,
        "audience": "//tokenvend.example",
        "subject_token": "t",
    }
    for path, body in (("/v1/access-token", b"{}"), ("/v1/token", json.dumps(exchange).encode())):
        answer = json.loads(world.ask("POST", path, body).body)
        assert answer["expires_in"] == 3600 - 9


def test_every_outcome_has_its_status_and_says_what_to_do() -> None:
    for kind, (status, _) in own.STATUSES.items():
        error = kind("Do this next.")
        error.cause = "the operator's reason"
        world = World(outcome=raising(error))
        response = world.ask("POST", "/v1/access-token")
        problem = json.loads(response.body)
        assert response.status == status == problem["status"] == world.records[0]["status"]
        assert response.headers["Content-Type"] == "application/problem+json"
        assert (problem["code"], problem["detail"]) == (kind.code, "Do this next.")
        assert "the operator's reason" not in response.body.decode()
        assert world.records[0]["reason"] == "the operator's reason"
        waits = issubclass(kind, errors.RateLimited | errors.UpstreamUnavailable)
        assert ("Retry-After" in response.headers) == waits


def test_every_error_class_is_in_the_table_and_a_subclass_has_its_parents_status() -> None:
    assert set(errors.TokenvendError.__subclasses__()) <= own.STATUSES.keys()

    class Particular(errors.RateLimited):
        pass

    assert World(outcome=raising(Particular())).ask("POST", "/v1/access-token").status == 429


def test_a_crash_is_answered_recorded_and_its_text_kept_back() -> None:
    world = World(outcome=raising(RuntimeError("upstream said ya29.leak")))
    response = world.ask("POST", "/v1/access-token")
    assert response.status == 500
    (record,) = world.records
    assert record["outcome"] == "internal"
    assert record["reason"].startswith(f"crashed with RuntimeError at {__name__}:")
    assert "ya29.leak" not in json.dumps(world.records) + response.body.decode()


def test_a_crash_that_no_dialect_can_tell_is_recorded_all_the_same() -> None:
    def render_error(error: errors.TokenvendError, request_id: str) -> Any:
        raise RuntimeError

    def serve(visit: Visit) -> Value:
        raise errors.Denied(cause="not you")

    world = World(resources={"/x": Resource({"GET": serve}, render_error)})
    with pytest.raises(RuntimeError):
        world.ask("GET", "/x")
    assert [record["reason"] for record in world.records] == ["not you"]


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


ACCOUNT = "/v1/projects/-/serviceAccounts"
TEMPLATES = (f"{ACCOUNT}/{{email}}:generateAccessToken", f"{ACCOUNT}/{{email}}:generateIdToken")


def test_a_route_may_have_parameters_and_is_recorded_by_its_template() -> None:
    def serve(visit: Visit) -> Value:
        visit.invocation.record.outcome = "answered"
        return {"email": visit.parameters["email"]}

    resource = Resource({"POST": serve})
    world = World(resources={**RESOURCES, **dict.fromkeys(TEMPLATES, resource)})
    response = world.ask("POST", f"{ACCOUNT}/a@acme.iam.gserviceaccount.com:generateIdToken")
    assert json.loads(response.body) == {"email": "a@acme.iam.gserviceaccount.com"}
    assert world.ask("GET", f"{ACCOUNT}/a:generateIdToken").headers["Allow"] == "POST"
    assert {record["route"] for record in world.records} == {TEMPLATES[1]}


def test_a_parameter_takes_the_place_of_a_segment_and_nothing_more() -> None:
    assert find(TEMPLATES, TEMPLATES[0]) == (TEMPLATES[0], {"email": "{email}"})
    for path in (
        f"{ACCOUNT}/:generateAccessToken",
        f"{ACCOUNT}/a/b:generateAccessToken",
        f"{ACCOUNT}/a:b:generateAccessToken",
        f"{ACCOUNT}/a:generateAccessToken/",
        f"{ACCOUNT}/a:generateAccessTokenX",
        "/v1/projects/x/serviceAccounts/a:generateAccessToken",
    ):
        with pytest.raises(errors.NotFound):
            find(TEMPLATES, path)


def test_an_unauthenticated_request_is_recorded_before_its_body_is_read() -> None:
    world = World()
    for body, content_type in (
        (b"not json", "application/json"),
        (b" " * 1_000_000, "application/json"),
        (b"{}", "text/plain"),
    ):
        response = world.ask(
            "POST", "/v1/access-token", body, authorization="bad", content_type=content_type
        )
        assert response.status == 401
        assert "Bearer" in response.headers["WWW-Authenticate"]
    assert {record["outcome"] for record in world.records} == {"unauthenticated"}
    assert {record["caller"] for record in world.records} == {None}


def test_a_body_too_large_or_in_another_format_is_not_read() -> None:
    for path, content_type, size, status in (
        ("/v1/access-token", "application/json", 1_000_000, 413),
        ("/v1/token", "application/json", 1_000_000, 413),
        ("/v1/access-token", "", 2, 415),
        ("/v1/access-token", "application/x-www-form-urlencoded", 2, 415),
        ("/v1/token", "text/plain", 2, 415),
        ("/v1/access-token", "Application/JSON; charset=utf-8", 2, 200),
    ):
        body = b"{" + b" " * (size - 2) + b"}"
        assert World().ask("POST", path, body, content_type=content_type).status == status


def test_the_exchange_tells_errors_in_its_own_dialect_even_for_another_method() -> None:
    world = World()
    for method, body in (("POST", b"{"), ("GET", b"")):
        response = world.ask(method, "/v1/token", body)
        assert json.loads(response.body)["error"] == "invalid_request"
        assert response.headers["Content-Type"] == "application/json"


def test_grants_tells_the_caller_who_it_is_and_what_it_may_have() -> None:
    answer = json.loads(World().ask("GET", "/v1/grants").body)
    assert answer["caller"]["id"] == "arn:aws:iam::111122223333:role/etl"
    assert [(grant["name"], grant["kinds"]) for grant in answer["grants"]] == [
        ("reader", ["access_token"])
    ]
    assert answer["policy"] == {
        "digest": POLICY.digest,
        "mode": "enforce",
        "loaded_at": "2027-01-15T07:58:00Z",
        "checked_at": "2027-01-15T07:59:00Z",
    }


def test_row_32_who_has_no_grant_learns_nothing_of_the_policy() -> None:
    world = World(caller=STRANGER)
    answer = json.loads(world.ask("GET", "/v1/grants").body)
    assert answer.keys() == {"caller", "grants"}
    assert answer["grants"] == []
    assert world.records[0]["policy"] == POLICY.digest


def test_no_token_leaves_unrecorded_when_vending_fails_closed() -> None:
    world = World(sink_fails=True, fail_closed=True)
    response = world.ask("POST", "/v1/access-token")
    assert response.status == 500
    assert TOKEN not in response.body.decode()
    assert len(world.reports) == 1
    with pytest.raises(errors.TokenvendError, match="no token is given"):
        world.api.invoke(HttpRequest("POST", "/v1/access-token", {"authorization": "Bearer good"}))


def test_what_gives_no_token_is_answered_though_its_record_is_lost() -> None:
    world = World(sink_fails=True, fail_closed=True, outcome=raising(errors.Denied()))
    assert world.ask("POST", "/v1/access-token").status == 403
    assert world.ask("GET", "/healthz").status == 200
    assert len(world.reports) == 2


def test_a_lost_record_is_reported_when_vending_fails_open() -> None:
    world = World(sink_fails=True)
    assert world.ask("POST", "/v1/access-token").status == 200
    assert "not taken" in world.reports[0]


def test_a_misconfigured_endpoint_is_alive_not_ready_and_says_why_to_its_operator_alone() -> None:
    wrong = errors.Misconfigured("Tell the operator.", cause="no policy")
    world = World(state=wrong, fail_closed=True)
    for method, path in (("POST", "/v1/id-token"), ("GET", "/v1/grants"), ("POST", "/v1/token")):
        assert world.ask(method, path).status == 500
    assert json.loads(world.ask("GET", "/healthz").body) == {"status": "ok", "version": __version__}
    ready = world.ask("GET", "/readyz")
    assert ready.status == 503
    assert "policy" not in ready.body.decode()
    assert [record["reason"] for record in world.records] == ["no policy"] * 3 + ["", "no policy"]
    world.ask("GET", "/v1/grants")
    once = len(traceback.extract_tb(wrong.__traceback__))
    for _ in range(5):
        world.ask("GET", "/v1/grants")
    assert len(traceback.extract_tb(wrong.__traceback__)) <= once


def test_ready_is_who_has_a_policy_in_force_and_it_does_not_wait_for_one() -> None:
    world = World()
    assert json.loads(world.ask("GET", "/readyz", authorization="").body)["status"] == "ok"
    assert world.given == [pytest.approx(10 / 3)]
    for error in (errors.Misconfigured(cause="unread"), errors.DeadlineExceeded(cause="slow")):
        lacking = World(outcome=raising(error))
        response = lacking.ask("GET", "/readyz", authorization="")
        assert (response.status, json.loads(response.body)["code"]) == (503, "not_ready")
        assert lacking.records[0]["reason"] == error.cause


def test_an_unreadable_event_is_answered_and_recorded() -> None:
    world = World()
    response = world.api.handle(errors.InvalidRequest("No event.", cause="its path is missing"))
    assert (response.status, json.loads(response.body)["detail"]) == (400, "No event.")
    assert world.records[0]["reason"] == "its path is missing"


def test_a_door_without_statuses_gets_the_value_or_the_outcome_by_its_class() -> None:
    request = HttpRequest("POST", "/v1/access-token", {"authorization": "Bearer good"})
    world = World()
    value = world.api.invoke(request)
    assert isinstance(value, dict)
    assert value["access_token"] == TOKEN

    class Particular(errors.Misconfigured):
        pass

    for raises, kind in ((errors.Denied, errors.Denied), (Particular, errors.Misconfigured)):
        failing = World(outcome=raising(raises("Not that.", cause="secret")))
        with pytest.raises(kind, match=r"^Not that. \(request [0-9a-f-]{36}\)$") as raised:
            failing.api.invoke(request)
        assert raised.type is kind
        assert (raised.value.cause, raised.value.__context__) == ("", None)
        assert failing.records[0]["reason"] == "secret"
        assert failing.records[0]["status"] == own.STATUSES[kind][0]


def test_a_restored_process_begins_a_chain_and_forgets_what_the_snapshot_held() -> None:
    world = World()
    forgotten: list[str] = []
    endpoint = Endpoint(
        audit=AuditLog(world.write, instance="snapshot"),
        budget=10,
        fail_closed=True,
        now=lambda: NOW,
        monotonic=lambda: 0.0,
        report=world.reports.append,
        on_restore=(lambda: forgotten.append("cache"), lambda: forgotten.append("policy")),
    )
    api = Api(endpoint, Backend(world, world, "", world.policy))
    api.handle(HttpRequest("GET", "/healthz"))
    endpoint.restored()
    api.handle(HttpRequest("GET", "/healthz"))
    assert forgotten == ["cache", "policy"]
    assert [record["sequence"] for record in world.records] == [1, 1]
    assert len({record["instance"] for record in world.records}) == 2
    assert list(verify(world.records)) == []
