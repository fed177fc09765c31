"""Settings: all problems at once, and none undocumented."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokenvend.config.settings import SETTINGS, Settings, SettingsError

ROOT = Path(__file__).parents[2]
PROVIDER = (
    "//iam.googleapis.com/projects/123456789012/locations/global/"
    "workloadIdentityPools/tokenvend/providers/aws-prod"
)
GOOD = {"TOKENVEND_GOOGLE_PROVIDER": PROVIDER, "TOKENVEND_POLICY": "policy.toml"}


def test_two_settings_are_enough_and_the_rest_has_defaults() -> None:
    settings = Settings.from_env(GOOD)
    assert settings.google_provider == PROVIDER
    assert settings.universe_domain == "googleapis.com"
    assert settings.budget == 10
    assert not settings.entra_tenants


def test_the_functions_root_is_the_platforms() -> None:
    assert Settings.from_env(GOOD | {"LAMBDA_TASK_ROOT": "/var/task"}).root == Path("/var/task")
    azure = Settings.from_env(GOOD | {"AzureWebJobsScriptRoot": "/home/site"})
    assert azure.root == Path("/home/site")


def test_portals_spell_guids_in_either_case() -> None:
    tenant = "3F2504E0-4F89-41D3-9A0C-0305E82C3301"
    assert Settings.from_env(GOOD | {"TOKENVEND_ENTRA_TENANTS": tenant}).entra_tenants == (
        tenant.lower(),
    )


def test_an_oidc_issuer_is_read_whole() -> None:
    text = '[{"issuer": "https://gitlab.com", "audiences": ["a"], "jwks_hosts": ["h.example"]}]'
    (issuer,) = Settings.from_env(GOOD | {"TOKENVEND_OIDC_ISSUERS": text}).oidc_issuers
    assert issuer.issuer == "https://gitlab.com"
    assert issuer.hosts == {"gitlab.com", "h.example"}


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(
            {
                "TOKENVEND_GOOGLE_PROVIDER": "https:" + PROVIDER,
                "TOKENVEND_BUDGET": "1e1",
                "TOKENVEND_ENTRA_TENANTS": "common",
                "TOKENVEND_AUDIT_REQUIRED": "yes",
                "TOKENVEND_POLCY_FILE": "typo",
            }
        )
    named = [problem.split()[0] for problem in caught.value.problems]
    assert sorted(named) == [
        "TOKENVEND_AUDIT_REQUIRED",
        "TOKENVEND_BUDGET",
        "TOKENVEND_ENTRA_TENANTS",
        "TOKENVEND_GOOGLE_PROVIDER",
        "TOKENVEND_POLCY_FILE",
        "TOKENVEND_POLICY",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENVEND_UNIVERSE_DOMAIN", "evil.example/path"),
        ("TOKENVEND_UNIVERSE_DOMAIN", "googleapis.com:443"),
        ("TOKENVEND_GOOGLE_STS_REGION", "us-central1.evil.example"),
        ("TOKENVEND_AWS_ACCOUNT", "1"),
        ("TOKENVEND_AWS_API_IDS", "a b"),
        ("TOKENVEND_CACHE_ENTRIES", "0"),
        ("TOKENVEND_POLICY", "azure-blob:https://evil.example/c/b"),
        ("TOKENVEND_OIDC_ISSUERS", '[{"issuer": "http://x", "audiences": ["a"]}]'),
        ("TOKENVEND_OIDC_ISSUERS", '[{"issuer": "https://x", "audiences": []}]'),
        ("TOKENVEND_OIDC_ISSUERS", "{}x"),
        ("TOKENVEND_OIDC_ISSUERS", '[{"issuer": "https://x", "audiences": "https://y"}]'),
        ("TOKENVEND_OIDC_ISSUERS", '[{"issuer": "https://x", "audiences": [1]}]'),
        (
            "TOKENVEND_OIDC_ISSUERS",
            '[{"issuer": "https://x", "audiences": ["a"], "jwks_hosts": "y.example"}]',
        ),
        ("TOKENVEND_OIDC_ISSUERS", '[{"issuer": "https://x", "audiences": ["a"], "typo": 1}]'),
        ("TOKENVEND_AUDIENCE", "//iam.googleapis.com/projects/1/x"),
        ("TOKENVEND_AUDIENCE", "//mine.example/projects/12"),
        ("TOKENVEND_AUDIT_KEY", "short"),
    ],
)
def test_a_setting_that_could_steer_a_request_elsewhere_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match="settings are wrong"):
        Settings.from_env(GOOD | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENVEND_ENTRA_AUDIENCES", "api://two,api://one"),
        ("TOKENVEND_ENTRA_AUDIENCES", "https:" + PROVIDER),
        ("TOKENVEND_OIDC_ISSUERS", '[{"issuer": "https://x", "audiences": ["api://one"]}]'),
        ("TOKENVEND_OIDC_ISSUERS", f'[{{"issuer": "https://x", "audiences": ["{PROVIDER}"]}}]'),
        (
            "TOKENVEND_OIDC_ISSUERS",
            f'[{{"issuer": "https://x", "audiences": ["a", "https:{PROVIDER}"]}}]',
        ),
    ],
)
def test_googles_audience_is_never_the_callers(name: str, value: str) -> None:
    federation = {"TOKENVEND_AZURE_FEDERATION_AUDIENCE": "api://one"}
    with pytest.raises(SettingsError) as caught:
        Settings.from_env(GOOD | federation | {name: value})
    (problem,) = caught.value.problems
    assert problem.startswith(name)
    assert "audience of their own" in problem


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for setting in SETTINGS:
        default = "required" if setting.default is None else f"`{setting.default or ' '}`"
        assert f"| `{setting.name}` | {default} | {setting.meaning} |" in text
