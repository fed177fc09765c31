"""`tokenvend audit`: whether a log is whole, and which request handed out a token. Asks no cloud.

Exit codes: 0 for yes (whole, found), 1 for no, 2 where the question could not be asked. A token is
never taken from the command line: every user of a machine sees the arguments of its processes.
"""

# click takes the backspace in a docstring for "keep these lines as they are".
# ruff: noqa: D301

from __future__ import annotations

import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from tokenvend.audit.chain import fingerprint_key, is_intact
from tokenvend.audit.chain import verify as verify_chain
from tokenvend.cli.output import FILE_OR_STDIN, json_option, new_console, print_json
from tokenvend.cli.records import UnreadableLogError, read_logs
from tokenvend.model import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

_NO = 1
_MAX_SECRET = 64 * 1024
_STDIN = Path("-")


@click.group()
def audit() -> None:
    """Check the audit log, and find the request that got a token, offline.

    LOG is a file as the logs were exported (also .gz) or - for standard input: lines of either
    function, with or without what their hosts put around them, other lines between them.

    \b
    Example: tokenvend audit verify audit.log
    """


@audit.command()
@click.argument("logs", metavar="[LOG]...", type=FILE_OR_STDIN, nargs=-1)
@click.option("--partial", is_flag=True, help="The log begins in the middle of an instance's life.")
@json_option
def verify(logs: tuple[Path, ...], *, partial: bool, as_json: bool) -> None:
    """Find altered, missing, doubled and moved records.

    Records must come in the order they were written, as log services keep them. What was cut off
    the end of an instance's records cannot be told from the log alone. Exits with 1 when anything
    is wrong, with 2 when there is no record at all.

    \b
    Example: aws logs tail /aws/lambda/tokenvend --since 1d | tokenvend audit verify --partial
    """
    seen = _Seen()
    console = new_console()
    problems = []
    for problem in verify_chain(_counted(logs, seen), from_start=not partial):
        problems.append(asdict(problem))
        if not as_json:
            console.print(f"[red]✗[/] {_shown(str(problem))} [dim]{_shown(problem.instance)}[/]")
    if not seen.records:
        raise click.UsageError("There is no audit record in what was read.")
    if as_json:
        counts = {"records": seen.records, "instances": len(seen.instances)}
        print_json({"whole": not problems, **counts, "problems": problems})
    else:
        verdict = f"[red]{_some(len(problems), 'problem')}[/]" if problems else "[green]whole[/]"
        console.print(
            f"{_some(seen.records, 'record')} of {_some(len(seen.instances), 'instance')}, "
            f"{_shown(seen.first)} to {_shown(seen.last)}: {verdict}"
        )
    if problems:
        sys.exit(_NO)


