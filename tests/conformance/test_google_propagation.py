"""A changed policy takes its time: with a propagation set, grants and removals act after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from localcloud import google
from localcloud.cloud import Cloud
from localcloud.google.core import policies
from localcloud.google.core.bindings import Kind
from localcloud.world import World
from tests.conformance.google_lab import INVOKER, ORDERS, POOL, READ_WRITE, UNBOUND, Lab
from tokenvend.cli import main

if TYPE_CHECKING:
    from pathlib import Path

DELAY = 70
CALLER = f"principalSet://iam.googleapis.com/{POOL}/attribute.aws_role/tokenvend"
ACCOUNT = f"https://iam.googleapis.com/v1/projects/-/serviceAccounts/{UNBOUND}"


@pytest.fixture
def lab() -> Lab:
    return Lab(propagation=DELAY)


def admin(lab: Lab) -> str:
    return google.environment_of(lab.google, "admin")["CLOUDSDK_AUTH_ACCESS_TOKEN"]


def bind(lab: Lab, *members: str) -> None:
    """As `gcloud iam service-accounts add-iam-policy-binding` does it, and its opposite."""
    policy = json.loads(lab.call("POST", f"{ACCOUNT}:getIamPolicy", {}, admin(lab)).body)
    binding = {"role": "roles/iam.workloadIdentityUser", "members": list(members)}
    policy["bindings"] = [binding] if members else []
    answer = lab.call("POST", f"{ACCOUNT}:setIamPolicy", {"policy": policy}, admin(lab))
    assert answer.status == 200, answer.body


def mint(lab: Lab) -> int:
    message = {"scope": [READ_WRITE]}
    return lab.credentials(UNBOUND, "generateAccessToken", message, lab.federated()).status


def test_a_new_binding_acts_after_the_delay_and_is_shown_at_once(lab: Lab) -> None:
    bind(lab, CALLER)
    shown: Any = json.loads(lab.call("POST", f"{ACCOUNT}:getIamPolicy", {}, admin(lab)).body)
    assert shown["bindings"][0]["members"] == [CALLER]
    assert mint(lab) == 403
    lab.clock.now += DELAY - 1
    assert mint(lab) == 403
    lab.clock.now += 1
    assert mint(lab) == 200


def test_a_removed_binding_acts_until_the_delay_is_over(lab: Lab) -> None:
    bind(lab, CALLER)
    lab.clock.now += DELAY
    bind(lab)
    assert mint(lab) == 200
    lab.clock.now += DELAY - 1
    assert mint(lab) == 200
    lab.clock.now += 1
    assert mint(lab) == 403


def test_each_of_several_changes_acts_in_its_turn(lab: Lab) -> None:
    seen = []
    for change in ([CALLER], [], [CALLER]):
        bind(lab, *change)
        seen.append(mint(lab))
        lab.clock.now += DELAY / 2
    for _ in range(3):
        seen.append(mint(lab))
        lab.clock.now += DELAY / 2
    assert seen == [403, 403, 200, 403, 200, 200]


def test_what_a_test_changes_in_the_world_acts_at_once(lab: Lab) -> None:
    account = lab.world.google.service_account(UNBOUND)
    assert account is not None
    account.iam_policy.grant("roles/iam.workloadIdentityUser", CALLER)
    assert mint(lab) == 200


def test_without_a_delay_a_binding_acts_at_once_and_nothing_is_remembered() -> None:
    lab = Lab()
    bind(lab, CALLER)
    assert mint(lab) == 200
    bind(lab)
    assert mint(lab) == 403
    account = lab.world.google.service_account(UNBOUND)
    assert account is not None
    assert account.iam_policy.earlier == ()


def test_a_service_is_opened_to_everybody_after_the_delay_too(lab: Lab) -> None:
    service, now = lab.world.google.services[0], lab.clock()
    given = {"bindings": [{"role": "roles/run.invoker", "members": ["allUsers"]}]}
    policies.replace(lab.google, service, Kind.RUN_SERVICE, given, now)
    assert lab.call("GET", ORDERS).status == 403
    assert lab.call("GET", ORDERS, token=lab.id_token(account=INVOKER)).status == 200
    lab.clock.now += DELAY
    assert lab.call("GET", ORDERS).status == 200


def test_what_was_replaced_is_no_part_of_a_saved_world(lab: Lab) -> None:
    bind(lab, CALLER)
    assert "earlier" not in lab.world.dump()


def test_the_setting_reaches_google(tmp_path: Path) -> None:
    assert Cloud(World.load(), tmp_path, functions=(), propagation=DELAY).google.propagation == 70


@pytest.mark.parametrize("given", ["soon", "-1", "1.5h", "", "s", "٣"])
def test_a_propagation_that_is_no_number_of_seconds_is_refused(given: str) -> None:
    result = CliRunner().invoke(main, ["local", "up", "--propagation", given])
    assert result.exit_code == 2
    assert "is no number of seconds" in result.output
