"""Settings: compiled once, all problems at once, and none undocumented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tokenvend.caller.aws import OwnFunction
from tokenvend.config.compiled import Settings, SettingsError, read_settings
from tokenvend.config.settings import SETTINGS
from tokenvend.policy_source.setting import PackagedFile, parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.config.settings import Cloud

ROOT = Path(__file__).parents[2]
PROVIDER = (
    "//iam.googleapis.com/projects/123456789012/locations/global/"
    "workloadIdentityPools/tokenvend/providers/aws-prod"
)
ACCOUNT, TENANT = "111122223333", "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
LOGIN = "login.microsoftonline.com"
COMMON = {"TOKENVEND_GOOGLE_PROVIDER": PROVIDER, "TOKENVEND_POLICY": "policy.toml"}
AWS = {**COMMON, "AWS_REGION": "us-east-1"}
AZURE = {**COMMON, "TOKENVEND_AZURE_FEDERATION_AUDIENCE": "api://federation"}


def issuer(**changes: Any) -> str:
    """TOKENVEND_OIDC_ISSUERS with one entry."""
    return json.dumps([{"issuer": "https://gitlab.com", "audiences": ["a"], **changes}])


def aws_settings(environ: Mapping[str, str]) -> Settings:
    return read_settings(environ, "AWS")


def problems(cloud: Cloud, environ: Mapping[str, str], **changes: str) -> list[str]:
    """What the operator is told of an environment; a change's name lacks its TOKENVEND_."""
    changed = {f"TOKENVEND_{name}": value for name, value in changes.items()}
    with pytest.raises(SettingsError, match="settings are wrong") as caught:
        read_settings({**environ, **changed}, cloud)
    return caught.value.problems


def test_a_few_settings_are_enough_and_the_rest_has_defaults() -> None:
    settings = aws_settings(AWS)
    assert (settings.provider, settings.policy) == (PROVIDER, PackagedFile("policy.toml"))
    assert (settings.budget, settings.audit_required, settings.issuers) == (10, False, {})
    assert settings.egress.hosts == ("sts.googleapis.com", "iamcredentials.googleapis.com")
    assert (settings.region, settings.function, settings.role) == ("us-east-1", OwnFunction(), "")
    azure = read_settings(AZURE, "Azure")
    assert azure.federation_audience == "api://federation"
    assert (azure.client_id, azure.easy_auth) == ("", False)


def test_settings_compile_into_what_an_endpoint_on_aws_is_made_of() -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role/path/tokenvend"
    settings = aws_settings(
        {
            **AWS,
            "AWS_LAMBDA_FUNCTION_NAME": "vend",
            "LAMBDA_TASK_ROOT": "/var/task",
            "TOKENVEND_GOOGLE_STS_REGION": "us-central1",
            "TOKENVEND_AWS_ACCOUNT": ACCOUNT,
            "TOKENVEND_AWS_API_IDS": "a1b2, c3d4,",
            "TOKENVEND_AWS_GATEWAY_ALIAS": "live",
            "TOKENVEND_AWS_ROLE_ARN": role,
            "TOKENVEND_ENTRA_TENANTS": TENANT.upper(),
            "TOKENVEND_ENTRA_AUDIENCES": "api://one",
            "TOKENVEND_OIDC_ISSUERS": issuer(jwks_hosts=["keys.example"]),
            "TOKENVEND_AUDIENCE": "//mine.example",
            "TOKENVEND_AWS_REGIONS": "eu-west-1,cn-north-1",
            "TOKENVEND_AWS_UNSIGNED_AUDIENCE": "true",
        }
    )
    apis = frozenset({"a1b2", "c3d4"})
    assert settings.function == OwnFunction(ACCOUNT, "vend", apis, "live")
    assert settings.role == role
    assert settings.root == Path("/var/task")
    assert set(settings.aws_regions.values()) == {"eu-west-1", "cn-north-1"}
    assert not settings.require_signed_audience
    assert set(settings.issuers) == {
        f"https://sts.windows.net/{TENANT}/",
        f"https://{LOGIN}/{TENANT}/v2.0",
        "https://gitlab.com",
    }
    assert set(settings.egress.hosts) == {
        "sts.us-central1.rep.googleapis.com",
        "iamcredentials.googleapis.com",
        LOGIN,
        "gitlab.com",
        "keys.example",
        "sts.eu-west-1.amazonaws.com",
        "sts.cn-north-1.amazonaws.com.cn",
        "sts.us-east-1.amazonaws.com",
    }


