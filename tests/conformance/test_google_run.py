"""Cloud Run's front: who is let through, by which address, and what the service then sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt
import pytest

from tests.conformance.google_lab import INVOKER, LANDING, ORDERS, Lab, body

if TYPE_CHECKING:
    from collections.abc import Callable


# The URL that anybody can write down who knows service, project number and region.
DETERMINISTIC = "https://orders-123456789012.us-central1.run.app"


@pytest.mark.parametrize("audience", [ORDERS, DETERMINISTIC, "orders.acme.example"])
@pytest.mark.parametrize("url", [ORDERS, DETERMINISTIC])
def test_each_url_takes_each_of_the_services_audiences(lab: Lab, url: str, audience: str) -> None:
    token = lab.id_token(audience)
    assert body(lab.call("GET", f"{url}/x?y=1", token=token)) == {
        "service": "orders",
        "method": "GET",
        "path": "/x",
        "caller": INVOKER,
        "authorization": f"Bearer {token.rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE",
    }


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (lambda _: None, 403),
        (lambda _: "x", 401),
        (lambda lab: lab.id_token("https://other.run.app"), 401),
        (lambda lab: lab.id_token(f"{ORDERS}/"), 401),
        (lambda lab: lab.id_token(DETERMINISTIC.replace("123456789012", "210987654321")), 401),
        (lambda lab: lab.access_token(), 401),
        (lambda lab: lab.federated(), 401),
        (lambda _: Lab().id_token(), 401),
        (lambda lab: lab.id_token(account=LANDING), 403),
    ],
)
def test_wrong_id_token_is_turned_away(
    lab: Lab, token: Callable[[Lab], str | None], status: int
) -> None:
    answer = lab.call("GET", ORDERS + "/", token=token(lab))
    assert answer.status == status
    assert b"<html>" in answer.body


def test_a_token_without_an_email_is_its_subjects(lab: Lab) -> None:
    token = lab.id_token(includeEmail=False)
    assert "email" not in jwt.decode(token, options={"verify_signature": False})
    assert body(lab.call("GET", ORDERS, token=token))["caller"] == INVOKER
    denied = lab.id_token(account=LANDING, includeEmail=False)
    assert lab.call("GET", ORDERS, token=denied).status == 403


def test_the_name_of_a_deleted_account_admits_nobody(lab: Lab) -> None:
    token = lab.id_token()
    account = lab.world.google.service_account(INVOKER)
    assert account is not None
    account.unique_id = "909090909090909090909"  # deleted, then made anew under its old name
    assert lab.call("GET", ORDERS, token=token).status == 401


def test_a_disabled_account_is_turned_away(lab: Lab) -> None:
    token = lab.id_token()
    account = lab.world.google.service_account(INVOKER)
    assert account is not None
    account.disabled = True
    assert lab.call("GET", ORDERS, token=token).status == 401


def test_expired_id_token_is_turned_away(lab: Lab) -> None:
    token = lab.id_token()
    lab.clock.now += 3599
    assert lab.call("GET", ORDERS + "/", token=token).status == 200
    lab.clock.now += 2
    assert lab.call("GET", ORDERS + "/", token=token).status == 401


def test_serverless_authorization_wins_over_authorization(lab: Lab) -> None:
    token = lab.id_token()
    fields = {"X_Serverless_Authorization": f"Bearer {token}"}
    answer = lab.call("GET", ORDERS + "/", token="x", **fields)
    assert answer.status == 200
    assert token not in answer.body.decode()
    assert body(answer)["x-serverless-authorization"].endswith(".SIGNATURE_REMOVED_BY_GOOGLE")
    fields = {"X_Serverless_Authorization": "Bearer x"}
    assert lab.call("GET", ORDERS + "/", token=lab.id_token(), **fields).status == 401


def test_a_second_credential_does_not_stand_in_for_the_first(lab: Lab) -> None:
    fields = {"authorization": f"Bearer {lab.id_token()}"}
    assert lab.call("GET", ORDERS + "/", token=lab.id_token(), **fields).status == 401


def test_open_service_asks_nobody(lab: Lab) -> None:
    service = lab.world.google.services[0]
    service.iam_policy.grant("roles/run.invoker", "allUsers")
    assert body(lab.call("GET", ORDERS + "/"))["caller"] is None
    assert lab.call("GET", "https://absent-uc.a.run.app/").status == 404


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"iss": "https://accounts.google.com.example"}, {}),
        ({"iss": None}, {}),
        ({"exp": None}, {}),
        ({"iat": None}, {}),
        ({"iat": "now"}, {}),
        ({"exp": float("inf")}, {}),
        ({}, {"kid": "another"}),
    ],
)
def test_a_token_that_google_would_never_have_made_is_turned_away(
    lab: Lab, claims: dict[str, Any], header: dict[str, str]
) -> None:
    sound = jwt.decode(lab.id_token(), options={"verify_signature": False})
    assert lab.call("GET", ORDERS, token=lab.google.key.sign_jwt(sound)).status == 200
    made = {name: value for name, value in {**sound, **claims}.items() if value is not None}
    assert lab.call("GET", ORDERS, token=lab.google.key.sign_jwt(made, header)).status == 401
