"""The world file: read, written back, and refused when it does not say what it seems to say."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from localcloud.google.core import policies
from localcloud.google.core.bindings import Kind
from localcloud.google.core.cloud import GoogleCloud
from localcloud.google.iam.provider_rules import check_provider
from localcloud.wire.web import Router
from localcloud.world import DEFAULT_WORLD, Policy, World
from localcloud.world.resources import WorldError


def test_dumped_world_reads_back_equal() -> None:
    world = World.load()
    world.google.buckets[0].iam_policy.grant("roles/storage.admin", "allUsers")
    assert World.parse(world.dump()) == world


def test_what_resources_share_is_written_out_for_each() -> None:
    world = World.load()
    first, second = (role.assume_role_policy_document for role in world.aws.roles[:2])
    assert first["Statement"] is second["Statement"]
    text = world.dump()
    assert not re.search(r"[:-] [&*]\w", text)


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("attributeCondition:", "attributeConditions:", "workloadIdentityPoolProviders[0]"),
        ('accountId: "111122223333"', "accountId: 111122223333", "aws.accountId"),
        ("disabled: false", "disabled: 'false'", "disabled"),
        ("uniqueId:", "uniqueid:", "serviceAccounts[0]"),
        ("aws:\n", "amazon:\n", "exactly the keys"),
        ("aws:\n", "aws: [\n", "not YAML"),
        ("members: [", "members: {", "not YAML"),
        # The first of two would silently be gone.
        ("            Condition:\n", "            Condition:\n            Condition:\n", "twice"),
        ("bindings: []", "bindings: ''", "bindings"),
    ],
)
def test_world_with_a_slip_is_refused_with_its_path(old: str, new: str, path: str) -> None:
    text = DEFAULT_WORLD.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(WorldError) as refusal:
        World.parse(text.replace(old, new, 1))
    assert path in str(refusal.value)


def test_granting_twice_adds_a_member_once_and_revoking_removes_it() -> None:
    policy = Policy()
    policy.grant("roles/run.invoker", "allUsers")
    policy.grant("roles/run.invoker", "allUsers")
    assert [binding.members for binding in policy.bindings] == [["allUsers"]]
    policy.revoke("allUsers")
    assert [binding.members for binding in policy.bindings] == [[]]


def test_the_default_world_is_one_that_google_would_let_be_made() -> None:
    world = World.load()
    google = world.google
    cloud = GoogleCloud(world, lambda: 0, Router())
    holders: list[tuple[policies.Holder, Kind]] = [
        *((project, Kind.PROJECT) for project in google.projects),
        *((account, Kind.SERVICE_ACCOUNT) for account in google.service_accounts),
        *((bucket, Kind.BUCKET) for bucket in google.buckets),
        *((service, Kind.RUN_SERVICE) for service in google.services),
    ]
    checked = 0
    for holder, kind in holders:
        stood, holder.iam_policy = holder.iam_policy, Policy()
        bindings = [asdict(binding) for binding in stood.bindings]
        given = {"version": 3, "bindings": bindings}
        assert policies.replace(cloud, holder, kind, given, 0).bindings == stood.bindings
        checked += len(bindings)
    for provider in google.workload_identity_pool_providers:
        given = {field: value for field, value in asdict(provider).items() if value is not None}
        oidc = given.get("oidc") or {}
        check_provider(given | ({"oidc": {k: v for k, v in oidc.items() if v}} if oidc else {}))
        assert google.pool(provider.pool) is not None
        checked += 1
    assert checked > 10
