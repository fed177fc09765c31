"""Connections that break while an upload is under way, once, where it hurts."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from localcloud.wire.web import Body, BodyCutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localcloud.wire.web import Request, Response, Router, Site

HOST = "storage.googleapis.com"
KEPT = 700_000
"""Bytes of a request that still arrive: two quanta of 256 KiB, and some that are not kept."""

type Break = Callable[[Site, Request], Response]


class _Cut(Body):
    def __init__(self, whole: Body) -> None:
        self._whole = whole
        self.length = whole.length
        self._left = KEPT

    @property
    def ended(self) -> bool:
        return False

    def read(self, size: int = KEPT) -> bytes:
        if self._left == 0:
            raise BodyCutError("the connection breaks here")
        piece = self._whole.read(min(size, self._left))
        self._left -= len(piece)
        return piece


def cut_in_the_middle(site: Site, request: Request) -> Response:
    """The connection ends while the body is on its way."""
    return site(replace(request, content=_Cut(request.stream)))


def lose_the_answer(site: Site, request: Request) -> Response:
    """The request is carried out, and its sender never hears of it."""
    site(request)
    raise ConnectionAbortedError("the answer is lost")


@contextmanager
def breaking(router: Router, how: Break) -> Iterator[list[str]]:
    """Break the first request that carries a piece of an upload; its path is in the list then."""
    broken: list[str] = []
    site = router.site(HOST)
    assert site is not None

    def once(request: Request) -> Response:
        carries = {"upload_id", "partNumber"} & request.params.keys()
        if not carries or broken:
            return site(request)
        broken.append(request.path)
        return how(site, request)

    router.add({HOST: once})
    try:
        yield broken
    finally:
        router.add({HOST: site})
