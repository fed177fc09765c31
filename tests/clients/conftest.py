"""One embedded cloud for all clients, and a plain HTTP judge of what they did to its bucket."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from localcloud.cloud import Cloud
from localcloud.world import World
from tests.callers import Caller, session
from tests.clients.client import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    import requests

BUCKET = "acme-landing"
API = "https://storage.googleapis.com"


@dataclass
class Judge:
    """Looks at the bucket by JSON API calls of its own, whatever a client claims."""

    token: str = field(repr=False)
    session: requests.Session

    def put(self, name: str, content: bytes) -> None:
        """An object without any client's doing."""
        query = {"uploadType": "media", "name": name}
        self._ask("POST", f"/upload/storage/v1/b/{BUCKET}/o", params=query, data=content)

    def content(self, name: str) -> bytes:
        """An object's bytes."""
        return self._ask("GET", _object(name), params={"alt": "media"}).content

    def metadata(self, name: str) -> dict[str, Any]:
        """An object's resource."""
        return dict(self._ask("GET", _object(name)).json())

    def names(self, prefix: str) -> list[str]:
        """Every object's name under a prefix."""
        page = self._ask("GET", f"/storage/v1/b/{BUCKET}/o", params={"prefix": prefix}).json()
        return [item["name"] for item in page.get("items", [])]

    def _ask(self, method: str, path: str, **given: Any) -> requests.Response:
        fields = {"Authorization": f"Bearer {self.token}"}
        answer = self.session.request(method, API + path, headers=fields, timeout=60, **given)
        assert answer.status_code == 200, answer.text
        return answer


@pytest.fixture(scope="package")
def storage_cloud(
    clean_environment: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    """The embedded cloud with the function that vends."""
    directory = tmp_path_factory.mktemp("clients-cloud")
    with Cloud(World.load(), directory, functions=("aws",)) as running:
        yield running


@pytest.fixture(scope="package")
def vended(storage_cloud: Cloud) -> str:
    """A token for Cloud Storage that the endpoint vended to the role etl."""
    caller = Caller(storage_cloud.environment_for("etl"))
    return str(caller.token("/v1/access-token", grant="landing-writer")["access_token"])


@pytest.fixture(scope="package")
def judge(storage_cloud: Cloud, vended: str) -> Judge:
    """The bucket as it really is."""
    return Judge(vended, session(storage_cloud.network_environment))


@pytest.fixture(scope="package")
def place(storage_cloud: Cloud, vended: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """What a client is given: nothing of this machine but its programs."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        **storage_cloud.network_environment,
        "ACCESS_TOKEN": vended,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "LANG": "C.UTF-8",
    }
    return Place(BUCKET, environment, Path(home))


def _object(name: str) -> str:
    return f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"
