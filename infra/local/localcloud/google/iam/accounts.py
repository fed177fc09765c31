"""Service accounts and their policies.

A deleted account leaves every policy at once, as ``deleted:serviceAccount:EMAIL?uid=ID``: one that
is made anew under its email has nothing of it. Keys of service accounts are left out, since the
project is there to do without them.
https://cloud.google.com/iam/docs/reference/rest/v1/projects.serviceAccounts
"""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localcloud.google.core import policies
from localcloud.google.core.audit import timestamp
from localcloud.google.core.bindings import Kind
from localcloud.google.core.errors import (
    FAILED_PRECONDITION,
    GoogleError,
    invalid_argument,
)
from localcloud.google.core.masks import masked
from localcloud.google.core.messages import BOOL, BYTES, INT32, STRING, message
from localcloud.google.core.paging import listed
from localcloud.google.iam.deletion import KEPT_SECONDS, expired
from localcloud.wire.routes import Route, Unserved
from localcloud.world import ServiceAccount

if TYPE_CHECKING:
    from collections.abc import Mapping

    from localcloud.google.core.api import Answer, Call
    from localcloud.world import Google, Project

PATH = "/v1/projects/{project}/serviceAccounts"
ACCOUNT = {
    "name": STRING,
    "project_id": STRING,
    "unique_id": STRING,
    "email": STRING,
    "display_name": STRING,
    "etag": BYTES,
    "description": STRING,
    "oauth2_client_id": STRING,
    "disabled": BOOL,
}
MUTABLE = ("display_name", "description")
MAX_DISPLAY_NAME = 100
MAX_DESCRIPTION = 256
MAX_ACCOUNTS = 100
"""Of a project (https://cloud.google.com/iam/quotas)."""
_ETAG = "MDEwMjE5MjA="
_ID = re.compile("[a-z]([-a-z0-9]*[a-z0-9])")
_ID_LENGTH = range(6, 31)


def create(call: Call) -> Answer:
    """A new account in the project."""
    given = call.message({"account_id": STRING, "service_account": message(ACCOUNT)})
    wanted = given.get("account_id", "")
    if len(wanted) not in _ID_LENGTH:
        text = f'The account ID "{wanted}" does not have a length between 6 and 30.'
        raise invalid_argument(text, "account_id")
    if not _ID.fullmatch(wanted):
        text = f'The account ID "{wanted}" does not match [a-z]([-a-z0-9]*[a-z0-9]).'
        raise invalid_argument(text, "account_id")
    fields = given.get("service_account", {})
    _check_texts(fields)
    with call.cloud.world.lock:
        project = _project(call)
        email = f"{wanted}@{project.project_id}.iam.gserviceaccount.com"
        name = f"projects/{project.project_id}/serviceAccounts/{email}"
        if call.google.service_account(email) is not None:
            kind = "type.googleapis.com/google.rpc.ResourceInfo"
            raise GoogleError(
                "ALREADY_EXISTS",
                f"Service account {wanted} already exists within project "
                f"projects/{project.project_id}.",
                ({"@type": kind, "resourceName": name},),
            )
        if len(_of(call.google, project)) >= MAX_ACCOUNTS:
            text = "Maximum number of service accounts on project reached."
            raise GoogleError("RESOURCE_EXHAUSTED", text)
        account = ServiceAccount(
            name,
            email,
            _unique_id(),
            display_name=fields.get("display_name", ""),
            description=fields.get("description", ""),
        )
        call.google.service_accounts.append(account)
    return shown(account)


def get(call: Call) -> Answer:
    """An account, by email or unique id."""
    call.arguments()
    return shown(find(call))


def list_(call: Call) -> Answer:
    """The accounts of the project."""
    query = call.arguments(page_size=INT32, page_token=STRING)
    project = _project(call)
    return listed(
        "accounts",
        _of(call.google, project),
        lambda account: account.email,
        shown,
        of=project.project_id,
        query=query,
        sizes=(20, 100),
    )


def patch(call: Call) -> Answer:
    """Change display name or description."""
    given = call.message({"service_account": message(ACCOUNT), "update_mask": STRING})
    with call.cloud.world.lock:
        account = find(call)
        changes, mask = given.get("service_account", {}), given.get("update_mask", "")
        changed = masked(asdict(account), changes, mask, MUTABLE)
        _check_texts(changed)
        account.display_name = changed.get("display_name", "")
        account.description = changed.get("description", "")
    return shown(account)


def delete(call: Call) -> Answer:
    """Delete an account: its tokens end, and nothing is granted to it any more."""
    call.arguments()
    with call.cloud.world.lock:
        account = find(call)
        account.expire_time = timestamp(call.now + KEPT_SECONDS)
        call.google.service_accounts.remove(account)
        call.google.deleted_service_accounts.append(account)
        _rename(call.google, f"serviceAccount:{account.email}", _tombstone(account))
    return {}


