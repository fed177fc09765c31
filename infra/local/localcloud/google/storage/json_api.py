"""Cloud Storage's JSON API: its table, and the one way from a request to a handler.

The same paths are served under every host and prefix that Google has for them. What the table does
not have is answered with 405, because clients retry a 501.
https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from localcloud.google.core.overriding import meant
from localcloud.google.storage import bucket_policies, buckets, objects, uploads
from localcloud.google.storage.access import CONTROL, READ, WRITE, Caller, caller_of
from localcloud.google.storage.call import Call
from localcloud.google.storage.errors import StorageError, not_served
from localcloud.google.storage.metadata import require_utf8
from localcloud.wire.routes import Route, Service, Unserved
from localcloud.wire.web import Request, Response, Site

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.google.storage.store import Store

type Handler = Callable[[Call], Response]

HOSTS = (
    "storage.googleapis.com",
    "storage.mtls.googleapis.com",
    "storage.*.rep.googleapis.com",
    "www.googleapis.com",
)
PREFIXES = (
    "/storage/v1/",
    "/download/storage/v1/",
    "/upload/storage/v1/",
    "/resumable/upload/storage/v1/",
)
"""The paths that are the JSON API's, on hosts that serve others beside it."""
_B, _O = "/storage/v1/b/{bucket}", "/storage/v1/b/{bucket}/o/{object*}"
_TO = "b/{destinationBucket}/o/{destinationObject*}"
_FROM = "/storage/v1/b/{sourceBucket}/o/{sourceObject*}"
_UPLOADS = ("/upload", "/resumable/upload")
_ACLS = "IAM alone decides here: no bucket has access control lists"

