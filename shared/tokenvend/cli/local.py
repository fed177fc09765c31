"""`tokenvend local`: the embedded cloud with both functions, for development and demonstration.

`up` keeps it running, `env` turns a shell into one of its callers, `world` shows what exists in it,
`routes` what it serves, `fault` gives it a bad day, and `demo` shows the whole job.
Needs a checkout of the repository: the embedded cloud is not part of the wheel.
"""

# click takes the backspace in a docstring for "keep these lines as they are".
# ruff: noqa: D301

from __future__ import annotations

import json
import shlex
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import click
import requests

from tokenvend.cli.local_routes import routes
from tokenvend.cli.local_texts import (
    CACHED_HIDES,
    DIRECTORY,
    IDENTITY_VARIABLES,
    fault_line,
    say_what_next,
    show_step,
    welcome,
)
from tokenvend.cli.output import json_option, new_console, wrapped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from localcloud.cloud import Cloud
    from localcloud.demo import Step

ADMIN_TIMEOUT = 5
DEMO = "demo"
NOTHING_RUNS = "Nothing runs here: start the local cloud with `make up`, in another terminal."
KILLED = (
    "The local cloud that left its files in {} was killed and no longer answers: start it again "
    "with `make up`, which clears them."
)

_directory = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DIRECTORY,
    show_default=True,
    help="Where the running cloud keeps its addresses, its CA and its logs.",
)


@click.group()
def local() -> None:
    """AWS, Azure and Google on loopback, with both functions.

    \b
    Example: tokenvend local up
    """


local.add_command(routes)


@local.command()
@_directory
@click.option(
    "--world",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What exists at first, as `tokenvend local world` writes it; else the default world.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    help="The policy of both functions; else the default world's.",
)
@click.option(
    "--parameter",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    callback=lambda _context, _option, given: dict(_pair(each) for each in given),
    help="A parameter of template.yaml, as `sam deploy --parameter-overrides` takes it.",
)
@click.option(
    "--propagation",
    metavar="SECONDS",
    default="0",
    callback=lambda _context, _option, given: _seconds(given),
    help="How long a changed policy of Google's takes to act: 70s is what it takes there; else 0.",
)
@json_option
def up(
    directory: Path,
    world: Path | None,
    policy: Path | None,
    parameters: dict[str, str],
    *,
    propagation: float,
    as_json: bool,
) -> None:
    """Run the local cloud and both functions until Ctrl-C.

    \b
    Example: tokenvend local up --world saved.yaml
    """
    console = new_console(stderr=as_json)
    stopped = threading.Event()
    # A closed terminal hangs up; nothing may be left that outlives it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopped.set())
    given = {"policy": str(policy or ""), "parameters": parameters, "propagation": propagation}
    with _cloud(directory, console, world, **given):
        endpoints = _document(directory / "endpoints.json")
        if as_json:
            click.echo(json.dumps(endpoints))
        else:
            welcome(console, directory, endpoints)
        stopped.wait()
    with suppress(OSError):  # a terminal that was closed
        console.print("Stopped.")


@local.command()
@_directory
@click.option(
    "--as",
    "name",
    required=True,
    metavar="NAME",
    help="etl or stranger on AWS, reporting or outsider on Azure, of which the second of each has "
    "no grant; or admin, who owns the Google projects. aws: or azure: before it tells namesakes "
    "apart.",
)
@click.option(
    "--on",
    "machine",
    type=click.Choice(["lambda", "ec2", "ecs", "eks", "functions", "vm", "aks"]),
    help="What it runs on; else lambda for a role of AWS, functions for an identity of Azure.",
)
@click.option(
    "--link-local",
    is_flag=True,
    help="The platform's own addresses, as it names them, instead of loopback ports: for programs "
    "that honour HTTP_PROXY there, which the AWS SDKs do for ec2 alone.",
)
def env(directory: Path, name: str, machine: str | None, *, link_local: bool) -> None:
    """Print the lines that make a shell a caller of the local cloud, and nobody else.

    --on gives it what such a machine gives: keys, an identity endpoint, instance metadata at its
    real address through the proxy, a projected token.

    \b
    Example: eval "$(tokenvend local env --as etl)"
    """
    asked = {"on": machine or "", "addresses": "link-local" if link_local else ""}
    answer = _admin(directory, "GET", f"/env/{quote(name, safe='')}?{urlencode(asked)}")
    if answer.status_code == requests.codes.not_found:
        raise click.ClickException(f"The local cloud knows no caller {name!r}.")
    given = answer.json()
    if stale := [name for name in IDENTITY_VARIABLES if name not in given]:
        click.echo(f"unset {' '.join(sorted(stale))}")
    for variable, value in sorted(given.items()):
        click.echo(f"export {variable}={shlex.quote(value)}")


@local.command()
@_directory
@json_option
def world(directory: Path, *, as_json: bool) -> None:
    """Print what exists in the local cloud now, as `local up --world` reads it.

    Users, roles, identities, pools, accounts, buckets and their policies; never a key or a token,
    nor what lies in a bucket.

    \b
    Example: tokenvend local world > saved.yaml
    """
    path = "/world?alt=json" if as_json else "/world"
    click.echo(_admin(directory, "GET", path).text, nl=as_json)


