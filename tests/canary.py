"""Looks for anything in a text that would let its reader act as somebody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from localcloud.cloud import Cloud

# Forms that are secret whatever their value.
FORMS = {
    "a Google access token": re.compile(r"ya29\.[A-Za-z0-9._-]{16,}"),
    "a JWT": re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    "a SigV4 signature": re.compile(r"Signature=[0-9a-f]{64}|X-Amz-Signature", re.IGNORECASE),
    "a bearer header": re.compile(r"Bearer [A-Za-z0-9._~+/-]{16,}"),
    "a private key": re.compile(r"PRIVATE KEY"),
}


def leaks(text: str, secrets: Iterable[str] = ()) -> list[str]:
    """What the text gives away, in words that do not give it away again."""
    found = [name for name, form in FORMS.items() if form.search(text)]
    return found + [f"a secret starting {value[:4]}" for value in secrets if value in text]


def secrets_of(cloud: Cloud) -> Iterator[str]:
    """Every long-lived secret of the embedded cloud."""
    for key in cloud.accounts.issued():
        yield key.secret
        if key.token:
            yield key.token
    for identity in cloud.world.azure.managed_identities:
        yield cloud.identity.environment_for(identity.name)["IDENTITY_HEADER"]


def logs_of(cloud: Cloud) -> dict[str, str]:
    """Everything both functions and their hosts have written so far, by file."""
    return {path.name: path.read_text(errors="replace") for path in cloud.directory.glob("*.log")}
