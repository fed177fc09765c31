"""Audit records out of logs as they are stored: one pass, one line at a time.

A record travels inside other things: under `audit` in a line of ours, behind a host's prefix, as
the `message` of an exported log event, in a field of CSV. All are looked into; lines without a
record are passed over. Not taken for a record: JSON with a member named twice, because two readers
could pick different ones. What that leaves out shows as a gap in the chain (`audit.chain.verify`).
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from typing import IO, TYPE_CHECKING, Any

import click

from tokenvend.wire.objects import once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Bytes: CloudWatch Logs takes events of 1 MiB; an export adds what it wraps around them.
MAX_LINE = 4 * 1024 * 1024

_REQUIRED = frozenset({"schema", "instance", "sequence", "previous", "hash", "request_id"})
# Where wrappers keep the line or record: powertools and ours, then exports of CloudWatch Logs,
# of Logs Insights, of Application Insights, and of log shippers.
_WRAPPERS = (
    *("audit", "message", "events"),
    *("@message", "results", "value"),
    *("Message", "customDimensions", "tables", "rows"),
    "log",
)
_MAX_DEPTH = 8
# Places in a line where JSON may begin; a string is JSON too, in indented output of the aws tool.
_BEGINNING = re.compile(r'"?\{')
_MAX_BEGINNINGS = 64


def read_logs(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The records of these files in their order; `-` is standard input, `.gz` is unpacked.

    Raises click.UsageError, which names the file, while iterating.
    """
    for path in paths:
        try:
            packed = path.suffix == ".gz"
            with gzip.open(path) if packed else click.open_file(str(path), "rb") as stream:
                yield from records_in(_lines(stream))
        except (OSError, EOFError, zlib.error) as error:
            raise click.UsageError(f"{path} cannot be read: {error}") from None


def records_in(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The records in these lines."""
    for line in lines:
        if "sequence" not in line or "previous" not in line:
            continue
        # CSV doubles each quote (RFC 4180 section 2); in JSON no name stands between two of them.
        if '""sequence""' in line:
            yield from _in_value(_fields(line), 0)
        else:
            yield from _in_text(line, 0)


def _lines(stream: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
    beginning = True
    while line := stream.readline(MAX_LINE):
        ended = line.endswith(b"\n") or len(line) < MAX_LINE
        if beginning and ended:
            yield line.decode("utf-8", errors="replace")
        # An endless line is passed over without ever being held.
        beginning = ended


def _fields(line: str) -> list[str]:
    csv.field_size_limit(MAX_LINE)
    try:
        return next(csv.reader([line]))
    except csv.Error:
        return []


def _in_text(text: str, depth: int) -> Iterator[dict[str, Any]]:
    at = 0
    for _ in range(_MAX_BEGINNINGS):
        found = _BEGINNING.search(text, at)
        if found is None:
            return
        try:
            value, at = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
            continue
        yield from _in_value(value, depth + 1)


def _in_value(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > _MAX_DEPTH:
        return
    match value:
        case dict() if value.keys() >= _REQUIRED:
            yield value
        case dict():
            for name in _WRAPPERS:
                yield from _in_value(value.get(name), depth + 1)
        case list():
            for item in value:
                yield from _in_value(item, depth + 1)
        case str() if "sequence" in value:
            yield from _in_text(value, depth)


_DECODER = json.JSONDecoder(object_pairs_hook=once)
