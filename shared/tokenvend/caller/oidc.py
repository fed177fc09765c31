"""Callers of any configured OpenID Connect issuer: GitHub, GitLab, Kubernetes, Google.

Refused: audiences that are not ours alone, tokens without subject, expiry or time of issue, and
more claims than an audit record can hold. A single claim that is too long for it is left out, so
that nothing decides which the record does not show. OpenID Connect Core 1.0 section 2, Discovery
1.0 section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from tokenvend.audit.record import MAX_TEXT
from tokenvend.caller.jwks import KeySource
from tokenvend.caller.signed_jwt import (
    ALGORITHMS,
    check_issuer_and_audience,
    check_recordable,
    recorded_length,
    text_claim,
)
from tokenvend.identifiers import CLAIM
from tokenvend.model import OidcCaller

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class OidcIssuer:
    """An issuer whose tokens count. `issuer`: exactly as its tokens spell it, an https URL.

    `audiences`: what names this endpoint in them. `jwks_uri` None: discovery finds it, on the
    issuer's own host or one of `jwks_hosts` (Google's keys, for one, lie on www.googleapis.com).
    """

    algorithms: ClassVar[frozenset[str]] = ALGORITHMS
    times: ClassVar[tuple[str, ...]] = ("exp", "iat")

    issuer: str
    audiences: frozenset[str]
    jwks_uri: str | None = None
    jwks_hosts: frozenset[str] = frozenset()

    @property
    def source(self) -> KeySource:
        """Where its keys are."""
        if self.jwks_uri is not None:
            return KeySource(self.issuer, self.jwks_uri, frozenset({_host(self.jwks_uri)}))
        return KeySource(self.issuer, None, self.jwks_hosts | {_host(self.issuer)})

    def caller(self, claims: Mapping[str, Any]) -> OidcCaller:
        """The caller in claims that someone we believe has verified. Raises Unauthenticated."""
        check_issuer_and_audience(claims, self.issuer, self.audiences)
        return OidcCaller(self.issuer, text_claim(claims, "sub"), _plain(claims))


def _plain(claims: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """The string, number and boolean claims as text, but for what no policy could name and no
    record hold whole: what is not there satisfies nobody's condition.
    """
    texts = (
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in claims.items()
        if isinstance(value, str | int | float) and CLAIM.fullmatch(name)
    )
    kept = sorted((name, text) for name, text in texts if recorded_length(text) <= MAX_TEXT)
    check_recordable(part for pair in kept for part in pair)
    return tuple(kept)


def _host(url: str) -> str:
    return urlsplit(url).netloc
