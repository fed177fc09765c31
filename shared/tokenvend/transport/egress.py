"""The one door out: every request the core makes to another machine leaves through `Transport`.

It refuses what a confused or hostile upstream could use against us: a host that is not on the
list, plain http except to the platform's own endpoints, redirects, cookies, compressed or
oversized answers, and an answer that drips past the deadline. Proxy and CA bundle come from
`Egress` alone, never from the environment. Calls that are safe to repeat are retried here
(RFC 9110 sections 9.2.2 and 10.2.3).
"""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tokenvend.errors import DeadlineExceeded, Misconfigured, UpstreamUnavailable
from tokenvend.transport import Answer, Call, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tokenvend.deadline import Deadline
    from tokenvend.transport import Sender
    from tokenvend.transport.connections import Connections

# The platform's identity endpoints: App Service, Functions and IMDS answer on these, in plain http.
PLATFORM_NETWORKS = ("127.0.0.0/8", "169.254.0.0/16")

BYTE_CAP = 1024 * 1024
MAX_TRIES = 3
# Seconds.
BACKOFF_BASE = 0.1
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
# One spelling of a URL and of a header: what the far end might read differently is refused.
_AUTHORITY = re.compile(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_URL = re.compile(r"[!-\[\]-~]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")
# What the operator can do about a failure whose name alone does not tell.
_HINTS = {
    "SSLCertVerificationError": ": is the CA bundle the one this network needs?",
    "ProxyError": ": is the proxy running, and does it allow this host?",
}


@dataclass(frozen=True, slots=True)
class Egress:
    """How calls leave: allowed hosts, proxy and trust anchors.

    `hosts`: exact lower-case names, `name:port`, or `*.suffix`, reached over https; the platform's
    own are reached over http, never through the proxy. `proxy`: URL of an http proxy for https,
    empty for none. `ca_bundle`: path of a PEM file, empty for certifi's. `no_proxy`: what is
    reached without the proxy, see `bypasses_proxy`.
    """

    hosts: tuple[str, ...]
    proxy: str = field(default="", repr=False)
    ca_bundle: str = ""
    no_proxy: tuple[str, ...] = ()

    def proxy_for(self, host: str, port: int) -> str:
        """The proxy that https to `host` takes, empty for none."""
        return "" if bypasses_proxy(host, port, self.no_proxy) else self.proxy


class Transport:
    """A thread-safe `Sender`.

    `now`: epoch seconds; `sleep` (seconds) and `random` (0 to 1) set the pace of retries. `random`
    is `random.SystemRandom().random` wherever processes may start from one snapshot: they share
    the state of any other, and would retry in step. `network`: makes one try, in place of pooled
    connections; raises OSError, ValueError or HTTPException with whatever text.
    Nothing is opened, and no HTTP library loaded, before the first call.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        random: Callable[[], float],
        byte_cap: int = BYTE_CAP,
        network: Sender | None = None,
    ) -> None:
        self._egress = egress
        self._now = now
        self._sleep = sleep
        self._random = random
        self._byte_cap = byte_cap
        self._network = network
        self._lock = threading.Lock()
        self._connections: Connections | None = None

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """The upstream's answer, whatever its status, once retries are spent.

        Only repeatable calls are retried, on a failed connection, a timeout and RETRY_STATUSES.
        Raises Misconfigured (host not allowed), UpstreamUnavailable, DeadlineExceeded.
        """
        host = self._allowed_host(call.url)
        _check_headers(call)
        tried = 0
        while True:
            outcome = self._once(call, host, deadline, repeatable=repeatable)
            tried += 1
            if not repeatable or tried == MAX_TRIES:
                break
            if isinstance(outcome, Answer) and outcome.status not in RETRY_STATUSES:
                break
            # Full jitter, on top of a Retry-After: every instance was told the same moment.
            wait = self._random() * BACKOFF_BASE * 2 ** (tried - 1)
            if isinstance(outcome, Answer):
                wait += retry_after(outcome.headers, self._now()) or 0
            if wait >= deadline.remaining():
                break
            self._sleep(wait)
        if isinstance(outcome, UpstreamUnavailable):
            raise outcome
        return outcome

    def close(self) -> None:
        """Drop every pooled connection; the next call opens new ones (before a snapshot)."""
        if self._connections is not None:
            self._connections.close()

    def _allowed_host(self, url: str) -> str:
        parts = urlsplit(url) if _URL.fullmatch(url) else None
        if parts is None or not _AUTHORITY.fullmatch(parts.netloc) or parts.fragment:
            raise Misconfigured(cause="an outgoing URL is malformed")
        host = parts.hostname or ""
        if parts.scheme == "https":
            allowed = matches_host(parts.netloc.removesuffix(":443"), self._egress.hosts)
        else:
            allowed = parts.scheme == "http" and is_platform_host(host)
        if not allowed:
            cause = f"{parts.scheme}://{parts.netloc} is not on the list of allowed hosts"
            raise Misconfigured(cause=cause)
        return host

    def _once(
        self, call: Call, host: str, deadline: Deadline, *, repeatable: bool
    ) -> Answer | UpstreamUnavailable:
        """The answer, or the failure of a connection that a second try may not meet."""
        from http.client import HTTPException  # noqa: PLC0415 - a cache hit never needs it

        failure = ""
        network = self._network or self._pool()
        if deadline.remaining() > 0:
            try:
                return self._usable(network.send(call, deadline, repeatable=repeatable), host)
            except (OSError, ValueError, HTTPException) as error:
                # The library's text quotes URL and headers: only the kind of failure leaves.
                failure = type(error).__name__
        if deadline.remaining() <= 0:
            raise DeadlineExceeded(cause=f"{host} had not answered when the time was up")
        return UpstreamUnavailable(cause=f"{host}: {failure}{_HINTS.get(failure, '')}")

    def _usable(self, answer: Answer, host: str) -> Answer:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            # We asked for none; unpacking it would let 1 MB grow to 1 GB.
            cause = "the answer is compressed"
        elif len(answer.body) > self._byte_cap:
            cause = f"the answer is larger than {self._byte_cap} bytes"
        else:
            return answer
        raise UpstreamUnavailable(cause=f"{host}: {cause}")

    def _pool(self) -> Connections:
        from tokenvend.transport.connections import Connections  # noqa: PLC0415 - imports TLS

        with self._lock:
            if self._connections is None:
                try:
                    self._connections = Connections(
                        self._egress, now=self._now, byte_cap=self._byte_cap
                    )
                except OSError as error:
                    cause = f"the CA bundle cannot be loaded: {type(error).__name__}"
                    raise Misconfigured(cause=cause) from error
            return self._connections


def matches_host(host: str, patterns: Iterable[str]) -> bool:
    """Whether `host` is one of the names, or lies below the suffix of a `*.suffix` pattern."""
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


def is_platform_host(host: str) -> bool:
    """Whether `host` is this machine, or an address in one of PLATFORM_NETWORKS."""
    return host == "localhost" or any(_is_in(host, network) for network in PLATFORM_NETWORKS)


def bypasses_proxy(host: str, port: int, no_proxy: Iterable[str]) -> bool:
    """Whether an entry of `no_proxy` names `host`, as curl and requests read NO_PROXY.

    An entry is `*`, an address, a network, or a name that stands for all below it too, with or
    without a leading dot; an address or a name may end in `:port`.
    """
    return any(_names(entry.strip().lower(), host, port) for entry in no_proxy)


def _names(entry: str, host: str, port: int) -> bool:
    if entry == "*" or _is_in(host, entry.strip("[]")):
        return True
    name, colon, only = entry.rpartition(":")
    if not colon or not only.isdecimal():
        name = entry
    elif int(only) != port:
        return False
    name = name.removeprefix("*").lstrip(".").strip("[]")
    return bool(name) and f".{host}".endswith(f".{name}")


def _is_in(host: str, network: str) -> bool:
    with suppress(ValueError):
        return ip_address(host) in ip_network(network, strict=False)
    return False


def _check_headers(call: Call) -> None:
    for name, value in call.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            # Further down an encoder's error would quote the value, which may be a token.
            raise Misconfigured(cause=f"the {name} header is not plain ASCII text")
