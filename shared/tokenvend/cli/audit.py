"""`tokenvend audit`: whether a log is whole, and what became of a request or token. Asks no cloud.

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

from tokenvend.audit.chain import fingerprint_key
from tokenvend.audit.chain import verify as verify_chain
from tokenvend.cli.output import FILE_OR_STDIN, count, json_option, new_console, print_json
from tokenvend.cli.records import read_logs
from tokenvend.cli.request_page import print_page, printable, summary
from tokenvend.model import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO = 1
_MAX_SECRET = 64 * 1024
_STDIN = Path("-")


@click.group()
def audit() -> None:
    """Find what became of a request or token; check the log.

    Asks no cloud.

    LOG is a file as the logs were exported (also .gz) or - for standard input: lines of either
    function, with or without what their hosts put around them, other lines between them. JSON and
    CSV of CloudWatch, Logs Insights and Application Insights are read as well.

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
    Example: aws logs tail /aws/lambda/tokenvend --since 1d |
               tokenvend audit verify --partial
    """
    seen = _Seen()
    console = new_console()
    problems = []
    for problem in verify_chain(_counted(logs, seen), from_start=not partial):
        problems.append(asdict(problem))
        if not as_json:
            console.print(f"[red]✗[/] {_shown(str(problem))} [dim]{_shown(problem.instance)}[/]")
    if as_json:
        counts = {"records": seen.records, "instances": len(seen.instances)}
        print_json({"whole": not problems, **counts, "problems": problems})
    else:
        verdict = f"[red]{count(len(problems), 'problem')}[/]" if problems else "[green]whole[/]"
        console.print(
            f"{count(seen.records, 'record')} of {count(len(seen.instances), 'instance')}, "
            f"{_shown(seen.first)} to {_shown(seen.last)}: {verdict}"
        )
    if problems:
        sys.exit(_NO)


@audit.command()
@click.argument("logs", metavar="[LOG]...", type=FILE_OR_STDIN, nargs=-1)
@click.option(
    "--request-id",
    metavar="ID",
    help="The request's id: ours, the gateway's or host's, or Google's; 8 characters may do.",
)
@click.option(
    "--token-file",
    type=FILE_OR_STDIN,
    help="Holds the token; - for standard input. Asked for if nothing is given to look for.",
)
@click.option(
    "--fingerprint",
    metavar="HEX",
    help="The token's fingerprint, or its first 8 digits and more.",
)
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
    request_id: str | None,
    token_file: Path | None,
    fingerprint: str | None,
    key_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Tell what became of a request or a token.

    Of a token every request is named that handed it out: one token is handed out again while it is
    cached, always to the same caller. Exits with 1 when no request is found.

    \b
    Example: why was this request denied?
      tokenvend audit find --request-id 65022092 audit.log
    Example: who got the token that was found where it must not be?
      tokenvend audit find --token-file leaked.txt --key-file audit.key audit.log
    """
    if [request_id, token_file, fingerprint].count(None) < 2:  # noqa: PLR2004 -- one of the three
        raise click.UsageError("Give one of --request-id, --token-file and --fingerprint.")
    if [*(logs or (_STDIN,)), token_file, *key_files].count(_STDIN) > 1:
        raise click.UsageError("Standard input can be only one of token, key and log.")
    if request_id is None:
        members, wanted = _TOKENS, _fingerprints(token_file, fingerprint, key_files)
    else:
        members, wanted = _IDS, (_request_id(request_id),)
    seen = _Seen()
    console = new_console()
    found, fitting = [], set()
    for record in _counted(logs, seen):
        texts = [str(record.get(member)) for member in members]
        fits = {text for text in texts if text.startswith(wanted)}
        if not fits:
            continue
        fitting |= fits
        found.append(summary(record))
        if not as_json:
            print_page(console, found[-1])
    if as_json:
        print_json(found)
    if len(fitting) > len(wanted):
        click.echo(f"{len(fitting)} different ones begin like this: give more of it.", err=True)
    if not found:
        click.echo(f"None of {count(seen.records, 'request')} {_NOT_FOUND[members]}", err=True)
        sys.exit(_NO)


# Ours, as a caller is told it; the gateway's or host's; Google's, of the request that minted.
_IDS: tuple[str, ...] = ("request_id", "platform_request_id", "upstream_request_id")
_TOKENS: tuple[str, ...] = ("token_fingerprint",)
_NOT_FOUND = {
    _IDS: "has this id.\nIs this the log of the function that answered, and of that time?",
    _TOKENS: (
        "handed this token out.\nWhere TOKENVEND_AUDIT_KEY is set, give the token and --key-file."
    ),
}
_MIN_BEGINNING = 8


@dataclass
class _Seen:
    """What went by while a log was read; `first` and `last` are the records' times."""

    records: int = 0
    instances: set[str] = field(default_factory=set)
    first: str = ""
    last: str = ""


def _counted(logs: Iterable[Path], seen: _Seen) -> Iterator[dict[str, Any]]:
    for record in read_logs(logs or (_STDIN,)):
        seen.records += 1
        seen.instances.add(str(record["instance"]))
        # Logs of several functions come one after the other. RFC 3339 in UTC orders as text.
        time = str(record.get("time", ""))
        seen.first = min(seen.first or time, time)
        seen.last = max(seen.last, time)
        yield record
    if not seen.records:
        raise click.UsageError("There is no audit record in what was read.")


def _request_id(text: str) -> str:
    text = text.strip()
    if len(text) < _MIN_BEGINNING:
        raise click.UsageError(f"--request-id must be {_MIN_BEGINNING} characters or more of it.")
    return text


def _fingerprints(
    token_file: Path | None, fingerprint: str | None, key_files: tuple[Path, ...]
) -> tuple[str, ...]:
    """Each fingerprint the token may be recorded under: keyed ones, and the plain one."""
    if fingerprint is not None:
        digits = fingerprint.strip().lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{8,64}", digits):
            raise click.UsageError("--fingerprint must be 8 to 64 hex digits.")
        return (digits,)
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
    return tuple({token.fingerprint(key) for key in keys})


def _ask_for_token() -> str:
    # Without a terminal getpass would read the log's first line, and echo it.
    if not sys.stdin.isatty():
        raise click.UsageError("Give --request-id, --token-file or --fingerprint.")
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


def _shown(text: str) -> str:
    return escape(printable(text))
