"""How long a policy takes to load and a decision takes to make, as grants grow.

Run alone: `.venv/bin/python tests/bench/bench_policy.py`. Medians with the 5th and 95th percentile;
every decision is of another caller, so that no memory of the last one flatters it.

The second table is what a caller without a right could measure: if two of its rows differ by more
than noise, time tells which grants exist. Its cases are drawn in turn, so noise hits them alike.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table

from tests.bench import measuring
from tests.bench.measuring import Ratio, Spread
from tokenvend.errors import Denied
from tokenvend.model import AccessTokenRequest, AwsCaller, Caller, EntraCaller, OidcCaller
from tokenvend.policy import CompiledPolicy, compile_policy, decide

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

SIZES = (10, 100, 1_000, 10_000, 20_000)
LOADS = 5
DECISIONS = 5_000
NOW = 1_800_000_000
ACCOUNT = "111122223333"
ISSUER = "https://token.actions.githubusercontent.com"
# Denials: of each case, in a policy of so many further grants.
DENIALS = 3_000
DENIALS_AMONG = 1_000
# The promises: seconds for each 10,000 grants, and microseconds for one decision.
LOAD_WITHIN = 1.0
DECISION_WITHIN = 50.0


def policy_text(grants: int) -> str:
    """A policy of this many grants, a third each for AWS, Entra and OpenID Connect callers."""
    blocks = ["version = 1"]
    for number in range(grants):
        matcher = (
            f'{{ aws_role = "arn:aws:iam::{ACCOUNT}:role/team-{number}-*" }}',
            f'{{ entra_tenant = "{_guid(0)}", entra_object = "{_guid(number)}" }}',
            f'{{ issuer = "{ISSUER}", claims = {{ {_claims(number)} }} }}',
        )[number % 3]
        blocks.append(
            f'[[grant]]\nname = "team-{number}"\ncallers = [{matcher}]\n'
            f'service_account = "team-{number}@acme.iam.gserviceaccount.com"\n'
            "[grant.access_token]\n"
            'scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]\n'
            'max_lifetime = "15m"\n'
        )
    return "\n".join(blocks)


def caller(number: int) -> Caller:
    """The caller of grant `number`."""
    match number % 3:
        case 0:
            role = f"team-{number}-x"
            return AwsCaller(f"arn:aws:iam::{ACCOUNT}:role/{role}", ACCOUNT, role)
        case 1:
            return EntraCaller(_guid(0), _guid(number), _guid(1))
        case _:
            claims = (
                ("aud", "tokenvend"),
                ("ref", "refs/heads/main"),
                ("repository", f"acme/repo-{number}"),
                ("repository_owner", "acme"),
                ("workflow", "deploy"),
            )
            return OidcCaller(ISSUER, f"repo:acme/repo-{number}:ref:refs/heads/main", claims)


def measure_load(text: str) -> Spread:
    """Seconds to compile `text`."""
    return Spread.of([_seconds(lambda: compile_policy(text)) for _ in range(LOADS)])


def measure_decisions(policy: CompiledPolicy, *, granted: bool) -> Spread:
    """Microseconds for one decision, of callers drawn at random."""
    draw = random.Random(7)  # noqa: S311 - a repeatable choice of callers
    numbers = [draw.randrange(len(policy.grants)) for _ in range(DECISIONS)]
    offset = 0 if granted else 3 * len(policy.grants)
    request = asking(None)
    callers = [caller(number + offset) for number in numbers]
    return Spread.of([_seconds(partial(_decides, policy, who, request)) * 1e6 for who in callers])


def denial_policy() -> CompiledPolicy:
    """A policy that has a grant of one caller and one of 200 beside its further grants."""
    blocks = [policy_text(DENIALS_AMONG)]
    for name, callers in (("of-one", 1), ("of-many", 200)):
        matchers = ",\n".join(
            f'{{ aws_role = "arn:aws:iam::{ACCOUNT}:role/{name}-{number}-*" }}'
            for number in range(callers)
        )
        blocks.append(
            f'[[grant]]\nname = "{name}"\ncallers = [{matchers}]\n'
            f'service_account = "{name}@acme.iam.gserviceaccount.com"\n'
            "[grant.access_token]\n"
            'scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]\n'
        )
    return compile_policy("\n".join(blocks))


def measure_denials() -> dict[str, list[float]]:
    """Microseconds of each denial of callers whom no grant names, by what they ask for."""
    policy = denial_policy()
    cases = {
        "a grant that does not exist": asking("of-nobody"),
        "a grant that names one other caller": asking("of-one"),
        "a grant that names 200 others": asking("of-many"),
        "any grant, none named": asking(None),
    }
    took: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(DENIALS):
        who = caller(3 * (DENIALS_AMONG + number))
        for name in measuring.turning(list(cases), number):
            took[name].append(_seconds(partial(_decides, policy, who, cases[name])) * 1e6)
    return took


def asking(grant: str | None) -> AccessTokenRequest:
    """The wish for an access token of the grant of this name, or of any."""
    return AccessTokenRequest(grant_name=grant, lifetime=600)


def main() -> int:
    """Print the tables."""
    console = measuring.console()
    console.print(measuring.load())
    _print_sizes(console)
    _print_denials(console)
    console.print(measuring.load())
    return 0


def _print_denials(console: Console) -> None:
    table = Table("asked for", "denied, µs", "against the first row", title="Time of a denial")
    took = measure_denials()
    first = next(iter(took.values()))
    for name, samples in took.items():
        table.add_row(name, Spread.of(samples).shown(1), Ratio.of(samples, first).paired.shown(2))
    console.print(table)


def _print_sizes(console: Console) -> None:
    table = Table("grants", "load, s", "granted, µs", "denied, µs", title="Policy")
    slowest_load = slowest_decision = 0.0
    for size in SIZES:
        text = policy_text(size)
        load = measure_load(text)
        policy = compile_policy(text)
        granted = measure_decisions(policy, granted=True)
        denied = measure_decisions(policy, granted=False)
        table.add_row(f"{size:,}", load.shown(3), granted.shown(1), denied.shown(1))
        slowest_load = max(slowest_load, load.median / max(1, size / 10_000))
        slowest_decision = max(slowest_decision, granted.median, denied.median)
    console.print(table)
    console.print("median (5th to 95th percentile)")
    console.print(
        f"promised: {LOAD_WITHIN:.1f} s for each 10,000 grants, here {slowest_load:.2f} s; "
        f"{DECISION_WITHIN:.0f} µs a decision, here {slowest_decision:.1f} µs"
    )


def _decides(policy: CompiledPolicy, who: Caller, request: AccessTokenRequest) -> bool:
    try:
        decide(policy, who, request, NOW)
    except Denied:
        return False
    return True


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _claims(number: int) -> str:
    return f'repository_owner = "acme", repository = "acme/repo-{number}"'


def _guid(number: int) -> str:
    return f"{number:08x}-0000-0000-0000-000000000000"


if __name__ == "__main__":
    raise SystemExit(main())
