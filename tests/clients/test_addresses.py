"""A bucket's two addresses on the wire, each under a certificate of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.callers import session
from tests.clients.conftest import BUCKET

if TYPE_CHECKING:
    from localcloud.cloud import Cloud
    from tests.clients.conftest import Judge

NAME = "addresses/&#%+ü"


@pytest.mark.parametrize(
    "place", [f"storage.googleapis.com/{BUCKET}", f"{BUCKET}.storage.googleapis.com"]
)
def test_an_object_is_put_ranged_and_deleted_at_either_address(
    storage_cloud: Cloud, vended: str, judge: Judge, place: str
) -> None:
    url = f"https://{place}/{quote(NAME, safe='')}"
    fields = {"Authorization": f"Bearer {vended}"}
    with session(storage_cloud.network_environment) as http:
        assert http.put(url, b"0123456789", headers=fields, timeout=30).status_code == 200
        assert judge.content(NAME) == b"0123456789"
        part = http.get(url, headers={**fields, "Range": "bytes=3-5"}, timeout=30)
        assert (part.status_code, part.content) == (206, b"345")
        head = http.head(url, headers=fields, timeout=30)
        assert (head.headers["Content-Length"], head.content) == ("10", b"")
        # The connection is kept, whatever was refused before.
        assert http.put(url, bytes(3_000_000), timeout=30).status_code == 403
        assert http.delete(url, headers=fields, timeout=30).status_code == 204
        assert http.get(url, headers=fields, timeout=30).status_code == 404
    assert judge.names("addresses/") == []
