"""The policy from AWS AppConfig or Systems Manager, through Powertools' `parameters`.

Powertools keeps AppConfig's session, but never begins a new one, and a session's token is good
for one call only: after one lost answer it would fail for ever. So after any failure a new
provider, and with it a new session, is made. Its cache is not used: it raises where the last good
policy has to stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tokenvend.background import Background
from tokenvend.errors import (
    DeadlineExceeded,
    Misconfigured,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.policy_source.text import policy_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tokenvend.deadline import Deadline
    from tokenvend.policy_source.setting import AwsSource
    from tokenvend.transport.egress import Egress

# Seconds. One more try must fit into the time that the first load has.
CONNECT_TIMEOUT = 2
READ_TIMEOUT = 2
TRIES = 2
_CODE = re.compile(r"[A-Za-z]{1,64}")
_ADVICE = {
    "AccessDeniedException": "; does the function's role allow ssm:GetParameter, or "
    "appconfig:StartConfigurationSession and appconfig:GetLatestConfiguration?",
    "ParameterNotFound": "; is the name right, and in this account and region?",
    "ResourceNotFoundException": "; are application, environment and profile right, and deployed?",
}
# AWS's codes for "later"; every other code means that somebody has to mend something.
_PASSING = frozenset(
    {
        "InternalServerError",
        "InternalServerException",
        "RequestTimeout",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
    }
)


class AwsReader:
    """Reads one AppConfig profile or SSM parameter as the function's own role.

    `environ`: Lambda's keys and AWS_REGION; without keys, botocore's chain. `egress`: its proxy
    and CA bundle; the SDK opens its own connections. `now`: epoch seconds.
    """

    def __init__(
        self,
        source: AwsSource,
        environ: Mapping[str, str],
        egress: Egress,
        now: Callable[[], float],
    ) -> None:
        self._source = source
        self._environ = environ
        self._egress = egress
        self._reading = Background(self._read, _failure, now=now)
        self._fetch: Callable[[], Any] | None = None

    def __call__(self, deadline: Deadline) -> str:
        """The text now. Raises Misconfigured, UpstreamRefused, UpstreamUnavailable,
        DeadlineExceeded.

        The SDK knows no deadline, so it works aside.
        """
        late = DeadlineExceeded(cause="AWS did not answer in time")
        return self._reading.join(deadline, late=late)

    def _read(self) -> str:
        fetch, self._fetch = self._fetch or self._open(), None
        text = policy_text(fetch())
        # Only now: of a session that failed nothing is used again.
        self._fetch = fetch
        return text

    def _open(self) -> Callable[[], Any]:
        try:
            from aws_lambda_powertools.utilities.parameters import (  # noqa: PLC0415 - heavy
                AppConfigProvider,
                SSMProvider,
            )
        except ImportError:
            cause = "aws-lambda-powertools or boto3 is not installed (tokenvend[aws])"
            raise Misconfigured(cause=cause) from None
        *place, name = self._source.names
        if not place:
            parameters = SSMProvider(boto3_client=self._client("ssm"))
            return lambda: parameters.get(name, force_fetch=True, max_age=0, decrypt=True)
        application, environment = place
        client = self._client("appconfigdata")
        profiles = AppConfigProvider(environment, application, boto3_client=client)
        return lambda: profiles.get(name, force_fetch=True, max_age=0)

    def _client(self, service: str) -> Any:
        import boto3  # noqa: PLC0415 - Powertools has imported it already
        from botocore.config import Config  # noqa: PLC0415

        region = self._environ.get("AWS_REGION", "")
        if not region:
            raise Misconfigured(cause="AWS_REGION is not set")
        session = boto3.session.Session(
            aws_access_key_id=self._environ.get("AWS_ACCESS_KEY_ID") or None,
            aws_secret_access_key=self._environ.get("AWS_SECRET_ACCESS_KEY") or None,
            aws_session_token=self._environ.get("AWS_SESSION_TOKEN") or None,
            region_name=region,
        )
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        proxy = self._egress.proxy_for(f"{service}.{region}.{domain}", 443)
        config = Config(  # type: ignore[call-arg] # the stubs lag behind botocore
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            proxies={"https": proxy} if proxy else {},
            # A stray AWS_ENDPOINT_URL would let somebody else write our policy.
            ignore_configured_endpoint_urls=True,
        )
        client: Any = session.client  # its type has an overload for each service by literal name
        return client(service, config=config, verify=self._egress.ca_bundle or None)


def _failure(error: Exception) -> TokenvendError:
    if isinstance(error, TokenvendError):
        return error
    from botocore import exceptions  # noqa: PLC0415 - the reading has imported it already

    # Powertools wraps what the SDK raised in an error that holds its text. That text is not
    # passed on: of a refused signature AWS quotes the request with its session token.
    met = error.__context__ or error
    kind = type(met).__name__
    if isinstance(met, exceptions.ClientError):
        code = str(met.response.get("Error", {}).get("Code", ""))
        code = code if _CODE.fullmatch(code) else "an unknown code"
        if code in _PASSING:
            return UpstreamUnavailable(cause=f"AWS answered {code}")
        advice = _ADVICE.get(code, "")
        return UpstreamRefused(cause=f"AWS refused it: {code}{advice}")
    if isinstance(met, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return Misconfigured(cause=f"no AWS credentials ({kind})")
    if isinstance(met, KeyError):
        # Powertools' way to say that AppConfig's first answer was empty, or garbled.
        cause = "AWS answered without a policy; is one deployed there?"
        return UpstreamUnavailable(cause=cause)
    return UpstreamUnavailable(cause=f"AWS could not be asked: {kind}")
