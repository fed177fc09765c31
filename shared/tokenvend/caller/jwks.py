"""The public keys of token issuers: fetched when needed, held per issuer and key id.

A token that nobody has verified yet can name any key id, so a made-up one must not become a request
to the issuer: between two refreshes of one issuer's set lie at least COOLDOWN seconds, one thread
refreshes while the others wait or use what is held. An issuer that does not answer leaves the last
good set in use for STALE_LIMIT seconds, and asking it takes a share of a caller's time at most
while the caller's key is held; a set that it does publish replaces the old one whole, so
that a withdrawn key is gone.

Refused: keys for encryption, private and symmetric keys, RSA under 2048 bits, curves other than
P-256, keys without an id, two different keys under one id, sets of more than MAX_KEYS keys or
MAX_BYTES. RFC 7517 (key sets), OpenID Connect Discovery 1.0 section 4.3 (the issuer must match).
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenvend.errors import DeadlineExceeded, UpstreamUnavailable
from tokenvend.transport import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jwt import PyJWK

    from tokenvend.deadline import Deadline
    from tokenvend.transport import Sender

LIFESPAN = 3600
"""Seconds a set is used without asking again."""
COOLDOWN = 30
"""Seconds between two refreshes of one set, whatever asks for them."""
FIRST_COOLDOWN = 5
"""The same while no set is held at all: every caller of the issuer is waiting for it."""
STALE_LIMIT = 24 * 3600
"""Seconds after which a set is no longer used, although its issuer does not answer."""
MAX_KEYS = 64
MAX_BYTES = 256 * 1024
MIN_RSA_BITS = 2048
# Verifying costs time that grows with the key: an issuer cannot make us pay for absurd ones.
MAX_RSA_BITS = 8192
MAX_KID = 256

# Of what the transport takes for a URL; not compiled before it is needed.
_KEYS_URL = r"https://(?P<host>[a-z0-9.-]+)(?:[/?][!-\"$-\[\]-~]*)?"
_PUBLIC_PARTS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
_ALGORITHM = {"RSA": "RS256", "EC": "ES256"}


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where one configured issuer's keys are.

    `jwks_uri` None: OpenID Connect discovery tells, and may only name a host of `hosts`.
    `key_issuers`: where a key names the issuer it belongs to (Entra's do), one of these it must be;
    empty: not looked at.
    """

    issuer: str
    jwks_uri: str | None = None
    hosts: frozenset[str] = frozenset()
    key_issuers: frozenset[str] = frozenset()


