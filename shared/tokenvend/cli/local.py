"""`tokenvend local`: the embedded cloud with both functions, for development and demonstration.

`up` keeps it running, `env` turns a shell into one of its callers, `fault` gives it a bad day, and
`demo` shows the whole job.
Needs a checkout of the repository: the embedded cloud is not part of the wheel.
"""

from __future__ import annotations

import json
import shlex
import signal
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
import requests
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localcloud.cloud import Cloud
    from localcloud.demo import Step

DIRECTORY = Path(".local")
ADMIN_TIMEOUT = 5
NOT_FOUND = 404
TITLE_WIDTH = 44
NOTHING_RUNS = "Nothing runs here: start the local cloud with `make up`, in another terminal."

_directory = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DIRECTORY,
    show_default=True,
    help="Where the running cloud keeps its addresses and its CA.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


@click.group()
def local() -> None:
    """The embedded cloud: AWS, Azure and Google on loopback, with both functions."""


@local.command()
@_directory
@_json
def up(directory: Path, *, as_json: bool) -> None:
    """Run the local cloud and both functions until Ctrl-C."""
    console = Console(stderr=as_json, highlight=False)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with _cloud(directory, console):
        endpoints = _document(directory / "endpoints.json")
        if as_json:
            click.echo(json.dumps(endpoints))
        else:
            console.print(_addresses(endpoints))
        stopped.wait()
    console.print("Stopped.")


@local.command()
@_directory
@click.option("--as", "name", required=True, metavar="NAME", help="etl, stranger, reporting, …")
def env(directory: Path, name: str) -> None:
    """Print the lines that make a shell a caller of the local cloud.

    Use it as: eval "$(tokenvend local env --as etl)"
    """
    for variable, value in sorted(_caller_environment(directory, name).items()):
        click.echo(f"export {variable}={shlex.quote(value)}")


@local.command()
@_directory
@click.argument("host", required=False)
@click.argument(
    "kind",
    required=False,
    type=click.Choice(["latency", "status", "reset", "truncated", "garbage"]),
)
@click.option("--seconds", type=float, default=0.0, help="How long the answer is held back.")
@click.option("--status", type=click.IntRange(400, 599), default=503, show_default=True)
@click.option("--retry-after", default="", help="Retry-After of that status.")
@click.option("--times", type=click.IntRange(min=1), help="How many requests it hits; else all.")
@click.option("--clear", is_flag=True, help="Remove every fault.")
def fault(directory: Path, host: str | None, kind: str | None, *, clear: bool, **more: Any) -> None:
    """Spoil what HOST answers while the local cloud runs; HOST may hold a star.

    Example: tokenvend local fault iamcredentials.googleapis.com status --status 429
    """
    if clear == (host is not None) or (host is None) != (kind is None):
        raise click.UsageError("Give HOST and KIND, or --clear.")
    if clear:
        _admin(directory, "DELETE", "/faults").raise_for_status()
        click.echo("No faults.")
        return
    _admin(directory, "POST", "/faults", {"host": host, "kind": kind, **more}).raise_for_status()
    click.echo(f"{host} now answers with: {kind}. `tokenvend local fault --clear` ends it.")


@local.command()
@_json
def demo(*, as_json: bool) -> None:
    """Vend tokens through both functions, use them, and show a denial on each cloud.

    Exits with 1 if any step fails. Tokens are never printed.
    """
    from localcloud.demo import run  # noqa: PLC0415 -- only the checkout has it

    console = Console(stderr=as_json, highlight=False)
    began = time.perf_counter()
    steps: list[Step] = []
    with (
        tempfile.TemporaryDirectory(prefix="tokenvend-demo-") as temporary,
        _cloud(Path(temporary) / ".local", console) as cloud,
    ):
        started = time.perf_counter() - began
        console.print(f"[bold]The local cloud and both functions[/] are up ({started:.1f} s)")
        for step in run(cloud.environment_for):
            _show(console, step, first=not steps or steps[-1].cloud != step.cloud)
            steps.append(step)
    ok, spent = all(step.ok for step in steps), time.perf_counter() - began
    if as_json:
        shown = [asdict(step) for step in steps]
        click.echo(json.dumps({"ok": ok, "seconds": round(spent, 3), "steps": shown}))
    verdict = "[green]Every step did what it should" if ok else "[red]A step failed"
    console.print(f"\n[bold]{verdict}[/] ({len(steps)} steps, {spent:.1f} s in all)")
    if not ok:
        raise SystemExit(1)


@contextmanager
def _cloud(directory: Path, console: Console) -> Iterator[Cloud]:
    try:
        from localcloud.cloud import Cloud, CloudError  # noqa: PLC0415 -- only the checkout has it
        from localcloud.world import World  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise click.ClickException(_NO_CHECKOUT.format(missing.name)) from missing
    cloud = Cloud(World.load(), directory)
    with console.status("Starting the local cloud and both functions …"):
        try:
            cloud.start()
        except CloudError as failure:
            raise click.ClickException(str(failure)) from failure
    try:
        yield cloud
    finally:
        cloud.stop()


_NO_CHECKOUT = (
    "The embedded cloud needs a checkout of the repository and `make setup` ({} is missing)."
)


def _caller_environment(directory: Path, name: str) -> dict[str, str]:
    answer = _admin(directory, "GET", f"/env/{quote(name, safe='')}")
    if answer.status_code == NOT_FOUND:
        raise click.ClickException(f"The local cloud knows no caller {name!r}.")
    answer.raise_for_status()
    variables: dict[str, str] = answer.json()
    return variables


def _admin(
    directory: Path, method: str, path: str, body: dict[str, Any] | None = None
) -> requests.Response:
    """Ask the running cloud's own door."""
    admin = _document(directory / "admin.json")
    try:
        return requests.request(
            method,
            f"{admin['url']}{path}",
            json=body,
            headers={"Authorization": f"Bearer {admin['token']}"},
            timeout=ADMIN_TIMEOUT,
        )
    except requests.ConnectionError as gone:
        # Its files outlive a cloud that was killed.
        raise click.ClickException(NOTHING_RUNS) from gone


def _document(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as absent:
        raise click.ClickException(NOTHING_RUNS) from absent
    except (OSError, ValueError) as broken:
        message = f"{path} cannot be read: start the local cloud again with `make up`."
        raise click.ClickException(message) from broken
    return document


def _addresses(endpoints: dict[str, Any]) -> Panel:
    table = Table.grid(padding=(0, 2))
    for label, key in _LABELS:
        table.add_row(f"[bold]{label}[/]", escape(str(endpoints[key])))
    table.add_row("", "")
    table.add_row(
        "[bold]Become a caller[/]", escape('eval "$(.venv/bin/tokenvend local env --as etl)"')
    )
    return Panel(table, title="The local cloud is up", subtitle="Ctrl-C stops it", expand=False)


_LABELS = (
    ("AWS function", "aws"),
    ("Azure function", "azure"),
    ("the same without TLS", "aws_http"),
    ("", "azure_http"),
    ("Proxy", "proxy"),
    ("CA bundle", "ca_bundle"),
)


def _show(console: Console, step: Step, *, first: bool) -> None:
    if first:
        console.print(f"\n[bold]{step.cloud}[/]")
    mark = "[green]✓[/]" if step.ok else "[red]✗[/]"
    line = f"{mark} {step.seconds * 1000:6.0f} ms  {escape(step.title):{TITLE_WIDTH}}"
    console.print(f"  {line}  [dim]{escape(step.detail)}[/]", soft_wrap=True)
