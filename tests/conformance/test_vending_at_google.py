"""Our subject tokens, exchange and impersonation at the embedded Google, which is as strict as
the real one: the tokens work, and each refusal names what the operator has to mend.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import jwt
import pytest

from tests.conformance.google_lab import (
    AWS_PROVIDER,
    AZURE_PROVIDER,
    INVOKER,
    LANDING,
    LONGHAUL,
    ORDERS,
    READ_WRITE,
    UNBOUND,
    Lab,
)
from tests.unit.issuing import PROVIDER, deadline
from tests.unit.sending import Embedded
from tokenvend.errors import (
    FederatedTokenRejected,
    TokenvendError,
    UpstreamRefused,
    UpstreamUnavailable,
)
from tokenvend.google import sts
from tokenvend.google.iamcredentials import iamcredentials_host, impersonate
from tokenvend.identity.aws import AwsIdentity
from tokenvend.model import (
    AccessTokenSpec,
    FederatedToken,
    IdTokenSpec,
    Secret,
    SubjectToken,
    SubjectTokenType,
    TokenSpec,
    VendedToken,
)

IAM = "https://www.googleapis.com/auth/iam"
ACCESS = AccessTokenSpec("g", LANDING, (READ_WRITE,), 900)
ID = IdTokenSpec("g", INVOKER, ORDERS)


@pytest.fixture
def lab() -> Lab:
    return Lab()


def aws_subject(lab: Lab, provider: str = AWS_PROVIDER, **changes: str) -> SubjectToken:
    key = lab.key()
    environ = {
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_SESSION_TOKEN": key.token or "",
        **changes,
    }
    audience = f"//iam.googleapis.com/{provider}"
    subject = AwsIdentity(environ, provider=audience, region="us-east-1", now=lab.clock)
    return subject.subject_token(deadline())


def azure_identity(lab: Lab, name: str = "tokenvend") -> SubjectToken:
    return SubjectToken(Secret(lab.jwt(name)), SubjectTokenType.JWT, int(lab.clock()) + 3600)


def exchange(lab: Lab, subject: SubjectToken, provider: str = AWS_PROVIDER) -> FederatedToken:
    audience = f"//iam.googleapis.com/{provider}"
    return sts.exchange(
        subject,
        [IAM],
        deadline(),
        sender=Embedded(lab.router),
        provider=audience,
        host=sts.sts_host(),
        now=lab.clock,
    )


def generate(
    lab: Lab,
    ours: FederatedToken,
    spec: TokenSpec,
    request_id: str = "",
    now: Callable[[], float] | None = None,
) -> VendedToken:
    return impersonate(
        ours,
        spec,
        deadline(),
        request_id,
        sender=Embedded(lab.router),
        provider=PROVIDER,
        host=iamcredentials_host(),
        now=now or lab.clock,
    )


def federated(lab: Lab) -> FederatedToken:
    return exchange(lab, aws_subject(lab))


# --- what works ----------------------------------------------------------------------------------


def test_an_aws_identity_becomes_an_access_token_for_storage(lab: Lab) -> None:
    token = generate(lab, federated(lab), ACCESS, "req-1")
    assert token.value.reveal().startswith("ya29.")
    assert token.expires_at - token.issued_at in {899, 900}


def test_an_azure_identity_becomes_an_id_token_for_cloud_run(lab: Lab) -> None:
    ours = exchange(lab, azure_identity(lab), AZURE_PROVIDER)
    token = generate(lab, ours, ID)
    claims = jwt.decode(token.value.reveal(), options={"verify_signature": False})
    assert (claims["aud"], claims["email"]) == (ORDERS, INVOKER)


def test_a_long_life_works_where_the_organisation_allows_it(lab: Lab) -> None:
    grant = dataclasses.replace(ACCESS, service_account=LONGHAUL, lifetime=43_200)
    token = generate(lab, federated(lab), grant)
    assert token.expires_at - token.issued_at in {43_199, 43_200}


def test_a_federated_token_lives_no_longer_than_google_says(lab: Lab) -> None:
    token = federated(lab)
    assert 0 < token.expires_at - token.issued_at <= 3600


# --- what is refused, and why --------------------------------------------------------------------


def break_condition(lab: Lab) -> None:
    lab.aws_provider.attribute_condition = "false"


def unmap_subject(lab: Lab) -> None:
    lab.aws_provider.attribute_mapping = {"google.subject": "''"}


def lengthen_subject(lab: Lab) -> None:
    lab.aws_provider.attribute_mapping = {"google.subject": f"assertion.arn + '{'x' * 127}'"}


def disable(lab: Lab) -> None:
    lab.aws_provider.disabled = True


@pytest.mark.parametrize(
    ("mistake", "hint"),
    [
        (break_condition, "attribute condition"),
        (unmap_subject, "attribute mapping"),
        (lengthen_subject, "127 bytes"),
        (disable, "disabled"),
    ],
)
def test_a_mistake_at_the_provider_is_named(
    lab: Lab, mistake: Callable[[Lab], None], hint: str
) -> None:
    mistake(lab)
    with pytest.raises(UpstreamRefused) as caught:
        federated(lab)
    assert hint in caught.value.cause


def test_wrong_aws_keys_are_named(lab: Lab) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        exchange(lab, aws_subject(lab, AWS_SECRET_ACCESS_KEY="wrong"))
    assert "AWS STS" in caught.value.cause


def test_a_proof_for_another_provider_is_refused(lab: Lab) -> None:
    with pytest.raises(UpstreamRefused):
        exchange(lab, aws_subject(lab, provider=AZURE_PROVIDER))


def test_a_missing_provider_is_named(lab: Lab) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        exchange(lab, aws_subject(lab), AWS_PROVIDER + "-gone")
    assert "TOKENVEND_GOOGLE_PROVIDER" in caught.value.cause


def test_an_audience_mismatch_is_named(lab: Lab) -> None:
    assert lab.azure_provider.oidc is not None
    lab.azure_provider.oidc.allowed_audiences = ["api://other"]
    with pytest.raises(UpstreamRefused) as caught:
        exchange(lab, azure_identity(lab), AZURE_PROVIDER)
    assert "TOKENVEND_AZURE_FEDERATION_AUDIENCE" in caught.value.cause


def test_an_issuer_mismatch_is_named(lab: Lab) -> None:
    assert lab.azure_provider.oidc is not None
    lab.azure_provider.oidc.issuer_uri = "https://login.microsoftonline.com/other/v2.0"
    with pytest.raises(UpstreamRefused) as caught:
        exchange(lab, azure_identity(lab), AZURE_PROVIDER)
    assert "requestedAccessTokenVersion" in caught.value.cause


def test_a_stale_subject_token_is_named(lab: Lab) -> None:
    subject = azure_identity(lab)
    lab.clock.now += 7200
    with pytest.raises(UpstreamRefused) as caught:
        exchange(lab, subject, AZURE_PROVIDER)
    assert "clock" in caught.value.cause


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"service_account": UNBOUND}, "roles/iam.workloadIdentityUser"),
        ({"service_account": "nobody@acme.iam.gserviceaccount.com"}, "service account"),
        ({"lifetime": 3601}, "allowServiceAccountCredentialLifetimeExtension"),
    ],
)
def test_a_mistake_at_the_service_account_is_named(
    lab: Lab, changes: dict[str, object], hint: str
) -> None:
    grant = dataclasses.replace(ACCESS, **changes)  # type: ignore[arg-type]
    with pytest.raises(UpstreamRefused) as caught:
        generate(lab, federated(lab), grant)
    assert hint in caught.value.cause


def test_an_expired_federated_token_is_told_apart(lab: Lab) -> None:
    ours = federated(lab)
    lab.clock.now += 7200
    with pytest.raises(FederatedTokenRejected):
        generate(lab, ours, ACCESS)


def test_a_clock_far_ahead_of_googles_is_named(lab: Lab) -> None:
    ours = federated(lab)
    with pytest.raises(UpstreamUnavailable) as caught:
        generate(lab, ours, ACCESS, now=lambda: lab.clock() + 7200)
    assert "clock" in caught.value.cause


def test_no_refusal_holds_a_token(lab: Lab) -> None:
    ours = federated(lab)
    told = []
    for account in (UNBOUND, "nobody@acme.iam.gserviceaccount.com"):
        grant = dataclasses.replace(ACCESS, service_account=account)
        with pytest.raises(TokenvendError) as caught:
            generate(lab, ours, grant)
        told.append(json.dumps([repr(caught.value), caught.value.cause]))
    assert told
    assert ours.value.reveal() not in "".join(told)
