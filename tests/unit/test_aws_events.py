"""Lambda events: what gateways send is read, and anything else is refused as our own error."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from functions.aws import events
from tokenvend.errors import InvalidRequest
from tokenvend.model import AwsIamIdentity, AwsJwtIdentity, HttpRequest, LambdaInvocation

ARN = "arn:aws:lambda:us-east-1:111122223333:function:vend"
USER = "arn:aws:sts::111122223333:assumed-role/etl/job"
PAYLOAD_2: dict[str, Any] = {
    "version": "2.0",
    "rawPath": "/v1/access-token",
    "headers": {"Content-Type": "application/json"},
    "body": "e30=",
    "isBase64Encoded": True,
    "requestContext": {
        "accountId": "111122223333",
        "apiId": "abcdefghij",
        "domainName": "abcdefghij.execute-api.us-east-1.amazonaws.com",
        "http": {"method": "POST", "sourceIp": "203.0.113.9"},
        "requestId": "id-2",
        "stage": "$default",
        "authorizer": {"iam": {"userArn": USER, "accountId": "111122223333"}},
    },
}
PAYLOAD_1: dict[str, Any] = {
    "httpMethod": "POST",
    "path": "/v1/access%2Dtoken",
    "multiValueHeaders": {"X-Two": ["a", "b"]},
    "body": None,
    "requestContext": {
        "accountId": "111122223333",
        "apiId": "abcdefghij",
        "requestId": "id-1",
        "identity": {
            "userArn": USER,
            "accountId": "111122223333",
            "sourceIp": "2001:db8::9",
        },
    },
}


def read(event: Any) -> HttpRequest:
    request = events.request_of(event, ARN, "id")
    assert isinstance(request, HttpRequest), request
    return request


def refused(event: Any) -> InvalidRequest:
    request = events.request_of(event, ARN, "id")
    assert isinstance(request, InvalidRequest)
    return request


def test_payload_2_is_read() -> None:
    request = read(PAYLOAD_2)
    assert (request.method, request.path, request.body) == ("POST", "/v1/access-token", b"{}")
    assert request.headers == {"content-type": "application/json"}
    assert (request.source, request.platform_request_id) == ("203.0.113.9", "id-2")
    assert request.platform == AwsIamIdentity(
        USER, "111122223333", "abcdefghij", "111122223333", function_arn=ARN
    )


def test_payload_1_is_read_and_its_path_decoded_once() -> None:
    assert read(PAYLOAD_1 | {"path": "/v1/%2561"}).path == "/v1/%61"
    request = read(PAYLOAD_1)
    assert request.path == "/v1/access-token"
    assert request.headers == {"x-two": "a, b"}
    assert (request.source, request.platform_request_id) == ("2001:db8::9", "id-1")
    assert isinstance(request.platform, AwsIamIdentity)


def test_row_31_two_spellings_of_one_header_are_refused() -> None:
    for value, more in (("Bearer a", "Bearer b"), ("same", "same")):
        two = PAYLOAD_2 | {"headers": {"Authorization": value, "authorization": more}}
        one = PAYLOAD_1 | {"multiValueHeaders": {"Authorization": [value], "AUTHORIZATION": [more]}}
        for event in (one, two):
            assert "two spellings" in refused(event).detail


def test_a_named_stage_is_no_part_of_the_path() -> None:
    event = copy.deepcopy(PAYLOAD_2)
    event["requestContext"]["stage"] = "prod"
    event["rawPath"] = "/prod/healthz"
    assert read(event).path == "/healthz"


def test_a_function_urls_path_is_decoded_and_an_http_apis_is_not_decoded_again() -> None:
    event = copy.deepcopy(PAYLOAD_2) | {"rawPath": "/v1/%2561"}
    assert read(event).path == "/v1/%2561"
    event["requestContext"]["domainName"] = "x.lambda-url.us-east-1.on.aws"
    assert read(event).path == "/v1/%61"


def test_a_jwt_authorizers_claims_are_read() -> None:
    event = copy.deepcopy(PAYLOAD_2)
    event["requestContext"]["authorizer"] = {"jwt": {"claims": {"iss": "i", "exp": 1}}}
    platform = read(event).platform
    assert isinstance(platform, AwsJwtIdentity)
    assert platform.claims == {"iss": "i", "exp": "1"}


def test_an_open_route_has_no_identity() -> None:
    event = copy.deepcopy(PAYLOAD_2)
    del event["requestContext"]["authorizer"]
    assert read(event).platform is None


def test_a_direct_invoke_is_read() -> None:
    request = read({"operation": "id-token", "audience": "a"})
    assert (request.path, request.body) == ("/v1/id-token", b'{"audience": "a"}')
    assert request.platform == LambdaInvocation(ARN)


def test_a_direct_invoke_cannot_bring_an_identity_of_its_own() -> None:
    event = {"operation": "access-token", "platform": {"arn": "x"}, "requestContext": {}}
    assert not events.is_direct(event)
    assert refused(event)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=6)
things = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def changed(event: dict[str, Any], path: list[int], value: Any) -> dict[str, Any]:
    """The event with one of its members, found by walking down, replaced."""
    made = copy.deepcopy(event)
    place = made
    for step in path:
        name = sorted(place)[step % len(place)]
        if not isinstance(place[name], dict) or not place[name] or step == path[-1]:
            place[name] = value
            return made
        place = place[name]
    return made


malformed = st.builds(
    changed,
    st.sampled_from([PAYLOAD_1, PAYLOAD_2]),
    st.lists(st.integers(0, 20), min_size=1, max_size=4),
    things,
)


@given(malformed | st.dictionaries(st.text(max_size=10), things) | things)
def test_any_event_is_a_request_or_invalid(event: Any) -> None:
    request = events.request_of(event, ARN, "id")
    assert isinstance(request, HttpRequest) or request.detail
