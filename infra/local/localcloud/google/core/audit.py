"""Data Access audit entries in the spirit of Cloud Logging's LogEntry, kept in memory.

An entry names who (principalSubject, the chain of impersonation) and what, never a token.
https://cloud.google.com/iam/docs/audit-logging/examples-workload-identity
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from localcloud.google.core.principals import (
    FederatedPrincipal,
    Principal,
    ServiceAccountPrincipal,
    UserPrincipal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One audit entry; `status` is 0 for success, else the HTTP status of the refusal."""

    timestamp: str
    service_name: str
    method_name: str
    resource_name: str
    status: int = 0
    authentication_info: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    request_reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The entry in LogEntry's JSON form."""
        payload: dict[str, Any] = {
            "@type": "type.googleapis.com/google.cloud.audit.AuditLog",
            "serviceName": self.service_name,
            "methodName": self.method_name,
            "resourceName": self.resource_name,
            "authenticationInfo": self.authentication_info,
            "status": {"code": self.status} if self.status else {},
        }
        if self.metadata:
            payload["metadata"] = self.metadata
        if self.request_reason:
            payload["requestMetadata"] = {"requestAttributes": {"reason": self.request_reason}}
        resource = {"labels": self.labels}
        return {"timestamp": self.timestamp, "resource": resource, "protoPayload": payload}


class AuditLog:
    """The last `MAX_ENTRIES` entries; `sink`, if given, also gets each as it is written."""

    def __init__(self, sink: Callable[[LogEntry], None] | None = None) -> None:
        self._entries: deque[LogEntry] = deque(maxlen=MAX_ENTRIES)
        self._lock = threading.Lock()
        self._sink = sink

    @property
    def entries(self) -> list[LogEntry]:
        """The entries so far, oldest first."""
        with self._lock:
            return list(self._entries)

    def write(self, entry: LogEntry) -> None:
        """Append an entry."""
        with self._lock:
            self._entries.append(entry)
        if self._sink is not None:
            self._sink(entry)


def timestamp(now: float) -> str:
    """RFC 3339 in UTC to the second, as Google's tokens and logs carry it."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def authentication_info(principal: Principal) -> dict[str, Any]:
    """google.cloud.audit.AuthenticationInfo of a principal."""
    match principal:
        case FederatedPrincipal():
            return {"principalSubject": principal.identifier}
        case UserPrincipal():
            return {"principalEmail": principal.email, "principalSubject": principal.identifier}
        case ServiceAccountPrincipal():
            chain = [{"principalSubject": subject} for subject in principal.delegation]
            info: dict[str, Any] = {
                "principalEmail": principal.email,
                "principalSubject": principal.identifier,
            }
            return info | ({"serviceAccountDelegationInfo": chain} if chain else {})