@audit.command()
@click.argument("logs", metavar="[LOG]...", type=FILE_OR_STDIN, nargs=-1)
@click.option(
    "--token-file",
    type=FILE_OR_STDIN,
    help="Holds the token; - for standard input. Asked for if absent.",
)
@click.option("--fingerprint", metavar="HEX", help="The token's fingerprint, in its place.")
@click.option(
    "--key-file",
    "key_files",
    type=FILE_OR_STDIN,
    multiple=True,
    help="Holds a value of TOKENVEND_AUDIT_KEY; repeat for the keys of other times.",
)
@json_option
def find(
    logs: tuple[Path, ...],
    *,
    token_file: Path | None,
    fingerprint: str | None,
    key_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Name every request that handed a token out, such as one that was found where it must not be.

    One token is handed out again while it is cached, always to the same caller. Exits with 1 when
    no request is found.

    \b
    Example: tokenvend audit find --token-file leaked.txt --key-file audit.key audit.log
    """
    _refuse_contradictions(logs, token_file, fingerprint, key_files)
    wanted = _fingerprints(token_file, fingerprint, key_files)
    seen = _Seen()
    console = new_console()
    found = []
    for record in _counted(logs, seen):
        if str(record.get("token_fingerprint")) in wanted:
            found.append(_summary(record))
            if not as_json:
                _print_found(console, found[-1])
    if not seen.records:
        raise click.UsageError("There is no audit record in what was read.")
    if as_json:
        print_json(found)
    if not found:
        hint = "" if key_files else " Where TOKENVEND_AUDIT_KEY is set, give --key-file."
        click.echo(
            f"None of {_some(seen.records, 'request')} handed this token out.{hint}", err=True
        )
        sys.exit(_NO)


@dataclass
class _Seen:
    """What went by while a log was read; `first` and `last` are the records' times."""

    records: int = 0
    instances: set[str] = field(default_factory=set)
    first: str = ""
    last: str = ""


def _counted(logs: Iterable[Path], seen: _Seen) -> Iterator[dict[str, Any]]:
    try:
        for record in read_logs(logs or (_STDIN,)):
            seen.records += 1
            seen.instances.add(str(record["instance"]))
            seen.last = str(record.get("time", ""))
            seen.first = seen.first or seen.last
            yield record
    except UnreadableLogError as error:
        raise click.UsageError(str(error)) from None


def _refuse_contradictions(
    logs: tuple[Path, ...],
    token_file: Path | None,
    fingerprint: str | None,
    key_files: tuple[Path, ...],
) -> None:
    if token_file is not None and fingerprint is not None:
        raise click.UsageError("Give --token-file or --fingerprint, not both.")
    if [*(logs or (_STDIN,)), token_file, *key_files].count(_STDIN) > 1:
        raise click.UsageError("Standard input can be only one of token, key and log.")


def _fingerprints(
    token_file: Path | None, fingerprint: str | None, key_files: tuple[Path, ...]
) -> frozenset[str]:
    """Each fingerprint the token may be recorded under: keyed ones, and the plain one."""
    if fingerprint is not None:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", fingerprint):
            raise click.UsageError("--fingerprint must be 64 hex digits.")
        return frozenset({fingerprint.lower()})
    keys = [b""]
    for path in key_files:
        try:
            keys.append(fingerprint_key(_read(path)))
        except ValueError as wrong:
            raise click.UsageError(f"The key in {path} {wrong}.") from None
    text = _ask_for_token() if token_file is None else _read(token_file)
    token = Secret(text.strip())
    if token == Secret(""):
        raise click.UsageError("The token is empty.")
    return frozenset(token.fingerprint(key) for key in keys)


def _ask_for_token() -> str:
    # Without a terminal getpass would read the log's first line, and echo it.
    if not sys.stdin.isatty():
        raise click.UsageError("Name the token with --token-file or --fingerprint.")
    token: str = click.prompt("Token", hide_input=True, err=True)
    return token


def _read(path: Path) -> str:
    try:
        with click.open_file(str(path), "rb") as stream:
            data: bytes = stream.read(_MAX_SECRET + 1)
        if len(data) > _MAX_SECRET:
            raise click.UsageError(f"{path} is larger than {_MAX_SECRET} bytes.")
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        # A decoder's text quotes what it could not read, which is a secret here.
        raise click.UsageError(f"{path} cannot be read ({type(error).__name__}).") from None


def _summary(record: dict[str, Any]) -> dict[str, Any]:
    caller, grant = (
        value if isinstance(value := record.get(name), dict) else {} for name in ("caller", "grant")
    )
    return {
        "request_id": record["request_id"],
        "platform_request_id": record.get("platform_request_id"),
        "time": record.get("time"),
        "caller": caller.get("id"),
        "session": caller.get("session"),
        "grant": grant.get("name"),
        "kind": grant.get("kind"),
        "service_account": grant.get("service_account"),
        "scopes": grant.get("scopes"),
        "audience": grant.get("audience"),
        "expires_at": record.get("expires_at"),
        "cache": record.get("cache"),
        "upstream_request_id": record.get("upstream_request_id"),
        "instance": record["instance"],
        "sequence": record["sequence"],
        "intact": is_intact(record),
    }


def _print_found(console: Console, found: dict[str, Any]) -> None:
    for name, value in found.items():
        if value and name != "intact":
            text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            console.print(f"{name.replace('_', ' '):20} {_shown(text)}")
    if not found["intact"]:
        console.print("[red]This record was altered: its hash does not fit its content.[/]")
    console.print()


def _shown(text: str) -> str:
    # A log is a stranger's text: an escape sequence in it could rewrite what the terminal shows.
    return escape(
        "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    )


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
