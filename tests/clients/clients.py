"""The clients that are run, how each is found and started, and what each has no word for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.clients.client import Client, Gcloud, Library, Place, Rclone
from tests.tools import tool

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
PYTHON = ROOT / ".tools/clients/bin/python"
NODE_PACKAGES = ROOT / ".tools/node"
NO_COMPOSE = "has no call that composes objects"


@dataclass(frozen=True)
class Kind:
    """One client.

    Args:
        start: it at work, or the test skipped with the reason.
        cannot: why an operation is not asked of it, by the operation's name.
        slow: whether a call takes a second whatever it does.

    """

    start: Callable[[Place], Client]
    cannot: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False


def _python(package: str, script: str, **variables: str) -> Callable[[Place], Client]:
    def start(place: Place) -> Client:
        if not PYTHON.exists():
            pytest.skip(f"{package} is not installed: make clients")
        place = replace(place, environment={**place.environment, **variables})
        return Library(place, str(PYTHON), str(SCRIPTS / script), directory=place.home)

    return start


def _node(place: Place) -> Client:
    node = tool("node")
    if not (NODE_PACKAGES / "node_modules").exists():
        pytest.skip("@google-cloud/storage is not installed: make clients")
    return Library(place, node, str(SCRIPTS / "storage.mjs"), directory=NODE_PACKAGES)


def _gcloud(place: Place) -> Client:
    variables = {
        "CLOUDSDK_CONFIG": str(place.home / "gcloud"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN": place.environment["ACCESS_TOKEN"],
        "CLOUDSDK_CORE_PROJECT": "acme",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "true",
    }
    return Gcloud(replace(place, environment={**place.environment, **variables}), tool("gcloud"))


def _rclone(place: Place) -> Client:
    token = {"access_token": place.environment["ACCESS_TOKEN"], "token_type": "Bearer"}
    variables = {
        "RCLONE_GCS_TOKEN": json.dumps({**token, "expiry": "2099-01-01T00:00:00Z"}),
        # Uniform access has no ACLs; objectAdmin may not look at the bucket.
        "RCLONE_GCS_BUCKET_POLICY_ONLY": "true",
        "RCLONE_GCS_NO_CHECK_BUCKET": "true",
    }
    environment = {**place.environment, **variables}
    # Of any backend, this one's S3 part would read it at start and give up.
    environment.pop("AWS_CA_BUNDLE", None)
    return Rclone(replace(place, environment=environment), tool("rclone"))


CLIENTS: Mapping[str, Kind] = {
    "google-cloud-storage": Kind(
        _python(
            "google-cloud-storage",
            "storage_of_google.py",
            # It would ask for the bucket behind every upload, which objectAdmin may not see.
            DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA="true",
        )
    ),
    "gcloud": Kind(_gcloud, slow=True),
    "node": Kind(_node),
    "gcsfs": Kind(_python("gcsfs", "filesystem.py")),
    "pyarrow": Kind(
        _python("pyarrow", "arrow.py"),
        {"compose": NO_COMPOSE, "prefixes": "names no folder that is not an object itself"},
    ),
    "obstore": Kind(_python("obstore", "object_store.py"), {"compose": NO_COMPOSE}),
    "rclone": Kind(_rclone, {"compose": NO_COMPOSE}),
}
