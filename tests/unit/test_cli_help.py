"""Every command explains itself: `-h`, an example, and nothing cut or broken at 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from tokenvend.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield (*names, name)


def test_help_has_an_example_and_fits_80_columns(subtests: pytest.Subtests) -> None:
    for names in list(commands(main)):
        with subtests.test(names=names):
            result = CliRunner().invoke(main, [*names, "-h"], env={"COLUMNS": "80"})
            assert result.exit_code == 0
            assert "Example: " in result.output
            assert " ".join(("tokenvend", *names)) in result.output
            assert [line for line in result.output.splitlines() if len(line) > 80] == []
