"""The second net under every log: credentials are masked in whatever a library or a crash logs.

The first net is that nothing of ours logs a `Secret`. This one is for what we do not write: a
library's debug lines, an exception's text, an extra field. It works by form (`masking`), so it is
no licence to log a token. Refuses nothing and never raises: a record that cannot be searched is
withheld instead.
"""

from __future__ import annotations

import logging
import traceback
from typing import Any

from tokenvend.masking import MASK, mask

WITHHELD = "a log record was withheld: it could not be searched for credentials"

# Nesting beyond this is no log field; it is masked whole.
_MAX_DEPTH = 8
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def install(*loggers: logging.Logger) -> None:
    """Put the filter before each logger's handlers. Asking twice is the same as once.

    On the handlers too: a logger's own filter does not see what its children pass up.
    """
    for logger in loggers:
        for taker in (logger, *logger.handlers):
            if not any(isinstance(each, RedactingFilter) for each in taker.filters):
                taker.addFilter(RedactingFilter())


class RedactingFilter(logging.Filter):
    """Masks credentials in a record's message, arguments, extra fields, exception and stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record, masked."""
        try:
            _redact(record)
        except Exception:  # noqa: BLE001 -- logging must not fail; what it cannot search it drops
            _withhold(record)
        return True


def _redact(record: logging.LogRecord) -> None:
    record.msg = _masked(record.msg)
    record.args = _masked(record.args)
    if isinstance(record.msg, str) and record.args:
        # The whole line as well: "Bearer %s" is harmless until it is put together.
        line = record.getMessage()
        masked = mask(line)
        if masked is not line:
            record.msg, record.args = masked, None
    for name in vars(record).keys() - _STANDARD:
        setattr(record, name, _masked(getattr(record, name)))
    if record.exc_text:
        record.exc_text = mask(record.exc_text)
    if record.stack_info:
        record.stack_info = mask(record.stack_info)
    if record.exc_info and record.exc_info[1] is not None:
        _redact_exception(record, record.exc_info[1])


def _redact_exception(record: logging.LogRecord, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error))
    masked = mask(text)
    if masked is not text:
        # A formatter may print the exception itself, so another of its name takes its place: what
        # it says is all that there was to tell, frames, causes and notes.
        kind = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
        record.exc_info, record.exc_text = (kind, kind(masked), None), None


def _withhold(record: logging.LogRecord) -> None:
    for name in vars(record).keys() - _STANDARD:
        delattr(record, name)
    record.msg, record.args = WITHHELD, None
    record.exc_info = record.exc_text = record.stack_info = None


def _masked(value: Any, depth: int = 0) -> Any:
    """The value with its texts masked; the same object where nothing was."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return mask(value)
    if depth > _MAX_DEPTH:
        return MASK
    if isinstance(value, dict):
        changed = _masked_mapping(value, depth + 1)
        return value if changed == value else changed
    if isinstance(value, list | tuple | set | frozenset):
        items = [_masked(item, depth + 1) for item in value]
        if len(items) == 2:  # noqa: PLR2004 -- a pair may be a header
            items[1] = _masked_named(*items)
        return value if items == list(value) else tuple(items)
    # Anything else is printed one way or the other.
    texts = (value.decode("latin-1"),) if isinstance(value, bytes) else (str(value), repr(value))
    return next((safe for text in texts if (safe := mask(text)) is not text), value)


def _masked_mapping(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    masked = {}
    for key, item in value.items():
        name = mask(key) if isinstance(key, str) else key
        masked[name] = _masked_named(name, _masked(item, depth))
    # A list of {"key": name, "value": value}, as Google's STS takes a signed request's headers.
    if masked.keys() >= {"key", "value"}:
        masked["value"] = _masked_named(masked["key"], masked["value"])
    return masked


def _masked_named(name: object, value: Any) -> Any:
    # Most keys and session tokens have no form of their own: only their name tells.
    if not isinstance(name, str) or not isinstance(value, str):
        return value
    return mask(f"{name}={value}").removeprefix(f"{name}=")
