"""requests' HTTP adapter, with reads that end at a deadline and one TLS setup for every host.

A socket's timeout starts anew with every byte, so a server that drips its status line or headers
could hold a caller for hours: here each read is given what is left of the deadline, no more. Only
the system's name resolution is out of reach: it waits as long as resolv.conf says.

Only `transport` imports this, and only once a request has to leave.
"""

from __future__ import annotations

import io
import ssl
from contextvars import ContextVar
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any

import certifi
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from requests import PreparedRequest, Response
    from urllib3.poolmanager import PoolManager, ProxyManager

# Set for the time of one send; the response takes it along for its body.
_left: ContextVar[Callable[[], float]] = ContextVar("_left")


class DeadlineAdapter(HTTPAdapter):
    """Pooled connections. `ca_bundle`: path of a PEM file, empty for certifi's.

    Neither requests nor this adapter reads proxies or CA bundle from the environment here: that
    is a `requests.Session`'s doing, and there is none.
    """

    def __init__(self, ca_bundle: str, pool_maxsize: int) -> None:
        # Loaded once: left to urllib3, every new connection parses the bundle again (20 ms).
        self._tls = ssl.create_default_context(cafile=ca_bundle or certifi.where())
        super().__init__(pool_maxsize=pool_maxsize, max_retries=0)

    def send_within(
        self,
        request: PreparedRequest,
        left: Callable[[], float],
        *,
        timeout: tuple[float, float],
        proxy: str,
    ) -> Response:
        """Send, and return as soon as the headers are there.

        `left`: seconds until the deadline, asked before each read, the body's too. `timeout`:
        seconds to connect, and between two reads. `proxy`: URL of an http proxy for https, empty
        for none. Raises what requests' adapter raises.
        """
        token = _left.set(left)
        try:
            # The platform's identity endpoints (plain http) are this machine's own: a proxy could
            # not reach them, and their answers hold tokens that no proxy should see.
            proxies = {"https": proxy} if proxy else {}
            return self.send(request, stream=True, timeout=timeout, verify=True, proxies=proxies)
        finally:
            _left.reset(token)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Called by requests: pools of our connections."""
        super().init_poolmanager(*args, **kwargs, ssl_context=self._tls)
        _use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        """Called by requests: pools of our connections through `proxy`."""
        manager: ProxyManager = super().proxy_manager_for(
            proxy,
            **kwargs,
            ssl_context=self._tls,
            # urllib3 turns Nagle on towards a proxy; a body sent behind its headers would then
            # wait up to 40 ms for the proxy's delayed acknowledgement.
            socket_options=HTTPConnection.default_socket_options,
        )
        _use_our_pools(manager)
        return manager

    def cert_verify(self, *args: object) -> None:
        """Called by requests: nothing to add, the one TLS setup already verifies."""


def _use_our_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}


class _TimedReader(io.RawIOBase):
    """A socket's bytes, each read bounded by what is left of the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._left = _left.get()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        left = self._left()
        if left <= 0:
            msg = "the deadline has passed"
            raise TimeoutError(msg)
        between = self._sock.gettimeout()
        self._sock.settimeout(left if between is None else min(between, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw: io.RawIOBase = self.fp.detach()
        self.fp = io.BufferedReader(_TimedReader(raw, sock))


class _HttpConnection(HTTPConnection):
    response_class = _TimedResponse


class _HttpsConnection(HTTPSConnection):
    response_class = _TimedResponse


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