def test_settings_compile_into_what_an_endpoint_on_azure_is_made_of() -> None:
    settings = read_settings(
        {
            **AZURE,
            "AzureWebJobsScriptRoot": "/home/site",
            "TOKENVEND_POLICY": "azure-blob:https://acme0.blob.core.windows.net/conf/p.toml",
            "TOKENVEND_AZURE_CLIENT_ID": TENANT.upper(),
            "TOKENVEND_ENTRA_TENANTS": TENANT,
            "TOKENVEND_ENTRA_AUDIENCES": "api://one",
            "TOKENVEND_EASY_AUTH": "true",
        },
        "Azure",
    )
    assert settings.federation_audience == "api://federation"
    assert (settings.client_id, settings.easy_auth) == (TENANT, True)
    assert settings.root == Path("/home/site")
    # Its host is no host of the endpoint's: the policy has a way out of its own.
    assert settings.policy == parse_source(
        "azure-blob:https://acme0.blob.core.windows.net/conf/p.toml"
    )
    assert "acme0.blob.core.windows.net" not in settings.egress.hosts


def test_proxy_and_ca_bundle_are_honoured_as_everywhere(tmp_path: Path) -> None:
    one, other = tmp_path / "one.pem", tmp_path / "other.pem"
    one.touch()
    other.touch()
    network = {
        "https_proxy": "proxy.example:3128",
        "no_proxy": ".internal,a",
        "SSL_CERT_FILE": str(one),
    }
    egress = aws_settings({**AWS, **network}).egress
    assert (egress.proxy, egress.no_proxy) == ("http://proxy.example:3128", (".internal", "a"))
    assert egress.ca_bundle == str(one)
    upper = {
        "HTTPS_PROXY": "http://u:p@[::1]:1/",
        "NO_PROXY": "*",
        "REQUESTS_CA_BUNDLE": str(other),
    }
    egress = aws_settings({**AWS, **network, **upper}).egress
    assert (egress.proxy, egress.no_proxy) == ("http://u:p@[::1]:1", ("*",))
    assert egress.ca_bundle == str(other)


def test_credentials_stay_live_and_show_in_no_repr() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "canary-1"}
    environ = {**AWS, **keys, "TOKENVEND_AUDIT_KEY": "canary-2" * 4}
    environ["HTTPS_PROXY"] = "http://user:canary-3@proxy.example"
    settings = aws_settings(environ)
    environ["AWS_SESSION_TOKEN"] = "rotated"
    assert settings.environ["AWS_SESSION_TOKEN"] == "rotated"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize("cloud", ["AWS", "Azure"])
def test_a_secret_in_the_wrong_setting_is_never_told(cloud: Cloud) -> None:
    names = [*(setting.name for setting in SETTINGS), "AWS_REGION", "HTTPS_PROXY"]
    told = problems(cloud, dict.fromkeys(names, "a canary"))
    assert len(told) >= len(SETTINGS) - 5
    assert "canary" not in "".join(told)


def test_every_problem_is_reported_at_once_combinations_and_the_platforms_needs_included() -> None:
    told = problems(
        "AWS",
        {"HTTPS_PROXY": "socks5://proxy.example", "AWS_LAMBDA_FUNCTION_NAME": "a b"},
        GOOGLE_PROVIDER="https:" + PROVIDER,
        BUDGET="1e1",
        ENTRA_TENANTS="common",
        AUDIT_REQUIRED="yes",
        POLCY_FILE="typo",
        AWS_API_IDS="a1b2",
        EASY_AUTH="true",
    )
    assert sorted(problem.split()[0] for problem in told) == [
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_REGION",
        "HTTPS_PROXY",
        "TOKENVEND_AUDIT_REQUIRED",
        "TOKENVEND_AWS_API_IDS",
        "TOKENVEND_BUDGET",
        "TOKENVEND_EASY_AUTH",
        "TOKENVEND_ENTRA_TENANTS",
        "TOKENVEND_ENTRA_TENANTS",
        "TOKENVEND_GOOGLE_PROVIDER",
        "TOKENVEND_POLCY_FILE",
        "TOKENVEND_POLICY",
    ]


