"""Golden cases: what a policy must give and must deny, kept beside it and run in CI.

    [[case]]
    name = "etl writes to the landing bucket"
    caller = { aws_role = "arn:aws:iam::111122223333:role/etl" }
    request = { scopes = ["https://www.googleapis.com/auth/devstorage.read_write"] }
    expect = "grant"                # or "deny"
    grant = "landing-writer"        # optional: which one
    reason = "scopes"               # optional, of a denial: words of the operator's reason
    at = 2027-01-01T00:00:00Z       # optional: when

Refuses a file with unknown keys, like a policy, and one without cases: it would prove nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenvend.model import AccessTokenRequest
from tokenvend.policy import values
from tokenvend.policy.reading.document import lines_of, read, refuse
from tokenvend.policy.reading.problems import shown
from tokenvend.policy.reading.table import Table
from tokenvend.policy.review.questions import read_caller, read_request
from tokenvend.policy.review.words import decided

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest
    from tokenvend.policy.compiled import CompiledPolicy
    from tokenvend.policy.reading.problems import Found

MAX_CASES = 10_000


@dataclass(frozen=True, slots=True)
class Case:
    """One expectation. `grant`, `service_account`, `reason`: None where none is asked for; `at`:
    epoch seconds, None for now.
    """

    name: str
    line: int
    caller: Caller
    request: TokenRequest
    expect: str
    grant: str | None
    service_account: str | None
    reason: str | None
    at: int | None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case came out. `got`: what the policy said, in the operator's words."""

    name: str
    line: int
    passed: bool
    expected: str
    got: str


def read_cases(text: str, *, source: str = "cases.toml") -> tuple[Case, ...]:
    """The cases in a TOML or JSON text. Raises PolicyError with every problem found."""
    tree = read(text, source)
    found: Found = []
    root = Table(tree, (), found)
    tables = root.tables("case", most=MAX_CASES, advice="[[case]] tables")
    root.close()
    lines = lines_of(text)
    cases = [_case(table, lines.of(table.path)) for table in tables]
    if found:
        raise refuse(found, tree, text, source)
    return tuple(case for case in cases if case is not None)


def run_cases(policy: CompiledPolicy, cases: tuple[Case, ...], now: int) -> tuple[CaseResult, ...]:
    """Decide every case. `now`: epoch seconds, for cases without `at`."""
    return tuple(_run(policy, case, now) for case in cases)


def _run(policy: CompiledPolicy, case: Case, now: int) -> CaseResult:
    at = now if case.at is None else case.at
    decision, got = decided(policy, case.caller, case.request, at)
    if case.expect == "deny":
        expected = f"denied with {shown(case.reason)}" if case.reason else "denied"
        passed = decision is None and (case.reason or "") in got.removeprefix("denied: ")
    else:
        expected = f"granted by {shown(case.grant)}" if case.grant else "granted"
        passed = (
            decision is not None
            and not decision.would_deny
            and case.grant in (None, decision.spec.grant_name)
            and case.service_account in (None, decision.spec.service_account)
        )
    return CaseResult(case.name, case.line, passed, expected, got)


def _case(table: Table, line: int) -> Case | None:
    name = table.typed(str, "name", advice="what must hold, in a sentence")
    calling = table.table("caller", advice="who calls, as in a policy's `callers`")
    caller = None if calling is None else read_caller(calling)
    asking = table.table("request")
    request = AccessTokenRequest() if asking is None else read_request(asking)
    outcome = values.of_form("grant|deny", 'must be "grant" or "deny"')
    expect = table.parsed("expect", outcome, advice='"grant" or "deny"')
    grant = table.parsed("grant", values.name)
    service_account = table.parsed("service_account", values.service_account)
    reason = table.typed(str, "reason")
    at = table.moment("at")
    if expect == "deny" and (grant or service_account):
        table.problem(
            "`grant` and `service_account` say what is granted; remove them, or expect it"
        )
    if expect == "grant" and reason:
        table.problem("`reason` is of a denial; remove it, or expect one", "reason")
    table.close()
    if name is None or caller is None or expect is None:
        return None
    return Case(name, line, caller, request, expect, grant, service_account, reason, at)
