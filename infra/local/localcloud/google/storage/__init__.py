"""Cloud Storage's JSON API: a guard in front of gcp-storage-emulator.

Every request is classified into one operation on one bucket and object, checked (token, expiry,
scope, bucket policy, access boundary, preconditions), and then *rebuilt* for the emulator, which
never sees a caller's own path, query or method override. What cannot be classified (batch,
compose, copy, rewrite, ACLs, XML, `/wipe`) answers 501. An upload session serves only the
principal that opened it. Anonymous access is not offered.
https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from localcloud.google.core import audit, hierarchy
from localcloud.google.core.cel import Resource
from localcloud.google.core.iam import allows
from localcloud.google.core.principals import FederatedPrincipal, Principal, subject_name
from localcloud.google.core.tokens import CLOUD_PLATFORM, IssuedToken, bearer
from localcloud.google.storage.backend import Backend
from localcloud.google.storage.request import (
    Operation,
    Session,
    StorageError,
    check_preconditions,
    classify,
    not_modified,
    read_metadata,
    read_upload,
    session_id,
)
from localcloud.google.sts.boundary import within
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from collections.abc import Callable

    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.world import Bucket

SERVICE = "storage.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/devstorage."
_WRITE_SCOPES = frozenset({CLOUD_PLATFORM, f"{_SCOPE}full_control", f"{_SCOPE}read_write"})
_READ_SCOPES = _WRITE_SCOPES | {f"{_SCOPE}read_only", f"{CLOUD_PLATFORM}.read-only"}
_READS = frozenset({"storage.objects.get", "storage.objects.list", "storage.buckets.get"})


def site(cloud: GoogleCloud) -> Site:
    """Cloud Storage on the world's buckets; objects live in memory."""
    store = _Store(cloud, Backend(), {}, threading.Lock())

    def serve(request: Request) -> Response:
        try:
            # One at a time: the emulator is written for a single thread.
            with store.lock:
                return _serve(store, request)
        except StorageError as refusal:
            return refusal.response()

    return serve


@dataclass(frozen=True)
class _Store:
    cloud: GoogleCloud
    backend: Backend
    sessions: dict[str, Session]
    lock: threading.Lock


def _serve(store: _Store, request: Request) -> Response:
    operation = classify(request)
    now = store.cloud.clock()
    token = _token(store.cloud, request, operation, now)
    upload = session_id(request)
    if upload is not None:
        return _continue_upload(store, request, operation, token, upload, now)
    if operation.permission == "storage.objects.create":
        return _begin_upload(store, request, operation, token, now)
    _authorize(store, operation, token, now)
    bucket = _bucket(store, operation)
    return _HANDLERS[operation.permission](store, request, operation, bucket)


def _token(cloud: GoogleCloud, request: Request, operation: Operation, now: float) -> IssuedToken:
    text = bearer(request)
    if text is None:
        raise StorageError.denied("Anonymous caller", operation.permission, 401)
    token = cloud.tokens.live(text, cloud.world, now)
    if token is None:
        raise StorageError(401, "Invalid Credentials", "authError", "Authorization")
    accepted = _READ_SCOPES if operation.permission in _READS else _WRITE_SCOPES
    if token.scopes.isdisjoint(accepted):
        text = "Request had insufficient authentication scopes."
        raise StorageError(403, text, "insufficientPermissions")
    return token


def _authorize(store: _Store, operation: Operation, token: IssuedToken, now: float) -> None:
    """Raise the 403 unless bucket policy and access boundary both allow the operation."""
    bucket = store.cloud.world.google.bucket(operation.bucket)
    allowed = bucket is not None and _allowed(store, bucket, operation, token, now)
    status = 0 if allowed or bucket is None else 403
    _log(store.cloud, operation, token.principal, status, now)
    if bucket is None:
        raise StorageError(404, "The specified bucket does not exist.", "notFound")
    if not allowed:
        raise StorageError.denied(subject_name(token.principal), operation.permission, 403)


def _allowed(
    store: _Store, bucket: Bucket, operation: Operation, token: IssuedToken, now: float
) -> bool:
    uniform = bucket.iam_configuration.uniform_bucket_level_access.enabled
    if isinstance(token.principal, FederatedPrincipal) and not uniform:
        return False
    resource = _resource(operation)
    target = hierarchy.bucket(store.cloud.world.google, bucket, operation.name)
    if not allows(store.cloud, token.principal, operation.permission, target, now):
        return False
    return token.boundary is None or within(
        token.boundary,
        operation.permission,
        resource,
        operation.bucket,
        operation.list_prefix,
        now,
    )


def _resource(operation: Operation) -> Resource:
    name = f"projects/_/buckets/{operation.bucket}"
    if operation.name is None:
        return Resource(name, f"{SERVICE}/Bucket", SERVICE)
    return Resource(f"{name}/objects/{operation.name}", f"{SERVICE}/Object", SERVICE)


