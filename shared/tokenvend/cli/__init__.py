"""The `tokenvend` command. Each subcommand's module is imported only when it is asked for."""

# click takes the backspace in a docstring for "keep these lines as they are".
# ruff: noqa: D301

from __future__ import annotations

import importlib

import click

from tokenvend import __version__

# Subcommand to the module that holds it under the same name.
COMMANDS = {
    "audit": "tokenvend.cli.audit",
    "local": "tokenvend.cli.local",
    "policy": "tokenvend.cli.policy",
}


class LazyGroup(click.Group):
    """A group whose commands live in modules of their own.

    A client's `tokenvend access-token` must not pay for, or need, the embedded cloud's libraries.
    """

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Every subcommand's name."""
        return sorted(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The subcommand of this name, imported now."""
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[name]), name)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tokenvend")
def main() -> None:
    """Keyless Google Cloud tokens for AWS and Azure workloads.

    \b
    Example: tokenvend policy lint policy.toml
    """
