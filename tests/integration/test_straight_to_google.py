"""Every caller of the world goes straight to Google, past the endpoint, and is refused.

google-auth, unmodified, with each caller's own credentials and every provider of the world: what
the policy denies must not be had by leaving the endpoint out. The callers are read from the world,
so that one who is added is tried too. The functions' own identities show that the test can fail,
and so does the condition that operators write first, which holds for the whole tenant or account:
then the policies are the second lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import botocore.session
import google.auth.aws
import google.auth.identity_pool
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from google.auth.exceptions import OAuthError, RefreshError
from google.auth.transport.requests import Request

from localcloud.cloud import Cloud
from localcloud.world import World
from tests.callers import session
from tests.conformance.aws_lab import own_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from localcloud.world import WorkloadIdentityPoolProvider

WORLD = World.load().google
FUNCTION = "tokenvend"
CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
REJECTED = (
    "Error code unauthorized_client: The given credential is rejected by the attribute condition."
)
"""The error of Google's STS as google-auth words it."""


def aws_callers() -> list[str]:
    aws = World.load().aws
    # The function's role is no part of the world: it comes from the template.
    return (
        [FUNCTION] + [user.user_name for user in aws.users] + [role.role_name for role in aws.roles]
    )


def azure_callers() -> list[str]:
    return [identity.name for identity in World.load().azure.managed_identities]


def others(names: list[str]) -> list[str]:
    assert FUNCTION in names
    return [name for name in names if name != FUNCTION]


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The clouds without the functions, which nobody asks here."""
    with Cloud(World.load(), tmp_path_factory.mktemp("straight"), functions=()) as running:
        running.accounts.deploy(own_template().roles)
        yield running


@pytest.fixture
def become(clouds: Cloud, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a caller's AWS variables where google-auth reads them."""

    def change(name: str) -> dict[str, str]:
        environment = clouds.environment_for(name)
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environment.items():
            if variable.startswith("AWS_") and variable != "AWS_CA_BUNDLE":
                monkeypatch.setenv(variable, value)
        return environment

    return change


def workload(clouds: Cloud, name: str) -> dict[str, str]:
    """What an Azure workload's own identity endpoint is reached by."""
    return clouds.network_environment | clouds.identity.environment_for(name)


def file_of(provider: WorkloadIdentityPoolProvider, source: Any, account: str) -> dict[str, Any]:
    """What create-cred-config writes; `account` is the one to impersonate, or nothing."""
    kind = "aws:token-type:aws4_request" if "environment_id" in source else "oauth:token-type:jwt"
    file = {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{provider.name}",
        "subject_token_type": f"urn:ietf:params:{kind}",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": source,
    }
    if account:
        url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
        file["service_account_impersonation_url"] = f"{url}/{account}:generateAccessToken"
    return file


AWS_SOURCE = {
    "environment_id": "aws1",
    "regional_cred_verification_url": (
        "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
    ),
}


def azure_source(environment: Mapping[str, str], resource: str, **which: str) -> dict[str, Any]:
    query = urlencode({"api-version": "2019-08-01", "resource": resource, **which})
    return {
        "url": f"{environment['IDENTITY_ENDPOINT']}?{query}",
        "headers": {"X-IDENTITY-HEADER": environment["IDENTITY_HEADER"]},
        "format": {"type": "json", "subject_token_field_name": "access_token"},
    }


def token(environment: Mapping[str, str], file: dict[str, Any]) -> str:
    """What Google gives for a credential file; raises OAuthError with STS's own words."""
    kinds: Any = (
        google.auth.aws if "aws" in file["subject_token_type"] else google.auth.identity_pool
    )
    credentials = kinds.Credentials.from_info(file, scopes=[CLOUD_PLATFORM])
    with session(environment) as made:
        credentials.refresh(Request(made))
    return str(credentials.token)


def accounts() -> list[str]:
    """No impersonation, then each service account of the world."""
    return ["", *(account.email for account in WORLD.service_accounts)]


@pytest.mark.parametrize("name", others(aws_callers()))
def test_no_caller_on_aws_gets_in_with_its_own_keys(become: Any, name: str) -> None:
    environment = become(name)
    for provider in WORLD.workload_identity_pool_providers:
        for account in accounts():
            with pytest.raises(OAuthError) as refusal:
                token(environment, file_of(provider, AWS_SOURCE, account))
            said = str(refusal.value.args[0])
            assert said == REJECTED if provider.aws else said.startswith("Error code invalid_")


@pytest.mark.parametrize("name", others(aws_callers()))
def test_no_caller_on_aws_gets_in_by_way_of_a_role_that_it_may_assume(
    become: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    environment, aws = become(name), World.load().aws
    sts = botocore.session.get_session().create_client(
        "sts",
        config=Config(proxies={"https": environment["HTTPS_PROXY"]}),
        verify=environment["AWS_CA_BUNDLE"],
    )
    reached = set()
    for role in aws.roles:
        keys = assumed(sts, f"arn:aws:iam::{aws.account}:role/{role.role_name}")
        if keys is None:
            continue
        reached.add(role.role_name)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["SecretAccessKey"])
        monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
        for provider in WORLD.workload_identity_pool_providers:
            with pytest.raises(OAuthError):
                token(environment, file_of(provider, AWS_SOURCE, ""))
    assert FUNCTION not in reached
    assert reached or name != "operator"


