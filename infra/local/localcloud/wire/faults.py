"""Faults on demand: what clouds do on a bad day, and a clock that can be wrong.

`Faults` stands in front of a site (the router) and spoils answers by hostname pattern; the proxy
and the TLS server ask it about connections. `Clock` is the time that every stand-in reads. Both
change at run time, from any thread.
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
    from collections.abc import Callable, Generator


class Kind(StrEnum):
    """What happens to a request or, of the last two, to a connection."""

    LATENCY = "latency"
    STATUS = "status"
    RESET = "reset"
    TRUNCATED = "truncated"
    GARBAGE = "garbage"
    DRIP = "drip"
    REDIRECT = "redirect"
    REFUSED = "refused"
    TLS = "tls"


OF_CONNECTIONS = (Kind.REFUSED, Kind.TLS)
ELSEWHERE = "https://elsewhere.invalid"
"""Where a redirect leads: nowhere, by RFC 6761."""
DRIP_SECONDS = 10.0
_DROPS = 20


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        host: hostname pattern, as in the router (``*.googleapis.com``).
        kind: what happens.
        path: pattern of the path it is limited to; a connection has none.
        seconds: how long latency lasts, and the whole body of a drip (10 unless given); also delays
            any other kind.
        status: the answer's status, for kind status.
        retry_after: the value of Retry-After, for kind status; empty sends none.
        times: how many requests it hits; None is until cleared. Connections count, and so does a
            request on a connection that was open before.

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
    """A site that answers as the one behind it, but for the faults that were set.

    Args:
        behind: the site.
        refusal: how whom a request is for says a status, so that a client meets the vendor's shape.

    """

    def __init__(
        self, behind: Site, refusal: Callable[[Request, int], Response] = lambda _, s: Response(s)
    ) -> None:
        self._behind = behind
        self._refusal = refusal
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

    def answer(self, site: Site, request: Request) -> Response:  # noqa: PLR0911 - one a kind
        """What a site answers, spoilt or not; raises ConnectionAbortedError for a reset."""
        fault = self._take(lambda each: each.hits(request))
        if fault is None:
            return site(request)
        if fault.kind is not Kind.DRIP:
            time.sleep(fault.seconds)
        match fault.kind:
            case Kind.LATENCY:
                return site(request)
            case Kind.STATUS:
                answer = self._refusal(request, fault.status)
                wait = (("Retry-After", fault.retry_after),) if fault.retry_after else ()
                return replace(answer, headers=(*answer.headers, *wait))
            case Kind.RESET | Kind.REFUSED | Kind.TLS:
                # The last two on a connection that was open already: its next one meets them.
                raise ConnectionAbortedError("injected reset")
            case Kind.TRUNCATED:
                return _truncated(site(request))
            case Kind.GARBAGE:
                return _whole(site(request), b"\x00\xff<{not json")
            case Kind.DRIP:
                return _dripping(site(request), fault.seconds or DRIP_SECONDS)
            case Kind.REDIRECT:
                return Response(302, b"", (("Location", ELSEWHERE + request.target),))

    def refuses(self, host: str) -> bool:
        """Whether a connection to a host is refused now."""
        return self._meets(host, Kind.REFUSED)

    def spoils_tls(self, host: str) -> bool:
        """Whether a host shows a certificate that nobody trusts now."""
        return self._meets(host, Kind.TLS)

    def _meets(self, host: str, kind: Kind) -> bool:
        fault = self._take(lambda each: each.kind is kind and fnmatchcase(host, each.host))
        if fault is not None:
            time.sleep(fault.seconds)
        return fault is not None

    def _take(self, hits: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            for index, fault in enumerate(self._set):
                if not hits(fault):
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
    if whole.stream is not None:
        return replace(whole, stream=_cut(whole.stream))
    lost = (("Content-Length", str(len(whole.body) + 1)), ("Connection", "close"))
    return _whole(whole, whole.body[: len(whole.body) // 2], *lost)


def _cut(stream: Generator[bytes]) -> Generator[bytes]:
    try:
        first = next(stream, b"")
        yield first[: len(first) // 2]
    finally:
        stream.close()
    raise ConnectionAbortedError("injected end")


def _whole(spoilt: Response, body: bytes, *headers: tuple[str, str]) -> Response:
    """An answer with another body, of that body's length."""
    if spoilt.stream is not None:
        spoilt.stream.close()
    kept = tuple((k, v) for k, v in spoilt.headers if k.lower() != "content-length")
    return Response(spoilt.status, body, (*kept, *headers))


def _dripping(whole: Response, seconds: float) -> Response:
    """The same bytes, in drops."""
    if whole.stream is not None:
        return replace(whole, stream=_slowed(whole.stream, seconds / _DROPS))
    size = max(1, -(-len(whole.body) // _DROPS))
    drops = (whole.body[start : start + size] for start in range(0, len(whole.body), size))
    length = ("Content-Length", str(len(whole.body)))
    kept = _whole(whole, whole.body, length)
    return replace(kept, stream=_slowed(drops, seconds / _DROPS))


def _slowed(pieces: Generator[bytes], pause: float) -> Generator[bytes]:
    try:
        for piece in pieces:
            time.sleep(pause)
            yield piece
    finally:
        pieces.close()
