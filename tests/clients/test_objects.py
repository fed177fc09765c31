"""Every client, the same objects: up, down, listed, copied, moved, composed, deleted, interrupted.

What a client did is read back by the judge, and what a client reads was put there by the judge, so
that no client vouches for itself.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.clients.breaking import breaking, cut_in_the_middle, lose_the_answer
from tests.clients.clients import CLIENTS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localcloud.cloud import Cloud
    from tests.clients.client import Client, Place
    from tests.clients.conftest import Judge

MIB = 1024 * 1024
SIZES = {
    "nothing": 0,
    "a byte": 1,
    "8 MiB and a byte": 8 * MIB + 1,
    "300 MiB": 300 * MIB,
}
BIG = "300 MiB"
BREAKS = {"in the middle": cut_in_the_middle, "before the answer": lose_the_answer}
ODD = "odd & # % + ü 100%25.bin"


@pytest.fixture(scope="module", params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return CLIENTS[request.param]


@pytest.fixture(scope="module")
def client(kind: Kind, place: Place) -> Iterator[Client]:
    started = kind.start(place)
    yield started
    started.close()


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, kind: Kind) -> str:
    """A prefix for each client's own objects."""
    return next(name for name, each in CLIENTS.items() if each is kind) + "/"


@pytest.mark.parametrize("size", SIZES)
def test_goes_up_and_comes_down(
    client: Client, kind: Kind, judge: Judge, folder: str, tmp_path: Path, size: str
) -> None:
    if size == BIG:
        only_if_asked("moves 300 MiB twice")
    if kind.slow and size != "8 MiB and a byte":
        only_if_asked("takes a second for each call")
    content = os.urandom(SIZES[size])
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(content)
    client.do("upload", file=source, name=f"{folder}{size}")
    assert digest(judge.content(f"{folder}{size}")) == digest(content)
    client.do("download", name=f"{folder}{size}", file=copy)
    assert digest(copy.read_bytes()) == digest(content)


@pytest.mark.parametrize("size", [3, 8 * MIB + 1])
def test_a_name_may_hold_what_urls_must_quote(
    client: Client, kind: Kind, judge: Judge, folder: str, tmp_path: Path, size: int
) -> None:
    if kind.slow and size < MIB:
        only_if_asked("takes a second for each call")
    content = os.urandom(size)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(content)
    client.do("upload", file=source, name=f"{folder}{ODD}")
    assert judge.names(f"{folder}odd") == [f"{folder}{ODD}"]
    client.do("download", name=f"{folder}{ODD}", file=copy)
    assert digest(copy.read_bytes()) == digest(content)


def test_a_listing_folds_at_the_delimiter(
    client: Client, kind: Kind, judge: Judge, folder: str
) -> None:
    for name in ("a", "b/1", "b/2", "c", "d/e/f", "z ü"):
        judge.put(f"{folder}list/{name}", b"x")
    judge.put(f"{folder}list-aside", b"x")
    listed = client.do("list", prefix=f"{folder}list/", delimiter="/")
    expected = ["a", "c", "z ü"] if "prefixes" in kind.cannot else ["a", "b/", "c", "d/", "z ü"]
    assert listed == [f"{folder}list/{name}" for name in expected]


def test_a_copy_is_equal_and_leaves_its_source(
    client: Client, kind: Kind, judge: Judge, folder: str
) -> None:
    if kind.slow:
        only_if_asked("takes a second for each call, and a move copies too")
    judge.put(f"{folder}copy/{ODD}", b"copied")
    client.do("copy", name=f"{folder}copy/{ODD}", to=f"{folder}copy/to {ODD}")
    assert judge.content(f"{folder}copy/to {ODD}") == b"copied"
    assert len(judge.names(f"{folder}copy/")) == 2


def test_a_move_leaves_nothing_behind(client: Client, judge: Judge, folder: str) -> None:
    judge.put(f"{folder}move/from", b"moved")
    client.do("move", name=f"{folder}move/from", to=f"{folder}move/to")
    assert judge.names(f"{folder}move/") == [f"{folder}move/to"]
    assert judge.content(f"{folder}move/to") == b"moved"


def test_composed_objects_follow_each_other(
    client: Client, kind: Kind, judge: Judge, folder: str
) -> None:
    if "compose" in kind.cannot:
        pytest.skip(kind.cannot["compose"])
    parts = [f"{folder}compose/{number}" for number in range(3)]
    for number, name in enumerate(parts):
        judge.put(name, bytes([number]) * 1000)
    client.do("compose", names=parts, to=f"{folder}compose/whole")
    assert judge.content(f"{folder}compose/whole") == b"".join(
        bytes([number]) * 1000 for number in range(3)
    )
    assert judge.metadata(f"{folder}compose/whole")["componentCount"] == 3


def test_deleted_objects_are_gone(client: Client, judge: Judge, folder: str) -> None:
    names = [f"{folder}delete/{name}" for name in ("1", "2", ODD)]
    for name in (*names, f"{folder}delete/kept"):
        judge.put(name, b"x")
    client.do("delete", names=names)
    assert judge.names(f"{folder}delete/") == [f"{folder}delete/kept"]


@pytest.mark.parametrize("where", BREAKS)
def test_an_upload_outlives_a_broken_connection(
    client: Client,
    kind: Kind,
    judge: Judge,
    folder: str,
    tmp_path: Path,
    storage_cloud: Cloud,
    where: str,
) -> None:
    if kind.slow and where != "in the middle":
        only_if_asked("waits before it tries again")
    # More than a chunk of Go's client, which sends less than 16 MiB in one piece and not again.
    content = os.urandom(17 * MIB)
    source = tmp_path / "source"
    source.write_bytes(content)
    with breaking(storage_cloud.router, BREAKS[where]) as broken:
        client.do("upload", file=source, name=f"{folder}broken {where}")
    assert len(broken) == 1
    assert digest(judge.content(f"{folder}broken {where}")) == digest(content)


def only_if_asked(why: str) -> None:
    """Leave a cell of the table to `make test-clients`."""
    if not os.environ.get("ALL_CELLS"):
        pytest.skip(f"{why}: make test-clients")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
