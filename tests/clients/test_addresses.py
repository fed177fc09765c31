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
API = "https://storage.googleapis.com"


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


def test_text_that_is_not_ascii_is_utf_8_in_a_header_both_ways(
    storage_cloud: Cloud, vended: str, judge: Judge
) -> None:
    url = f"{API}/{BUCKET}/addresses/text"
    fields = {"Authorization": f"Bearer {vended}"}
    said = {"x-goog-meta-price": "5 €".encode(), "Content-Disposition": "inline; x=ü".encode()}
    with session(storage_cloud.network_environment) as http:
        assert http.put(url, b"x", headers={**fields, **said}, timeout=30).status_code == 200
        resource = judge.metadata("addresses/text")
        assert resource["metadata"] == {"price": "5 €"}
        assert resource["contentDisposition"] == "inline; x=ü"
        for read in (url, f"{API}/storage/v1/b/{BUCKET}/o/addresses%2Ftext?alt=media"):
            answer = http.get(read, headers=fields, timeout=30)
            assert answer.headers["Content-Disposition"].encode("latin-1").decode() == "inline; x=ü"
        raw = http.head(url, headers=fields, timeout=30).headers["x-goog-meta-price"]
        assert raw.encode("latin-1").decode() == "5 €"
        latin = {**fields, "x-goog-meta-price": b"\xfc"}
        assert http.put(url, b"x", headers=latin, timeout=30).status_code == 400
        assert http.delete(url, headers=fields, timeout=30).status_code == 204


def test_metadata_that_no_header_can_hold_does_not_break_a_read(
    storage_cloud: Cloud, vended: str
) -> None:
    fields = {"Authorization": f"Bearer {vended}"}
    resource = {"name": "addresses/odd", "metadata": {"a: b\u20ac": "1", "plain": "2"}}
    with session(storage_cloud.network_environment) as http:
        place = f"{API}/storage/v1/b/{BUCKET}/o"
        assert http.post(place, json=resource, headers=fields, timeout=30).status_code == 200
        answer = http.get(f"{API}/{BUCKET}/addresses/odd", headers=fields, timeout=30)
        told = [name for name in answer.headers if name.lower().startswith("x-goog-meta-")]
        assert (answer.status_code, told) == (200, ["x-goog-meta-plain"])
        assert http.delete(f"{place}/addresses%2Fodd", headers=fields, timeout=30).ok
