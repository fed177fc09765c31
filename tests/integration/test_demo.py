"""The demonstration tells the truth: a step that fails says so and ends its cloud's walk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localcloud import demo
from localcloud.cloud import Cloud
from localcloud.wire.faults import Fault, Kind
from localcloud.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with Cloud(World.load(), tmp_path_factory.mktemp("demo") / ".local") as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    yield running
    running.faults.clear()


def failing(cloud: Cloud) -> list[demo.Step]:
    """The last step of each cloud's walk."""
    steps = list(demo.run(cloud.environment_for))
    return [[step for step in steps if step.cloud == name][-1] for name in ("AWS", "Azure")]


def test_unreachable_storage_fails_the_write_on_both_clouds(cloud: Cloud) -> None:
    cloud.faults.add(Fault(host="storage.googleapis.com", kind=Kind.STATUS, status=503))
    for step in failing(cloud):
        assert not step.ok
        assert step.title.startswith("write gs://acme-landing/")
        assert step.detail.startswith("status 503")


def test_reset_connection_fails_the_call_and_names_only_the_kind_of_error(cloud: Cloud) -> None:
    cloud.faults.add(Fault(host="*.run.app", kind=Kind.RESET))
    for step in failing(cloud):
        assert not step.ok
        # requests names a dead connection by who it takes to have ended it.
        assert step.detail in {"failed with ConnectionError", "failed with ProxyError"}


def test_caller_that_should_be_denied_but_is_not_fails_the_demo(cloud: Cloud) -> None:
    def generous(name: str) -> dict[str, str]:
        promoted = {"stranger": "etl", "outsider": "reporting"}
        return cloud.environment_for(promoted.get(name, name))

    last = [step for step in demo.run(generous) if not step.ok]
    assert [step.cloud for step in last] == ["AWS", "Azure"]
    assert all(step.detail == "it should have been denied: status 200" for step in last)


def test_caller_without_a_grant_gets_nothing_to_walk_with(cloud: Cloud) -> None:
    def poor(name: str) -> dict[str, str]:
        demoted = {"etl": "stranger", "reporting": "outsider"}
        return cloud.environment_for(demoted.get(name, name))

    last = [step for step in demo.run(poor) if not step.ok]
    assert [step.title for step in last] == ["POST /v1/access-token"] * 2
    assert all(step.detail.startswith("status 403") for step in last)