def test_a_setting_that_could_steer_a_request_elsewhere_is_refused(
    subtests: pytest.Subtests,
) -> None:
    for name, value in [
        ("UNIVERSE_DOMAIN", "evil.example/path"),
        ("UNIVERSE_DOMAIN", "googleapis.com:443"),
        ("GOOGLE_STS_REGION", "us-central1.evil.example"),
        ("GOOGLE_STS_REGION", "us-east-1"),
        ("AWS_REGIONS", "us-central1"),
        ("AWS_REGIONS", "us-east-1.evil"),
        ("AWS_REGIONS", "us-iso-east-1"),
        ("AWS_ACCOUNT", "1"),
        ("AWS_API_IDS", "*"),
        ("AWS_API_IDS", "a" * 41),
        ("AWS_GATEWAY_ALIAS", "17"),
        ("AWS_ROLE_ARN", f"arn:aws:sts::{ACCOUNT}:assumed-role/tokenvend/x"),
        ("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/{'a' * 44}"),
        ("ENTRA_TENANTS", "common"),
        ("ENTRA_AUDIENCES", "api://one api://two"),
        ("ENTRA_AUDIENCES", "https:" + PROVIDER),
        ("CACHE_ENTRIES", "0"),
        ("POLICY", "azure-blob:https://evil.example/c/b"),
        ("OIDC_ISSUERS", "{}x"),
        ("OIDC_ISSUERS", issuer(issuer="http://x.example")),
        ("OIDC_ISSUERS", issuer(issuer="https://user@x.example")),
        ("OIDC_ISSUERS", issuer(issuer="https://x.example:8443")),
        ("OIDC_ISSUERS", issuer(issuer="https://x.example?x")),
        ("OIDC_ISSUERS", issuer(jwks_uri="http://x.example/keys")),
        ("OIDC_ISSUERS", issuer(jwks_hosts="x.example")),
        ("OIDC_ISSUERS", issuer(jwks_hosts=["*.example"])),
        ("OIDC_ISSUERS", issuer(audiences=[])),
        ("OIDC_ISSUERS", issuer(audiences="https://x")),
        ("OIDC_ISSUERS", issuer(audiences=[1])),
        ("OIDC_ISSUERS", issuer(audiences=["a", PROVIDER])),
        ("OIDC_ISSUERS", issuer(typo=1)),
        ("AUDIENCE", PROVIDER),
        ("AUDIENCE", "//mine.example/projects/12"),
        ("AUDIT_KEY", "short"),
    ]:
        with subtests.test(name=name, value=value):
            told = problems("AWS", AWS, **{name: value})
            assert told[0].startswith(f"TOKENVEND_{name} ")


ENTRA = {"ENTRA_TENANTS": TENANT, "ENTRA_AUDIENCES": "api://one"}
TENANT_TWICE = issuer(issuer=f"https://{LOGIN}/{TENANT}/v2.0")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/tokenvend"


