"""What `tokenvend local` says: where everything is, how a step went, what to try next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from tokenvend.cli.output import wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from localcloud.demo import Step

DIRECTORY = Path(".local")
COMMAND = ".venv/bin/tokenvend"
WIDEST = 100


IDENTITY_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_STS_REGIONAL_ENDPOINTS"),
    *("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    *("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED"),
    *("AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET"),
    *("AZURE_AUTHORITY_HOST", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID"),
    *("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"),
    *("CLOUDSDK_AUTH_ACCESS_TOKEN", "CLOUDSDK_CORE_PROJECT", "GOOGLE_OAUTH_ACCESS_TOKEN"),
    "TOKENVEND_URL",
)
"""What says who a shell is: of the one it was before, nothing may stay."""


def welcome(console: Console, directory: Path, endpoints: dict[str, Any]) -> None:
    """Where everything is, and what to try; no line is broken, so that each can be copied."""
    elsewhere = "" if directory == DIRECTORY else f" --directory {shlex.quote(str(directory))}"
    local = f"{COMMAND} local"
    logs = sorted(str(path) for path in directory.glob("*.log"))
    lines = [
        ("AWS function", endpoints["aws"]),
        ("Azure function", endpoints["azure"]),
        ("without TLS", f"{endpoints['aws_http']} and {endpoints['azure_http']}"),
        ("proxy", endpoints["proxy"]),
        ("CA bundle", endpoints["ca_bundle"]),
        *(("" if number else "logs", log) for number, log in enumerate(logs)),
    ]
    console.print("[bold]The local cloud is up.[/] Ctrl-C stops it.\n")
    for label, text in lines:
        console.print(f"  [bold]{label:14}[/]  {escape(str(text))}")
    tries = [
        ("be a caller (or reporting, on Azure)", f'eval "$({local} env --as etl{elsewhere})"'),
        ("ask for a token", "see README.md, Try it"),
        ("set Google up as docs/gcloud.md does", f'eval "$({local} env --as admin{elsewhere})"'),
        ("why a request was denied", f"{COMMAND} audit find --request-id ID {directory}/*.log"),
        ("a bad day", f"{local} fault sts.googleapis.com latency --seconds 3{elsewhere}"),
    ]
    console.print("\n[bold]Next[/], in another shell:")
    for label, text in tries:
        console.print(f"  {label}:\n    {escape(text)}")


def show_step(console: Console, step: Step, *, first: bool) -> None:
    """One step with its time, and what was seen beneath it; `first` of its cloud."""
    if first:
        console.print(f"\n[bold]{step.cloud}[/]")
    width = min(console.width, WIDEST)
    spent = f"{step.seconds * 1000:,.0f} ms"
    title = step.title.ljust(width - len(spent) - 5)
    mark = "[green]✓[/]" if step.ok else "[red]✗[/]"
    console.print(f"  {mark} {escape(title)} {spent}")
    for line in wrapped(step.detail, width - 4):
        console.print(f"    [dim]{escape(line)}[/]")


def say_what_next(console: Console, kept: Path, steps: Sequence[Step]) -> None:
    """How to learn more of what the demonstration did; `kept` holds its logs."""
    denials = [step for step in steps if step.ok and "denied" in step.title]
    console.print("\n[bold]Next[/]")
    if denials:
        who, request = denials[0].title.partition(",")[0], denials[0].detail.rpartition(" ")[2]
        find = f"{COMMAND} audit find --request-id {request[:8]} {kept}/*.log"
        console.print(f"  why {who} was denied:\n    {escape(find)}")
    else:
        console.print(f"  what the functions wrote:\n    {escape(str(kept))}/*.log")
    console.print("  ask for tokens yourself, of a cloud that keeps running:\n    make up")


CACHED_HIDES = (
    "Tokens that are cached still serve and hide it: ask for another grant or\n"
    "lifetime to see it. `tokenvend local fault --clear` ends it."
)


_OF_CONNECTIONS = {
    "refused": "refuses connections",
    "tls": "shows a certificate that nobody trusts",
}


def fault_line(fault: dict[str, Any]) -> str:
    """A fault in words."""
    status = f" {fault['status']}" if fault["kind"] == "status" else ""
    wait = f", Retry-After: {fault['retry_after']}" if fault["retry_after"] else ""
    after = f", after {fault['seconds']:g} s" if fault["seconds"] else ""
    left = f", {fault['times']} times more" if fault["times"] else ""
    does = _OF_CONNECTIONS.get(fault["kind"], f"answers with: {fault['kind']}")
    return f"{fault['host']} {does}{status}{wait}{after}{left}"
