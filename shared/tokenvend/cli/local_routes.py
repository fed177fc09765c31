"""`tokenvend local routes`: what the embedded cloud serves, and what it leaves out.

Needs a checkout of the repository, as all of `tokenvend local` does.
"""

# click takes the backspace in a docstring for "keep these lines as they are".
# ruff: noqa: D301

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from tokenvend.cli.output import json_option, new_console, print_json

if TYPE_CHECKING:
    from rich.console import Console


@click.command()
@click.argument("word", required=False)
@click.option("--markdown", is_flag=True, help="Print the text of infra/local/README.md.")
@json_option
def routes(word: str | None, *, markdown: bool, as_json: bool) -> None:
    """Show what the local cloud serves, with permissions, and what it leaves out and why.

    WORD keeps the routes, hosts and services that it is part of. Nothing needs to run.

    \b
    Example: tokenvend local routes sts.googleapis.com
    """
    try:
        from localcloud import catalogue  # noqa: PLC0415 -- only the checkout has it
    except ModuleNotFoundError as missing:
        text = f"The embedded cloud needs a checkout of the repository ({missing.name} is missing)."
        raise click.ClickException(text) from missing
    if markdown:
        click.echo(catalogue.markdown(), nl=False)
        return
    found = _kept(catalogue.document(), word or "")
    if as_json:
        print_json(found)
        return
    if not any(found.values()):
        raise click.ClickException(f"The local cloud has nothing of {word!r}.")
    console = new_console()
    for vendor, services in found.items():
        for service in services:
            _show(console, vendor, service)


def _kept(document: dict[str, Any], word: str) -> dict[str, Any]:
    """The services that the word names, and of the others the routes that it is part of."""
    if not word:
        return document
    kept: dict[str, Any] = {}
    for vendor, services in document.items():
        kept[vendor] = []
        for service in services:
            if _has(word, vendor, service["title"], *service["hosts"]):
                kept[vendor].append(service)
                continue
            routes = [route for route in service["routes"] if _has(word, *route.values())]
            unserved = [entry for entry in service["unserved"] if _has(word, *entry.values())]
            if routes or unserved:
                kept[vendor].append({**service, "routes": routes, "unserved": unserved})
    return kept


def _has(word: str, *texts: str) -> bool:
    return any(word.lower() in text.lower() for text in texts)


def _show(console: Console, vendor: str, service: dict[str, Any]) -> None:
    console.print(f"\n[bold]{vendor}: {service['title']}[/]")
    console.print(f"[dim]{', '.join(service['hosts'])}[/]")
    for route in service["routes"]:
        method = "any" if route["method"] == "*" else route["method"]
        path = escape(f"{route['path']} {route['action']}".strip())
        console.print(f"  {method:<7}[cyan]{path}[/]  {escape(route['permission'])}".rstrip())
    for entry in service["unserved"]:
        console.print(f"  [yellow]left out[/] {entry['method']}: {entry['because']}")
