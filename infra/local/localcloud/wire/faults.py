"""Faults on demand: what clouds do on a bad day, and a clock that can be wrong.

`Faults` stands in front of a site (the router) and spoils answers by hostname pattern; `Clock` is
the time that every stand-in reads. Both change at run time, from any thread.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable


class Kind(StrEnum):
    """What happens to a request."""

    LATENCY = "latency"
    STATUS = "status"
    RESET = "reset"
    TRUNCATED = "truncated"
    GARBAGE = "garbage"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        host: hostname pattern, as in the router (``*.googleapis.com``).
        kind: what happens.
        path: pattern of the path it is limited to.
        seconds: how long latency lasts; also delays any other kind.
        status: the answer's status, for kind status.
        retry_after: the value of Retry-After, for kind status; empty sends none.
        times: how many requests it hits; None is until cleared.

    """

    host: str
    kind: Kind
    path: str = "*"
    seconds: float = 0.0
    status: int = 503
    retry_after: str = ""
    times: int | None = None

    def hits(self, request: Request) -> bool:
        """Whether this request is meant."""
        return fnmatchcase(request.host.lower(), self.host) and fnmatchcase(request.path, self.path)


class Faults:
    """A site that answers as the one behind it, but for the faults that were set."""

    def __init__(self, behind: Site) -> None:
        self._behind = behind
        self._set: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Set a fault; of several that hit one request, the one set first acts."""
        with self._lock:
            self._set.append(fault)

    def listed(self) -> list[Fault]:
        """The faults that are set, in the order in which they act."""
        with self._lock:
            return list(self._set)

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self._set.clear()

    def __call__(self, request: Request) -> Response:
        """Answer, spoilt or not; ConnectionAbortedError is a reset on the wire."""
        return self.answer(self._behind, request)

    def before(self, site: Site) -> Site:
        """A site that stands elsewhere, behind the same faults."""
        return lambda request: self.answer(site, request)

    def answer(self, site: Site, request: Request) -> Response:
        """What a site answers, spoilt or not; raises ConnectionAbortedError for a reset."""
        fault = self._take(request)
        if fault is None:
            return site(request)
        time.sleep(fault.seconds)
        match fault.kind:
            case Kind.LATENCY:
                return site(request)
            case Kind.STATUS:
                wait = (("Retry-After", fault.retry_after),) if fault.retry_after else ()
                return Response.json(fault.status, {"error": "injected fault"}, *wait)
            case Kind.RESET:
                raise ConnectionAbortedError("injected reset")
            case Kind.TRUNCATED:
                return _truncated(site(request))
            case Kind.GARBAGE:
                return replace(site(request), body=b"\x00\xff<{not json")

    def _take(self, request: Request) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._set):
                if not fault.hits(request):
                    continue
                if fault.times is not None:
                    self._set[index : index + 1] = (
                        [replace(fault, times=fault.times - 1)] if fault.times > 1 else []
                    )
                return fault
        return None


class Clock:
    """Epoch seconds of the embedded cloud; `skew` seconds ahead of this machine's."""

    def __init__(self, base: Callable[[], float] = time.time) -> None:
        self._base = base
        self.skew = 0.0

    def __call__(self) -> float:
        """The cloud's time."""
        return self._base() + self.skew


def _truncated(whole: Response) -> Response:
    """Announces the whole body, sends half of it and hangs up."""
    kept = tuple((k, v) for k, v in whole.headers if k.lower() != "content-length")
    lost = (("Content-Length", str(len(whole.body) + 1)), ("Connection", "close"))
    return Response(whole.status, whole.body[: len(whole.body) // 2], (*kept, *lost))
