"""What the whole suite shares: hypothesis profiles and a clean environment."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.canary import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localcloud.cloud import Cloud

settings.register_profile("ci", max_examples=200, deadline=None)
settings.register_profile(
    "long",
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "100_000")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# Whether a mutant is noticed must not hang on luck.
settings.register_profile("mutants", max_examples=200, deadline=None, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A developer's own credentials, proxies or settings must not decide how a test ends.
_PREFIXES = ("AWS_", "AZURE_", "IDENTITY_", "TOKENVEND_", "GOOGLE_", "POWERTOOLS_", "CLOUDSDK_")
_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")

# What `tests.tools.tool` says, and what a module's own `skipif` says in the same words.
_NOT_INSTALLED = re.compile(r"(\S+) is not installed")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tried because a program is missing: a green line must not hide it."""
    missing = Counter(
        found[1]
        for report in terminalreporter.stats.get("skipped", [])
        if (found := _NOT_INSTALLED.search(str(report.longrepr)))
    )
    for name, count in sorted(missing.items()):
        terminalreporter.write_line(f"{count} skipped: {name} is not installed", yellow=True)


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> None:
    for name in list(os.environ):
        if name.startswith(_PREFIXES) or name.upper() in _NAMES:
            del os.environ[name]


@pytest.fixture(autouse=True, scope="session")
def no_log_of_the_whole_suite_leaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set up first, so torn down last: every log that both functions wrote in any test is read."""
    yield
    for name in ("lambda-tokenvend-*.log", "azure-functions.log"):
        for log in tmp_path_factory.getbasetemp().rglob(name):
            assert leaks(log.read_text(errors="replace")) == [], log


@pytest.fixture(scope="session")
def cloud(clean_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """The embedded cloud with both functions, as `make up` runs it. Tests leave it as it was."""
    from localcloud.cloud import Cloud  # noqa: PLC0415 -- unit tests need none of it
    from localcloud.world import World  # noqa: PLC0415

    with Cloud(World.load(), tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine that offers botocore's chain nothing."""
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_ROLE_ARN",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch
