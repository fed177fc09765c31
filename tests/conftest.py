"""What the whole suite shares: hypothesis profiles and a clean environment."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", max_examples=200, deadline=None)
settings.register_profile(
    "long",
    max_examples=100_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A developer's own credentials, proxies or settings must not decide how a test ends.
_PREFIXES = ("AWS_", "AZURE_", "IDENTITY_", "TOKENVEND_", "GOOGLE_", "POWERTOOLS_", "CLOUDSDK_")
_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> None:
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name.upper() in _NAMES:
            del os.environ[name]
