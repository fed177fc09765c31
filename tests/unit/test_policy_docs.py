"""The reference page's own examples load, decide as told, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.issuing import NOW
from tokenvend.model import AccessTokenRequest, AwsCaller
from tokenvend.policy import compile_policy
from tokenvend.policy.callers import KEYS
from tokenvend.policy.review.cases import read_cases, run_cases
from tokenvend.policy.review.explain import explain
from tokenvend.policy.review.lint import RULES, lint

PAGE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text("utf-8")
POLICY, CASES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_loads_without_findings() -> None:
    assert len(compile_policy(POLICY).grants) == 3
    assert lint(POLICY, now=NOW) == ()


def test_the_example_cases_pass_on_the_example_policy() -> None:
    results = run_cases(compile_policy(POLICY), read_cases(CASES), NOW)
    assert [result.got for result in results if not result.passed] == []


def test_the_example_explanation_is_what_the_tool_says() -> None:
    etl = AwsCaller("arn:aws:iam::111122223333:role/etl-7", "111122223333", "etl-7")
    explanation = explain(compile_policy(POLICY), etl, AccessTokenRequest(lifetime=3600), NOW)
    considered = explanation.considered[0]
    assert f"caller   {explanation.caller} ({explanation.kind})\n" in PAGE
    assert f"{considered.grant} {considered.verdict}: {considered.reason}\n" in PAGE
    assert f"  gives {considered.gives}\n" in PAGE
    assert f"outcome  {explanation.summary}\n" in PAGE
    assert f"mend     {explanation.next_step}\n" in PAGE


def test_every_caller_key_and_every_lint_rule_is_in_the_reference() -> None:
    assert {key for key in KEYS if f"`{key}`" not in PAGE} == set()
    assert {rule for rule in RULES if f"`{rule}`" not in PAGE} == set()
