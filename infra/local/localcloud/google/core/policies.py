"""Allow policies: read, replaced and tested alike on every resource that has one.

A resource is a world object with an `iam_policy`. For services that speak google.iam.v1, `routes`
gives the three routes; Cloud Storage, whose shapes are its own, calls `replace` and `shown`::

    given = read_message(request.body, policies.POLICY, "policy")
    policy = policies.replace(cloud, bucket, Kind.BUCKET, given, now)
    return policies.shown(policy, version=3)

Refused are an etag that is not the current one (409), conditions below version 3, and what
`bindings` refuses. https://cloud.google.com/iam/docs/reference/rest/v1/Policy
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Protocol

from localcloud.google.core.bindings import Kind, audited, check_owner, check_size, checked
from localcloud.google.core.errors import GoogleError, invalid_argument
from localcloud.google.core.hierarchy import of_route
from localcloud.google.core.messages import BYTES, INT32, STRING, enum, message, repeated
from localcloud.wire.routes import Route
from localcloud.world import Binding, Policy
from localcloud.world.resources import unparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from localcloud.google.core.api import Answer, Call, Handler
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import Google

_VERSIONS = (0, 1, 3)
_CONDITIONS = 3
_MORE = "For more information, please refer to https://cloud.google.com/iam/docs/policies#versions."

POLICY = {
    "version": INT32,
    "etag": BYTES,
    "audit_configs": repeated(
        message(
            {
                "service": STRING,
                "audit_log_configs": repeated(
                    message(
                        {
                            "log_type": enum(
                                "google.iam.v1.AuditLogConfig.LogType",
                                *("ADMIN_READ", "DATA_READ", "DATA_WRITE"),
                            ),
                            "exempted_members": repeated(STRING),
                        }
                    )
                ),
            }
        )
    ),
    "bindings": repeated(
        message(
            {
                "role": STRING,
                "members": repeated(STRING),
                "condition": message(
                    {
                        "expression": STRING,
                        "title": STRING,
                        "description": STRING,
                        "location": STRING,
                    }
                ),
            }
        )
    ),
}
"""The fields of a Policy, to read one with `Call.message`."""
UPDATED = "bindings,etag"
"""What setIamPolicy changes unless it is told otherwise."""
_VERSION = "options.requested_policy_version"


class Holder(Protocol):
    """A resource with a policy."""

    iam_policy: Policy


def routes(
    path: str,
    permissions: str,
    kind: Kind,
    find: Callable[[Call], Holder],
    *,
    read: str = "POST",
    writers: tuple[str, ...] | None = None,
) -> tuple[Route[Handler], ...]:
    """google.iam.v1's three methods of the resource at `path`.

    Args:
        path: the template of the resource.
        permissions: their permissions without the verb: ``iam.serviceAccounts``.
        kind: what the resource is.
        find: the resource of a call; raises its 404.
        read: the HTTP method of getIamPolicy; POST has the options in the body, if it has one.
        writers: the scopes of setIamPolicy, where they are not the service's.

    """

    def get(call: Call) -> Answer:
        version = call.arguments(**{_VERSION: INT32}).get(_VERSION)
        if version is None and read == "POST":
            options = message({"requested_policy_version": INT32})
            given = call.message({"options": options}).get("options", {})
            version = given.get("requested_policy_version")
        return shown(find(call).iam_policy, version or 0)

    def put(call: Call) -> Answer:
        given = call.message({"policy": message(POLICY), "update_mask": STRING})
        if "policy" not in given:
            raise invalid_argument("Policy is required.", "policy")
        policy, mask = given["policy"], given.get("update_mask", UPDATED)
        fresh = replace(call.cloud, find(call), kind, policy, call.now, mask)
        return shown(fresh, _CONDITIONS)

    def test(call: Call) -> Answer:
        wanted = call.message({"permissions": repeated(STRING)}).get("permissions", [])
        find(call)
        foreign = [p for p in wanted if not p.startswith(f"{kind}.") and kind is not Kind.PROJECT]
        if foreign:
            text = f"Permission {foreign[0]} is not valid for this resource."
            raise invalid_argument(text, "permissions")
        have = held(call, wanted)
        return {"permissions": have} if have else {}

    return (
        Route(read, f"{path}:getIamPolicy", get, f"{permissions}.getIamPolicy"),
        Route("POST", f"{path}:setIamPolicy", put, f"{permissions}.setIamPolicy", scopes=writers),
        Route("POST", f"{path}:testIamPermissions", test),
    )


def shown(policy: Policy, version: int) -> dict[str, Any]:
    """A Policy as JSON; below version 3 a conditional role is named after its condition.

    https://cloud.google.com/iam/docs/troubleshooting-withcond
    """
    if version not in _VERSIONS:
        raise invalid_argument(f"Invalid policy version: {version}.", "options")
    conditional = any(binding.condition for binding in policy.bindings)
    answer: dict[str, Any] = {"version": 3 if conditional and version == _CONDITIONS else 1}
    bindings = [_binding(binding, plain=version != _CONDITIONS) for binding in policy.bindings]
    answer = answer | {"bindings": bindings} if bindings else {}
    if policy.audit_configs:
        answer["auditConfigs"] = [unparse(config) for config in policy.audit_configs]
    return answer | {"etag": etag(policy)}


def etag(policy: Policy) -> str:
    """What must be sent back with a change: another one after every change, however made."""
    content: list[Any] = [_binding(binding, plain=False) for binding in policy.bindings]
    content += [unparse(config) for config in policy.audit_configs]
    if not content and policy.etag == Policy.etag:
        return Policy.etag
    content.append(policy.etag)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return base64.b64encode(b"\x07\x06" + digest[:6]).decode()


def replace(
    cloud: GoogleCloud,
    holder: Holder,
    kind: Kind,
    given: Mapping[str, Any],
    now: float,
    mask: str = UPDATED,
) -> Policy:
    """Put a checked policy, read with `POLICY`, in place of the resource's; raises GoogleError.

    What the `mask` does not name stays as it was.
    """
    named = {re.sub("[_ ]", "", path).lower() for path in mask.split(",")}
    with cloud.world.lock:
        current = holder.iam_policy
        bindings, audits = current.bindings, current.audit_configs
        if "bindings" in named:
            bindings = [
                checked(cloud.world.google, kind, current, entry)
                for entry in given.get("bindings", [])
                if entry.get("members")
            ]
        if "auditconfigs" in named:
            audits = [audited(kind, entry) for entry in given.get("audit_configs", [])]
        check_size(bindings)
        _check_versions(current, given, bindings)
        check_owner(kind, current.bindings, bindings)
        fresh = Policy(
            bindings,
            audit_configs=audits,
            etag=secrets.token_hex(8),
            version=_CONDITIONS if _conditional(bindings) else 1,
        )
        if cloud.propagation:
            acting = [old for old in current.earlier if old[0] > now - cloud.propagation]
            fresh.earlier = (*acting, (now, current.bindings))
        holder.iam_policy = fresh
        return fresh


def held(call: Call, wanted: Iterable[str]) -> list[str]:
    """Which of the permissions the caller has on the resource that the route names."""
    wanted = list(wanted)
    if any("*" in permission for permission in wanted):
        raise invalid_argument("Permissions with wildcards are not allowed.", "permissions")
    target = of_route(call.google, call.parameters)
    return [p for p in wanted if target is not None and call.allows(p, target)]


def everywhere(google: Google) -> list[Policy]:
    """Every policy of the world."""
    holders: list[Holder] = [
        *google.projects,
        *google.service_accounts,
        *google.buckets,
        *google.services,
    ]
    return [holder.iam_policy for holder in holders]


def _binding(binding: Binding, *, plain: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": binding.role, "members": list(binding.members)}
    if binding.condition is None:
        return shown
    condition = {
        "expression": binding.condition.expression,
        "title": binding.condition.title,
        "description": binding.condition.description,
    }
    condition = {name: text for name, text in condition.items() if text}
    if not plain:
        return shown | {"condition": condition}
    digest = hashlib.sha256(json.dumps(condition, sort_keys=True).encode()).hexdigest()
    return shown | {"role": f"{binding.role}_withcond_{digest[:20]}"}


def _conditional(bindings: Iterable[Binding]) -> bool:
    return any(binding.condition for binding in bindings)


def _check_versions(current: Policy, given: Mapping[str, Any], bindings: Iterable[Binding]) -> None:
    version = given.get("version", 0)
    if version not in _VERSIONS:
        raise invalid_argument(f"Invalid policy version: {version}.", "policy.version")
    sent = given.get("etag", "")
    if sent and _octets(sent) != _octets(etag(current)):
        raise GoogleError(
            "ABORTED",
            "There were concurrent policy changes. Please retry the whole read-modify-write with "
            f"exponential backoff. The request's ETag '{_escaped(sent)}' did not match the "
            f"current policy's ETag '{_escaped(etag(current))}'.",
        )
    if sent and version < _CONDITIONS and _conditional(current.bindings):
        text = (
            f"Specified policy version ({version}) cannot be less than the existing policy "
            f"version (3). {_MORE}"
        )
        raise invalid_argument(text, "policy.version")
    if version < _CONDITIONS and _conditional(bindings):
        text = f"Conditional role bindings need policy version 3, not {version}. {_MORE}"
        raise invalid_argument(text, "policy.version")


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise invalid_argument(
            f"Invalid value at 'policy.etag' (TYPE_BYTES), Base64 decoding failed for \"{text}\"",
            "policy.etag",
        ) from None


def _escaped(text: str) -> str:
    """An etag in the C escapes of Google's message."""
    return "".join(f"\\{octet:03o}" for octet in _octets(text))
