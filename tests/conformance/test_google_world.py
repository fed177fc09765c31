"""The world file: read, written back, and refused when it does not say what it seems to say."""

from __future__ import annotations

import pytest

from localcloud.world import DEFAULT_WORLD, Policy, World
from localcloud.world.resources import WorldError


def test_dumped_world_reads_back_equal() -> None:
    world = World.load()
    world.google.buckets[0].iam_policy.grant("roles/storage.admin", "allUsers")
    assert World.parse(world.dump()) == world


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
