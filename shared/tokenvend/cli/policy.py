"""`tokenvend policy`: offline work on a policy; asks no cloud and needs no credentials.

Exit codes: 0 for yes (clean, granted, passed, no difference), 1 for no, 2 where the question could
not be asked (a file that does not load, a wrong option).
"""

# click takes the backspace in a docstring for "keep these lines as they are".
# ruff: noqa: D301

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.markup import escape
from rich.table import Column, Table

from tokenvend import __version__
from tokenvend.cli.output import FILE_OR_STDIN, count, json_option, new_console, print_json
from tokenvend.policy import PolicyError, compile_policy
from tokenvend.policy.reading.table import Table as Fields
from tokenvend.policy.review.cases import read_cases, run_cases
from tokenvend.policy.review.diff import Change
from tokenvend.policy.review.diff import diff as diff_policies
from tokenvend.policy.review.explain import Verdict
from tokenvend.policy.review.explain import explain as explain_decision
from tokenvend.policy.review.lint import Severity
from tokenvend.policy.review.lint import lint as lint_policy
from tokenvend.policy.review.matrix import Matrix, to_html
from tokenvend.policy.review.matrix import matrix as policy_matrix
from tokenvend.policy.review.questions import read_caller, read_request
from tokenvend.policy.review.sarif import to_sarif
from tokenvend.policy.values import moment

if TYPE_CHECKING:
    from tokenvend.model import Caller, TokenRequest
    from tokenvend.policy import CompiledPolicy
    from tokenvend.policy.reading.problems import Found
    from tokenvend.policy.review.explain import Explanation

_NO = 1
_CANNOT = 2
_COLOURS: dict[str, str] = {
    Severity.ERROR: "red",
    Severity.WARNING: "yellow",
    Severity.NOTE: "dim",
    Verdict.CHOSEN: "bold green",
    Verdict.PERMITS: "green",
    Verdict.SHADOW: "yellow",
    Verdict.REFUSES: "red",
    Verdict.OTHERS: "dim",
    Change.GAINS: "green",
    Change.LOSES: "red",
}

_at = click.option("--at", metavar="TIME", help="Decide as of this RFC 3339 time, not now.")


@click.group()
def policy() -> None:
    """Check, explain, test and compare policies, offline. `-` reads standard input.

    \b
    Example: tokenvend policy lint policy.toml
    """


@policy.command()
@click.argument("paths", metavar="POLICY...", type=FILE_OR_STDIN, nargs=-1, required=True)
@json_option
@click.option("--sarif", is_flag=True, help="Print SARIF 2.1.0, for a review in CI.")
def lint(paths: tuple[Path, ...], *, as_json: bool, sarif: bool) -> None:
    """Find what does not load, is too wide, can never apply or is out of date.

    Exits with 1 when there is an error or a warning.

    \b
    Example: tokenvend policy lint policy.toml --sarif > policy.sarif
    """
    now = int(time.time())
    found = {
        path: lint_policy(_read(path), source=_called(path), now=now)
        for path in dict.fromkeys(paths)
    }
    findings = [finding for each in found.values() for finding in each]
    if sarif:
        named = {path.as_posix(): each for path, each in found.items()}
        print_json(to_sarif(named, version=__version__))
    elif as_json:
        print_json(
            [{"file": str(path), **asdict(each)} for path, of in found.items() for each in of]
        )
    else:
        console = new_console()
        for path, of in found.items():
            for finding in of:
                colour = _COLOURS[finding.severity]
                console.print(
                    f"{escape(_called(path))}:{finding.line}: "
                    f"[{colour}]{finding.severity}[/]: {escape(str(finding))} "
                    f"[dim]({finding.rule})[/]"
                )
        counts = Counter(finding.severity for finding in findings)
        told = ", ".join(count(counts[each], each) for each in Severity if counts[each])
        console.print(told or "nothing found")
    if any(finding.severity is not Severity.NOTE for finding in findings):
        sys.exit(_NO)


