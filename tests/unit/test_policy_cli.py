"""`tokenvend policy`: what an operator types, sees, and what CI reads from the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tokenvend.cli import main

ROLE = "arn:aws:iam::111122223333:role/"
LANDING = "landing@acme.iam.gserviceaccount.com"
READ = "https://www.googleapis.com/auth/devstorage.read_only"
POLICY = f"""version = 1
[[grant]]
name = "landing"
callers = [
  {{ aws_role = "{ROLE}etl-*" }},
  {{ issuer = "https://idp.example", claims = {{ sub = "job-1" }} }},
  {{ entra_tenant = "aaaaaaaa-0000-0000-0000-000000000000", entra_role = ["a", "b"] }},
]
service_account = "landing@acme.iam.gserviceaccount.com"
[grant.access_token]
scopes = ["https://www.googleapis.com/auth/devstorage.read_only"]
max_lifetime = "15m"
"""
CASES = f"""[[case]]
name = "etl is served"
caller = {{ aws_role = "{ROLE}etl-1" }}
expect = "grant"
"""
ETL = f"aws_role={ROLE}etl-1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY, "utf-8")
    (tmp_path / "cases.toml").write_text(CASES, "utf-8")
    (tmp_path / "bad.toml").write_text('version = 1\nmode = "x"\n', "utf-8")
    (tmp_path / "wide.toml").write_text(POLICY.replace("etl-*", "*"), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["policy", *arguments])


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["lint", "policy.toml"], 0, "nothing found"),
        (["lint", "wide.toml"], 1, 'wide.toml:5: warning: [[grant]] "landing": '),
        (["lint", "wide.toml"], 1, "\n1 warning\n"),
        (["lint", "bad.toml"], 1, "bad.toml:2: error: `mode` must be"),
        (["lint", "bad.toml", "policy.toml", "wide.toml"], 1, "\n1 error, 1 warning\n"),
        (["lint", "absent.toml"], 2, "does not exist"),
        (["lint", "-h"], 0, "Example: tokenvend policy lint"),
        (["explain", "policy.toml", "--caller", ETL], 0, 'granted by "landing"'),
        (["explain", "policy.toml", "--caller", ETL], 0, "role/etl-1 (an IAM role)\n"),
        (
            ["explain", "policy.toml", "--caller", ETL, "--lifetime", "60s"],
            0,
            f"gets     an access token of {LANDING} with {READ} for 1m\n",
        ),
        (
            ["explain", "policy.toml", "--caller", "lambda_alias=etl"],
            1,
            f"gives {LANDING}: devstorage.read_only (up to 15m)\n",
        ),
        (
            ["explain", "policy.toml", "--caller", "entra_tenant=t", "--caller", "entra_user=u"],
            1,
            "entra:t:u (a person in Entra)",
        ),
        (
            ["explain", "policy.toml", "--caller", "aws_rol=x"],
            2,
            'unknown key "aws_rol"; did you mean `aws_role`?',
        ),
        (["explain", "policy.toml", "--caller", ETL, "--lifetime", "1h"], 1, "or raise `max_"),
        (["explain", "policy.toml", "--caller", ETL, "--scope", "openid"], 1, "fewer scopes"),
        (["explain", "policy.toml", "--caller", ETL, "--audience", "x"], 1, "add [grant.id_token]"),
        (
            ["explain", "policy.toml", "--caller", "issuer=https://idp.example",
             "--caller", "claims.sub=job-1"],
            0,
            "matched by issuer, claims.sub",
        ),
        (
            ["explain", "policy.toml", "--caller", "entra_role=a", "--caller", "entra_role=b",
             "--caller", "entra_tenant=aaaaaaaa-0000-0000-0000-000000000000"],
            0,
            "matched by entra_tenant, entra_role",
        ),
        (["explain", "policy.toml", "--caller", "etl"], 2, "write KEY=VALUE"),
        (["explain", "policy.toml", "--caller", "aws_role=etl"], 2, "must be the ARN of a role"),
        (["explain", "policy.toml", "--caller", ETL, "--caller", ETL], 2, "stands twice"),
        (["explain", "policy.toml", "--caller", ETL, "--at", "noon"], 2, "--at must be a date"),
        (["explain", "bad.toml", "--caller", ETL], 2, "bad.toml:2: `mode` must be"),
        (["test", "policy.toml", "cases.toml"], 0, "1 passed, 0 failed"),
        (["test", "policy.toml", "policy.toml"], 2, 'unknown key "version"'),
        (["diff", "policy.toml", "policy.toml"], 0, "nobody gains or loses anything"),
        (["diff", "policy.toml", "wide.toml"], 1, f"aws_role={ROLE}* gains access_token"),
        (["diff", "policy.toml", "bad.toml"], 2, "bad.toml:2"),
        (["matrix", "policy.toml"], 0, "devstorage.read_only"),
        (["schema"], 0, '"title": "tokenvend policy"'),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("folder")
def test_a_command_answers_in_words_and_by_its_exit_code(
    arguments: list[str], code: int, output: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert output in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["lint", "wide.toml", "--json"],
        ["lint", "wide.toml", "--sarif"],
        ["explain", "policy.toml", "--caller", ETL, "--json"],
        ["test", "policy.toml", "cases.toml", "--json"],
        ["diff", "policy.toml", "wide.toml", "--json"],
        ["matrix", "policy.toml", "--json"],
    ],
)
@pytest.mark.usefixtures("folder")
def test_json_output_is_json_and_nothing_else(arguments: list[str]) -> None:
    assert json.loads(run(*arguments).stdout)


@pytest.mark.usefixtures("folder")
def test_a_policy_is_read_from_standard_input() -> None:
    text = POLICY.replace("etl-*", "*")
    result = CliRunner().invoke(main, ["policy", "lint", "-"], input=text)
    assert result.exit_code == 1
    assert result.output.startswith('stdin:5: warning: [[grant]] "landing": ')
    same = CliRunner().invoke(main, ["policy", "diff", "policy.toml", "-"], input=POLICY)
    assert same.exit_code == 0, same.output


def test_a_failed_case_shows_what_was_expected_and_what_came(folder: Path) -> None:
    (folder / "cases.toml").write_text(CASES.replace("grant", "deny"), "utf-8")
    result = run("test", "policy.toml", "cases.toml")
    assert result.exit_code == 1
    assert 'cases.toml:1: expected denied; got granted by "landing"' in result.output


def test_the_matrix_is_written_as_one_page(folder: Path) -> None:
    assert run("matrix", "policy.toml", "--html", "matrix.html").exit_code == 0
    assert (folder / "matrix.html").read_text("utf-8").startswith("<!doctype html>")


def test_a_file_that_is_no_text_is_refused_in_words(folder: Path) -> None:
    (folder / "policy.toml").write_bytes(b"\xff\xfe")
    result = run("matrix", "policy.toml")
    assert result.exit_code == 2
    assert "cannot be read as UTF-8 text" in result.output


def test_markup_in_a_policy_is_shown_and_not_interpreted(folder: Path) -> None:
    text = POLICY.replace("job-1", "[red]job[/red][/]")
    (folder / "policy.toml").write_text(text, "utf-8")
    assert "claims.sub=[red]job[/red][/]" in "".join(run("matrix", "policy.toml", "--json").output)
    other = run("diff", "wide.toml", "policy.toml")
    assert "claims.sub=[red]job[/red][/]" in other.output


@pytest.mark.parametrize("name", ["lint", "explain", "test", "diff", "matrix", "schema"])
def test_each_commands_help_shows_an_example(name: str) -> None:
    assert f"tokenvend policy {name}" in run(name, "--help").output.partition("Example:")[2]
