"""Google's refusals as our outcomes.

Caller and operator need different things: the caller hears that the endpoint has to be mended,
the operator the likely cause and the line that mends it. Google's texts are matched against known
phrases and never passed on: some of them quote parts of the token.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from tokenvend.errors import (
    FederatedTokenRejected,
    RateLimited,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.transport import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.transport import Answer

# Google asks for "a few seconds" when it throttles and gives no Retry-After.
DEFAULT_RETRY_AFTER = 5


# By the OAuth error or google.rpc status and a part of its text, the first that fits: what the
# operator reads, with `{account}` for the service account and `{pool}` for the identity pool.

# Texts as Google's STS writes them.
_EXCHANGE = {
    ("invalid_target", ""): (
        "the workload identity pool or provider does not exist, is disabled or deleted: compare "
        "TOKENVEND_GOOGLE_PROVIDER with `gcloud iam workload-identity-pools providers describe`"
    ),
    ("invalid_request", 'Invalid value for "audience"'): (
        "TOKENVEND_GOOGLE_PROVIDER is not a provider's full resource name "
        "(//iam.googleapis.com/projects/NUMBER/…, with the project's number)"
    ),
    ("invalid_request", "google.subject exceeds"): (
        "google.subject is longer than 127 bytes: map something shorter, such as 'aws::' + "
        "assertion.account + '::' + assertion.arn.extract('assumed-role/{role_name}/')"
    ),
    ("unauthorized_client", "rejected by the attribute condition"): (
        "the provider's attribute condition rejects this identity: compare it with the role ARN "
        "or the managed identity's claims"
    ),
    (
        "unauthorized_client",
        "Could not obtain a value for google.subject",
    ): "the provider's attribute mapping gives no google.subject for this identity",
    ("invalid_grant", "The audience in ID Token"): (
        "the managed identity's token is for another audience: TOKENVEND_AZURE_FEDERATION_AUDIENCE "
        "must be among the provider's allowed audiences (a v2 token's audience is the client id)"
    ),
    ("invalid_grant", "The issuer in ID Token"): (
        "the provider's issuer is not the token's: Entra v1 tokens have "
        "https://sts.windows.net/TENANT/ (with the last slash), v2 tokens "
        "https://login.microsoftonline.com/TENANT/v2.0; the resource app's "
        "requestedAccessTokenVersion decides"
    ),
    (
        "invalid_grant",
        "is stale to sign-in",
    ): "the subject token was issued too long ago or has expired: is this machine's clock right?",
    (
        "invalid_grant",
        "issued in the future",
    ): "the subject token is dated in the future: is this machine's clock right?",
    ("invalid_grant", "Unable to verify the ID Token signature"): (
        "the subject token's signature does not verify: does the provider hold the issuer's "
        "present keys?"
    ),
    ("invalid_grant", "ExpiredToken"): (
        "AWS STS says that the session token has expired: the platform's credentials were not "
        "refreshed"
    ),
    ("invalid_grant", "SignatureDoesNotMatch"): (
        "AWS STS does not accept the signature: the secret key is wrong or this machine's clock "
        "is more than 15 minutes off"
    ),
    (
        "invalid_grant",
        "InvalidClientTokenId",
    ): "AWS STS does not know the access key: it was deleted, or belongs to another partition",
    ("invalid_grant", "AWS"): (
        "AWS STS refused the GetCallerIdentity request: are the credentials current, the region "
        "enabled in the account, and this machine's clock right?"
    ),
    ("invalid_scope", ""): "Google does not know one of the scopes of the grant",
    ("access_denied", ""): (
        "Google refuses the exchange: is sts.googleapis.com enabled in the pool's project, and "
        "does no VPC Service Controls perimeter stand before it?"
    ),
}

# Texts as IAM Credentials writes them.
_IMPERSONATION = {
    ("PERMISSION_DENIED", "SERVICE_DISABLED"): (
        "the IAM Service Account Credentials API is off: gcloud services enable "
        "iamcredentials.googleapis.com"
    ),
    ("PERMISSION_DENIED", ""): (
        "the federated identity may not impersonate {account}, or there is no such account. Bind "
        "it (works after about 70 s): gcloud iam service-accounts add-iam-policy-binding {account} "
        "--role=roles/iam.workloadIdentityUser --member="
        "'principalSet://iam.googleapis.com/{pool}/attribute.NAME/VALUE' "
        "(ID tokens for delegates need roles/iam.serviceAccountTokenCreator along the chain)"
    ),
    ("NOT_FOUND", ""): (
        "there is no service account {account}: compare the policy with "
        "`gcloud iam service-accounts list`"
    ),
    ("INVALID_ARGUMENT", "lifetime"): (
        "the lifetime is over 1 h and not allowed for {account}: allow it by the organisation "
        "policy constraints/iam.allowServiceAccountCredentialLifetimeExtension, or lower "
        "max_lifetime in the policy"
    ),
    ("INVALID_ARGUMENT", "scope"): (
        "Google does not know one of the scopes: compare the grant's scopes with "
        "https://developers.google.com/identity/protocols/oauth2/scopes"
    ),
    (
        "FAILED_PRECONDITION",
        "",
    ): "{account} or its project is disabled: gcloud iam service-accounts enable {account}",
}


def exchange_refusal(answer: Answer, now: float) -> TokenvendError:
    """What a failed token exchange means. `now`: epoch seconds."""
    body = _body(answer)
    code, text = str(body.get("error", "")), str(body.get("error_description"))
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS or code == "quota_exceeded":
        return _throttled(answer, now, "sts.googleapis.com")
    # Google could not fetch the issuer's keys: that passes.
    if code == "invalid_grant" and "Error connecting to the given credential's issuer" in text:
        return _unavailable(answer, now, "token exchange: Google cannot reach the token's issuer")
    if not _is_refusal(answer):
        return _unavailable(answer, now, "token exchange")
    return _refused("token exchange", answer, code, _cause(_EXCHANGE, code, text))


def impersonation_refusal(
    answer: Answer, service_account: str, provider: str, now: float
) -> TokenvendError:
    """What a failed generateAccessToken or generateIdToken means. `now`: epoch seconds."""
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return _throttled(answer, now, "iamcredentials.googleapis.com")
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return FederatedTokenRejected(
            "Google refused this endpoint's own identity. Try again.",
            cause="impersonation: status 401: the federated token is not accepted (any more)",
        )
    if not _is_refusal(answer):
        return _unavailable(answer, now, "impersonation")
    error = _body(answer).get("error")
    fields = error if isinstance(error, dict) else {}
    code = str(fields.get("status", ""))
    # The reason is among the details, whatever else stands there.
    text = f"{fields.get('message')} {fields.get('details')}"
    pool = provider.removeprefix("//iam.googleapis.com/").partition("/providers/")[0]
    cause = _cause(_IMPERSONATION, code, text)
    cause = cause.replace("{account}", service_account).replace("{pool}", pool)
    return _refused("impersonation", answer, code, cause)


def _is_refusal(answer: Answer) -> bool:
    return HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR


def _body(answer: Answer) -> dict[str, object]:
    try:
        body = answer.json()
    except UpstreamUnavailable:
        return {}
    return body if isinstance(body, dict) else {}


def _cause(known: Mapping[tuple[str, str], str], code: str, text: str) -> str:
    for (known_code, phrase), cause in known.items():
        if known_code == code and phrase.lower() in text.lower():
            return cause
    return "no known cause; look the request up in Google's audit logs"


def _refused(step: str, answer: Answer, code: str, cause: str) -> UpstreamRefused:
    # Only a word of Google's own vocabulary is shown, not whatever stands there.
    shown = code if re.fullmatch(r"[A-Za-z_]{1,40}", code) else "?"
    return UpstreamRefused(
        f"Google refused this endpoint at the {step}. Its operator has to mend this: pass on the "
        "request id.",
        cause=f"{step}: status {answer.status} {shown}: {cause}",
    )


def _throttled(answer: Answer, now: float, service: str) -> RateLimited:
    cause = f"{service}: quota per minute is spent"
    return RateLimited(cause=cause, retry_after=_wait(answer, now))


def _unavailable(answer: Answer, now: float, step: str) -> UpstreamUnavailable:
    cause = f"{step}: status {answer.status}"
    return UpstreamUnavailable(cause=cause, retry_after=_wait(answer, now))


def _wait(answer: Answer, now: float) -> int:
    wait = retry_after(answer.headers, now)
    return DEFAULT_RETRY_AFTER if wait is None else wait
