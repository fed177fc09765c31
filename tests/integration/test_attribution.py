"""Attribution: Google's own log names the caller, and Google's IAM tells callers apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from localcloud.cloud import AUDIENCE, POLICY, POLICY_ON_AWS, ROOT, Cloud, CloudError
from localcloud.wire.faults import Fault, Kind
from localcloud.world import World
from tests.callers import Caller, managed_identity_token, session
from tests.canary import leaks, logs_of, secrets_of
from tokenvend.model import AwsCaller, EntraCaller
from tokenvend.policy.attribution import caller_label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import requests

LEDGER = "ledger@acme.iam.gserviceaccount.com"
POOL = "projects/123456789012/locations/global/workloadIdentityPools/tokenvend"
OWN = f"principal://iam.googleapis.com/{POOL}/subject/aws::111122223333::tokenvend"
AWS_STS = "sts.us-east-1.amazonaws.com"
ETL = caller_label(AwsCaller("arn:aws:iam::111122223333:role/etl", "111122223333", "etl"))
REPORTING = caller_label(
    EntraCaller(
        "3f2504e0-4f89-41d3-9a0c-0305e82c3301", "9a4a7c5e-8f7b-4d53-a0a4-4d6f3c2e1b02", "any"
    )
)


@pytest.fixture(scope="module")
def fresh(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The AWS function alone, whose caches hold nothing of other tests."""
    directory = tmp_path_factory.mktemp("attribution")
    with Cloud(World.load(), directory, functions=("aws",)) as running:
        yield running


@pytest.fixture(scope="module")
def cold(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The AWS function alone, which never gets a session: nothing is ever kept."""
    directory = tmp_path_factory.mktemp("cold")
    with Cloud(World.load(), directory, functions=("aws",)) as running:
        yield running


@pytest.fixture
def since(fresh: Cloud) -> int:
    """How many entries Google's log has at the start of a test."""
    return len(fresh.audit.entries)


def vended(cloud: Cloud, grant: str, **body: Any) -> str:
    answer = Caller(cloud.environment_for("etl")).token("/v1/access-token", grant=grant, **body)
    return str(answer["access_token"])


def asked(cloud: Cloud) -> requests.Response:
    """The answer to the role etl, which wants the attributed grant."""
    caller = Caller(cloud.environment_for("etl"))
    return caller.ask("POST", "/v1/access-token", b'{"grant": "ledger"}')


def exchanged(cloud: Cloud, name: str, grant: str) -> requests.Response:
    """An Entra caller at the AWS door, by the subject token it brings."""
    environment = cloud.environment_for(name)
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": f"{AUDIENCE}/grants/{grant}",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": managed_identity_token(environment),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    }
    url = f"{cloud.endpoints['aws']}/v1/token"
    return session(environment).post(url, data=fields, timeout=20)


def named(cloud: Cloud, since: int, method: str) -> list[dict[str, Any]]:
    """Who Google's log names for calls of a method."""
    entries = cloud.audit.entries[since:]
    return [entry.authentication_info for entry in entries if method in entry.method_name]


def subject(label: str) -> str:
    return f"{OWN}/caller.{label}"