@local.command()
@_directory
@click.argument("host", required=False)
@click.argument(
    "kind",
    required=False,
    type=click.Choice(
        [
            *("latency", "status", "reset", "truncated", "garbage"),
            *("drip", "redirect", "refused", "tls"),
        ]
    ),
)
@click.option(
    "--seconds",
    type=float,
    default=None,
    help="How long the answer is held back, 3 for KIND latency, else 0; or drips, 10.",
)
@click.option(
    "--status",
    type=click.IntRange(400, 599),
    default=503,
    show_default=True,
    help="What KIND status answers with.",
)
@click.option(
    "--retry-after",
    default="",
    help="Retry-After of that status; within its budget the endpoint waits so long.",
)
@click.option("--times", type=click.IntRange(min=1), help="How many requests it hits; else all.")
@click.option("--list", "wants_list", is_flag=True, help="Show the faults that are set.")
@click.option("--clear", is_flag=True, help="Remove every fault.")
def fault(
    directory: Path,
    host: str | None,
    kind: str | None,
    *,
    wants_list: bool,
    clear: bool,
    **more: Any,
) -> None:
    """Spoil what a host answers while the local cloud runs.

    HOST may hold a star; 127.0.0.1 is the identity endpoint, 169.254.169.254 every instance's
    metadata. refused and tls hit connections: none comes about, or under a certificate that nobody
    trusts. What is cached still serves: a token vended before, and the federated
    token behind it, hide a fault of those who made them until they are renewed. Set the fault
    before the first request, or ask for another grant or lifetime.

    \b
    Example: tokenvend local fault sts.googleapis.com status --status 429
    """
    if clear + wants_list + (host is not None) != 1 or (host is None) != (kind is None):
        raise click.UsageError("Give HOST and KIND, --list or --clear.")
    if clear:
        _admin(directory, "DELETE", "/faults")
    elif host is not None:
        if more["seconds"] is None:
            more["seconds"] = {"latency": 3.0, "drip": 10.0}.get(str(kind), 0.0)
        _admin(directory, "POST", "/faults", {"host": host, "kind": kind, **more})
    faults = _admin(directory, "GET", "/faults").json()
    for each in faults:
        click.echo(fault_line(each))
    if not faults:
        click.echo("No faults are set.")
    elif host is not None:
        click.echo(CACHED_HIDES, err=True)


@local.command()
@_directory
@json_option
def demo(directory: Path, *, as_json: bool) -> None:
    """Vend tokens through both functions, use them, be denied.

    Exits with 1 if any step fails. Tokens are never printed. The functions' logs stay in
    .local/demo, for `tokenvend audit`.

    \b
    Example: tokenvend local demo
    """
    from localcloud.demo import run  # noqa: PLC0415 -- only the checkout has it

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    console = new_console(stderr=as_json)
    began = time.perf_counter()
    steps: list[Step] = []
    with _cloud(_demo_directory(directory), console, forget=("*.log",)) as cloud:
        started = time.perf_counter() - began
        console.print(f"[bold]The local cloud and both functions[/] are up ({started:.1f} s)")
        for step in run(cloud.environment_for):
            show_step(console, step, first=not steps or steps[-1].cloud != step.cloud)
            steps.append(step)
    ok, spent = all(step.ok for step in steps), time.perf_counter() - began
    if as_json:
        shown = [asdict(step) for step in steps]
        click.echo(json.dumps({"ok": ok, "seconds": round(spent, 3), "steps": shown}))
    verdict = "[green]Every step did what it should" if ok else "[red]A step failed"
    console.print(f"\n[bold]{verdict}[/] ({len(steps)} steps, {spent:.1f} s in all)")
    say_what_next(console, directory / DEMO, steps)
    if not ok:
        raise SystemExit(1)


def _leave(number: int, _: object) -> None:
    """Unwind, so that everything that was started stops."""
    raise SystemExit(128 + number)


def _demo_directory(directory: Path) -> Path:
    """Where the demonstration's cloud runs, and leaves its logs, which hold no token."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as failure:
        raise click.ClickException(f"cannot keep files in {directory}: {failure}") from failure
    return directory / DEMO


def _seconds(text: str) -> float:
    number = text.removesuffix("s")
    if not number.isascii() or not number.isdecimal():
        raise click.BadParameter(f"{text!r} is no number of seconds")
    return float(number)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


@contextmanager
def _cloud(
    directory: Path, console: Console, world: Path | None = None, **more: Any
) -> Iterator[Cloud]:
    try:
        from localcloud.cloud import Cloud, CloudError  # noqa: PLC0415 -- only the checkout has it
        from localcloud.world import DEFAULT_WORLD, World, WorldError  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        raise click.ClickException(_NO_CHECKOUT.format(missing.name)) from missing
    try:
        cloud = Cloud(World.load(world or DEFAULT_WORLD), directory, **more)
    except WorldError as wrong:
        raise click.ClickException(f"{world}: {wrong}") from wrong
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


def _admin(
    directory: Path, method: str, path: str, body: dict[str, Any] | None = None
) -> requests.Response:
    """Ask the running cloud's own door."""
    admin = _document(directory / "admin.json")
    with requests.Session() as session:
        # What the shell says of proxies leads elsewhere, or into the very cloud.
        session.trust_env = False
        try:
            answer = session.request(
                method,
                f"{admin['url']}{path}",
                json=body,
                headers={"Authorization": f"Bearer {admin['token']}"},
                timeout=ADMIN_TIMEOUT,
            )
        except requests.RequestException as gone:
            raise click.ClickException(KILLED.format(directory)) from gone
    if answer.status_code == requests.codes.unauthorized:
        # Another program has the port by now.
        raise click.ClickException(KILLED.format(directory))
    if answer.status_code == requests.codes.bad_request:
        raise click.ClickException("\n".join(wrapped(str(answer.json()["error"]), 78)))
    return answer


def _document(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as absent:
        raise click.ClickException(NOTHING_RUNS) from absent
    except (OSError, ValueError) as broken:
        message = f"{path} cannot be read: start the local cloud again with `make up`."
        raise click.ClickException(message) from broken
    return document