SERVICE: Service[Handler] = Service(
    title="Cloud Storage JSON API",
    hosts=HOSTS,
    document="storage.v1",
    scopes=WRITE,
    routes=(
        Route("GET", "/storage/v1/b", buckets.list_buckets, "storage.buckets.list", scopes=READ),
        Route("POST", "/storage/v1/b", buckets.insert, "storage.buckets.create"),
        Route("GET", _B, buckets.get, "storage.buckets.get", scopes=READ),
        Route("PATCH", _B, buckets.patch, "storage.buckets.update", scopes=CONTROL),
        Route("PUT", _B, buckets.update, "storage.buckets.update", scopes=CONTROL),
        Route("DELETE", _B, buckets.delete, "storage.buckets.delete"),
        Route(
            "GET",
            f"{_B}/storageLayout",
            buckets.storage_layout,
            "storage.objects.list",
            scopes=READ,
        ),
        Route(
            "GET",
            f"{_B}/managedFolders",
            buckets.managed_folders,
            "storage.managedFolders.list",
            scopes=READ,
        ),
        Route(
            "GET",
            f"{_B}/iam",
            bucket_policies.get,
            "storage.buckets.getIamPolicy",
            scopes=CONTROL,
        ),
        Route(
            "PUT",
            f"{_B}/iam",
            bucket_policies.replace,
            "storage.buckets.setIamPolicy",
            scopes=CONTROL,
        ),
        Route("GET", f"{_B}/iam/testPermissions", bucket_policies.test, scopes=READ),
        Route(
            "GET",
            "/storage/v1/projects/{project}/serviceAccount",
            buckets.service_account,
            "resourcemanager.projects.get",
            scopes=READ,
        ),
        Route("GET", f"{_B}/o", objects.list_objects, "storage.objects.list", scopes=READ),
        Route("POST", f"{_B}/o", uploads.insert_without_content, "storage.objects.create"),
        *(
            route
            for prefix in _UPLOADS
            for route in (
                Route("POST", f"{prefix}{_B}/o", uploads.insert, "storage.objects.create"),
                # Of an upload session, whose address is the credential.
                Route("PUT", f"{prefix}{_B}/o", uploads.resume, scopes=()),
                Route("DELETE", f"{prefix}{_B}/o", uploads.cancel, scopes=()),
            )
        ),
        Route("GET", _O, objects.get, "storage.objects.get", scopes=READ),
        Route("GET", f"/download{_O}", objects.get, "storage.objects.get", scopes=READ),
        Route("PATCH", _O, objects.patch, "storage.objects.update", scopes=CONTROL),
        Route("PUT", _O, objects.update, "storage.objects.update", scopes=CONTROL),
        Route("DELETE", _O, objects.delete, "storage.objects.delete"),
        Route("POST", f"{_O}/compose", objects.compose, "storage.objects.create"),
        Route("POST", f"{_FROM}/copyTo/{_TO}", objects.copy, "storage.objects.create"),
        Route("POST", f"{_FROM}/rewriteTo/{_TO}", objects.rewrite, "storage.objects.create"),
        Route(
            "POST",
            f"{_B}/o/{{sourceObject*}}/moveTo/o/{{destinationObject*}}",
            objects.move,
            "storage.objects.move",
        ),
    ),
    unserved=(
        Unserved("storage.anywhereCaches.*", "there is one place, and nothing to cache"),
        Unserved("storage.rapidCaches.*", "there is one place, and nothing to cache"),
        Unserved("storage.bucketAccessControls.*", _ACLS),
        Unserved("storage.defaultObjectAccessControls.*", _ACLS),
        Unserved("storage.objectAccessControls.*", _ACLS),
        Unserved("storage.objects.getIamPolicy", _ACLS),
        Unserved("storage.objects.setIamPolicy", _ACLS),
        Unserved("storage.objects.testIamPermissions", _ACLS),
        Unserved("storage.buckets.lockRetentionPolicy", "buckets have no retention here"),
        Unserved("storage.buckets.relocate", "there is one place"),
        Unserved("storage.buckets.restore", "deleted buckets are not kept"),
        Unserved("storage.buckets.operations.*", "nothing here runs for long"),
        Unserved("storage.folders.*", "no bucket here has a hierarchical namespace"),
        *(
            Unserved(f"storage.managedFolders.{verb}", "policies are a bucket's, not a folder's")
            for verb in (
                *("delete", "get", "getIamPolicy", "insert", "setIamPolicy"),
                *("testIamPermissions", "update"),
            )
        ),
        Unserved("storage.notifications.*", "there is no Pub/Sub"),
        Unserved("storage.objects.bulkRestore", "deleted objects are not kept"),
        Unserved("storage.objects.restore", "deleted objects are not kept"),
        Unserved("storage.objects.viewFullContext", "objects have no contexts here"),
        Unserved("storage.projects.hmacKeys.*", "a key for ever is what tokenvend is against"),
    ),
)


def site(cloud: GoogleCloud, store: Store) -> Site:
    """The JSON API on the world's buckets and a store of their objects."""

    def serve(request: Request) -> Response:
        try:
            answer = _serve(cloud, store, request)
        except StorageError as refusal:
            # Whoever sends a large body listens only afterwards: Google reads it to its end.
            body = request.stream
            while body.read():
                continue
            answer = refusal.response()
        return answer

    return serve


def is_json_api(request: Request) -> bool:
    """Whether a request is for the JSON API, on a host that serves the XML API beside it."""
    return request.path.startswith(PREFIXES) or request.path == "/storage/v1"


def _serve(cloud: GoogleCloud, store: Store, request: Request) -> Response:
    request = meant(request)
    require_utf8(request.target)
    found = SERVICE.find(request.method, request.path)
    if found is None:
        raise not_served(f"{request.method} {request.path}")
    route, parameters = found
    resumed = route.handler is uploads.insert and "upload_id" in request.params
    if route.scopes == () or resumed:
        # The address of an upload session is its credential: whoever knows it needs no token.
        caller = Caller(cloud, None, cloud.clock())
        handler = uploads.resume if resumed else route.handler
        return handler(Call(request, parameters, caller, store))
    caller = caller_of(cloud, request, SERVICE.scopes if route.scopes is None else route.scopes)
    return route.handler(Call(request, parameters, caller, store))