def assumed(sts: Any, arn: str) -> dict[str, str] | None:
    """The keys of a session of a role, or nothing when AWS denies it."""
    try:
        return dict(sts.assume_role(RoleArn=arn, RoleSessionName="mine")["Credentials"])
    except ClientError as denial:
        if denial.response["Error"]["Code"] != "AccessDenied":
            raise
        return None


@pytest.mark.parametrize("name", others(azure_callers()))
def test_no_caller_on_azure_gets_in_with_a_token_for_any_application(
    clouds: Cloud, name: str
) -> None:
    environment = workload(clouds, name)
    reached = 0
    for provider in WORLD.workload_identity_pool_providers:
        for application in clouds.world.azure.applications:
            for account in accounts():
                source = azure_source(environment, application.identifier_uris[0])
                with pytest.raises(OAuthError) as refusal:
                    token(environment, file_of(provider, source, account))
                said = str(refusal.value.args[0])
                reached += said == REJECTED
                assert said == REJECTED or said.startswith("Error code invalid_"), said
    # With the audience that Google's provider wants, the condition alone stands in the way.
    assert reached == len(accounts())


@pytest.mark.parametrize("name", others(azure_callers()))
def test_no_caller_on_azure_gets_the_functions_identity_from_its_own_endpoint(
    clouds: Cloud, name: str
) -> None:
    environment, function = workload(clouds, name), clouds.entra.identity(FUNCTION)
    for which in ({"client_id": function.client_id}, {"object_id": function.principal_id}):
        source = azure_source(environment, "api://tokenvend-federation", **which)
        answer = requests.get(source["url"], headers=source["headers"], timeout=10)
        assert answer.status_code == 400, answer.text


def test_no_caller_gets_in_with_its_own_clouds_token_in_place_of_googles(clouds: Cloud) -> None:
    for name in others(azure_callers()):
        environment = workload(clouds, name)
        source = azure_source(environment, "api://tokenvend-federation")
        held = requests.get(source["url"], headers=source["headers"], timeout=10).json()
        bearer = {"Authorization": f"Bearer {held['access_token']}"}
        for account in accounts()[1:]:
            url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts"
            with session(environment) as made:
                answer = made.post(
                    f"{url}/{account}:generateAccessToken",
                    json={"scope": [CLOUD_PLATFORM]},
                    headers=bearer,
                    timeout=10,
                )
            assert answer.status_code == 401, answer.text


def test_the_function_on_aws_gets_in(become: Any) -> None:
    environment = become(FUNCTION)
    (provider,) = (p for p in WORLD.workload_identity_pool_providers if p.aws)
    assert token(environment, file_of(provider, AWS_SOURCE, "")).startswith("ya29.d.")
    landing = "landing@acme.iam.gserviceaccount.com"
    assert token(environment, file_of(provider, AWS_SOURCE, landing)).startswith("ya29.c.")


def test_the_function_on_azure_gets_in(clouds: Cloud) -> None:
    environment = workload(clouds, FUNCTION)
    (provider,) = (p for p in WORLD.workload_identity_pool_providers if p.oidc)
    source = azure_source(environment, "api://tokenvend-federation")
    assert token(environment, file_of(provider, source, "")).startswith("ya29.d.")
    landing = "landing@acme.iam.gserviceaccount.com"
    assert token(environment, file_of(provider, source, landing)).startswith("ya29.c.")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("aws", name) for name in others(aws_callers())]
    + [("oidc", name) for name in others(azure_callers())],
)
def test_whom_a_wider_condition_lets_in_is_bound_to_nothing(
    clouds: Cloud, become: Any, kind: str, name: str
) -> None:
    """The second lock: the policies name the function too, and no whole pool.

    That the first token is had shows that the tests above can fail.
    """
    (provider,) = (
        p for p in clouds.world.google.workload_identity_pool_providers if getattr(p, kind)
    )
    was, provider.attribute_condition = provider.attribute_condition, "true"
    try:
        if kind == "aws":
            environment, source = become(name), AWS_SOURCE
        else:
            environment = workload(clouds, name)
            source = azure_source(environment, "api://tokenvend-federation")
        federated = token(environment, file_of(provider, source, ""))
        for account in accounts()[1:]:
            with pytest.raises(RefreshError, match="IAM_PERMISSION_DENIED"):
                token(environment, file_of(provider, source, account))
        for bucket in WORLD.buckets:
            url = f"https://storage.googleapis.com/storage/v1/b/{bucket.name}/o"
            with session(environment) as made:
                answer = made.get(url, headers={"Authorization": f"Bearer {federated}"}, timeout=10)
            assert answer.status_code == 403, answer.text
    finally:
        provider.attribute_condition = was
