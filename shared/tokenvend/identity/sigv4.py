"""AWS Signature Version 4 for requests to AWS STS, and the keys that make it.

Every header that is sent is signed: what is not could be changed on the way. Refused: a key, token
or value that cannot stand in a header, and a region that would name another host.

The signer is our own because botocore's is heavy to import; the tests hold the two equal byte
for byte. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tokenvend.errors import Misconfigured
from tokenvend.identity import aws_sts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.model import Secret

_PRINTABLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """AWS keys. No `session_token`: long-lived keys. `expires_at`: epoch seconds, if known."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None = None
    expires_at: int | None = None


def signed_headers(
    credentials: AwsCredentials,
    *,
    region: str,
    now: float,
    headers: Mapping[str, str],
    query: str = "",
    body: bytes = b"",
) -> dict[str, str]:
    """The headers of a POST to `/` of the region's AWS STS, `Authorization` last.

    `query`: in canonical form already. `headers`: further ones, lower case. `now`: epoch seconds.
    Raises Misconfigured for a key or value that cannot go into a request.
    """
    stamp = datetime.fromtimestamp(int(now), UTC).strftime("%Y%m%dT%H%M%SZ")
    signed = {"host": aws_sts.host(region), "x-amz-date": stamp}
    if credentials.session_token is not None:
        signed["x-amz-security-token"] = credentials.session_token.reveal()
    signed |= headers
    for name, value in ("access key", credentials.access_key), *signed.items():
        if not _PRINTABLE.fullmatch(value):
            raise Misconfigured(cause=f"the {name} is empty or holds spaces or line ends")
    names = sorted(signed)
    lines = [f"{name}:{signed[name]}" for name in names]
    digest = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", "/", query, *lines, "", ";".join(names), digest])
    scope = f"{stamp[:8]}/{region}/sts/aws4_request"
    signature = _signature(credentials.secret_key, scope, stamp, canonical)
    signed["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return signed


def _signature(secret_key: Secret, scope: str, stamp: str, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = f"AWS4{secret_key.reveal()}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()