class KeySets:
    """The key sets of every issuer asked for. `now`: epoch seconds. `report` takes one line for the
    operator, when a set that is held cannot be followed. Safe for threads.
    """

    def __init__(
        self,
        sender: Sender,
        now: Callable[[], float],
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._sender = sender
        self._now = now
        self._report = report
        self._sets: dict[KeySource, _KeySet] = {}
        self._lock = threading.Lock()

    def find(self, source: KeySource, kid: str, deadline: Deadline) -> PyJWK | None:
        """The issuer's key of this id, None where it has none.

        Raises UpstreamUnavailable where the issuer does not answer and no usable set is held, and
        Misconfigured where the transport may not reach it.
        """
        with self._lock:
            held = self._sets.setdefault(
                source, _KeySet(source, self._sender, self._now, self._report)
            )
        return held.find(kid, deadline)

    def restored(self) -> None:
        """Ask for every set anew before its lifespan ends; what is held serves until then."""
        with self._lock:
            for held in self._sets.values():
                held.restored()


class _KeySet:
    """One issuer's keys and when they came. The lock is held by the thread that refreshes."""

    def __init__(
        self,
        source: KeySource,
        sender: Sender,
        now: Callable[[], float],
        report: Callable[[str], None],
    ) -> None:
        self._source = source
        self._sender = sender
        self._now = now
        self._report = report
        self._lock = threading.Lock()
        self._keys: Mapping[str, PyJWK | None] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False
        self._is_due = False

    def restored(self) -> None:
        """See `KeySets.restored`; a cooldown begun before a snapshot is over."""
        self._is_due = True
        self._tried_at = None

    def find(self, kid: str, deadline: Deadline) -> PyJWK | None:
        key = self._key(kid, LIFESPAN)
        if key is not None and not self._is_due:
            return key
        # A set past its lifespan still serves while one thread asks for a new one.
        is_held = self._key(kid, STALE_LIMIT) is not None
        if self._lock.acquire(timeout=0 if is_held else deadline.remaining()):
            try:
                # Whoever waited for another thread's refresh finds its cooldown here.
                if self._may_refresh():
                    self._refresh(deadline.share() if is_held else deadline)
            finally:
                self._lock.release()
        key = self._key(kid, STALE_LIMIT)
        if key is None and (self._failed or self._fetched_at is None):
            # Unknown here may be fresh there: "no such key" would be a lie.
            raise UpstreamUnavailable(
                cause=f"no keys from {self._source.issuer}", retry_after=FIRST_COOLDOWN
            )
        return key

    def _key(self, kid: str, lifespan: float) -> PyJWK | None:
        return self._keys.get(kid) if self._is_within(self._fetched_at, lifespan) else None

    def _may_refresh(self) -> bool:
        cooldown = FIRST_COOLDOWN if self._fetched_at is None else COOLDOWN
        return not self._is_within(self._tried_at, cooldown)

    def _is_within(self, since: float | None, seconds: float) -> bool:
        # A clock set back makes an age negative; such a set is asked for anew, not kept for years.
        return since is not None and 0 <= self._now() - since < seconds

    def _refresh(self, deadline: Deadline) -> None:
        is_news, self._failed = not self._failed and self._fetched_at is not None, True
        try:
            self._keys = _fetch(self._source, self._sender, deadline)
        except (UpstreamUnavailable, DeadlineExceeded) as error:
            # The last good set stays; `find` answers for its age.
            if is_news:
                self._report(
                    f"keys of {self._source.issuer}: the last good ones stay: {error.cause}"
                )
            return
        finally:
            # Counted from the end: those who waited for a slow failure must not repeat it in turn.
            self._tried_at = self._now()
        self._failed = self._is_due = False
        self._fetched_at = self._tried_at


def _fetch(source: KeySource, sender: Sender, deadline: Deadline) -> dict[str, PyJWK | None]:
    uri = source.jwks_uri or _discover(source, sender, deadline)
    entries = _get(uri, sender, deadline).get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise UpstreamUnavailable(cause=f"no key set of {source.issuer} at {uri}")
    keys: dict[str, PyJWK | None] = {}
    for entry in entries:
        key = _usable(entry, source)
        if key is not None:
            # An id that names two keys names none.
            keys[str(key.key_id)] = None if key.key_id in keys else key
    if not any(keys.values()):
        raise UpstreamUnavailable(cause=f"no usable key of {source.issuer} at {uri}")
    return keys


def _discover(source: KeySource, sender: Sender, deadline: Deadline) -> str:
    document = _get(
        source.issuer.rstrip("/") + "/.well-known/openid-configuration", sender, deadline
    )
    if document.get("issuer") != source.issuer:
        raise UpstreamUnavailable(cause=f"discovery of {source.issuer} names another one")
    uri = document.get("jwks_uri")
    # The document is the issuer's word, not the operator's: it cannot send us to any host it likes.
    # The whole authority is compared: a port or userinfo makes another host.
    parts = re.fullmatch(_KEYS_URL, uri if isinstance(uri, str) else "")
    if parts is None or parts["host"] not in source.hosts:
        raise UpstreamUnavailable(
            cause=f"jwks_uri of {source.issuer} is not https on a host listed for it"
        )
    return parts[0]


def _get(url: str, sender: Sender, deadline: Deadline) -> dict[str, object]:
    call = Call("GET", url, {"accept": "application/json"})
    answer = sender.send(call, deadline, repeatable=True)
    if answer.status != 200 or len(answer.body) > MAX_BYTES:  # noqa: PLR2004 - HTTP's own number
        raise UpstreamUnavailable(cause=f"{url} answered {answer.status}, {len(answer.body)} bytes")
    document = answer.json()
    if not isinstance(document, dict):
        raise UpstreamUnavailable(cause=f"{url} did not answer a JSON object")
    return document


def _usable(entry: object, source: KeySource) -> PyJWK | None:
    """The public signing key in one entry of a set, None where it is not one we verify with."""
    if not isinstance(entry, dict) or not _is_for_us(entry, source):
        return None
    from jwt import PyJWK, PyJWTError  # noqa: PLC0415 - heavy, and most requests never need it

    kty = entry["kty"]
    parts = {name: entry.get(name) for name in ("kty", "kid", *_PUBLIC_PARTS[kty])}
    if not all(isinstance(part, str) for part in parts.values()):
        return None
    try:
        key = PyJWK(parts, _ALGORITHM[kty])
    except (PyJWTError, ValueError):
        return None
    if kty == "EC":
        return key if parts["crv"] == "P-256" else None
    return key if MIN_RSA_BITS <= key.key.key_size <= MAX_RSA_BITS else None


def _is_for_us(entry: dict[str, object], source: KeySource) -> bool:
    """Whether an entry says that it is a public key to verify this issuer's signatures with."""
    kid, kty, named = entry.get("kid"), entry.get("kty"), entry.get("issuer")
    return (
        isinstance(kid, str)
        and 0 < len(kid) <= MAX_KID
        and isinstance(kty, str)
        and kty in _ALGORITHM
        and entry.get("alg", _ALGORITHM[kty]) == _ALGORITHM[kty]
        and entry.get("use", "sig") == "sig"
        and "d" not in entry
        and (not source.key_issuers or named is None or str(named) in source.key_issuers)
    )
