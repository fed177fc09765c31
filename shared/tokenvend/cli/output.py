"""What the commands print and take alike: one console, one form of JSON, shared options."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import click
from rich.console import Console

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
FILE_OR_STDIN = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: object) -> None:
    """The value on standard output, indented."""
    click.echo(json.dumps(value, indent=2))


def new_console(*, stderr: bool = False) -> Console:
    """A console whose lines are broken by nobody but the terminal: a pipe gets each one whole."""
    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of this width, broken at spaces alone: a name or address stays whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def count(number: int, noun: str) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
