"""Lambda events: what gateways send is read, and anything else is refused as our own error."""

from __future__ import annotations

import copy
from typing import Any

import pytest
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
        "http": {"method": "POST"},
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
        "identity": {"userArn": USER, "accountId": "111122223333"},
    },
}


def test_payload_2_is_read() -> None:
    request = events.from_gateway(PAYLOAD_2, ARN)
    assert (request.method, request.path, request.body) == ("POST", "/v1/access-token", b"{}")
    assert request.headers == {"content-type": "application/json"}
    assert request.platform == AwsIamIdentity(
        USER, "111122223333", "abcdefghij", "111122223333", function_arn=ARN
    )


def test_payload_1_is_read_and_its_path_decoded_once() -> None:
    request = events.from_gateway(PAYLOAD_1, ARN)
    assert request.path == "/v1/access-token"
    assert request.headers == {"x-two": "a, b"}
    assert isinstance(request.platform, AwsIamIdentity)


def test_a_named_stage_is_no_part_of_the_path() -> None:
    event = copy.deepcopy(PAYLOAD_2)
    event["requestContext"]["stage"] = "prod"
    event["rawPath"] = "/prod/healthz"
    assert events.from_gateway(event, ARN).path == "/healthz"


def test_a_function_urls_path_is_decoded_and_an_http_apis_is_not_decoded_again() -> None:
    event = copy.deepcopy(PAYLOAD_2) | {"rawPath": "/v1/%2561"}
    assert events.from_gateway(event, ARN).path == "/v1/%2561"
    event["requestContext"]["domainName"] = "x.lambda-url.us-east-1.on.aws"
    assert events.from_gateway(event, ARN).path == "/v1/%61"


def test_a_jwt_authorizers_claims_are_read() -> None:
    event = copy.deepcopy(PAYLOAD_2)
    event["requestContext"]["authorizer"] = {"jwt": {"claims": {"iss": "i", "exp": 1}}}
    platform = events.from_gateway(event, ARN).platform
    assert isinstance(platform, AwsJwtIdentity)
    assert platform.claims == {"iss": "i", "exp": "1"}


def test_an_open_route_has_no_identity() -> None:
    event = copy.deepcopy(PAYLOAD_2)
    del event["requestContext"]["authorizer"]
    assert events.from_gateway(event, ARN).platform is None


def test_a_direct_invoke_is_read() -> None:
    request = events.from_direct({"operation": "id-token", "audience": "a"}, ARN, "id")
    assert (request.path, request.body) == ("/v1/id-token", b'{"audience": "a"}')
    assert request.platform == LambdaInvocation(ARN)


def test_a_direct_invoke_cannot_bring_an_identity_of_its_own() -> None:
    event = {"operation": "access-token", "platform": {"arn": "x"}, "requestContext": {}}
    assert not events.is_direct(event)
    with pytest.raises(InvalidRequest):
        events.from_gateway(event, ARN)


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
    try:
        if events.is_direct(event):
            request = events.from_direct(event, ARN, "id")
        else:
            request = events.from_gateway(event, ARN)
    except InvalidRequest as refused:
        assert refused.detail  # noqa: PT017 -- either outcome is checked
    else:
        assert isinstance(request, HttpRequest)
