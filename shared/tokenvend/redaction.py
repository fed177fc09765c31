"""The second net under every log: credentials are masked in whatever a library or a crash logs.

The first net is that nothing of ours logs a `Secret`. This one is for what we do not write: a
library's debug lines, an exception's text, an extra field. It works by form (`masking`), so it is
no licence to log a token. Refuses nothing and never raises: a record that cannot be searched is
withheld instead.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from tokenvend.masking import MASK, mask

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

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
    if mask(text) is text:
        return
    # A formatter may print the exception itself, not only the traceback's text; so a copy
    # takes its place, with its type's name, its frames and the whole masked text of its causes.
    copy = _masked_exception(error)
    record.exc_info = (type(copy), copy, copy.__traceback__)
    record.exc_text = None


def _masked_exception(error: BaseException, depth: int = 0) -> BaseException:
    kind = type(error)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    copy: BaseException = type(kind.__name__, (Exception,), named)(mask(str(error)))
    copy.__traceback__ = error.__traceback__
    for note in getattr(error, "__notes__", ()):
        copy.add_note(mask(str(note)))
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            copy.add_note(mask("".join(traceback.format_exception(each))))
    if depth < _MAX_DEPTH:
        if error.__cause__ is not None:
            copy.__cause__ = _masked_exception(error.__cause__, depth + 1)
        if error.__context__ is not None:
            copy.__context__ = _masked_exception(error.__context__, depth + 1)
    copy.__suppress_context__ = error.__suppress_context__
    return copy


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
        return _masked_mapping(value, depth + 1)
    if isinstance(value, list | tuple | set | frozenset):
        return _masked_items(value, depth + 1)
    # Anything else is printed one way or the other.
    return next((safe for text in _texts(value) if (safe := mask(text)) is not text), value)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, bytes | bytearray):
        yield value.decode("latin-1")
    else:
        yield str(value)
        yield repr(value)


def _masked_items(value: Collection[Any], depth: int) -> Collection[Any]:
    items = [_masked(item, depth) for item in value]
    if len(items) == 2:  # noqa: PLR2004 -- a pair may be a header
        items[1] = _masked_named(items[0], items[1])
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    kind = next(each for each in (list, tuple, set, frozenset) if isinstance(value, each))
    return kind(items)


def _masked_mapping(value: dict[Any, Any], depth: int) -> dict[Any, Any]:
    changed = {}
    same = True
    for key, old in value.items():
        name = mask(key) if isinstance(key, str) else key
        changed[name] = new = _masked_named(name, _masked(old, depth))
        same = same and name is key and new is old
    # A list of {"key": name, "value": value}, as Google's STS takes a signed request's headers.
    if changed.keys() >= {"key", "value"}:
        before = changed["value"]
        changed["value"] = _masked_named(changed["key"], before)
        same = same and changed["value"] is before
    return value if same else changed


def _masked_named(name: object, value: Any) -> Any:
    # Most keys and session tokens have no form of their own: only their name tells.
    if not isinstance(name, str) or not isinstance(value, str):
        return value
    line = f"{name}={value}"
    masked = mask(line)
    return value if masked is line else masked.removeprefix(f"{name}=")
