"""Each function and the caller's package import with their own extra alone, and start light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "TOKENVEND_GOOGLE_PROVIDER": (
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/prov"
    ),
    "TOKENVEND_POLICY": str(ROOT / "infra/local/localcloud/policy.toml"),
}
# What each cloud needs besides.
AWS = {"AWS_REGION": "us-east-1"}
AZURE = {"TOKENVEND_AZURE_FEDERATION_AUDIENCE": "api://federation"}
EXTRAS = {
    "aws": {
        "snapshot_restore_py",
        "aws_lambda_powertools",
        "boto3",
        "botocore",
        "jwt",
        "cryptography",
    },
    "azure": {"azure", "jwt", "cryptography"},
    "cli": {"click", "rich"},
}
DEVELOPMENT = {"localcloud", "google", "googleapiclient", "moto", "trustme", "samtranslator"}
# Heavy modules that a start without a request must not load; see docs/architecture.md.
HEAVY = {
    "requests",
    "urllib3",
    "jwt",
    "cryptography",
    "boto3",
    "botocore.session",
    "pydantic",
    "difflib",
}
# And what only a tool or the text of an error needs.
TELLING = {
    "tokenvend.google.refusals",
    "tokenvend.policy.reading.lines",
    "tokenvend.policy.review",
    "tokenvend.cli",
}


def run(code: str, more: dict[str, str] = AWS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own interpreter and text
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=SETTINGS | more,
        capture_output=True,
        text=True,
        check=False,
    )


def with_only(*extras: str) -> str:
    """Python that makes the libraries of all other extras, and of development, unimportable."""
    own = set().union(*(EXTRAS[extra] for extra in extras))
    missing = (set().union(*EXTRAS.values()) | DEVELOPMENT) - own
    return f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.parametrize(
    ("code", "extras"),
    [
        ("import functions.aws.api", ["aws"]),
        ("import functions.azure.app", ["azure"]),
        ("import tokenvend.wire.own, tokenvend.errors, tokenvend.transport", []),
        ("from tokenvend.cli import main", ["cli"]),
    ],
    ids=["the AWS function", "the Azure function", "a caller", "the command"],
)
def test_it_imports_with_its_own_extra_alone(code: str, extras: list[str]) -> None:
    ended = run(f"{with_only(*extras)}\n{code}")
    assert ended.returncode == 0, ended.stderr


def test_a_missing_library_is_noticed() -> None:
    assert run(f"{with_only('azure')}\nimport functions.aws.api").returncode != 0


@pytest.mark.parametrize(
    ("module", "more"), [("functions.aws.api", AWS), ("functions.azure.api", AZURE)]
)
def test_a_cold_start_loads_nothing_heavy(module: str, more: dict[str, str]) -> None:
    # Of an endpoint that is able to vend: a misconfigured one would load less.
    code = f"""
import sys, {module} as door
from tokenvend.errors import Misconfigured
assert not isinstance(door.api.state, Misconfigured), door.api.state.cause
other = "tokenvend.identity.a" + ("zure" if "aws" in door.__name__ else "ws")
print("loaded:", *sorted(({HEAVY | TELLING!r} | {{other}}) & set(sys.modules)))
"""
    ended = run(code, more)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].split() == ["loaded:"], ended.stdout


def test_a_restored_snapshot_starts_an_audit_chain_of_its_own() -> None:
    code = """
import functions.aws.api as aws
from snapshot_restore_py import get_after_restore
before = aws.api.endpoint.audit._instance
for restore, arguments, named in get_after_restore():
    restore(*arguments, **named)
print("changed" if aws.api.endpoint.audit._instance != before else "the same")
"""
    assert run(code).stdout.splitlines()[-1] == "changed"