def test_settings_that_contradict_each_other_or_their_cloud_are_one_problem_that_names_one(
    subtests: pytest.Subtests,
) -> None:
    for cloud, environ, changes, told in [
        ("AWS", COMMON, {}, "AWS_REGION is missing"),
        ("Azure", COMMON, {}, "TOKENVEND_AZURE_FEDERATION_AUDIENCE is missing"),
        ("AWS", AWS, {**ENTRA, "EASY_AUTH": "true"}, "TOKENVEND_EASY_AUTH is for Azure"),
        ("AWS", AZURE | AWS, {}, "TOKENVEND_AZURE_FEDERATION_AUDIENCE is for Azure"),
        ("Azure", AZURE, {"AWS_ACCOUNT": ACCOUNT}, "TOKENVEND_AWS_ACCOUNT is for AWS"),
        (
            "AWS",
            AWS,
            {"POLICY": "azure-appconfig:https://acme0.azconfig.io/k"},
            "TOKENVEND_POLICY names",
        ),
        ("Azure", AZURE, {"POLICY": "ssm:/p"}, "TOKENVEND_POLICY names"),
        ("AWS", AWS, {"AWS_API_IDS": "a1b2"}, "TOKENVEND_AWS_API_IDS needs"),
        ("AWS", AWS, {"AWS_GATEWAY_ALIAS": "live"}, "TOKENVEND_AWS_GATEWAY_ALIAS needs"),
        ("AWS", AWS, {"ENTRA_TENANTS": TENANT}, "TOKENVEND_ENTRA_TENANTS needs"),
        ("AWS", AWS, {"ENTRA_AUDIENCES": "api://one"}, "TOKENVEND_ENTRA_AUDIENCES needs"),
        ("AWS", AWS, {"ENTRA_ALLOW_USERS": "true"}, "TOKENVEND_ENTRA_ALLOW_USERS needs"),
        ("Azure", AZURE, {"EASY_AUTH": "true"}, "TOKENVEND_EASY_AUTH needs"),
        ("AWS", AWS, {"AWS_REGIONS": "eu-west-1"}, "TOKENVEND_AWS_REGIONS needs"),
        (
            "AWS",
            AWS,
            {"AWS_UNSIGNED_AUDIENCE": "true"},
            "TOKENVEND_AWS_UNSIGNED_AUDIENCE needs",
        ),
        (
            "AWS",
            AWS,
            {"AWS_ACCOUNT": "4" * 12, "AWS_ROLE_ARN": ROLE},
            "TOKENVEND_AWS_ROLE_ARN is of another account",
        ),
        (
            "AWS",
            AWS,
            {"AWS_ROLE_ARN": ROLE.replace("aws", "aws-cn", 1)},
            "TOKENVEND_AWS_ROLE_ARN is of another partition",
        ),
        (
            "AWS",
            AWS,
            {**ENTRA, "OIDC_ISSUERS": TENANT_TWICE},
            "TOKENVEND_OIDC_ISSUERS holds an issuer twice",
        ),
        (
            "Azure",
            AZURE,
            {**ENTRA, "ENTRA_AUDIENCES": "api://a,api://federation"},
            "TOKENVEND_ENTRA_AUDIENCES holds",
        ),
        (
            "Azure",
            AZURE,
            {"OIDC_ISSUERS": issuer(audiences=["api://federation"])},
            "TOKENVEND_OIDC_ISSUERS holds",
        ),
        ("Azure", AZURE, {"AUDIENCE": "api://federation"}, "TOKENVEND_AUDIENCE holds"),
        ("AWS", AWS, {**ENTRA, "ENTRA_AUDIENCES": " , "}, "TOKENVEND_ENTRA_AUDIENCES holds"),
        (
            "AWS",
            AWS,
            {"OIDC_ISSUERS": issuer().replace("{", '{"audiences": ["x"], ')},
            "TOKENVEND_OIDC_ISSUERS names a member twice",
        ),
        ("AWS", AWS | {"REQUESTS_CA_BUNDLE": "/nowhere"}, {}, "REQUESTS_CA_BUNDLE names no file"),
        ("AWS", AWS | {"HTTPS_PROXY": "http://proxy:65536"}, {}, "HTTPS_PROXY must be"),
        ("AWS", AWS | {"AWS_ACCESS_KEY_ID": "ASIAEXAMPLE"}, {}, "AWS_ACCESS_KEY_ID is set without"),
        (
            "AWS",
            AWS | {"AWS_SECRET_ACCESS_KEY": "secret"},
            {},
            "AWS_SECRET_ACCESS_KEY is set without",
        ),
        (
            "Azure",
            AZURE | {"IDENTITY_ENDPOINT": "http://127.0.0.1/msi", "IDENTITY_HEADER": ""},
            {},
            "IDENTITY_ENDPOINT is set without",
        ),
    ]:
        with subtests.test(cloud=cloud, environ=environ, changes=changes, told=told):
            (problem,) = problems(cloud, environ, **changes)
            assert problem.startswith(told)


def test_what_the_other_cloud_needs_may_stand_empty() -> None:
    assert aws_settings({**AWS, "TOKENVEND_AZURE_CLIENT_ID": "", "TOKENVEND_EASY_AUTH": "false"})
    assert read_settings({**AZURE, "TOKENVEND_AWS_ACCOUNT": ""}, "Azure")


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for setting in SETTINGS:
        default = "required" if setting.default is None else f"`{setting.default or ' '}`"
        assert f"| `{setting.name}` | {default} | {setting.meaning} |" in text
