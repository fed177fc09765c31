"""What every call of every Google API meets before its handler, on a small service of the test."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from localcloud.google.core.api import Answer, Call, api_sites
from localcloud.google.core.cloud import GoogleCloud
from localcloud.google.core.messages import BOOL, INT32, STRING, message, repeated, string_map
from localcloud.google.core.principals import (
    FederatedPrincipal,
    Principal,
    ServiceAccountPrincipal,
    UserPrincipal,
)
from localcloud.google.core.tokens import IssuedToken
from localcloud.wire.routes import Route, Service
from localcloud.wire.web import Headers, Request, Response, Router
from localcloud.world import Binding, Expr, Group, User, World
from tests.conformance.google_lab import CLOUD_PLATFORM, LANDING, POOL

NOW = 1_800_000_000
HOST = "things.googleapis.com"
ADMIN = UserPrincipal("admin@acme.example")
ACCOUNT = ServiceAccountPrincipal(LANDING, "101010101010101010101")
STRANGER = FederatedPrincipal(POOL, "stranger")
THING = {
    "display_name": STRING,
    "disabled": BOOL,
    "size": INT32,
    "labels": string_map(),
    "parts": repeated(message({"name": STRING})),
}


def show(call: Call) -> Answer:
    return {"project": call.parameters["project"], "query": call.arguments(page_size=INT32)}


def make(call: Call) -> Answer:
    return {"made": call.message(THING, "thing"), "by": call.principal.identifier}


def public(_call: Call) -> Answer:
    return {"keys": ["x" * 400]}


SERVICE = Service(
    "Things",
    (HOST,),
    (
        Route("GET", "/v1/projects/{project}", show, "resourcemanager.projects.get"),
        Route("POST", "/v1/projects/{project}/things", make, "iam.serviceAccounts.create"),
        Route("GET", "/v1/things/{account}", show, "iam.serviceAccounts.get"),
        Route("GET", "/v1/public", public, scopes=()),
    ),
    scopes=(CLOUD_PLATFORM,),
)


class Front:
    """The service on the default world."""

    def __init__(self) -> None:
        self.world = World.load()
        self.cloud = GoogleCloud(self.world, lambda: NOW, Router())
        self.router = Router(api_sites(self.cloud, SERVICE))

    def call(
        self,
        method: str = "GET",
        target: str = "/v1/projects/acme",
        body: Any = None,
        who: Principal | None = ADMIN,
        scope: str = CLOUD_PLATFORM,
        **headers: str,
    ) -> Response:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        if who is not None:
            token = self.cloud.tokens.issue(IssuedToken(who, frozenset({scope}), NOW + 60), NOW)
            fields.append(("Authorization", f"Bearer {token}"))
        content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        return self.router(Request(method, HOST, target, Headers(fields), content))

    def make(self, body: Any) -> Response:
        return self.call("POST", "/v1/projects/acme/things", body)


@pytest.fixture
def front() -> Front:
    return Front()


def answered(answer: Response) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(answer.body)
    return value


def refused(answer: Response, status: int, code: str, text: str = "") -> dict[str, Any]:
    error: dict[str, Any] = answered(answer)["error"]
    assert (answer.status, error["code"], error["status"]) == (status, status, code)
    assert text in error["message"]
    return error


def test_an_owner_of_the_project_is_served_by_id_and_by_number(front: Front) -> None:
    for name in ("acme", "123456789012"):
        answer = front.call(target=f"/v1/projects/{name}?pageSize=3&alt=json")
        assert answered(answer) == {"project": name, "query": {"page_size": 3}}


@pytest.mark.parametrize("who", [ACCOUNT, STRANGER])
def test_nobody_else_is(front: Front, who: Principal) -> None:
    error = refused(
        front.call("POST", "/v1/projects/acme/things", who=who),
        403,
        "PERMISSION_DENIED",
        "Permission 'iam.serviceAccounts.create' denied on resource (or it may not exist).",
    )
    assert error["details"][0]["reason"] == "IAM_PERMISSION_DENIED"


def test_an_owner_of_one_project_has_nothing_of_another(front: Front) -> None:
    refused(front.call(target="/v1/projects/other"), 403, "PERMISSION_DENIED")


def test_a_route_whose_path_names_no_project_lets_nobody_in(front: Front) -> None:
    refused(front.call(target=f"/v1/things/{LANDING}"), 403, "PERMISSION_DENIED")


def test_a_deleted_project_gives_its_owner_nothing(front: Front) -> None:
    front.world.google.projects[0].lifecycle_state = "DELETE_REQUESTED"
    refused(front.call(), 403, "PERMISSION_DENIED")


def test_a_suspended_person_is_nobody(front: Front) -> None:
    answer = front.call()
    assert answer.status == 200
    front.world.google.users = [User(ADMIN.email, suspended=True)]
    refused(front.call(), 401, "UNAUTHENTICATED")


def test_a_group_carries_its_members(front: Front) -> None:
    front.world.google.projects[0].iam_policy.grant("roles/browser", "group:ops@acme.example")
    refused(front.call(who=ACCOUNT), 403, "PERMISSION_DENIED")
    front.world.google.groups = [Group("ops@acme.example", [LANDING])]
    assert front.call(who=ACCOUNT).status == 200


def test_a_condition_of_the_project_s_policy_is_asked(front: Front) -> None:
    member = f"serviceAccount:{LANDING}"
    policy = front.world.google.projects[0].iam_policy
    for expression, status in (
        ("resource.name == 'projects/123456789012'", 200),
        ("resource.name == 'projects/acme'", 403),
        ("request.time < timestamp('2020-01-01T00:00:00Z')", 403),
        ("no such thing", 403),
    ):
        policy.bindings = [Binding("roles/browser", [member], Expr(expression))]
        assert front.call(who=ACCOUNT).status == status, expression


def test_no_token_no_scope_and_a_wrong_route_are_refused_in_google_s_shape(front: Front) -> None:
    refused(front.call(who=None), 401, "UNAUTHENTICATED")
    refused(front.call(scope="https://www.googleapis.com/auth/iam"), 403, "PERMISSION_DENIED")
    text = "does not serve DELETE things.googleapis.com/v1/projects/acme; `tokenvend local routes`"
    refused(front.call("DELETE"), 405, "UNIMPLEMENTED", text)
    refused(front.call(X_HTTP_Method_Override="PUT", target="/v1/x"), 405, "UNIMPLEMENTED", "GET")
    assert front.call("GET", "/v1/public", who=None).status == 200


@pytest.mark.parametrize("project", ["acme", "123456789012"])
def test_a_user_project_needs_the_right_to_use_it(front: Front, project: str) -> None:
    front.world.google.projects[0].iam_policy.grant("roles/browser", f"serviceAccount:{LANDING}")
    assert front.call(X_Goog_User_Project=project).status == 200
    answer = front.call(who=ACCOUNT, X_Goog_User_Project=project)
    error = refused(answer, 403, "PERMISSION_DENIED", f"permission to use project {project}. Grant")
    assert error["details"][1] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "USER_PROJECT_DENIED",
        "domain": "googleapis.com",
        "metadata": {"consumer": f"projects/{project}", "service": HOST},
    }


def test_a_user_project_that_does_not_exist_is_refused(front: Front) -> None:
    refused(front.call(X_Goog_User_Project="nowhere"), 403, "PERMISSION_DENIED", "nowhere")


def test_a_message_is_read_in_both_spellings(front: Front) -> None:
    sent = {
        "displayName": "a",
        "size": "7",
        "disabled": None,
        "labels": {"k": "v"},
        "parts": [{"name": "p"}],
    }
    read = {"display_name": "a", "size": 7, "labels": {"k": "v"}, "parts": [{"name": "p"}]}
    assert answered(front.make(sent)) == {"made": read, "by": "user:admin@acme.example"}
    assert answered(front.make({"display_name": "a"}))["made"] == {"display_name": "a"}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"colour": "red"}, "Unknown name \"colour\" at 'thing': Cannot find field."),
        ({"parts": [{"x": 1}]}, "Unknown name \"x\" at 'thing.parts[0]': Cannot find field."),
        ({"displayName": 3}, "Invalid value at 'thing.display_name' (TYPE_STRING), 3"),
        ({"disabled": "yes"}, "Invalid value at 'thing.disabled' (TYPE_BOOL), \"yes\""),
        ({"size": True}, "Invalid value at 'thing.size' (TYPE_INT32), true"),
        ({"size": 2**31}, "Invalid value at 'thing.size' (TYPE_INT32)"),
        ({"labels": {"k": 1}}, "Invalid value at 'thing.labels['k'].value' (TYPE_STRING), 1"),
        ({"labels": []}, "Invalid value at 'thing.labels' (MESSAGE)"),
        (b"[]", "Root element must be a message."),
        (b"{", "Unexpected token."),
        (b'{"size": 1, "size": 2}', "Unexpected token."),
    ],
)
def test_a_message_with_a_slip_meets_the_parser_s_words(front: Front, body: Any, text: str) -> None:
    refused(front.make(body), 400, "INVALID_ARGUMENT", text)


@pytest.mark.parametrize("query", ["pagesize=1", "pageSize=many", "filter=x"])
def test_a_query_with_a_slip_is_refused(front: Front, query: str) -> None:
    refused(front.call(target=f"/v1/projects/acme?{query}"), 400, "INVALID_ARGUMENT")


def test_answers_are_pretty_unless_told_and_compressed_where_accepted(front: Front) -> None:
    plain = front.call(target="/v1/public", who=None)
    assert plain.body.startswith(b'{\n  "keys"')
    assert front.call(target="/v1/public?prettyPrint=false", who=None).body.startswith(b'{"keys"')
    for accepted in ("gzip", "deflate, gzip;q=1.0"):
        packed = front.call(target="/v1/public", who=None, Accept_Encoding=accepted)
        assert ("Content-Encoding", "gzip") in packed.headers
        assert gzip.decompress(packed.body) == plain.body
    assert front.call(target="/v1/public", who=None, Accept_Encoding="br").body == plain.body


@pytest.mark.parametrize(
    ("mask", "made"),
    [
        ("made", {"size": 7, "labels": {"a": "1", "b": "2"}, "parts": [{"name": "p"}]}),
        ("made/size", {"size": 7}),
        ("made(size,labels/a)", {"size": 7, "labels": {"a": "1"}}),
        ("made/parts/name", {"parts": [{"name": "p"}]}),
        ("made/nothing", {}),
    ],
)
def test_a_partial_answer_has_what_was_asked_for(front: Front, mask: str, made: Any) -> None:
    body = {"size": 7, "labels": {"a": "1", "b": "2"}, "parts": [{"name": "p"}]}
    answer = front.call("POST", f"/v1/projects/acme/things?fields={mask}", body)
    assert answered(answer) == {"made": made}


@pytest.mark.parametrize(
    "mask", ["made(", "made)", "/made", "made//size", "made(size", "a" + "/a" * 20]
)
def test_a_selection_out_of_form_is_refused(front: Front, mask: str) -> None:
    answer = front.call(target=f"/v1/projects/acme?fields={mask}")
    refused(answer, 400, "INVALID_ARGUMENT", "Invalid field selection")
