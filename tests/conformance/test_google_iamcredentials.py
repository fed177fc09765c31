"""IAM Credentials: each wrong call meets Google's own error; the right ones pass beside them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from tests.conformance.google_lab import (
    AUDITED,
    CLOUD_PLATFORM,
    INVOKER,
    LANDING,
    LONGHAUL,
    POOL,
    READ_WRITE,
    UNBOUND,
    Lab,
    body,
)

if TYPE_CHECKING:
    from collections.abc import Callable


INVALID = "Request contains an invalid argument."
TOO_LONG = (
    f"Access tokens for service account {LANDING} can not have lifetimes of more than 1 hour. Use "
    "the Org Policy Constraint constraints/iam.allowServiceAccountCredentialLifetimeExtension to "
    "allow up to 12 hours."
)
ZERO = "Lifetime of access token must be larger then zero."


@pytest.mark.parametrize(
    ("account", "change", "code", "status", "text"),
    [
        (LANDING, {"scope": []}, 400, "INVALID_ARGUMENT", "scope"),
        (LANDING, {"scope": [1]}, 400, "INVALID_ARGUMENT", "scope"),
        (LANDING, {"scope": [READ_WRITE, "a b"]}, 400, "INVALID_ARGUMENT", INVALID),
        (LANDING, {"scope": [f"{READ_WRITE} {READ_WRITE}"]}, 400, "INVALID_ARGUMENT", INVALID),
        (LANDING, {"scope": [READ_WRITE[:-1]]}, 400, "INVALID_ARGUMENT", INVALID),
        # What google-github-actions/auth met: the address of a Cloud Run service is no scope.
        (LANDING, {"scope": ["https://orders-uc.a.run.app"]}, 400, "INVALID_ARGUMENT", INVALID),
        (LANDING, {"lifetime": "3601s"}, 400, "INVALID_ARGUMENT", TOO_LONG),
        (LANDING, {"lifetime": "3600.5s"}, 400, "INVALID_ARGUMENT", "1 hour"),
        (LONGHAUL, {"lifetime": "43201s"}, 400, "INVALID_ARGUMENT", "12 hours"),
        (LANDING, {"lifetime": "0s"}, 400, "INVALID_ARGUMENT", ZERO),
        (LANDING, {"lifetime": "-5s"}, 400, "INVALID_ARGUMENT", ZERO),
        (LANDING, {"lifetime": "3600"}, 400, "INVALID_ARGUMENT", "duration must end with 's'"),
        (LANDING, {"lifetime": "1e3s"}, 400, "INVALID_ARGUMENT", "Illegal duration"),
        (LANDING, {"lifetime": 3600}, 400, "INVALID_ARGUMENT", "lifetime"),
        (LANDING, {"nope": 1}, 400, "INVALID_ARGUMENT", 'Unknown name "nope": Cannot find field.'),
        (LANDING, {"delegates": [LANDING]}, 400, "INVALID_ARGUMENT", "projects/-/serviceAccounts/"),
        ("absent@acme.iam.gserviceaccount.com", {}, 404, "NOT_FOUND", "Gaia id not found"),
        (
            UNBOUND,
            {},
            403,
            "PERMISSION_DENIED",
            "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not",
        ),
        (AUDITED, {}, 403, "PERMISSION_DENIED", "getAccessToken"),
    ],
)
def test_wrong_impersonation_is_refused(
    lab: Lab, account: str, change: dict[str, Any], code: int, status: str, text: str
) -> None:
    message = {"scope": [READ_WRITE], "lifetime": "3600s", **change}
    answer = lab.credentials(account, "generateAccessToken", message, lab.federated())
    error = body(answer)["error"]
    assert (answer.status, error["code"], error["status"]) == (code, code, status)
    assert text in error["message"]


def test_the_empty_scope_is_the_scope_of_everything(lab: Lab) -> None:
    answer = lab.credentials(LANDING, "generateAccessToken", {"scope": [""]}, lab.federated())
    info = f"https://oauth2.googleapis.com/tokeninfo?access_token={body(answer)['accessToken']}"
    assert body(lab.call("GET", info))["scope"] == CLOUD_PLATFORM


def test_denied_impersonation_names_the_permission_in_its_details(lab: Lab) -> None:
    answer = lab.credentials(UNBOUND, "generateIdToken", {"audience": "x"}, lab.federated())
    assert body(answer)["error"]["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED",
            "domain": "iam.googleapis.com",
            "metadata": {"permission": "iam.serviceAccounts.getOpenIdToken"},
        }
    ]


@pytest.mark.parametrize(("account", "lifetime"), [(LANDING, "1s"), (LONGHAUL, "43200s")])
def test_lifetimes_at_their_limits_pass(lab: Lab, account: str, lifetime: str) -> None:
    message = {"scope": [READ_WRITE], "lifetime": lifetime, "delegates": None}
    answer = lab.credentials(account, "generateAccessToken", message, lab.federated())
    assert answer.status == 200
    assert body(answer)["expireTime"].endswith("Z")
    assert "." not in body(answer)["expireTime"]


def test_account_is_found_by_email_encoded_email_and_unique_id(lab: Lab) -> None:
    message = {"scope": [READ_WRITE]}
    for name in (LANDING, LANDING.replace("@", "%40"), "101010101010101010101"):
        token = lab.federated()
        assert lab.credentials(name, "generateAccessToken", message, token).status == 200


def test_project_in_place_of_the_wildcard_is_refused(lab: Lab) -> None:
    url = f"https://iamcredentials.googleapis.com/v1/projects/acme/serviceAccounts/{LANDING}"
    message = {"scope": [READ_WRITE]}
    answer = lab.call("POST", f"{url}:generateAccessToken", message, lab.federated())
    assert body(answer)["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("token", "code", "reason"),
    [
        (lambda _: None, 401, "CREDENTIALS_MISSING"),
        (lambda _: "ya29.c.unknown", 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        (lambda lab: lab.id_token(), 401, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        (
            lambda lab: lab.federated(scope="https://www.googleapis.com/auth/devstorage.read_only"),
            403,
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        ),
    ],
)
def test_wrong_bearer_is_refused(
    lab: Lab, token: Callable[[Lab], str | None], code: int, reason: str
) -> None:
    answer = lab.credentials(LANDING, "generateAccessToken", {"scope": ["x"]}, token(lab))
    assert answer.status == code
    assert body(answer)["error"]["details"][0]["reason"] == reason


def test_expired_bearer_is_refused(lab: Lab) -> None:
    token = lab.federated()
    lab.clock.now += 3600
    answer = lab.credentials(LANDING, "generateAccessToken", {"scope": ["x"]}, token)
    assert answer.status == 401
    assert body(answer)["error"]["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"


def test_disabling_the_provider_spares_tokens_and_disabling_the_pool_does_not(lab: Lab) -> None:
    token, message = lab.federated(), {"scope": [READ_WRITE]}
    lab.aws_provider.disabled = True
    assert lab.credentials(LANDING, "generateAccessToken", message, token).status == 200
    pool = lab.world.google.pool(POOL)
    assert pool is not None
    pool.disabled = True
    assert lab.credentials(LANDING, "generateAccessToken", message, token).status == 401


def test_disabled_account_mints_nothing_and_its_tokens_die(lab: Lab) -> None:
    token, storage = lab.federated(), lab.access_token()
    account = lab.world.google.service_account(LANDING)
    assert account is not None
    account.disabled = True
    answer = lab.credentials(LANDING, "generateAccessToken", {"scope": [READ_WRITE]}, token)
    assert body(answer)["error"]["status"] == "FAILED_PRECONDITION"
    url = "https://storage.googleapis.com/storage/v1/b/acme-landing/o"
    assert lab.call("GET", url, token=storage).status == 401


def test_chain_of_delegates_needs_every_link(lab: Lab) -> None:
    message = {"scope": [READ_WRITE], "delegates": [f"projects/-/serviceAccounts/{LANDING}"]}
    token = lab.federated()
    assert lab.credentials(AUDITED, "generateAccessToken", message, token).status == 200
    # workloadIdentityUser alone may impersonate landing but not delegate through it.
    landing = lab.world.google.service_account(LANDING)
    assert landing is not None
    landing.iam_policy.bindings = landing.iam_policy.bindings[:1]
    answer = lab.credentials(AUDITED, "generateAccessToken", message, token)
    assert "iam.serviceAccounts.implicitDelegation" in body(answer)["error"]["message"]
    # An account that may not mint for the next ends the chain as well.
    message["delegates"] = [f"projects/-/serviceAccounts/{INVOKER}"]
    assert lab.credentials(AUDITED, "generateAccessToken", message, token).status == 403


def test_chain_of_eleven_delegates_is_too_long(lab: Lab) -> None:
    message: dict[str, Any] = {"scope": [READ_WRITE]}
    for count, told in ((10, 403), (11, 400)):
        message["delegates"] = [f"projects/-/serviceAccounts/{LANDING}"] * count
        answer = lab.credentials(AUDITED, "generateAccessToken", message, lab.federated())
        assert answer.status == told


@pytest.mark.parametrize(
    ("member", "status"),
    [
        (f"principalSet://iam.googleapis.com/{POOL}/*", 200),
        (f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/tokenvend", 200),
        (f"principal://iam.googleapis.com/{POOL}/subject/aws::111122223333::tokenvend", 200),
        (f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/token", 403),
        (f"principalSet://iam.googleapis.com/{POOL}/group/tokenvend", 403),
        (f"principalSet://iam.googleapis.com/{POOL.replace('123456789012', 'acme')}/*", 403),
        ("allAuthenticatedUsers", 403),
    ],
)
def test_binding_covers_exactly_its_member(lab: Lab, member: str, status: int) -> None:
    account = lab.world.google.service_account(UNBOUND)
    assert account is not None
    account.iam_policy.grant("roles/iam.workloadIdentityUser", member)
    token = lab.federated()
    answer = lab.credentials(UNBOUND, "generateAccessToken", {"scope": [READ_WRITE]}, token)
    assert answer.status == status


def test_signing_needs_the_token_creator(lab: Lab) -> None:
    message = {"payload": base64.b64encode(b"text").decode()}
    token = lab.federated()
    assert lab.credentials(LANDING, "signBlob", message, token).status == 200
    answer = lab.credentials(INVOKER, "signBlob", message, token)
    assert "iam.serviceAccounts.signBlob" in body(answer)["error"]["message"]


@pytest.mark.parametrize("payload", ["", "***", None])
def test_blob_that_is_not_base64_is_refused(lab: Lab, payload: str | None) -> None:
    answer = lab.credentials(LANDING, "signBlob", {"payload": payload}, lab.federated())
    assert body(answer)["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "[]",
        "{",
        '{"exp": 1}',
        '{"exp": true}',
        '{"exp": "NOW"}',
        '{"exp": NOW.5}',
        '{"exp": NOWe0}',
        '{"exp": NaN}',
        '{"exp": LATE}',
        '{"exp": null}',
    ],
)
def test_jwt_whose_end_is_no_integer_within_12_hours_is_not_signed(lab: Lab, payload: str) -> None:
    now = int(lab.clock())
    text = payload.replace("NOW", str(now + 60)).replace("LATE", str(now + 12 * 3600 + 1))
    answer = lab.credentials(LANDING, "signJwt", {"payload": text}, lab.federated())
    assert (answer.status, body(answer)["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_jwt_is_signed_as_it_is_written(lab: Lab) -> None:
    payload = f'{{ "sub":"x",  "exp": {int(lab.clock()) + 12 * 3600} }}'
    answer = lab.credentials(LANDING, "signJwt", {"payload": payload}, lab.federated())
    head, claims, _ = body(answer)["signedJwt"].split(".")
    assert base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)).decode() == payload
    header = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    assert header == {"alg": "RS256", "kid": body(answer)["keyId"], "typ": "JWT"}
    keys = f"https://www.googleapis.com/service_accounts/v1/jwk/{LANDING}"
    key = jwt.PyJWKSet.from_json(lab.call("GET", keys).body.decode())[header["kid"]]
    assert jwt.decode(body(answer)["signedJwt"], key, algorithms=["RS256"])["sub"] == "x"


def test_the_mtls_host_is_the_same_service(lab: Lab) -> None:
    url = "https://iamcredentials.mtls.googleapis.com/v1/projects/-/serviceAccounts"
    message = {"scope": [READ_WRITE]}
    answer = lab.call("POST", f"{url}/{LANDING}:generateAccessToken", message, lab.federated())
    assert answer.status == 200


def test_a_project_that_the_caller_may_not_use_is_refused(lab: Lab) -> None:
    message, token = {"scope": [READ_WRITE]}, lab.federated()
    url = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{LANDING}"
    fields = {"X_Goog_User_Project": "acme"}
    answer = lab.call("POST", f"{url}:generateAccessToken", message, token, **fields)
    assert answer.status == 403
    reasons = [detail.get("reason") for detail in body(answer)["error"]["details"]]
    assert "USER_PROJECT_DENIED" in reasons