@policy.command()
@click.argument("path", metavar="POLICY", type=FILE_OR_STDIN)
@click.option(
    "--caller",
    "caller_parts",
    metavar="KEY=VALUE",
    multiple=True,
    required=True,
    help="Who calls, in the policy's own keys; repeat for several (claims.sub=… for a claim).",
)
@click.option("--scope", "scopes", multiple=True, help="A scope asked for; repeat for several.")
@click.option("--audience", help="Ask for an ID token that this audience accepts.")
@click.option("--service-account", help="The service account asked for.")
@click.option("--grant", help="The grant asked for.")
@click.option("--lifetime", help='The lifetime asked for, such as "900s" or "1h".')
@_at
@json_option
def explain(
    path: Path,
    *,
    caller_parts: tuple[str, ...],
    as_json: bool,
    at: str | None,
    scopes: tuple[str, ...],
    **asked: str | None,
) -> None:
    """Show every grant considered and the first condition that failed.

    Exits with 1 when the request would be denied.

    \b
    Example: tokenvend policy explain policy.toml \\
      --caller aws_role=arn:aws:iam::111122223333:role/etl --lifetime 1h
    """
    compiled = _compiled(path)
    wishes: dict[str, object] = {key: value for key, value in asked.items() if value is not None}
    if scopes:
        wishes["scopes"] = list(scopes)
    caller, request = _asking(caller_parts, wishes)
    explanation = explain_decision(compiled, caller, request, _time(at))
    if as_json:
        print_json(asdict(explanation))
    else:
        _print_explanation(explanation)
    if explanation.granted is None:
        sys.exit(_NO)


@policy.command()
@click.argument("path", metavar="POLICY", type=FILE_OR_STDIN)
@click.argument("cases_path", metavar="CASES", type=FILE_OR_STDIN)
@_at
@json_option
def test(path: Path, cases_path: Path, *, at: str | None, as_json: bool) -> None:
    """Decide the golden cases in a file and compare.

    Exits with 1 when one comes out otherwise.

    \b
    Example: tokenvend policy test policy.toml policy.cases.toml
    """
    compiled = _compiled(path)
    try:
        cases = read_cases(_read(cases_path), source=_called(cases_path))
    except PolicyError as error:
        _refuse(error)
    results = run_cases(compiled, cases, _time(at))
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        console = new_console()
        for result in results:
            mark = "[green]passed[/]" if result.passed else "[red]failed[/]"
            console.print(f"{mark} {escape(result.name)}")
            if not result.passed:
                console.print(
                    f"       {escape(_called(cases_path))}:{result.line}: expected "
                    f"{escape(result.expected)}; got {escape(result.got)}"
                )
        failed = sum(not result.passed for result in results)
        console.print(f"{len(results) - failed} passed, {failed} failed")
    if not all(result.passed for result in results):
        sys.exit(_NO)


@policy.command()
@click.argument("old", type=FILE_OR_STDIN)
@click.argument("new", type=FILE_OR_STDIN)
@json_option
def diff(old: Path, new: Path, *, as_json: bool) -> None:
    """Show who gains and who loses what from OLD to NEW.

    Exits with 1 when anyone does.

    \b
    Example: git show main:policy.toml > /tmp/old.toml
             tokenvend policy diff /tmp/old.toml policy.toml
    """
    differences = diff_policies(_compiled(old), _compiled(new))
    if as_json:
        print_json([asdict(difference) for difference in differences])
    else:
        console = new_console()
        for each in differences:
            account = each.service_account or "a direct token"
            limits = f" ({each.limits})" if each.limits else ""
            console.print(
                f"{escape(each.caller)} [{_COLOURS[each.change]}]{each.change}[/] "
                f"{escape(f'{each.kind} {each.what} of {account}{limits}')} "
                f"[dim]\\[{escape(each.grant)}][/]"
            )
        if not differences:
            console.print("nobody gains or loses anything")
    if differences:
        sys.exit(_NO)


@policy.command()
@click.argument("path", metavar="POLICY", type=FILE_OR_STDIN)
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write one self-contained HTML page here instead.",
)
@json_option
def matrix(path: Path, *, html: Path | None, as_json: bool) -> None:
    """Show callers by service accounts.

    \b
    Example: tokenvend policy matrix policy.toml --html matrix.html
    """
    table = policy_matrix(_compiled(path))
    if html is not None:
        html.write_text(to_html(table), encoding="utf-8")
        return
    if as_json:
        cells = [
            {"caller": caller, "service_account": account, "grants": [asdict(c) for c in found]}
            for (caller, account), found in table.cells.items()
        ]
        print_json({"digest": table.policy.digest, "mode": table.policy.mode, "cells": cells})
        return
    _print_matrix(table)


