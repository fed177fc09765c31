"""Callers by service accounts: the whole policy on one page, as data and as self-contained HTML."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tokenvend.policy.compiled import Mode
from tokenvend.policy.review.words import in_line, limits, what

if TYPE_CHECKING:
    from tokenvend.policy.compiled import CompiledPolicy, Grant

DIRECT = "(direct)"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Who may have what</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 14px/1.45 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ border: 1px solid #8886; padding: .4rem .6rem; text-align: left; vertical-align: top; }}
thead th {{ position: sticky; top: 0; background: Canvas; }}
th {{ font-weight: 600; overflow-wrap: anywhere; max-width: 24rem; }}
tbody th {{ min-width: 16rem; }}
td p {{ margin: 0 0 .3rem; }}
.shadow {{ color: #b45309; }}
</style></head><body>
<h1>Who may have what</h1>
<p>Policy {policy.digest:.12}, mode {policy.mode}. {grants} grants.</p>
<table><thead><tr><th>Caller</th>{heads}</tr></thead>
<tbody>
{rows}
</tbody></table>
</body></html>
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one grant gives: kinds of token, scopes and audiences as written, limits in words."""

    grant: str
    kinds: tuple[str, ...]
    what: tuple[str, ...]
    limits: str
    shadow: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """`cells`: by (caller, service account), for the pairs that have any."""

    policy: CompiledPolicy
    callers: tuple[str, ...]
    service_accounts: tuple[str, ...]
    cells: dict[tuple[str, str], tuple[Cell, ...]]


def matrix(policy: CompiledPolicy) -> Matrix:
    """The policy as a table; callers and service accounts in alphabetical order."""
    cells: dict[tuple[str, str], tuple[Cell, ...]] = {}
    for grant in policy.grants:
        for matcher in grant.callers:
            key = (in_line(matcher), grant.service_account or DIRECT)
            cells[key] = (*cells.get(key, ()), _cell(grant))
    return Matrix(
        policy=policy,
        callers=tuple(sorted({caller for caller, _ in cells})),
        service_accounts=tuple(sorted({account for _, account in cells})),
        cells=cells,
    )


def to_html(table: Matrix) -> str:
    """One page without scripts, links or anything loaded from elsewhere."""
    heads = "".join(f"<th>{escape(account)}</th>" for account in table.service_accounts)
    rows = "\n".join(
        f"<tr><th>{escape(caller)}</th>"
        + "".join(
            f"<td>{_cells_html(table.cells.get((caller, account), ()))}</td>"
            for account in table.service_accounts
        )
        + "</tr>"
        for caller in table.callers
    )
    grants = len(table.policy.grants)
    return _PAGE.format(policy=table.policy, grants=grants, heads=heads, rows=rows)


def _cells_html(cells: tuple[Cell, ...]) -> str:
    return "".join(
        f"<p{' class="shadow"' if cell.shadow else ''}><b>{escape(cell.grant)}</b><br>"
        + "<br>".join(escape(each) for each in (*cell.what, cell.limits) if each)
        + "</p>"
        for cell in cells
    )


def _cell(grant: Grant) -> Cell:
    kinds = (("access", grant.scopes), ("ID", grant.audiences))
    return Cell(
        grant=grant.name,
        kinds=tuple(kind for kind, given in kinds if given),
        what=what(grant),
        limits=limits(grant),
        shadow=grant.mode is Mode.SHADOW,
    )
