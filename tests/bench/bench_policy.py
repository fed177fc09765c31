"""How long a policy takes to load and a decision takes to make, as grants grow.

Run alone: `.venv/bin/python tests/bench/bench_policy.py`. Medians with the 5th and 95th percentile;
every decision is of another caller, so that no memory of the last one flatters it.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from tokenvend.errors import Denied
from tokenvend.model import AccessTokenRequest, AwsCaller, Caller, EntraCaller, OidcCaller
from tokenvend.policy import CompiledPolicy, compile_policy, decide

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (10, 100, 1_000, 10_000)
LOADS = 5
DECISIONS = 5_000
NOW = 1_800_000_000
ACCOUNT = "111122223333"
ISSUER = "https://token.actions.githubusercontent.com"
# The promises: seconds for 10,000 grants, and microseconds for one decision.
LOAD_WITHIN = 1.0
DECISION_WITHIN = 50.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 5th and 95th percentile of the samples, in their unit."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: list[float]) -> Spread:
        """The spread of at least two samples."""
        cuts = statistics.quantiles(samples, n=20, method="inclusive")
        return cls(statistics.median(samples), cuts[0], cuts[-1])

    def shown(self, digits: int) -> str:
        """`median (low to high)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


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
    request = AccessTokenRequest(lifetime=600)
    callers = [caller(number + offset) for number in numbers]
    return Spread.of([_seconds(partial(_decides, policy, who, request)) * 1e6 for who in callers])


def main() -> int:
    """Print the table; 1 when a promise is not kept."""
    table = Table("grants", "load, s", "granted, µs", "denied, µs", title="Policy")
    kept = True
    for size in SIZES:
        text = policy_text(size)
        load = measure_load(text)
        policy = compile_policy(text)
        granted = measure_decisions(policy, granted=True)
        denied = measure_decisions(policy, granted=False)
        table.add_row(f"{size:,}", load.shown(3), granted.shown(1), denied.shown(1))
        kept = kept and load.median < LOAD_WITHIN
        kept = kept and max(granted.median, denied.median) < DECISION_WITHIN
    console = Console()
    console.print(table)
    console.print("median (5th to 95th percentile)")
    return 0 if kept else 1


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