@policy.command()
def schema() -> None:
    """Print the JSON Schema of a policy, for editors.

    \b
    Example: tokenvend policy schema > policy.schema.json
    """
    text = (files("tokenvend.policy.review") / "policy.schema.json").read_text("utf-8")
    click.echo(text, nl=False)


def _print_matrix(table: Matrix) -> None:
    """Two tables: who reaches which account, and what each account's grants give.

    One table of everything does not fit a terminal; `--html` has it.
    """
    console = new_console()
    numbers = {account: str(n) for n, account in enumerate(table.service_accounts, 1)}
    reach = Table(Column("caller", overflow="fold"), *numbers.values(), show_lines=True)
    for caller in table.callers:
        cells = [table.cells.get((caller, account), ()) for account in numbers]
        kinds = [dict.fromkeys(kind for cell in found for kind in cell.kinds) for found in cells]
        reach.add_row(escape(caller), *("\n".join(each) for each in kinds))
    console.print(reach)
    gives = Table("", *(Column(name, overflow="fold") for name in ("service account", "gives")))
    for account, number in numbers.items():
        of_account = [cells for (_, of), cells in table.cells.items() if of == account]
        found = {cell.grant: cell for cells in of_account for cell in cells}
        texts = [
            f"{escape(cell.grant)}: {escape(', '.join(cell.what))}"
            + (f" [dim]({escape(cell.limits)})[/]" if cell.limits else "")
            for cell in found.values()
        ]
        gives.add_row(number, escape(account), "\n".join(texts))
    console.print(gives)


def _print_explanation(explanation: Explanation) -> None:
    console = new_console()
    console.print(f"caller   {escape(explanation.caller)} ({explanation.kind})")
    console.print(f"request  {escape(explanation.request)}")
    colour = "green" if explanation.granted else "red"
    console.print(f"outcome  [{colour}]{escape(explanation.summary)}[/]")
    if explanation.gets:
        console.print(f"gets     {escape(explanation.gets)}")
    if explanation.next_step:
        console.print(f"mend     {escape(explanation.next_step)}")
    if explanation.google_sees:
        console.print(f"google   sees the caller as {escape(explanation.google_sees)}")
    console.print("\nGrants in the policy's order:")
    for each in explanation.considered:
        verdict = f"[{_COLOURS[each.verdict]}]{each.verdict}[/]"
        console.print(f"{escape(each.grant)} {verdict}: {escape(each.reason)}")
        console.print(f"  [dim]gives {escape(each.gives)}[/]")


def _asking(parts: tuple[str, ...], wishes: dict[str, object]) -> tuple[Caller, TokenRequest]:
    """The caller and the request that the options describe, or a usage error with all mistakes."""
    tree: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            raise click.UsageError(f"--caller {part}: write KEY=VALUE, such as lambda_alias=etl")
        into, name = tree, key
        if key.startswith("claims."):
            into, name = tree.setdefault("claims", {}), key.removeprefix("claims.")
        if name == "entra_role":
            into.setdefault(name, []).append(value)
        elif name in into:
            raise click.UsageError(f"--caller {key} stands twice")
        else:
            into[name] = value
    found: Found = []
    caller = read_caller(Fields(tree, (), found))
    request = read_request(Fields(wishes, (), found))
    if caller is None or found:
        raise click.UsageError("; ".join(message for _, message in found))
    return caller, request


def _compiled(path: Path) -> CompiledPolicy:
    try:
        return compile_policy(_read(path), source=_called(path))
    except PolicyError as error:
        _refuse(error)


def _refuse(error: PolicyError) -> NoReturn:
    for problem in error.problems:
        click.echo(f"{error.source}:{problem}", err=True)
    sys.exit(_CANNOT)


def _called(path: Path) -> str:
    return "stdin" if str(path) == "-" else str(path)


def _read(path: Path) -> str:
    try:
        with click.open_file(str(path), encoding="utf-8") as stream:
            text: str = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{_called(path)} cannot be read as UTF-8 text: {error}") from None
    return text


def _time(at: str | None) -> int:
    if at is None:
        return int(time.time())
    try:
        return moment(at, up=False)
    except ValueError as error:
        raise click.UsageError(f"--at {error}") from None