def undelete(call: Call) -> Answer:
    """Bring back an account by its unique id, and what was granted to it."""
    call.message({})
    with call.cloud.world.lock:
        google = call.google
        google.deleted_service_accounts = [
            account
            for account in google.deleted_service_accounts
            if not expired(account.expire_time, call.now)
        ]
        wanted = call.parameters["account"]
        account = next((a for a in google.deleted_service_accounts if a.unique_id == wanted), None)
        if account is None or not _within(call, account):
            raise _unknown()
        if google.service_account(account.email) is not None:
            raise GoogleError("FAILED_PRECONDITION", FAILED_PRECONDITION)
        account.expire_time = ""
        google.deleted_service_accounts.remove(account)
        google.service_accounts.append(account)
        _rename(google, _tombstone(account), f"serviceAccount:{account.email}")
    return {"restoredAccount": shown(account)}


def enable(call: Call) -> Answer:
    """Let an account be used again."""
    call.message({})
    find(call).disabled = False
    return {}


def disable(call: Call) -> Answer:
    """Stop an account and its tokens."""
    call.message({})
    find(call).disabled = True
    return {}


def find(call: Call) -> ServiceAccount:
    """The account that a path names; raises the 404."""
    account = call.google.service_account(call.parameters["account"])
    if account is None or not _within(call, account):
        raise _unknown()
    return account


def shown(account: ServiceAccount) -> dict[str, Any]:
    """An account as JSON."""
    answer = {
        "name": account.name,
        "projectId": account.name.split("/")[1],
        "uniqueId": account.unique_id,
        "email": account.email,
        "displayName": account.display_name,
        "description": account.description,
        "etag": _ETAG,
        "oauth2ClientId": account.unique_id,
        "disabled": account.disabled,
    }
    return {name: value for name, value in answer.items() if value}


def _unknown() -> GoogleError:
    return GoogleError("NOT_FOUND", "Unknown service account")


def _project(call: Call) -> Project:
    project = call.google.project(call.parameters["project"])
    if project is None:
        raise _unknown()
    return project


def _of(google: Google, project: Project) -> list[ServiceAccount]:
    prefix = f"projects/{project.project_id}/"
    return [account for account in google.service_accounts if account.name.startswith(prefix)]


def _within(call: Call, account: ServiceAccount) -> bool:
    """Whether an account is of the project that the path names."""
    wanted, project = call.parameters["project"], call.google.project(account.name.split("/")[1])
    return project is not None and wanted in ("-", project.project_id, project.project_number)


def _unique_id() -> str:
    return f"1{secrets.randbelow(10**20):020d}"


def _check_texts(fields: Mapping[str, Any]) -> None:
    for name, most in (("display_name", MAX_DISPLAY_NAME), ("description", MAX_DESCRIPTION)):
        if len(fields.get(name, "").encode()) > most:
            text = f"The {name.replace('_', ' ')} exceeds the {most} bytes limit."
            raise invalid_argument(text, f"service_account.{name}")


def _tombstone(account: ServiceAccount) -> str:
    return f"deleted:serviceAccount:{account.email}?uid={account.unique_id}"


def _rename(google: Google, old: str, new: str) -> None:
    for policy in policies.everywhere(google):
        # What still acts by propagation too: an account of the same name is another one.
        for bindings in (policy.bindings, *(earlier for _, earlier in policy.earlier)):
            for binding in bindings:
                binding.members = [new if member == old else member for member in binding.members]


_ONE = PATH + "/{account}"
_PERMISSION = "iam.serviceAccounts"

ROUTES = (
    Route("POST", PATH, create, f"{_PERMISSION}.create"),
    Route("GET", PATH, list_, f"{_PERMISSION}.list"),
    Route("GET", _ONE, get, f"{_PERMISSION}.get"),
    Route("PATCH", _ONE, patch, f"{_PERMISSION}.update"),
    Route("DELETE", _ONE, delete, f"{_PERMISSION}.delete"),
    Route("POST", f"{_ONE}:undelete", undelete, f"{_PERMISSION}.undelete"),
    Route("POST", f"{_ONE}:enable", enable, f"{_PERMISSION}.enable"),
    Route("POST", f"{_ONE}:disable", disable, f"{_PERMISSION}.disable"),
    *policies.routes(_ONE, _PERMISSION, Kind.SERVICE_ACCOUNT, find),
)
_ACCOUNTS = "iam.projects.serviceAccounts"
UNSERVED = (
    Unserved(f"{_ACCOUNTS}.keys.*", "keys of service accounts are what the project does without"),
    Unserved(f"{_ACCOUNTS}.signBlob", "moved to iamcredentials.googleapis.com, which serves it"),
    Unserved(f"{_ACCOUNTS}.signJwt", "moved to iamcredentials.googleapis.com, which serves it"),
    Unserved(f"{_ACCOUNTS}.update", "replaced by patch at Google too"),
)
