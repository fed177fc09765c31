"""Callers of any configured OpenID Connect issuer: GitHub, GitLab, Kubernetes, Google.

Refused: issuers that are not configured (before anything is fetched), audiences that are not ours
alone, tokens without subject, expiry or time of issue. OpenID Connect Core 1.0 section 2, Discovery
1.0 section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tokenvend.caller.jwks import KeySource
from tokenvend.caller.signed_jwt import (
    ALGORITHMS,
    check_issuer_and_audience,
    check_times,
    text_claim,
    verified_claims,
)
from tokenvend.errors import Misconfigured
from tokenvend.model import OidcCaller

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.caller.jwks import KeySets
    from tokenvend.caller.signed_jwt import UnverifiedToken
    from tokenvend.deadline import Deadline


@dataclass(frozen=True, slots=True)
class OidcIssuer:
    """An issuer whose tokens count. `issuer`: exactly as its tokens spell it, an https URL.

    `audiences`: what names this endpoint in them. `jwks_uri` None: discovery finds it, on the
    issuer's own host or one of `jwks_hosts` (Google's keys, for one, lie on www.googleapis.com).
    """

    issuer: str
    audiences: frozenset[str]
    jwks_uri: str | None = None
    algorithms: frozenset[str] = ALGORITHMS
    jwks_hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for url in (self.issuer, self.jwks_uri):
            if url is not None and not _is_plain_https(url):
                msg = "An OIDC issuer and its jwks_uri must be https URLs with a host name alone."
                raise Misconfigured(msg)
        if not self.audiences or not all(self.audiences):
            msg = "An OIDC issuer needs the audience that names this endpoint in its tokens."
            raise Misconfigured(msg)
        if not self.algorithms or not self.algorithms <= ALGORITHMS:
            msg = "An OIDC issuer's algorithms are RS256 and ES256."
            raise Misconfigured(msg)

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts that keys come from, for the transport's list."""
        if self.jwks_uri is not None:
            return frozenset({urlsplit(self.jwks_uri).netloc})
        return self.jwks_hosts | {urlsplit(self.issuer).netloc}

    @property
    def source(self) -> KeySource:
        """Where its keys are."""
        return KeySource(self.issuer, self.jwks_uri, self.hosts)


def verify(
    token: UnverifiedToken, issuer: OidcIssuer, keys: KeySets, now: float, deadline: Deadline
) -> OidcCaller:
    """The caller a token of this issuer proves. `now`: epoch seconds.

    Raises Unauthenticated, and UpstreamUnavailable where the issuer's keys cannot be had.
    """
    claims = verified_claims(token, issuer.source, issuer.algorithms, keys, deadline)
    check_times(claims, now, ("exp", "iat"))
    return caller_of(claims, issuer)


def caller_of(claims: Mapping[str, Any], issuer: OidcIssuer) -> OidcCaller:
    """The caller in claims that someone we believe has verified. Raises Unauthenticated."""
    check_issuer_and_audience(claims, issuer.issuer, issuer.audiences)
    plain = (
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in claims.items()
        if isinstance(value, str | int | float)
    )
    return OidcCaller(issuer.issuer, text_claim(claims, "sub"), tuple(sorted(plain)))


def _is_plain_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    is_host = parts.netloc == parts.hostname and parts.netloc.isascii()
    return parts.scheme == "https" and is_host and not set(url) & {"?", "#"}
