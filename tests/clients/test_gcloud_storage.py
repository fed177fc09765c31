"""`gcloud storage` where it has more than one object's way up and down."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.clients.client import ClientError, Gcloud
from tests.clients.clients import CLIENTS
from tests.clients.conftest import BUCKET

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.client import Place, Program
    from tests.clients.conftest import Judge

FOLDER = "gcloud-only"
AT = f"gs://{BUCKET}/{FOLDER}"


@pytest.fixture(scope="module")
def gcloud(place: Place) -> Program:
    client = CLIENTS["gcloud"].start(place)
    assert isinstance(client, Gcloud)
    return client.program


def test_standard_input_streams_into_an_object(gcloud: Program, judge: Judge) -> None:
    content = os.urandom(9 * 1024 * 1024)
    gcloud.run("cp", "-", f"{AT}/stream", standard_input=content)
    assert judge.content(f"{FOLDER}/stream") == content


def test_cat_writes_an_object_and_a_range_of_it(gcloud: Program, judge: Judge) -> None:
    judge.put(f"{FOLDER}/cat", b"0123456789")
    assert gcloud.run("cat", f"{AT}/cat") == b"0123456789"
    assert gcloud.run("cat", "--range", "2-4", f"{AT}/cat") == b"234"


def test_rsync_makes_the_bucket_like_the_folder(
    gcloud: Program, judge: Judge, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / "sub/new ü").write_bytes(b"new")
    judge.put(f"{FOLDER}/sync/kept", b"kept")
    judge.put(f"{FOLDER}/sync/gone", b"gone")
    before = judge.metadata(f"{FOLDER}/sync/kept")["md5Hash"]
    options = ("--recursive", "--delete-unmatched-destination-objects")
    gcloud.run("rsync", *options, tmp_path, f"{AT}/sync")
    assert judge.names(f"{FOLDER}/sync/") == [f"{FOLDER}/sync/kept", f"{FOLDER}/sync/sub/new ü"]
    assert judge.content(f"{FOLDER}/sync/sub/new ü") == b"new"
    assert judge.metadata(f"{FOLDER}/sync/kept")["md5Hash"] == before


def test_remove_takes_a_whole_folder(gcloud: Program, judge: Judge) -> None:
    for name in ("1", "2", "deep/3"):
        judge.put(f"{FOLDER}/rm/{name}", b"x")
    gcloud.run("rm", "--recursive", f"{AT}/rm")
    assert judge.names(f"{FOLDER}/rm/") == []


def test_a_bucket_out_of_reach_is_refused_at_once(gcloud: Program) -> None:
    with pytest.raises(ClientError, match=r"403|does not have permission"):
        gcloud.run("cat", "gs://acme-vault/x")
