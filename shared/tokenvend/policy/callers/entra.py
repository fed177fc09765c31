"""Workloads and people of one Entra tenant, by object, application or app roles.

Threat: a person's token names the application that the person signed in through. So people have
a key of their own, `entra_user`: without it a matcher fits no person, and with it no application.
Entra writes GUIDs in lower case, its portal and scripts not always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tokenvend.identifiers import GUID
from tokenvend.model import EntraCaller
from tokenvend.policy.reading.problems import contrast, shown
from tokenvend.policy.values import of_form

if TYPE_CHECKING:
    from tokenvend.model import Caller
    from tokenvend.policy.callers import Fact, Matcher
    from tokenvend.policy.patterns import Glob
    from tokenvend.policy.reading.table import Table

KEYS = ("entra_tenant", "entra_object", "entra_user", "entra_app", "entra_role")

MAX_ROLES = 20
# https://learn.microsoft.com/entra/identity-platform/howto-add-app-roles-in-apps
_APP_ROLE = r"[\x21-\x7e]{1,120}"


class EntraMatcher(NamedTuple):
    """What is empty is not asked for. `user`: a person's object id; ids in lower case."""

    tenant: str
    object_id: str = ""
    user: str = ""
    app_id: str = ""
    roles: tuple[str, ...] = ()

    def mismatch(self, caller: Caller) -> str:
        """Why it does not fit."""
        if not isinstance(caller, EntraCaller):
            return "it is for Entra callers"
        if caller.is_user and not self.user:
            return "the caller is a person, whom only entra_user fits"
        if self.user and not caller.is_user:
            return "the caller is an application, and entra_user asks for a person"
        ids = (
            ("tenant", self.tenant, caller.tenant),
            ("object id", self.user or self.object_id, caller.object_id),
            ("application id", self.app_id, caller.app_id),
        )
        for what, wanted, got in ids:
            if wanted and wanted != got.lower():
                return f"the caller's {what} {contrast(got, wanted)}"
        for role in self.roles:
            if role not in caller.roles:
                return f"the caller's token lacks the app role {shown(role)}"
        return ""

    def written(self) -> dict[str, str | tuple[str, ...]]:
        """By the policy's keys."""
        ids = (self.tenant, self.object_id, self.user, self.app_id)
        asked: dict[str, str | tuple[str, ...]] = dict(zip(KEYS, ids, strict=False))
        return {key: value for key, value in (*asked.items(), (KEYS[-1], self.roles)) if value}

    def wanted(self) -> list[tuple[Fact, str | Glob]]:
        """Ids and roles, people's apart from workloads'."""
        room = (_room(is_user=bool(self.user)), self.tenant)
        ids = (("object", self.user or self.object_id), ("app", self.app_id))
        roles = (("role", role) for role in self.roles)
        return [((*room, kind), value) for kind, value in (*ids, *roles) if value]

    def covers(self, narrow: Matcher) -> bool:
        """Whether it fits whomever `narrow` fits."""
        return (
            isinstance(narrow, EntraMatcher)
            and self.tenant == narrow.tenant
            and self.user == narrow.user
            and self.object_id in ("", narrow.object_id)
            and self.app_id in ("", narrow.app_id)
            and set(self.roles) <= set(narrow.roles)
        )

    def templates(self) -> frozenset[str]:
        """The ids."""
        return frozenset({"caller.tenant", "caller.object_id", "caller.app_id"})


def read(table: Table) -> EntraMatcher:
    """The matcher in `table`."""
    guid = of_form(GUID, "must be a GUID like 00000000-0000-0000-0000-000000000000", lower=True)
    tenant = table.parsed("entra_tenant", guid, advice="the tenant's id; ids repeat across tenants")
    object_id = table.parsed("entra_object", guid)
    user = table.parsed("entra_user", guid)
    app_id = table.parsed("entra_app", guid)
    role = of_form(_APP_ROLE, "must be an app role's value, without spaces")
    if isinstance(table.tree.get("entra_role"), list):
        roles = table.list_of("entra_role", role, most=MAX_ROLES, advice="an app role's value")
    else:
        one = table.parsed("entra_role", role)
        roles = () if one is None else (one,)
    if not any(table.has(key) for key in KEYS[1:]):
        table.problem(
            "`entra_tenant` alone would fit every workload of the tenant; "
            "add `entra_object`, `entra_app` or `entra_role`, or `entra_user` for a person"
        )
    if table.has("entra_user") and table.has("entra_object"):
        table.problem(
            "nobody is both entra_user and entra_object; write one entry of `callers` for each"
        )
    return EntraMatcher(tenant or "", object_id or "", user or "", app_id or "", roles)


def facts(caller: EntraCaller) -> list[tuple[Fact, str]]:
    """Ids and roles."""
    room = (_room(is_user=caller.is_user), caller.tenant.lower())
    return [
        ((*room, "object"), caller.object_id.lower()),
        ((*room, "app"), caller.app_id.lower()),
        *(((*room, "role"), role) for role in caller.roles),
    ]


def readable(caller: EntraCaller) -> str:
    """The object id: it fits whole."""
    return caller.object_id


def principal(caller: EntraCaller) -> tuple[str, ...]:
    """Tenant and object."""
    return (caller.id,)


def narrowest(caller: EntraCaller) -> EntraMatcher:
    """The one workload or person."""
    tenant, object_id = caller.tenant.lower(), caller.object_id.lower()
    if caller.is_user:
        return EntraMatcher(tenant, user=object_id)
    return EntraMatcher(tenant, object_id)


def _room(*, is_user: bool) -> str:
    return "person" if is_user else "workload"
