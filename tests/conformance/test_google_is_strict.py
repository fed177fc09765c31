"""Each wrong input meets Google's own error; the right ones pass beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from localcloud.wire.web import Response
from tests.conformance.google_lab import (
    AWS_PROVIDER,
    AZURE_PROVIDER,
    POOL,
    READ_WRITE,
    Lab,
    as_token,
    aws_request,
    aws_token,
    body,
)

Case = Callable[[Lab], Response]


def headers_of(request: dict[str, Any], **changes: str | None) -> dict[str, Any]:
    """The request with header values changed; None removes one."""
    kept = [h for h in request["headers"] if h["key"].lower() not in changes]
    added = [{"key": key, "value": value} for key, value in changes.items() if value is not None]
    return {**request, "headers": kept + added}


def target(value: str | None) -> dict[str, str | None]:
    return {"x-goog-cloud-target-resource": value}


# --- the token service: the request --------------------------------------------------------


def test_right_aws_and_oidc_credentials_get_federated_tokens(lab: Lab) -> None:
    for answer in (lab.exchange_aws(aws_token(lab.key())), lab.exchange_jwt(lab.jwt())):
        assert answer.status == 200
        token = body(answer)
        assert token["token_type"] == "Bearer"
        assert token["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
        assert 0 < token["expires_in"] <= 3600
        assert len(token["access_token"]) <= 12_288


def test_json_in_camel_case_is_the_same_request(lab: Lab) -> None:
    message = {
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": f"//iam.googleapis.com/{AWS_PROVIDER}",
        "scope": READ_WRITE,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": aws_token(lab.key()),
        "subjectTokenType": "urn:ietf:params:aws:token-type:aws4_request",
    }
    for host in ("sts.googleapis.com", "sts.us-east1.rep.googleapis.com"):
        answer = lab.call("POST", f"https://{host}/v1/token", message)
        assert answer.status == 200
        assert {"access_token", "expires_in"} <= body(answer).keys()
    unknown = lab.call("POST", "https://sts.googleapis.com/v1/token", {**message, "nope": 1})
    assert body(unknown)["error"]["message"] == (
        'Invalid JSON payload received. Unknown name "nope": Cannot find field.'
    )


AUDIENCE = 'Invalid value for "audience". This value should be the full resource name'
TARGET = 'The target service indicated by the "audience" parameters is invalid.'


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"grant_type": None}, "invalid_request", "grant_type"),
        ({"grant_type": "password"}, "unsupported_grant_type", "grant_type"),
        ({"requested_token_type": "x"}, "invalid_request", "requested_token_type"),
        ({"subject_token_type": "x"}, "invalid_request", "subject_token_type"),
        ({"subject_token": None}, "invalid_request", "subject_token"),
        ({"subject_token": "x"}, "invalid_request", "not a valid AWS GetCallerIdentity token"),
        ({"scope": None}, "invalid_request", "scope"),
        ({"scope": 'a"b'}, "invalid_scope", "scope"),
        ({"actor_token": "x"}, "invalid_request", "actor_token"),
        ({"options": "[1]"}, "invalid_request", "options"),
        ({"options": '{"accessBoundary":{}}'}, "invalid_request", "access boundary"),
        ({"audience": None}, "invalid_request", AUDIENCE),
        ({"audience": f"https://iam.googleapis.com/{AWS_PROVIDER}"}, "invalid_request", AUDIENCE),
        ({"audience": AWS_PROVIDER}, "invalid_request", AUDIENCE),
        (
            {"audience": f"//iam.googleapis.com/{AWS_PROVIDER}".replace("123456789012", "acme")},
            "invalid_request",
            AUDIENCE,
        ),
        ({"audience": f"//iam.googleapis.com/{POOL}/providers/absent"}, "invalid_target", TARGET),
        (
            {"audience": f"//iam.googleapis.com/{AZURE_PROVIDER}"},
            "invalid_request",
            "subject_token",
        ),
    ],
)
def test_wrong_exchange_request_is_refused(
    lab: Lab, fields: dict[str, str | None], error: str, text: str
) -> None:
    answer = lab.exchange_aws(aws_token(lab.key()), **fields)
    assert (answer.status, body(answer)["error"]) == (400, error)
    assert text in body(answer)["error_description"]


def test_repeated_form_field_is_refused(lab: Lab) -> None:
    kind = "application/x-www-form-urlencoded"
    url = "https://sts.googleapis.com/v1/token"
    answer = lab.call("POST", url, b"grant_type=a&grant_type=b", Content_Type=kind)
    assert body(answer) == {
        "error": "invalid_request",
        "error_description": 'Repeated field "grant_type".',
    }


@pytest.mark.parametrize("resource", ["pool", "provider"])
@pytest.mark.parametrize(("field", "value"), [("disabled", True), ("state", "DELETED")])
def test_disabled_or_deleted_pool_or_provider_is_invalid_target(
    lab: Lab, resource: str, field: str, value: object
) -> None:
    changed = lab.world.google.pool(POOL) if resource == "pool" else lab.aws_provider
    setattr(changed, field, value)
    answer = lab.exchange_aws(aws_token(lab.key()))
    assert body(answer)["error"] == "invalid_target"
    assert body(answer)["error_description"].startswith(TARGET)


# --- the token service: AWS credentials ----------------------------------------------------


def wrong_secret(lab: Lab) -> Response:
    key = lab.key()
    forged = type(key)(key.id, "x" * 40, key.principal, key.token, key.expires)
    return lab.exchange_aws(aws_token(forged))


def tampered_date(lab: Lab) -> Response:
    request = headers_of(aws_request(lab.key()), **{"x-amz-date": "20200101T000000Z"})
    return lab.exchange_aws(as_token(request))


def stale_date(lab: Lab) -> Response:
    token = aws_token(lab.key())
    lab.clock.now += 20 * 60
    return lab.exchange_aws(token)


def expired_session(lab: Lab) -> Response:
    token = aws_token(lab.key(seconds=60))
    lab.clock.now += 120
    return lab.exchange_aws(token)


def retargeted(lab: Lab) -> Response:
    """Signed for another provider, the header then rewritten for this one."""
    request = aws_request(lab.key(), provider=f"{POOL}/providers/other")
    resource = f"//iam.googleapis.com/{AWS_PROVIDER}"
    return lab.exchange_aws(as_token(headers_of(request, **target(resource))))


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (wrong_secret, "SignatureDoesNotMatch"),
        (tampered_date, "SignatureDoesNotMatch"),
        (stale_date, "SignatureDoesNotMatch"),
        (expired_session, "ExpiredToken"),
        (retargeted, "SignatureDoesNotMatch"),
    ],
)
def test_refusal_of_aws_is_passed_on(lab: Lab, case: Case, kind: str) -> None:
    answer = case(lab)
    assert (answer.status, body(answer)["error"]) == (400, "invalid_grant")
    expected = f"Received invalid AWS response of type {kind} with error message: "
    assert body(answer)["error_description"].startswith(expected)


QUERY = "Action=GetCallerIdentity&Version=2011-06-15"


@pytest.mark.parametrize(
    "url",
    [
        f"http://sts.us-east-1.amazonaws.com/?{QUERY}",
        f"https://sts.amazonaws.com.evil.example/?{QUERY}",
        f"https://evil.example/?{QUERY}",
        f"https://user@sts.us-east-1.amazonaws.com/?{QUERY}",
        f"https://sts.us-east-1.amazonaws.com:8443/?{QUERY}",
        f"https://STS.us-east-1.amazonaws.com/?{QUERY}",
        f"https://sts.us-east-1.amazonaws.com./?{QUERY}",
        f"https://sts.us-east-1.amazonaws.com/x?{QUERY}",
        f"https://sts.us-east-1.amazonaws.com/?{QUERY}#x",
        f"https://sts.us-east-1.amazonaws.com/?{QUERY}&DurationSeconds=900",
        f"https://sts.us-east-1.amazonaws.com/?{QUERY}&Action=AssumeRole",
        "https://sts.us-east-1.amazonaws.com/?Action=AssumeRole&Version=2011-06-15",
        "https://sts.us-east-1.amazonaws.com/?action=GetCallerIdentity&Version=2011-06-15",
        "https://sts.us-east-1.amazonaws.com/?Action=GetCaller%49dentity&Version=2011-06-15",
        "https://sts.us-east-1.amazonaws.com/",
        "https://[sts",
        42,
    ],
)
def test_url_other_than_get_caller_identity_is_never_called(lab: Lab, url: object) -> None:
    request = {**aws_request(lab.key()), "url": url}
    answer = lab.exchange_aws(as_token(request))
    assert body(answer)["error"] == "invalid_request"
    assert "not a valid AWS GetCallerIdentity token" in body(answer)["error_description"]


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"headers": {}},
        {"headers": [{"key": "host"}]},
        {"headers": [{"key": "a b", "value": "x"}]},
        {"headers": [{"key": "host", "value": "x\r\nY: z"}]},
    ],
)
def test_malformed_aws_request_is_refused(lab: Lab, change: dict[str, Any]) -> None:
    answer = lab.exchange_aws(as_token({**aws_request(lab.key()), **change}))
    assert body(answer)["error"] == "invalid_request"


@pytest.mark.parametrize(
    "changes",
    [
        target(None),
        target(f"//iam.googleapis.com/{AZURE_PROVIDER}"),
        target(f"http://iam.googleapis.com/{AWS_PROVIDER}"),
        {"host": "sts.amazonaws.com"},
        {"host": None},
        {"authorization": None},
        {"x-amz-date": None},
        {"transfer-encoding": "chunked"},
    ],
)
def test_aws_request_with_wrong_headers_is_refused(
    lab: Lab, changes: dict[str, str | None]
) -> None:
    answer = lab.exchange_aws(as_token(headers_of(aws_request(lab.key()), **changes)))
    assert body(answer)["error"] == "invalid_request"


def test_header_repeated_with_one_value_passes_and_with_two_is_refused(lab: Lab) -> None:
    request = aws_request(lab.key())
    same = {"key": "X-Goog-Cloud-Target-Resource", "value": f"//iam.googleapis.com/{AWS_PROVIDER}"}
    other = {**same, "value": f"//iam.googleapis.com/{AZURE_PROVIDER}"}
    twice = {**request, "headers": [*request["headers"], same]}
    mixed = {**request, "headers": [*request["headers"], other]}
    assert lab.exchange_aws(as_token(twice)).status == 200
    assert lab.exchange_aws(as_token(mixed)).status == 400


def test_other_aws_account_is_refused(lab: Lab) -> None:
    lab.aws_provider.attribute_condition = ""
    key = lab.accounts.issue("arn:aws:iam::999999999999:role/tokenvend", "s")
    answer = lab.exchange_aws(aws_token(key))
    assert body(answer)["error"] == "unauthorized_client"
    assert "AWS account" in body(answer)["error_description"]


@pytest.mark.parametrize("role", ["etl", "stranger"])
def test_failed_attribute_condition_is_refused(lab: Lab, role: str) -> None:
    answer = lab.exchange_aws(aws_token(lab.key(role)))
    assert body(answer) == {
        "error": "unauthorized_client",
        "error_description": "The given credential is rejected by the attribute condition.",
    }


def test_user_whose_path_imitates_a_role_is_refused(lab: Lab) -> None:
    user = lab.world.aws.users[0]
    user.path = "/assumed-role/tokenvend/"
    answer = lab.exchange_aws(aws_token(lab.accounts.user(user.user_name)))
    assert body(answer)["error"] == "unauthorized_client"


@pytest.mark.parametrize(("role_length", "status"), [(23, 200), (24, 400)])
def test_subject_over_127_bytes_is_refused(lab: Lab, role_length: int, status: int) -> None:
    lab.aws_provider.attribute_mapping = {}  # then the subject is the ARN
    lab.aws_provider.attribute_condition = ""
    key = lab.accounts.issue(f"arn:aws:iam::111122223333:role/{'r' * role_length}", "s" * 64)
    answer = lab.exchange_aws(aws_token(key))
    assert answer.status == status
    if status == 400:
        assert body(answer)["error"] == "invalid_request"
        assert body(answer)["error_description"].startswith(
            "The size of mapped attribute google.subject exceeds the 127 bytes limit."
        )


@pytest.mark.parametrize("expression", ["assertion.absent", "''", "1", "assertion.arn =="])
def test_mapping_without_a_subject_is_refused(lab: Lab, expression: str) -> None:
    lab.aws_provider.attribute_mapping = {"google.subject": expression}
    answer = lab.exchange_aws(aws_token(lab.key()))
    assert body(answer)["error_description"] == (
        "Could not obtain a value for google.subject from the given credential."
    )


# --- the token service: OIDC credentials ---------------------------------------------------


def foreign_signature(lab: Lab) -> str:
    key_id = jwt.get_unverified_header(lab.jwt())["kid"]
    other = Lab().entra
    return other.mint(
        other.identity("tokenvend"), "api://tokenvend-federation", header={"kid": key_id}
    )


def expired(lab: Lab) -> str:
    token = lab.jwt(lifetime=300)
    lab.clock.now += 361
    return token


def unconditional(lab: Lab, subject: str | None) -> str:
    lab.azure_provider.attribute_condition = ""
    return lab.jwt(sub=subject)


def unsigned(lab: Lab) -> str:
    claims = jwt.decode(lab.jwt(), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": "x"})


def symmetric(lab: Lab) -> str:
    claims = jwt.decode(lab.jwt(), options={"verify_signature": False})
    kid = jwt.get_unverified_header(lab.jwt())["kid"]
    return jwt.encode(claims, "k" * 64, algorithm="HS256", headers={"kid": kid})


@pytest.mark.parametrize(
    ("token", "error", "text"),
    [
        (
            lambda lab: lab.jwt(aud="api://other"),
            "invalid_grant",
            "The audience in ID Token [api://other] does not match the expected audience.",
        ),
        (
            lambda lab: lab.jwt(iss="https://sts.windows.net/other/"),
            "invalid_grant",
            "The issuer in ID Token https://sts.windows.net/other/ does not match the expected one",
        ),
        (expired, "invalid_grant", "is stale to sign-in."),
        (
            lambda lab: lab.jwt(iat=int(lab.clock()) - 90_000),
            "invalid_grant",
            "is stale to sign-in.",
        ),
        (lambda lab: lab.jwt(iat=int(lab.clock()) + 300), "invalid_grant", "in the future"),
        (lambda lab: lab.jwt(nbf=int(lab.clock()) + 300), "invalid_grant", "in the future"),
        (lambda lab: lab.jwt(exp=None), "invalid_grant", "is stale to sign-in."),
        (lambda lab: lab.jwt(exp=float("nan")), "invalid_grant", "is stale to sign-in."),
        (lambda lab: lab.jwt(exp="soon"), "invalid_grant", "is stale to sign-in."),
        (
            lambda lab: lab.jwt(iat=None),
            "invalid_grant",
            "ID Token issued at null is stale to sign-in.",
        ),
        (lambda lab: lab.jwt(nbf="soon"), "invalid_grant", "in the future"),
        (
            lambda lab: lab.jwt(iss=None),
            "invalid_grant",
            "The issuer in ID Token null does not match the expected one",
        ),
        (
            lambda lab: lab.jwt(aud=None),
            "invalid_grant",
            "The audience in ID Token [] does not match the expected audience.",
        ),
        (foreign_signature, "invalid_grant", "Unable to verify the ID Token signature."),
        (unsigned, "invalid_grant", "Unable to verify the ID Token signature."),
        (symmetric, "invalid_grant", "Unable to verify the ID Token signature."),
        (
            lambda lab: lab.entra.mint(
                lab.entra.identity("tokenvend"),
                "api://tokenvend-federation",
                header={"kid": "gone"},
            ),
            "invalid_grant",
            "Error connecting to the given credential's issuer.",
        ),
        (lambda _: "not.a.jwt", "invalid_grant", "Unable to parse the ID Token."),
        (
            lambda lab: lab.jwt(sub="00000000-0000-0000-0000-000000000000"),
            "unauthorized_client",
            "The given credential is rejected by the attribute condition.",
        ),
        (
            lambda lab: unconditional(lab, None),
            "unauthorized_client",
            "Could not obtain a value for google.subject from the given credential.",
        ),
        (
            lambda lab: unconditional(lab, "s" * 128),
            "invalid_request",
            "The size of mapped attribute google.subject exceeds the 127 bytes limit.",
        ),
    ],
)
def test_wrong_oidc_token_is_refused(
    lab: Lab, token: Callable[[Lab], str], error: str, text: str
) -> None:
    answer = lab.exchange_jwt(token(lab))
    assert (answer.status, body(answer)["error"]) == (400, error)
    assert text in body(answer)["error_description"]


def test_a_token_without_a_subject_is_first_rejected_by_the_condition(lab: Lab) -> None:
    lab.azure_provider.attribute_condition = "assertion.sub == 'somebody'"
    answer = lab.exchange_jwt(lab.jwt(sub=None))
    assert body(answer)["error_description"] == (
        "The given credential is rejected by the attribute condition."
    )


def test_clock_skew_of_a_minute_is_allowed_but_no_token_is_born_dead(lab: Lab) -> None:
    token = lab.jwt(lifetime=300)
    lab.clock.now += 330
    assert body(lab.exchange_jwt(token))["expires_in"] == 1


def test_federated_token_does_not_outlive_its_credential(lab: Lab) -> None:
    assert body(lab.exchange_jwt(lab.jwt(lifetime=600)))["expires_in"] == 600
    assert body(lab.exchange_jwt(lab.jwt(lifetime=80_000)))["expires_in"] == 3600


def test_without_allowed_audiences_the_provider_is_the_audience(lab: Lab) -> None:
    oidc = lab.azure_provider.oidc
    assert oidc is not None
    oidc.allowed_audiences = []
    name = f"//iam.googleapis.com/{AZURE_PROVIDER}"
    assert lab.exchange_jwt(lab.jwt(aud=name)).status == 200
    assert lab.exchange_jwt(lab.jwt(aud=f"https:{name}")).status == 200
    assert lab.exchange_jwt(lab.jwt()).status == 400


def test_uploaded_keys_replace_discovery(lab: Lab) -> None:
    oidc = lab.azure_provider.oidc
    assert oidc is not None
    token = lab.jwt()
    oidc.jwks_json = json.dumps(lab.entra.key_set())
    lab.entra.rotate(retire=True)
    assert lab.exchange_jwt(token).status == 200
    oidc.jwks_json = ""
    assert lab.exchange_jwt(token).status == 400
