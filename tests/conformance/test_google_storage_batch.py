"""Batches of Cloud Storage calls: every part stands before the guard by itself."""

from __future__ import annotations

from email import message_from_bytes
from typing import TYPE_CHECKING

import pytest

from tests.conformance.google_lab import CLOUD_PLATFORM, LONGHAUL, Lab

if TYPE_CHECKING:
    from localcloud.wire.web import Response

HOST = "https://storage.googleapis.com"
OBJECTS = "/storage/v1/b/acme-landing/o"
KIND = "multipart/mixed; boundary=b"


@pytest.fixture
def lab() -> Lab:
    made = Lab()
    token = made.access_token()
    for name in "xyz":
        url = f"{HOST}/upload{OBJECTS}?uploadType=media&name={name}"
        assert made.call("POST", url, b"content", token).status == 200
    return made


def part(line: str, *headers: str, content: str = "", end: str = "\r\n", label: str = "1") -> bytes:
    head = ["Content-Type: application/http", f"Content-ID: <{label}>", ""]
    return end.join([*head, f"{line} HTTP/1.1", *headers, "", content]).encode()


def batch(
    lab: Lab, token: str | None, *parts: bytes, kind: str = KIND, query: str = ""
) -> Response:
    body = b"".join(b"--b\r\n" + each + b"\r\n" for each in parts) + b"--b--\r\n"
    url = f"{HOST}/batch/storage/v1{query}"
    return lab.call("POST", url, body, token, Content_Type=kind)


def answers(answer: Response) -> list[tuple[str, int, str]]:
    """The label, status and body of every part of the answer."""
    assert answer.status == 200, answer.body
    kind = dict(answer.headers)["Content-Type"]
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + answer.body)
    found = []
    for each in message.get_payload():
        head, _, body = each.get_payload(decode=True).decode().partition("\r\n\r\n")
        found.append((each["Content-ID"], int(head.split()[1]), body))
    return found


def statuses(answer: Response) -> list[int]:
    return [status for _, status, _ in answers(answer)]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_every_part_has_its_own_answer_under_its_own_label(lab: Lab, end: str) -> None:
    answer = batch(
        lab,
        lab.access_token(scope=CLOUD_PLATFORM),
        part(f"DELETE {OBJECTS}/x", end=end, label="a+1"),
        part(f"DELETE {OBJECTS}/absent", end=end, label="a+2"),
        part(
            f"PATCH {HOST}{OBJECTS}/y",
            "Content-Type: application/json",
            content='{"contentType": "text/csv"}',
            end=end,
            label="a+3",
        ),
        part("GET /storage/v1/b/acme-vault/o/x", end=end, label="a+4"),
    )
    found = answers(answer)
    assert [(label, status) for label, status, _ in found] == [
        ("<response-a+1>", 204),
        ("<response-a+2>", 404),
        ("<response-a+3>", 200),
        ("<response-a+4>", 403),
    ]
    assert '"text/csv"' in found[2][2]


def test_a_part_acts_under_its_own_token_or_the_batchs(lab: Lab) -> None:
    stranger, owner = lab.access_token(LONGHAUL), lab.access_token()
    own = f"Authorization: Bearer {owner}"
    read = f"GET {OBJECTS}/x"
    assert statuses(batch(lab, stranger, part(read), part(read, own))) == [403, 200]
    lent = f"Authorization: Bearer {stranger}"
    assert statuses(batch(lab, owner, part(read, lent), part(read))) == [403, 200]
    assert statuses(batch(lab, None, part(read), part(read, own))) == [401, 200]


def test_the_query_of_the_batch_is_every_parts(lab: Lab) -> None:
    token = lab.access_token()
    found = answers(batch(lab, token, part(f"GET {OBJECTS}/x"), query="?fields=name"))
    assert found[0][2] == '{"name": "x"}'


def test_a_batch_carries_no_more_than_100_calls(lab: Lab) -> None:
    token = lab.access_token()
    read = part(f"GET {OBJECTS}/x")
    assert statuses(batch(lab, token, *[read] * 100)) == [200] * 100
    assert batch(lab, token, *[read] * 101).status == 400


@pytest.mark.parametrize(
    "line",
    [
        f"POST /upload{OBJECTS}?uploadType=media&name=n",
        f"GET /download{OBJECTS}/x",
        f"GET {OBJECTS}/x?alt=media",
        "POST /batch/storage/v1",
        "GET /acme-landing/x",
        f"GET https://iam.googleapis.com{OBJECTS}/x",
        f"GET http://storage.googleapis.com{OBJECTS}/x",
        "GET",
        f"get {OBJECTS}/x",
    ],
)
def test_a_part_that_is_no_plain_call_is_refused_alone(lab: Lab, line: str) -> None:
    token = lab.access_token()
    good = part(f"GET {OBJECTS}/x")
    assert statuses(batch(lab, token, part(line), good)) == [400, 200]


def test_a_part_cannot_smuggle_a_header_field_into_the_answer(lab: Lab) -> None:
    token = lab.access_token()
    label = "1>\r\n Set-Cookie: a=b\r\n X: <"  # folded, so one field
    answer = batch(lab, token, part(f"GET {OBJECTS}/x", label=label))
    assert b"Set-Cookie" not in answer.body


@pytest.mark.parametrize(
    "kind",
    ["multipart/mixed; boundary=other", "multipart/mixed", "application/json", "", "a/b\n\nx: y"],
)
def test_what_is_no_batch_is_refused(lab: Lab, kind: str) -> None:
    answer = batch(lab, lab.access_token(), part(f"GET {OBJECTS}/x"), kind=kind)
    assert answer.status == 400


def test_a_batch_is_posted(lab: Lab) -> None:
    assert lab.call("GET", f"{HOST}/batch/storage/v1", token=lab.access_token()).status == 405