def test_googles_log_names_the_caller(fresh: Cloud, since: int) -> None:
    token = vended(fresh, "ledger", lifetime="901s")
    assert named(fresh, since, "GenerateAccessToken") == [{"principalSubject": subject(ETL)}]
    listing = session(fresh.network_environment).get(
        "https://storage.googleapis.com/storage/v1/b/acme-landing/o",
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert listing.status_code == 200
    (used,) = named(fresh, since, "storage.objects.list")
    assert used["principalEmail"] == LEDGER
    assert used["serviceAccountDelegationInfo"] == [{"principalSubject": subject(ETL)}]


def test_the_binding_of_the_world_is_the_callers_own(fresh: Cloud) -> None:
    account = next(a for a in fresh.world.google.service_accounts if a.email == LEDGER)
    members = [member for binding in account.iam_policy.bindings for member in binding.members]
    assert members == [f"principalSet://iam.googleapis.com/{POOL}/attribute.caller/{ETL}"]


def test_the_operators_page_shows_the_mapping_that_is_tried_here(fresh: Cloud) -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    provider = next(p for p in fresh.world.google.workload_identity_pool_providers if p.aws)
    mapping = provider.attribute_mapping.items()
    assert {key for key, expression in mapping if f"= {expression}\n" not in page} == set()
    condition = provider.attribute_condition.replace("111122223333", "ACCOUNT")
    assert f"= {condition.replace('tokenvend', 'ROLE')}\n" in page


def test_another_caller_of_the_grant_cannot_use_the_firsts_binding(
    fresh: Cloud, since: int
) -> None:
    vended(fresh, "ledger", lifetime="902s")
    answer = exchanged(fresh, "reporting", "ledger")
    assert answer.status_code == 502, answer.text
    refused = [entry for entry in fresh.audit.entries[since:] if entry.status]
    assert [entry.authentication_info["principalSubject"] for entry in refused] == [
        subject(REPORTING)
    ]
    # Nor does what was kept for the second stand in the way of the first.
    assert vended(fresh, "ledger", lifetime="903s")


def test_a_grant_without_attribution_is_asked_for_in_our_own_name(fresh: Cloud, since: int) -> None:
    vended(fresh, "landing-writer", lifetime="901s")
    assert exchanged(fresh, "reporting", "landing-writer").status_code == 200
    assert named(fresh, since, "GenerateAccessToken") == [{"principalSubject": OWN}] * 2


def test_what_is_bound_to_a_caller_cannot_be_had_without_attribution(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text((ROOT / POLICY_ON_AWS).read_text().replace('attribute = "caller"', ""))
    policy.write_text("version = 1\n" + policy.read_text())
    made = Cloud(World.load(), tmp_path / "cloud", functions=("aws",), policy=str(policy))
    with made as cloud:
        answer = asked(cloud)
    assert answer.status_code == 502
    assert answer.json()["code"] == "upstream_refused"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(AWS_STS, Kind.STATUS, status=429, retry_after="60"), 429),
        (Fault(AWS_STS, Kind.STATUS, status=503), 503),
        (Fault(AWS_STS, Kind.GARBAGE), 503),
    ],
    ids=["throttled", "down", "garbage"],
)
def test_a_bad_minute_of_aws_sts_is_told_honestly_and_leaks_nothing(
    cold: Cloud, fault: Fault, status: int
) -> None:
    cold.faults.add(fault)
    try:
        answer = asked(cold)
    finally:
        cold.faults.clear()
    assert answer.status_code == status
    assert "Retry-After" in answer.headers
    logs = logs_of(cold)
    assert logs
    assert [leaks(text, secrets_of(cold)) for text in logs.values()] == [[]] * len(logs)


def test_azure_refuses_a_policy_that_it_cannot_hold(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("\n".join((ROOT / n).read_text() for n in (POLICY, POLICY_ON_AWS)))
    made = Cloud(World.load(), tmp_path / "cloud", functions=("azure",), policy=str(policy))
    with pytest.raises(CloudError), made:
        pass
    line = policy.read_text().splitlines().index('attribute = "caller"') + 1
    logs = "".join(logs_of(made).values())
    assert (
        f':{line}: [[grant]] \\"ledger\\": `attribute = \\"caller\\"` cannot be held on Azure'
        in logs
    )


def test_aws_refuses_attribution_without_a_role_of_a_known_name(tmp_path: Path) -> None:
    made = Cloud(World.load(), tmp_path, functions=("aws",), parameters={"RoleName": ""})
    with pytest.raises(CloudError), made:
        pass
    assert "TOKENVEND_AWS_ROLE_ARN" in "".join(logs_of(made).values())
