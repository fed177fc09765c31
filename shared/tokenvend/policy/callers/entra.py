"""Workloads and people of one Entra tenant, by object, application or app roles.

Threat: a person's token names the application that the person signed in through. So people are
callers of another kind, asked for by `entra_user`: without it a matcher fits no person, and with
it no application. Entra writes GUIDs in lower case, its portal and scripts not always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.identifiers import APP_ROLE, GUID
from tokenvend.policy.callers.matcher import Facts, Matcher, matcher
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.model import EntraCaller
    from tokenvend.policy.reading.table import Table

KEYS = {
    "entra_tenant": ("caller.tenant", "caller.object_id", "caller.app_id"),
    "entra_object": (),
    "entra_user": (),
    "entra_app": (),
    "entra_role": (),
}
OWN = ("entra_tenant", "entra_object", "entra_user")

MAX_ROLES = 20
_WORKLOADS = "workloads in Entra"
_PEOPLE = "people in Entra"


def read(table: Table) -> Matcher:
    """The matcher in `table`."""
    guid = of_form(GUID, "must be a GUID like 00000000-0000-0000-0000-000000000000", lower=True)
    tenant = table.parsed("entra_tenant", guid, advice="the tenant's id; ids repeat across tenants")
    ids = [(key, table.parsed(key, guid)) for key in ("entra_object", "entra_user", "entra_app")]
    role = of_form(APP_ROLE, "must be an app role's value, without spaces")
    roles = table.strings("entra_role", role, most=MAX_ROLES, advice="an app role's value")
    if table.tree.keys() <= {"entra_tenant"}:
        table.problem(
            "`entra_tenant` alone would fit every workload of the tenant; "
            "add `entra_object`, `entra_app` or `entra_role`, or `entra_user` for a person"
        )
    if table.has("entra_user") and table.has("entra_object"):
        table.problem(
            "nobody is both entra_user and entra_object; write one entry of `callers` for each"
        )
    whom = _PEOPLE if table.has("entra_user") else _WORKLOADS
    asked = [("entra_tenant", tenant), *ids, *(("entra_role", role) for role in roles)]
    return matcher(whom, asked)


def facts(caller: EntraCaller) -> Facts:
    """Ids and roles."""
    object_key = "entra_user" if caller.is_user else "entra_object"
    known: dict[str, tuple[str, ...]] = {
        "entra_tenant": (caller.tenant.lower(),),
        object_key: (caller.object_id.lower(),),
        "entra_app": (caller.app_id.lower(),),
    }
    if caller.roles:
        known["entra_role"] = tuple(sorted(caller.roles))
    return Facts(_PEOPLE if caller.is_user else _WORKLOADS, caller.object_id, known)
