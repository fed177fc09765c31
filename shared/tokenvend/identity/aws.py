"""The AWS subject token: a signed GetCallerIdentity request that Google sends to AWS STS for us.

The form is Google's (external_account credentials, "AWS credentials"), the signature AWS
Signature Version 4. `x-goog-cloud-target-resource` is always *signed*: unsigned, whoever sees the
token could put another provider's name there and replay it.

botocore is imported only where the environment holds no keys.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from tokenvend.background import Background
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.identity import aws_sts
from tokenvend.identity.sigv4 import AwsCredentials, signed_headers
from tokenvend.model import Secret, SubjectToken, SubjectTokenType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.credentials import Credentials

    from tokenvend.deadline import Deadline

# AWS STS refuses a request signed more than 15 minutes ago, so the proof is worth nothing longer.
SIGNATURE_LIFE = 900
# botocore refreshes credentials at the latest ten minutes before they expire, but does not say
# when they do: of a credential from its chain, ten minutes is what is certain.
CHAIN_LIFE = 600
_QUERY = "Action=GetCallerIdentity&Version=2011-06-15"


def sign_get_caller_identity(
    credentials: AwsCredentials, *, region: str, provider: str, now: float
) -> SubjectToken:
    """The subject token that proves these credentials to the provider `provider` names.

    `provider`: the provider's full resource name, `//iam.googleapis.com/projects/…`. `now`: epoch
    seconds. Raises Misconfigured for a provider or key that cannot go into a header.
    """
    headers = signed_headers(
        credentials,
        region=region,
        now=now,
        query=_QUERY,
        headers={"x-goog-cloud-target-resource": provider},
    )
    request = {
        "url": f"https://{aws_sts.host(region)}?{_QUERY}",
        "method": "POST",
        "headers": [{"key": key, "value": value} for key, value in headers.items()],
    }
    expires_at = int(now) + SIGNATURE_LIFE
    if credentials.expires_at is not None:
        expires_at = min(expires_at, credentials.expires_at)
    value = quote(json.dumps(request, separators=(",", ":")), safe="")
    return SubjectToken(Secret(value), SubjectTokenType.AWS4_REQUEST, expires_at)


class AwsIdentity:
    """Our AWS identity: keys from `environ` (Lambda's), else from botocore's credential chain.

    `provider` as in `sign_get_caller_identity`; `now`: epoch seconds. The chain (container, EKS
    Pod Identity, SnapStart, IMDSv2, web identity) reads the process environment itself.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        provider: str,
        region: str,
        now: Callable[[], float],
    ) -> None:
        self._environ = environ
        self._provider = provider
        self.region = region
        self.now = now
        self.restored()

    def restored(self) -> None:
        """Ask botocore's chain anew: a snapshot holds its connections and another role session."""
        self._asking = Background(self._chain_credentials, _chain_failure)
        self._chain: Credentials | None = None

    def subject_token(self, deadline: Deadline) -> SubjectToken:
        """A freshly signed subject token: signing is cheap, so none is kept.

        Raises Misconfigured, UpstreamUnavailable, UpstreamRefused, DeadlineExceeded.
        """
        return self.sign(self.credentials(deadline))

    def sign(self, credentials: AwsCredentials) -> SubjectToken:
        """The subject token that proves these keys. Raises Misconfigured."""
        return sign_get_caller_identity(
            credentials, region=self.region, provider=self._provider, now=self.now()
        )

    def credentials(self, deadline: Deadline) -> AwsCredentials:
        """The keys of this process's own identity, as they are now. Raises as `subject_token`."""
        access_key = self._environ.get("AWS_ACCESS_KEY_ID", "")
        secret_key = self._environ.get("AWS_SECRET_ACCESS_KEY", "")
        if not access_key and not secret_key:
            late = DeadlineExceeded(cause="waited for AWS credentials")
            return self._asking.join(deadline, late=late)
        if not access_key or not secret_key:
            cause = "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"
            raise Misconfigured(cause=cause)
        session_token = self._environ.get("AWS_SESSION_TOKEN", "")
        return AwsCredentials(
            access_key, Secret(secret_key), Secret(session_token) if session_token else None
        )

    def _chain_credentials(self) -> AwsCredentials:
        if self._chain is None:
            self._chain = _resolve_chain()
        frozen = self._chain.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise Misconfigured(cause="botocore's credential chain gave empty keys")
        return AwsCredentials(
            frozen.access_key,
            Secret(frozen.secret_key),
            Secret(frozen.token) if frozen.token else None,
            int(self.now()) + CHAIN_LIFE if frozen.token else None,
        )


def _resolve_chain() -> Credentials:
    try:
        import botocore.session  # noqa: PLC0415 - heavy; Lambda's environment keys spare it
        from botocore.config import Config  # noqa: PLC0415
    except ImportError:
        cause = "no AWS keys in the environment, and botocore is not installed (tokenvend[aws])"
        raise Misconfigured(cause=cause) from None
    session = botocore.session.Session()
    # Web identity calls AWS STS, with 60 s timeouts and five tries unless told otherwise.
    session.set_default_client_config(
        Config(connect_timeout=2, read_timeout=3, retries={"total_max_attempts": 2})
    )
    credentials: Credentials | None = session.get_credentials()
    if credentials is None:
        cause = (
            "no AWS credentials: none in the environment, and botocore's chain (container, "
            "Pod Identity, IMDSv2, web identity) found none; give the function an execution role"
        )
        raise Misconfigured(cause=cause)
    return credentials


def _chain_failure(error: Exception) -> TokenvendError:
    """What a failed chain means.

    A malformed answer leaves botocore as KeyError; its texts may quote what an endpoint answered,
    so none of them is passed on.
    """
    if isinstance(error, TokenvendError):
        return error
    from botocore import exceptions  # noqa: PLC0415 - the chain has imported it already

    kind = type(error).__name__
    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        safe = code if re.fullmatch(r"[A-Za-z.]{1,64}", code) else "unknown"
        return UpstreamRefused(cause=f"AWS STS refused web identity credentials: {safe}")
    if isinstance(
        error,
        (
            exceptions.PartialCredentialsError,
            exceptions.ConfigNotFound,
            exceptions.ProfileNotFound,
            exceptions.ConfigParseError,
            exceptions.InvalidConfigError,
        ),
    ):
        return Misconfigured(cause=f"botocore's credential chain: {kind}")
    return UpstreamUnavailable(cause=f"botocore's credential chain: {kind}")