def _bucket(store: _Store, operation: Operation) -> Bucket:
    bucket = store.cloud.world.google.bucket(operation.bucket)
    if bucket is None:
        raise StorageError(404, "The specified bucket does not exist.", "notFound")
    project = next(iter(store.cloud.world.google.projects), None)
    store.backend.ensure_bucket(bucket, project.project_number if project else "0")
    return bucket


def _begin_upload(
    store: _Store, request: Request, operation: Operation, token: IssuedToken, now: float
) -> Response:
    upload = read_upload(request, operation)
    operation = operation.named(upload.name)
    _authorize_write(store, operation, token, now)
    bucket = _bucket(store, operation)
    check_preconditions(operation, store.backend.metadata(bucket.name, upload.name))
    opened = store.backend.open_session(
        bucket.name, upload.name, upload.metadata, upload.content_type, upload.declared_length
    )
    if upload.content is None:
        store.sessions[opened] = Session(operation, token.principal)
        location = (
            f"https://{SERVICE}/upload/storage/v1/b/{bucket.name}/o"
            f"?uploadType=resumable&upload_id={opened}"
        )
        return Response(200, b"", (("Location", location), ("X-GUploader-UploadID", opened)))
    return store.backend.append(bucket.name, opened, upload.content, "")


def _authorize_write(store: _Store, operation: Operation, token: IssuedToken, now: float) -> None:
    """Replacing an object also needs the permission to delete it."""
    _authorize(store, operation, token, now)
    bucket = _bucket(store, operation)
    if store.backend.metadata(bucket.name, operation.name or "") is not None:
        _authorize(store, operation.needing("storage.objects.delete"), token, now)


def _continue_upload(
    store: _Store,
    request: Request,
    operation: Operation,
    token: IssuedToken,
    upload: str,
    now: float,
) -> Response:
    session = store.sessions.get(upload)
    if (
        session is None
        or session.operation.bucket != operation.bucket
        or session.principal.identifier != token.principal.identifier
    ):
        # A stolen session address must not be worth a token.
        raise StorageError(404, "No such upload session.", "notFound")
    # Everything again: binding, object and preconditions may have changed since it was opened.
    _authorize_write(store, session.operation, token, now)
    bucket, name = session.operation.bucket, session.operation.name or ""
    check_preconditions(session.operation, store.backend.metadata(bucket, name))
    answer = store.backend.append(
        bucket, upload, request.body, request.headers.get("Content-Range")
    )
    if answer.status != HTTPStatus.PERMANENT_REDIRECT:
        store.sessions.pop(upload, None)
    return answer


def _get_bucket(store: _Store, _request: Request, _op: Operation, bucket: Bucket) -> Response:
    return store.backend.bucket(bucket.name)


def _list(store: _Store, request: Request, _op: Operation, bucket: Bucket) -> Response:
    return store.backend.page(bucket.name, request.params)


def _get(store: _Store, request: Request, operation: Operation, bucket: Bucket) -> Response:
    found = _existing(store, operation, bucket, plain=operation.media)
    if not_modified(operation, found):
        return Response(304)
    check_preconditions(operation, found)
    if not operation.media:
        return Response.json(200, found)
    return store.backend.download(
        bucket.name, operation.name or "", request.headers.get("Range"), found
    )


def _delete(store: _Store, _request: Request, operation: Operation, bucket: Bucket) -> Response:
    check_preconditions(operation, _existing(store, operation, bucket))
    return store.backend.delete(bucket.name, operation.name or "")


def _update(store: _Store, request: Request, operation: Operation, bucket: Bucket) -> Response:
    check_preconditions(operation, _existing(store, operation, bucket))
    changes = read_metadata(request.body)
    return store.backend.patch(bucket.name, operation.name or "", changes)


_HANDLERS: dict[str, Callable[[_Store, Request, Operation, Bucket], Response]] = {
    "storage.buckets.get": _get_bucket,
    "storage.objects.list": _list,
    "storage.objects.get": _get,
    "storage.objects.delete": _delete,
    "storage.objects.update": _update,
}


def _existing(
    store: _Store, operation: Operation, bucket: Bucket, *, plain: bool = False
) -> dict[str, object]:
    found = store.backend.metadata(bucket.name, operation.name or "")
    generation = operation.params.get("generation")
    if found is None or (generation is not None and generation != found["generation"]):
        text = f"No such object: {bucket.name}/{operation.name}"
        raise StorageError(404, text, "notFound", plain=plain)
    return found


def _log(
    cloud: GoogleCloud, operation: Operation, principal: Principal, status: int, now: float
) -> None:
    cloud.log.write(
        audit.LogEntry(
            timestamp=audit.timestamp(now),
            service_name=SERVICE,
            method_name=operation.permission,
            resource_name=_resource(operation).name,
            status=status,
            authentication_info=audit.authentication_info(principal),
            labels={"bucket_name": operation.bucket},
        )
    )
