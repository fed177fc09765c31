"""The second net: no credential leaves through a log, and nothing else is touched."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_lambda_powertools import Logger
from hypothesis import given
from hypothesis import strategies as st

from tests.canary import leaks
from tokenvend.audit.chain import AuditLog, verify
from tokenvend.audit.record import AuditRecord
from tokenvend.masking import MASK, mask
from tokenvend.model import OidcCaller
from tokenvend.redaction import WITHHELD, RedactingFilter, install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
ACCESS = "ya29.c.c0ASRK0Gb1abcdefghijklmnopqrstuvwxyz0123456789_-AB"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9mLXRva2Vu"
SIGNATURE = "fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"
SESSION = "IQoJb3JpZ2luX2VjEPT//////////wEaCXVzLWVhc3QtMSJGMEQCIBqC9+w=="
PLAIN_SESSION = "k9FZp0dBQ0xFcnJvbmVvdXMrVG9rZW4/abcdefghij=="
FUNCTION_KEY = "cV9xLkJ2b1dT4yqZ-Yw3Jm0_aBcDeFgHiJkLmNoPqRsTuVwXyZ012AzFuAA=="
PEM_BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
PEM = f"-----BEGIN PRIVATE KEY-----\n{PEM_BODY}\n{PEM_BODY}==\n-----END PRIVATE KEY-----\n"
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/sts/aws4_request, "
    f"SignedHeaders=host;x-amz-date, Signature={SIGNATURE}"
)
SUBJECT_TOKEN = json.dumps(
    {
        "headers": [
            {"key": "Authorization", "value": AUTHORIZATION},
            {"key": "x-amz-security-token", "value": PLAIN_SESSION},
        ]
    }
)
SECRETS = (ACCESS, JWT, SIGNATURE, SESSION, PLAIN_SESSION, FUNCTION_KEY, PEM_BODY)

CREDENTIALS = {
    "access token": f"got {ACCESS}.",
    "JWT": f"subject_token={JWT}&x=1",
    "JWT cut off": JWT[:40],
    "bearer header": f"Authorization: Bearer {FUNCTION_KEY}",
    "bearer in lower case": f"'authorization': 'bearer {FUNCTION_KEY}'",
    "bearer in a URL": f"header=Bearer%20{FUNCTION_KEY}",
    "basic header": f'{{"Authorization": "Basic {PLAIN_SESSION}"}}',
    "SigV4 header": AUTHORIZATION,
    "SigV4 query": f"https://sts.amazonaws.com/?X-Amz-Date=1&X-Amz-Signature={SIGNATURE}",
    "SigV4 percent-encoded": f"Credential%3DA%2CSignature%3D{SIGNATURE}",
    "subject token": SUBJECT_TOKEN,
    "subject token in a form": "subject_token="
    + SUBJECT_TOKEN.replace('"', "%22").replace(":", "%3A").replace(",", "%2C").replace("=", "%3D"),
    "subject token as a string in JSON": json.dumps({"message": SUBJECT_TOKEN}),
    "session token by its form": f"token is {SESSION}",
    "session token header": f"X-Amz-Security-Token: {PLAIN_SESSION}",
    "session token in a dict": repr({"X-Amz-Security-Token": PLAIN_SESSION}),
    "session token in bytes": repr({b"X-Amz-Security-Token": PLAIN_SESSION.encode()}),
    "session token in pairs": repr([("x-amz-security-token", PLAIN_SESSION)]),
    "session token setting": f"export AWS_SESSION_TOKEN='{PLAIN_SESSION}'",
    "AWS answer": json.dumps({"SecretAccessKey": PLAIN_SESSION, "SessionToken": SESSION}),
    "identity header": f"IDENTITY_HEADER={PLAIN_SESSION}",
    "function key header": f"x-functions-key: {FUNCTION_KEY}",
    "function key in a URL": f"GET https://app.azurewebsites.net/api/x?code={FUNCTION_KEY}&y=1",
    "function key alone": f"code={FUNCTION_KEY}",
    "storage signature": f"https://a.blob.core.windows.net/c/b?sv=1&sig={PLAIN_SESSION}",
    "private key": PEM,
    "private key in JSON": json.dumps({"private_key": PEM}),
    "private key in JSON in JSON": json.dumps(json.dumps({"private_key": PEM})),
    "private key in the traceback of a group": PEM.replace("\n", "\n    | "),
    "private key cut off": PEM[:60],
}

HARMLESS = [
    "",
    "token exchange took 12 ms",
    SIGNATURE,
    f"token_fingerprint={SIGNATURE} hash={SIGNATURE}",
    json.dumps({"token_fingerprint": SIGNATURE, "kind": "access_token", "code": "denied"}),
    "request 7d0c9f3e-5a55-4b8e-9e43-0a51d7b6a7c1 (Root=1-67891233-abcdef012345678912345678)",
    "arn:aws:sts::111122223333:assumed-role/etl-nightly/session-with-a-long-name-0123456789",
    "landing@acme.iam.gserviceaccount.com",
    "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/aws",
    "Send a Bearer token in the Authorization header.",
    'WWW-Authenticate: Bearer realm="tokenvend"',
    "Executed 'Functions.api' (Succeeded, Id=7d0c9f3e-5a55-4b8e-9e43-0a51d7b6a7c1, code=200)",
    "Signature expired: 20260101T000000Z is now earlier than 20260101T000500Z",
    "SignatureDoesNotMatch; x-amz-security-token is missing",
    '{"authorization": null, "x-functions-key": null, "client_secret": 17}',
]


def given_away(text: str) -> list[str]:
    # The canary counts the name alone as a leak, for our own logs never have it.
    return leaks(text.replace(f"X-Amz-Signature={MASK}", ""), SECRETS)


def test_a_credential_is_masked_in_every_spelling() -> None:
    for name, text in CREDENTIALS.items():
        masked = mask(text)
        assert MASK in masked, name
        assert given_away(masked) == [], name
        assert mask(masked) is masked, name


def test_fingerprints_ids_and_prose_pass_untouched() -> None:
    for text in HARMLESS:
        assert mask(text) is text


PIECES = st.sampled_from([*CREDENTIALS.values(), *HARMLESS, "client_secret", "authorization", '"'])
TEXTS = st.lists(PIECES | st.text(max_size=12), max_size=4).map("".join)
DOCUMENTS = st.recursive(
    TEXTS | st.none() | st.booleans() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(TEXTS)
def test_masking_twice_is_masking_once(text: str) -> None:
    once = mask(text)
    assert mask(once) is once


@given(DOCUMENTS)
def test_masked_json_is_still_json_of_the_same_shape(document: Any) -> None:
    masked = json.loads(mask(json.dumps(document)))
    assert shape(masked) == shape(document)


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        # Two keys may become one when both were credentials.
        return dict
    return [shape(item) for item in value] if isinstance(value, list) else type(value)


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    logger = logging.Logger("redaction")  # noqa: LOG001 -- outside the tree, so that tests share none
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        logging.Formatter("%(name)s %(levelname)s %(message)s %(extra)s", defaults={"extra": ""})
    )
    logger.addHandler(handler)
    install(logger)
    yield logger, out
    handler.close()


def test_no_part_of_a_record_lets_a_credential_out(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = log
    for name, text in CREDENTIALS.items():
        ways: dict[str, Callable[[str], None]] = {
            "message": logger.warning,
            "argument": lambda text: logger.warning("%s and %d", text, 7),
            "nested": lambda text: logger.warning("%s", {"a": [{"b": (text, {text})}]}),
            "extra": lambda text: logger.warning("x", extra={"extra": text}),
            "in an extra": lambda text: logger.warning("x", extra={"extra": [{"b": [text]}]}),
            "as bytes": lambda text: logger.warning("x", extra={"extra": {"b": text.encode()}}),
        }
        for way, logs in ways.items():
            out.seek(0)
            out.truncate()
            logs(text)
            assert MASK in out.getvalue(), (name, way)
            assert given_away(out.getvalue()) == [], (name, way)


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Amz-Security-Token": PLAIN_SESSION},
        [("x-functions-key", FUNCTION_KEY)],
        {"key": "x-amz-security-token", "value": PLAIN_SESSION},
        {"Authorization": f"Basic {PLAIN_SESSION}"},
    ],
    ids=["mapping", "pairs", "key and value", "basic"],
)
def test_a_value_known_by_its_name_alone_is_masked_in_an_extra_field(fields: Any) -> None:
    record = logging.makeLogRecord({"msg": "x", "headers": fields})
    RedactingFilter().filter(record)
    assert given_away(json.dumps(vars(record)["headers"])) == []
    assert given_away(json.dumps(fields))


def test_a_credential_put_together_by_formatting_is_masked(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = log
    logger.warning("Bearer %s%s", FUNCTION_KEY[:10], FUNCTION_KEY[10:])
    assert out.getvalue().strip() == "redaction WARNING Bearer ***"


def test_a_harmless_record_is_left_as_it_is() -> None:
    arguments, extra = ({"a": (1, "b")},), {"list": [1, None, "text"], "set": {"x"}}
    record = logging.makeLogRecord({"msg": "%(a)s", "args": arguments[0], "extra": extra})
    assert RedactingFilter().filter(record)
    assert record.args is arguments[0]
    assert vars(record)["extra"] is extra


def crash() -> None:
    cause = ValueError(f"upstream said {ACCESS}")
    cause.add_note(f"with {JWT}")
    try:
        try:
            raise cause
        except ValueError as error:
            message = f"Authorization: Bearer {FUNCTION_KEY}"
            raise LookupError(message) from error
    except LookupError as error:
        raise ExceptionGroup("all of them", [error, OSError(PEM)]) from error


def test_an_exception_is_masked_with_its_causes_notes_and_group(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, out = log
    try:
        crash()
    except ExceptionGroup:
        logger.exception("crashed")
    text = out.getvalue()
    assert given_away(text) == []
    assert "LookupError: Authorization: Bearer ***" in text
    assert "ValueError: upstream said ***" in text
    assert "in crash" in text


def test_a_formatter_that_prints_the_exception_itself_gets_a_masked_one() -> None:
    try:
        raise ValueError(ACCESS)  # noqa: TRY301 -- the record needs a traceback
    except ValueError:
        record = logging.makeLogRecord({"msg": "x", "exc_info": sys.exc_info()})
    RedactingFilter().filter(record)
    assert record.exc_info is not None
    assert repr(record.exc_info[1]).startswith("ValueError(")
    assert given_away(repr(record.exc_info)) == []
    assert "ValueError: ***" in str(record.exc_info[1])


def test_a_cached_traceback_and_a_stack_are_masked() -> None:
    record = logging.makeLogRecord({"msg": "x", "exc_text": ACCESS, "stack_info": f"at {JWT}"})
    RedactingFilter().filter(record)
    assert (record.exc_text, record.stack_info) == ("***", "at ***")


class Leaking:
    def __str__(self) -> str:
        return "harmless"

    def __repr__(self) -> str:
        return f"Leaking({ACCESS})"


def test_an_object_that_only_its_repr_gives_away_is_masked() -> None:
    record = logging.makeLogRecord({"msg": "%r", "args": (Leaking(),), "odd": Leaking()})
    RedactingFilter().filter(record)
    assert given_away(f"{record.getMessage()} {vars(record)!r}") == []


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError(ACCESS)


@pytest.mark.parametrize(
    ("message", "fields"),
    [("%d %d", {"args": (ACCESS,)}), ("x", {"odd": Unprintable(), "more": ACCESS})],
    ids=["wrong arguments", "unprintable"],
)
def test_a_record_that_cannot_be_searched_is_withheld(message: str, fields: dict[str, Any]) -> None:
    record = logging.makeLogRecord({"msg": message, **fields})
    assert RedactingFilter().filter(record)
    assert record.getMessage() == WITHHELD
    assert given_away(repr(vars(record))) == []


def test_a_field_without_an_end_is_cut_off() -> None:
    endless: list[Any] = []
    endless.append(endless)
    record = logging.makeLogRecord({"msg": "x", "endless": endless})
    RedactingFilter().filter(record)
    assert MASK in repr(vars(record)["endless"])


def test_installing_twice_installs_once() -> None:
    logger = logging.Logger("twice")  # noqa: LOG001 -- as above
    logger.addHandler(logging.NullHandler())
    install(logger, logger)
    install(logger)
    assert [len(logger.filters), len(logger.handlers[0].filters)] == [1, 1]


def test_powertools_lines_are_masked_as_well() -> None:
    out = io.StringIO()
    logger = Logger(service="redaction-powertools", stream=out)
    install(logging.getLogger("redaction-powertools"))
    logger.append_keys(held="kept")
    try:
        crash()
    except ExceptionGroup:
        logger.exception({"answer": ACCESS}, audit={"asked": JWT}, headers=[PEM])
    line = json.loads(out.getvalue())
    assert given_away(out.getvalue()) == []
    assert line["message"] == {"answer": MASK}
    assert line["audit"] == {"asked": MASK}
    assert line["exception_name"] == "ExceptionGroup"


@pytest.mark.parametrize("door", ["functions.aws.api", "functions.azure.api"])
def test_both_functions_mask_what_their_libraries_log(door: str) -> None:
    program = (
        "import importlib, logging\n"
        "logging.basicConfig(level=logging.DEBUG)\n"
        f"importlib.import_module({door!r})\n"
        f"logging.getLogger('urllib3').debug('GET /?code=%s', {FUNCTION_KEY!r})\n"
        f"logging.getLogger('tokenvend').error({ACCESS!r})\n"
    )
    done = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    written = done.stdout + done.stderr
    assert "GET /?code=***" in written
    assert given_away(written) == []


class ListSink:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str, record: AuditRecord) -> None:
        self.lines.append(line)


def test_a_caller_who_asks_with_a_credential_cannot_break_its_own_audit_record() -> None:
    sink = ListSink()
    log = AuditLog(sink.write, instance="i")
    for text in CREDENTIALS.values():
        log.close(AuditRecord("r", "t", asked={"audience": text}))
    for line in sink.lines:
        logged = logging.makeLogRecord({"msg": line})
        RedactingFilter().filter(logged)
        assert given_away(line) == []
        assert logged.msg is line
    assert list(verify(map(json.loads, sink.lines))) == []


def test_a_text_that_could_be_masked_twice_cannot_make_its_record_look_altered() -> None:
    for text in (
        "x-amz-security-token%22%22aaaaaa",
        "client_secretvaluevalueaaaaaa",
        "x-amz-security-token%3D%3Daaaaaa",
    ):
        once = mask(text)
        assert "aaaaaa" not in once
        assert mask(once) is once


def test_a_text_that_opens_a_pair_cannot_mask_a_member_of_its_own_record() -> None:
    for text in ("('client_secret", "(b'x-amz-security-token", "['client_secret"):
        sink = ListSink()
        caller = OidcCaller("https://issuer.example", text)
        AuditLog(sink.write, instance="i").close(AuditRecord("r", "t", caller=caller))
        told = json.loads(sink.lines[0])["caller"]
        assert (told["issuer"], told["subject"]) == ("https://issuer.example", text)
