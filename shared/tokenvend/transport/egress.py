"""The one door out: every request the core makes to another machine leaves through `Transport`.

It refuses what a confused or hostile upstream could use against us: a host that is not on the
list, plain http except to the platform's own endpoints, redirects, cookies, compressed or
oversized answers, and an answer that drips past the deadline. Retries live here and nowhere else,
for calls that are safe to repeat (RFC 9110 sections 9.2.2 and 10.2.3).

It speaks through requests' adapter without a `Session`: a session would keep cookies, follow
redirects, and take proxies, CA bundle and (from a .netrc) an Authorization header of its own from
the environment, in place of ours.
"""

from __future__ import annotations

import ipaddress
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from tokenvend.errors import DeadlineExceeded, Misconfigured, UpstreamUnavailable
from tokenvend.transport import Answer, Call, retry_after

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import requests

    from tokenvend.deadline import Deadline
    from tokenvend.transport.connections import DeadlineAdapter
# The platform's identity endpoints: App Service, Functions and IMDS answer on these, in plain http.
PLATFORM_NETWORKS = ("127.0.0.0/8", "169.254.0.0/16", "localhost")

BYTE_CAP = 1024 * 1024
# Seconds. A hung connection must leave time for a second try within a request's budget.
CONNECT_TIMEOUT = 2.0
READ_TIMEOUT = 4.0
MAX_TRIES = 3
BACKOFF_BASE = 0.1
BACKOFF_CAP = 2.0
RETRY_STATUSES = frozenset({429, 500, 502, 503, 504})
POOL_SIZE = 32
_CHUNK = 64 * 1024
# One spelling of an authority: whatever urllib3 might read differently from us is refused.
_AUTHORITY = re.compile(r"([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
_URL = re.compile(r"[!-\[\]-~]+")
_HEADER_VALUE = re.compile(r"[ -~]*")
_SETUP = "This endpoint is set up wrongly. Ask its operator to look at the log."
# What the operator can do about a failure whose name alone does not tell.
_FAILURES = {
    "SSLError": "SSLError: is the CA bundle the one this network needs?",
    "ProxyError": "ProxyError: is the proxy running, and does it allow this host?",
}


@dataclass(frozen=True, slots=True)
class Egress:
    """How calls leave: allowed hosts, proxy and trust anchors.

    `hosts`: exact lower-case names, `name:port`, or `*.suffix`, reached over https.
    `plain_hosts`: names and IP networks that may be reached over http, never through the proxy.
    `proxy`: URL of an http proxy for https, empty for none. `ca_bundle`: path of a PEM file, empty
    for certifi's.
    """

    hosts: tuple[str, ...]
    plain_hosts: tuple[str, ...] = ()
    proxy: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()
    ca_bundle: str = ""


class Network(Protocol):
    """What carries a call: sockets, or a test's simulation of them."""

    def exchange(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """One try."""
        ...


class Transport:
    """A thread-safe `Sender` over pooled connections.

    `now`: epoch seconds, for a Retry-After that is a date; `sleep` (seconds) and `random` (0 to 1)
    set the pace of retries. Nothing is opened before the first call.
    """

    def __init__(
        self,
        egress: Egress,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        random: Callable[[], float],
        byte_cap: int = BYTE_CAP,
        network: Network | None = None,
    ) -> None:
        self._egress = egress
        self._now = now
        self._sleep = sleep
        self._random = random
        self._byte_cap = byte_cap
        self._network = network
        self._lock = threading.Lock()
        self._adapter: DeadlineAdapter | None = None

    def send(self, call: Call, deadline: Deadline, *, repeatable: bool) -> Answer:
        """The upstream's answer, whatever its status, once retries are spent.

        `repeatable`: whether sending the same call twice does no harm; only such calls are
        retried, on a failed connection, a timeout and the statuses 429, 500, 502, 503 and 504.
        Raises Misconfigured (host not allowed), UpstreamUnavailable, DeadlineExceeded.
        """
        host = self._allowed_host(call.url)
        tried = 0
        while True:
            outcome = self._once(call, host, deadline)
            tried += 1
            if not repeatable or tried == MAX_TRIES or not _is_passing(outcome):
                break
            wait = self._wait(outcome, tried)
            if wait >= deadline.remaining():
                break
            self._sleep(wait)
        if isinstance(outcome, UpstreamUnavailable):
            raise outcome
        return outcome

    def close(self) -> None:
        """Drop every pooled connection; the next call opens new ones (before a snapshot)."""
        with self._lock:
            adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.close()

    def _allowed_host(self, url: str) -> str:
        parts = urlsplit(url) if _URL.fullmatch(url) else None
        if parts is None or not _AUTHORITY.fullmatch(parts.netloc) or parts.fragment:
            raise Misconfigured(_SETUP, cause="an outgoing URL is malformed")
        host = parts.hostname or ""
        if parts.scheme == "https":
            allowed = matches_host(parts.netloc.removesuffix(":443"), self._egress.hosts)
        else:
            allowed = parts.scheme == "http" and is_platform_host(host, self._egress.plain_hosts)
        if not allowed:
            cause = f"{parts.scheme}://{parts.netloc} is not on the list of allowed hosts"
            raise Misconfigured(_SETUP, cause=cause)
        return host

    def _wait(self, outcome: Answer | UpstreamUnavailable, tried: int) -> float:
        """Full jitter, on top of a Retry-After: every instance was told the same moment."""
        wait = self._random() * min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** (tried - 1))
        if isinstance(outcome, Answer):
            wait += retry_after(outcome.headers, self._now()) or 0
        return wait

    def _once(self, call: Call, host: str, deadline: Deadline) -> Answer | UpstreamUnavailable:
        """The answer, or the failure of a connection that a second try may not meet."""
        import requests  # noqa: PLC0415 - 130 ms of import that a cache hit never needs
        import urllib3.exceptions  # noqa: PLC0415

        left = deadline.remaining()
        if left <= 0:
            raise _too_late(host)
        if self._network is not None:
            return self._network.exchange(call, deadline, repeatable=True)
        pool, request = self._pool(), _prepared(call)
        try:
            response = pool.send_within(
                request,
                deadline.remaining,
                timeout=(min(CONNECT_TIMEOUT, left), min(READ_TIMEOUT, left)),
                proxy=self._egress.proxy,
            )
            return self._read(response, host)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # The library's text quotes URL and headers: only the kind of failure leaves.
            failure = _FAILURES.get(type(error).__name__, type(error).__name__)
        if deadline.remaining() <= 0:
            raise _too_late(host)
        msg = f"{host} did not answer. Try again shortly."
        return UpstreamUnavailable(msg, cause=f"{host}: {failure}")

    def _read(self, response: requests.Response, host: str) -> Answer:
        try:
            headers = {name.lower(): value for name, value in response.headers.items()}
            if headers.get("content-encoding", "identity").lower() != "identity":
                # We asked for none; unpacking it would let 1 MB grow to 1 GB.
                raise _unusable(host, "the answer is compressed")
            body = bytearray()
            while chunk := response.raw.read1(_CHUNK, decode_content=False):
                body += chunk
                if len(body) > self._byte_cap:
                    raise _unusable(host, f"the answer is larger than {self._byte_cap} bytes")
            return Answer(response.status_code, headers, bytes(body))
        finally:
            # Read to its end, the connection is back in the pool already; half-read it is closed.
            response.close()

    def _pool(self) -> DeadlineAdapter:
        from tokenvend.transport.connections import DeadlineAdapter  # noqa: PLC0415 - imports requests

        with self._lock:
            if self._adapter is None:
                try:
                    self._adapter = DeadlineAdapter(self._egress.ca_bundle, POOL_SIZE)
                except OSError as error:
                    cause = f"the CA bundle cannot be loaded: {type(error).__name__}"
                    raise Misconfigured(_SETUP, cause=cause) from None
            return self._adapter


def matches_host(host: str, patterns: Iterable[str]) -> bool:
    """Whether `host` is one of the names, or lies below the suffix of a `*.suffix` pattern."""
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


def is_platform_host(host: str, plain_hosts: Iterable[str] = PLATFORM_NETWORKS) -> bool:
    """Whether `host` is one of the names, or an address in one of the networks."""
    names = [entry for entry in plain_hosts if "/" not in entry]
    if host in names:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(entry) for entry in plain_hosts if "/" in entry)


def _is_passing(outcome: Answer | UpstreamUnavailable) -> bool:
    return isinstance(outcome, UpstreamUnavailable) or outcome.status in RETRY_STATUSES


def _prepared(call: Call) -> requests.PreparedRequest:
    import requests  # noqa: PLC0415 - see above

    for name, value in call.headers.items():
        if not _HEADER_VALUE.fullmatch(value):
            # Further down an encoder's error would quote the value, which may be a token.
            raise Misconfigured(_SETUP, cause=f"the {name} header is not plain ASCII text")
    headers = {"User-Agent": "tokenvend", "Accept-Encoding": "identity", **call.headers}
    return requests.Request(call.method, call.url, headers=headers, data=call.body).prepare()


def _too_late(host: str) -> DeadlineExceeded:
    msg = "The request took too long. Try again."
    return DeadlineExceeded(msg, cause=f"{host} had not answered when the time was up")


def _unusable(host: str, cause: str) -> UpstreamUnavailable:
    msg = f"{host} sent an answer that cannot be used. Try again shortly."
    return UpstreamUnavailable(msg, cause=f"{host}: {cause}")
