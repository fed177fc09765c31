"""The object store under Cloud Storage's APIs: what a crowd of writers, a broken connection and a
long listing do to it.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import io
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.google.storage.content import PIECE, Writer, concatenate, write
from localcloud.google.storage.errors import StorageError
from localcloud.google.storage.listing import Query, page
from localcloud.google.storage.preconditions import Preconditions
from localcloud.google.storage.sessions import LIFETIME, QUANTUM
from localcloud.google.storage.store import Draft, ReplacesError, Store, StoredObject, Terms
from localcloud.wire.web import Body, BodyCutError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NOW = 1_700_000_000.0
REPLACE = Terms(may_replace=True)


def put(store: Store, name: str, content: bytes = b"x", terms: Terms = REPLACE) -> StoredObject:
    draft = Draft(write(store.directory, [content]), {"contentType": "text/plain"})
    return store.publish("b", name, draft, NOW, terms)


def content_of(found: StoredObject, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(found.content.read(start, end))


def body(content: bytes, length: int | None = None) -> Body:
    return Body(io.BytesIO(content), len(content) if length is None else length)


# --- content -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE + 7])
def test_content_is_what_was_written_with_its_digests(tmp_path: Path, size: int) -> None:
    store = Store(tmp_path / "objects")
    raw = bytes(index % 251 for index in range(size))
    made = put(store, "x", raw).content
    assert b"".join(made.read()) == raw
    assert made.size == size
    assert made.md5 == base64.b64encode(hashlib.md5(raw, usedforsecurity=False).digest()).decode()
    assert made.crc32c == base64.b64encode(struct.pack(">I", google_crc32c.value(raw))).decode()
    assert made.etag == hashlib.md5(raw, usedforsecurity=False).hexdigest()


def test_no_piece_of_a_read_is_larger_than_the_bound(tmp_path: Path) -> None:
    made = put(Store(tmp_path / "objects"), "x", b"y" * (3 * PIECE)).content
    assert {len(piece) for piece in made.read()} == {PIECE}
    assert b"".join(made.read(PIECE - 1, PIECE + 1)) == b"yy"


def test_concatenation_has_the_bytes_of_all_and_no_md5(tmp_path: Path) -> None:
    store = Store(tmp_path / "objects")
    parts = [put(store, name, raw).content for name, raw in [("a", b"1"), ("b", b"23")]]
    made = concatenate(store.directory, parts)
    assert b"".join(made.read()) == b"123"
    assert (made.md5, made.etag) == ("", "")
    expected = base64.b64encode(struct.pack(">I", google_crc32c.value(b"123"))).decode()
    assert made.crc32c == expected


def test_file_goes_with_the_last_object_reader_and_copy(tmp_path: Path) -> None:
    store = Store(tmp_path / "objects")
    first = put(store, "x", b"kept")
    store.publish("b", "copy", Draft(first.content, {}), NOW, REPLACE)
    reader = first.content.read()
    del first
    store.delete("b", "x", NOW, REPLACE)
    store.delete("b", "copy", NOW, REPLACE)
    gc.collect()
    assert len(list((tmp_path / "objects").iterdir())) == 1
    assert b"".join(reader) == b"kept"
    del reader
    gc.collect()
    assert list((tmp_path / "objects").iterdir()) == []


def test_what_a_killed_process_left_is_cleared_at_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "objects"
    left.mkdir()
    (left / "tmpold").write_bytes(b"secret of an earlier world")
    Store(left)
    assert list(left.iterdir()) == []
    assert left.stat().st_mode & 0o777 == 0o700


def test_unfinished_upload_leaves_no_file_and_no_descriptor_open(tmp_path: Path) -> None:
    store = Store(tmp_path / "objects")
    writer = Writer(store.directory)
    writer.write(b"half")
    writer.pause()
    del writer
    gc.collect()
    assert list((tmp_path / "objects").iterdir()) == []


# --- writers -------------------------------------------------------------------------------


def test_of_simultaneous_creations_exactly_one_is_made() -> None:
    store = Store()
    absent = Terms(Preconditions(generation=0))

    def attempt(index: int) -> str:
        try:
            return put(store, "x", str(index).encode(), absent).name
        except StorageError as refusal:
            return str(refusal.code)

    with ThreadPoolExecutor(16) as pool:
        outcomes = sorted(pool.map(attempt, range(64)))
    assert outcomes == ["412"] * 63 + ["x"]


def test_generations_increase_strictly_though_the_clock_stands() -> None:
    store = Store()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: put(store, "x").generation, range(100)))
    assert len(set(made)) == 100
    assert min(made) >= int(NOW * 1_000_000)
    assert store.get("b", "x").generation == max(made)


def test_object_that_appeared_meanwhile_is_not_replaced_without_the_right_to_delete_it() -> None:
    store = Store()
    put(store, "x", b"first")
    with pytest.raises(ReplacesError):
        put(store, "x", b"second", Terms())
    assert content_of(store.get("b", "x")) == b"first"


@pytest.mark.parametrize(
    ("given", "absent", "present"),
    [
        (Preconditions(generation=0), True, False),
        (Preconditions(generation=1), False, False),
        (Preconditions(not_generation=0), False, True),
        (Preconditions(not_generation=1), False, True),
        (Preconditions(metageneration=1), False, True),
        (Preconditions(metageneration=2), False, False),
        (Preconditions(not_metageneration=1), False, False),
        (Preconditions(not_metageneration=2), False, True),
    ],
)
def test_preconditions_hold_as_google_says(
    given: Preconditions, *, absent: bool, present: bool
) -> None:
    def passes(store: Store) -> bool:
        try:
            put(store, "x", b"new", Terms(given, may_replace=True))
        except StorageError as refusal:
            return refusal.code != 412
        return True

    assert passes(Store()) is absent
    held = Store()
    put(held, "x")
    assert passes(held) is present


def test_precondition_failure_leaves_everything_as_it_was() -> None:
    store = Store()
    made = put(store, "x", b"first")
    stale = Preconditions(generation=made.generation - 1)
    for attempt in (
        lambda: put(store, "x", b"second", Terms(stale, may_replace=True)),
        lambda: store.update(made, lambda _: {}, NOW, stale),
        lambda: store.delete("b", "x", NOW, Terms(stale)),
        lambda: store.move("b", ("x", "y"), NOW, REPLACE, stale),
    ):
        with pytest.raises(StorageError) as refusal:
            attempt()
        assert refusal.value.code == 412
    assert store.get("b", "x") is made
    assert store.find("b", "y") is None


def test_replaced_object_stays_as_a_generation_only_where_versions_are_kept() -> None:
    kept, plain = Store(), Store()
    versioned = Terms(may_replace=True, versioned=True)
    first = put(kept, "x", b"first", versioned)
    put(kept, "x", b"second", versioned)
    assert content_of(kept.get("b", "x", first.generation)) == b"first"
    kept.delete("b", "x", NOW, versioned)
    assert kept.find("b", "x") is None
    assert [item.deleted for item in kept.generations("b", "x")] == [NOW, NOW]
    kept.delete("b", "x", NOW, versioned, first.generation)
    assert len(kept.generations("b", "x")) == 1
    gone = put(plain, "x", b"first")
    put(plain, "x", b"second")
    assert plain.find("b", "x", gone.generation) is None


def test_change_of_fields_counts_and_keeps_the_bytes() -> None:
    store = Store()
    made = put(store, "x", b"bytes")
    changed = store.update(made, lambda old: {**old, "k": "v"}, NOW + 1, Preconditions())
    assert (changed.metageneration, changed.generation) == (2, made.generation)
    assert changed.fields == {"contentType": "text/plain", "k": "v"}
    assert content_of(changed) == b"bytes"
    assert changed.etag != made.etag


def test_simultaneous_changes_are_all_there_in_the_end() -> None:
    store = Store()
    made = put(store, "x")

    def change(index: int) -> None:
        store.update(made, lambda old: {**old, str(index): "v"}, NOW, Preconditions())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change, range(100)))
    found = store.get("b", "x")
    assert len(found.fields) == 101
    assert found.metageneration == 101


def test_move_is_one_step() -> None:
    store = Store()
    put(store, "from", b"bytes")
    made = store.move("b", ("from", "to"), NOW, REPLACE, Preconditions())
    assert (made.name, content_of(made)) == ("to", b"bytes")
    assert store.names("b") == ["to"]


def test_bucket_with_objects_is_not_dropped() -> None:
    store = Store()
    put(store, "x")
    assert not store.drop("b")
    store.delete("b", "x", NOW, REPLACE)
    assert store.drop("b")


# --- listing -------------------------------------------------------------------------------

NAMES = st.text(alphabet="ab/é", min_size=1, max_size=6)


def expected(names: Iterable[str], query: Query) -> tuple[list[str], list[str]]:
    """The listing by its definition."""
    items, prefixes = [], set()
    for name in sorted(names):
        if not name.startswith(query.prefix) or name < query.start:
            continue
        if query.end and name >= query.end:
            continue
        rest = name[len(query.prefix) :]
        if query.delimiter and query.delimiter in rest:
            folded = query.prefix + rest.partition(query.delimiter)[0] + query.delimiter
            prefixes.add(folded)
            if not (query.trailing_delimiter and name == folded):
                continue
        items.append(name)
    return items, sorted(prefixes)


@given(
    names=st.sets(NAMES, max_size=20),
    prefix=st.text(alphabet="ab/é", max_size=3),
    delimiter=st.sampled_from(["", "/", "a", "b/"]),
    offsets=st.tuples(st.text(alphabet="ab/é", max_size=3), st.text(alphabet="ab/é", max_size=3)),
    trailing=st.booleans(),
    limit=st.integers(1, 5),
)
def test_pages_together_are_the_listing_and_none_is_longer_than_asked(
    names: set[str],
    prefix: str,
    delimiter: str,
    offsets: tuple[str, str],
    *,
    trailing: bool,
    limit: int,
) -> None:
    store = Store()
    content = write(store.directory, [b""])
    for name in names:
        store.publish("b", name, Draft(content, {}), NOW, REPLACE)
    token, items, prefixes = "", [], []
    while True:
        query = Query(
            prefix,
            delimiter,
            start=offsets[0],
            end=offsets[1],
            trailing_delimiter=trailing,
            limit=limit,
            token=token,
        )
        found = page(store, "b", query)
        assert len(found.items) + len(found.prefixes) <= limit
        items += [item.name for item in found.items]
        prefixes += found.prefixes
        token = found.token
        if not token:
            break
    assert (items, prefixes) == expected(names, query)


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("*", ["a.txt", "b.csv", "é"]),
        ("**", ["a.txt", "b.csv", "d/c.txt", "d/e/f.txt", "é"]),
        ("**.txt", ["a.txt", "d/c.txt", "d/e/f.txt"]),
        ("d/*.txt", ["d/c.txt"]),
        ("?.txt", ["a.txt"]),
        ("[a-b].*", ["a.txt", "b.csv"]),
        ("[!a].*", ["b.csv"]),
        ("{a,b}.{txt,csv}", ["a.txt", "b.csv"]),
        ("d{/,/e/}?.txt", ["d/c.txt", "d/e/f.txt"]),
        ("a\\.txt", ["a.txt"]),
        ("a.*t$", []),
        ("é", ["é"]),
    ],
)
def test_glob_matches_whole_names(glob: str, matched: list[str]) -> None:
    store = Store()
    for name in ("a.txt", "b.csv", "d/c.txt", "d/e/f.txt", "é"):
        put(store, name)
    assert [item.name for item in page(store, "b", Query(glob=glob)).items] == matched


@pytest.mark.parametrize(
    "query", [Query(glob="{a"), Query(glob="a}"), Query(glob="[b-a]"), Query(token="?")]
)
def test_glob_or_token_that_is_none_is_refused(query: Query) -> None:
    with pytest.raises(StorageError) as refusal:
        page(Store(), "b", query)
    assert refusal.value.code == 400


def test_versions_are_listed_oldest_first_and_page_within_a_name() -> None:
    store = Store()
    versioned = Terms(may_replace=True, versioned=True)
    made = [put(store, "x", str(index).encode(), versioned).generation for index in range(3)]
    put(store, "y", terms=versioned)
    first = page(store, "b", Query(versions=True, limit=2))
    rest = page(store, "b", Query(versions=True, token=first.token))
    assert [item.generation for item in first.items + rest.items[:1]] == made
    assert [item.name for item in rest.items] == ["x", "y"]
    assert page(store, "b", Query()).items[0].generation == made[2]


def test_prefix_of_noncurrent_objects_alone_is_not_listed() -> None:
    store = Store()
    versioned = Terms(may_replace=True, versioned=True)
    put(store, "d/x", terms=versioned)
    store.delete("b", "d/x", NOW, versioned)
    assert page(store, "b", Query(delimiter="/")).prefixes == ()
    assert page(store, "b", Query(delimiter="/", versions=True)).prefixes == ("d/",)


# --- sessions ------------------------------------------------------------------------------


def opened(store: Store, length: int | None = None) -> tuple[str, list[bytes]]:
    made: list[bytes] = []

    def finish(content: object) -> StoredObject:
        draft = Draft(content, {})  # type: ignore[arg-type]
        found = store.publish("b", "x", draft, NOW, REPLACE)
        made.append(content_of(found))
        return found

    return store.sessions.open("b", finish, length, NOW).id, made


def test_chunks_become_one_object_and_the_last_may_come_again() -> None:
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    assert session.advance(f"bytes 0-{QUANTUM - 1}/*", body(b"a" * QUANTUM)) is None
    assert session.received == QUANTUM
    last = f"bytes {QUANTUM}-{QUANTUM}/{QUANTUM + 1}"
    first = session.advance(last, body(b"b"))
    assert session.advance(last, body(b"b")) is first
    assert session.advance("bytes */*", body(b"")) is first
    assert made == [b"a" * QUANTUM + b"b"]
    assert store.get("b", "x").content.size == QUANTUM + 1


def test_broken_connection_keeps_the_whole_quanta_that_came() -> None:
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    raw = bytes(index % 249 for index in range(3 * QUANTUM))
    cut = body(raw[: 2 * QUANTUM + 5], length=len(raw))
    with pytest.raises(BodyCutError):
        session.advance(f"bytes 0-{len(raw) - 1}/{len(raw)}", cut)
    assert session.advance("bytes */*", body(b"")) is None
    assert session.received == 2 * QUANTUM
    rest = f"bytes {2 * QUANTUM}-{len(raw) - 1}/{len(raw)}"
    assert session.advance(rest, body(raw[2 * QUANTUM :])) is not None
    assert made == [raw]


@pytest.mark.parametrize(
    ("content_range", "size", "code", "text"),
    [
        ("bytes 0-99/*", 100, 400, "The number of bytes uploaded is required to be equal"),
        ("bytes 0-99/200", 100, 400, "The number of bytes uploaded is required to be equal"),
        ("bytes 0-99/50", 100, 400, "ends behind the total of 50"),
        ("bytes 0-99/100", 99, 400, "There were 99 byte(s) in the request body."),
        ("bytes 1-100/101", 100, 503, "exceeds already uploaded size of 0 byte(s)"),
        ("bytes 9-1/10", 1, 400, "ends before it begins"),
        ("bytes=0-1/2", 2, 400, "Failed to parse Content-Range"),
        ("bytes 0-1", 2, 400, "Failed to parse Content-Range"),
        ("bytes -1-1/2", 2, 400, "Failed to parse Content-Range"),
    ],
)
def test_chunk_that_does_not_fit_is_refused_and_nothing_is_kept(
    content_range: str, size: int, code: int, text: str
) -> None:
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    with pytest.raises(StorageError) as refusal:
        session.advance(content_range, body(b"x" * size))
    assert refusal.value.code == code
    assert text in refusal.value.message
    assert refusal.value.plain
    assert (session.received, made) == (0, [])


@pytest.mark.parametrize(
    ("content_range", "size"),
    [("", 11), ("", 9), ("bytes 0-10/11", 11), ("bytes 0-8/9", 9), ("bytes */9", 0)],
)
def test_upload_of_another_size_than_announced_makes_no_object(
    content_range: str, size: int
) -> None:
    store = Store()
    upload, made = opened(store, length=10)
    with pytest.raises(StorageError) as refusal:
        store.sessions.find(upload, NOW).advance(content_range, body(b"x" * size))
    assert (refusal.value.code, made) == (400, [])


def test_chunk_that_is_no_multiple_of_the_quantum_is_kept_in_part() -> None:
    store = Store()
    upload, _ = opened(store)
    session = store.sessions.find(upload, NOW)
    raw = b"x" * (QUANTUM + 100)
    assert session.advance(f"bytes 0-{len(raw) - 1}/*", body(raw)) is None
    assert session.received == QUANTUM


def test_bytes_that_are_kept_already_are_passed_over() -> None:
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    raw = b"a" * QUANTUM + b"b" * QUANTUM
    session.advance(f"bytes 0-{QUANTUM - 1}/*", body(raw[:QUANTUM]))
    session.advance(f"bytes 0-{len(raw) - 1}/{len(raw)}", body(raw))
    assert made == [raw]


@pytest.mark.parametrize("content_range", ["bytes */0", "bytes 0-*/*", ""])
def test_empty_object_is_made(content_range: str) -> None:
    store = Store()
    upload, made = opened(store)
    assert store.sessions.find(upload, NOW).advance(content_range, body(b"")) is not None
    assert made == [b""]


def test_finalizing_with_another_total_than_came_asks_for_the_rest() -> None:
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    session.advance(f"bytes 0-{QUANTUM - 1}/*", body(b"a" * QUANTUM))
    assert session.advance(f"bytes */{2 * QUANTUM}", body(b"")) is None
    assert session.advance("bytes */1", body(b"")) is None
    assert made == []
    assert session.advance(f"bytes */{QUANTUM}", body(b"")) is not None


def test_session_ends_after_a_week_or_when_it_is_cancelled() -> None:
    store = Store()
    upload, _ = opened(store)
    store.sessions.find(upload, NOW + LIFETIME - 1)
    with pytest.raises(StorageError) as late:
        store.sessions.find(upload, NOW + LIFETIME)
    assert late.value.code == 410
    session = store.sessions.find(upload, NOW)
    session.cancel()
    with pytest.raises(StorageError) as cancelled:
        session.advance("bytes */*", body(b""))
    assert cancelled.value.code == 410


def test_session_id_is_unguessable_and_stands_in_no_text() -> None:
    store = Store()
    ids = {opened(store)[0] for _ in range(50)}
    assert len(ids) == 50
    assert min(len(upload) for upload in ids) >= 43
    upload = ids.pop()
    assert upload not in repr(store.sessions.find(upload, NOW))
    with pytest.raises(StorageError) as refusal:
        store.sessions.find(upload[:-1], NOW)
    assert refusal.value.code == 404
    assert upload[:-1] not in refusal.value.message


def test_requests_of_one_session_wait_for_each_other() -> None:
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    raw = b"a" * QUANTUM
    gate = threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            gate.wait(5)
            return super().read(size)

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(session.advance, f"bytes 0-{QUANTUM - 1}/*", Body(Slow(raw), QUANTUM))
        status = pool.submit(session.advance, "bytes */*", body(b""))
        gate.set()
        assert slow.result() is None
        assert status.result() is None
    assert session.received == QUANTUM
    assert made == []


@given(
    size=st.integers(0, 4 * QUANTUM),
    turns=st.lists(
        st.tuples(
            st.integers(0, 2),  # quanta that are sent again, though they are kept
            st.integers(1, 3),  # quanta that are new
            st.integers(0, 3 * QUANTUM),  # bytes after which the connection breaks
            st.booleans(),  # whether the total is told early
        ),
        max_size=6,
    ),
)
def test_whatever_breaks_on_the_way_the_object_is_what_was_sent(
    size: int, turns: list[tuple[int, int, int, bool]]
) -> None:
    raw = bytes(index % 241 for index in range(size))
    store = Store()
    upload, made = opened(store)
    session = store.sessions.find(upload, NOW)
    for again, fresh, breaks, told in turns:
        first = max(0, session.received - again * QUANTUM)
        last = min(session.received + fresh * QUANTUM, size) - 1
        if last + 1 == size or last < first:
            break
        sent = raw[first : last + 1]
        before = session.received
        try:
            total = str(size) if told else "*"
            cut = body(sent[:breaks], length=len(sent))
            assert session.advance(f"bytes {first}-{last}/{total}", cut) is None
        except BodyCutError:
            assert breaks < len(sent)
        assert session.received % QUANTUM == 0
        assert before <= session.received <= max(before, first + breaks)
        assert made == []
    rest = raw[session.received :]
    place = f"{session.received}-{size - 1}" if rest else "*"
    assert session.advance(f"bytes {place}/{size}", body(rest)) is not None
    assert made == [raw]
