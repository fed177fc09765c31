"""Cloud Storage's XML API: what its clients in Go, C++ and Rust read and write through.

Served at both addresses of a bucket, ``storage.googleapis.com/BUCKET/OBJECT`` and
``BUCKET.storage.googleapis.com/OBJECT``, behind the same guard as the JSON API. Refused is
everything that authenticates by other means than a bearer token: signed URLs and HMAC keys.
https://cloud.google.com/storage/docs/xml-api/overview
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from localcloud.google.storage.access import READ, WRITE, caller_of
from localcloud.google.storage.errors import StorageError
from localcloud.google.storage.metadata import require_utf8
from localcloud.google.storage.xml import listing, multipart, objects
from localcloud.google.storage.xml.call import Call, Handler
from localcloud.google.storage.xml.documents import XmlError
from localcloud.google.storage.xml.uploads import Uploads
from localcloud.wire.routes import Route, Service, Unserved

if TYPE_CHECKING:
    from localcloud.google.core.cloud import GoogleCloud
    from localcloud.google.storage.store import Store
    from localcloud.wire.web import Request, Response, Site

HOST = "storage.googleapis.com"
HOSTS = (HOST, "storage.mtls.googleapis.com", "storage.*.rep.googleapis.com")
_BUCKET, _OBJECT = "/{bucket}", "/{bucket}/{object+}"
_UPLOADS = "storage.multipartUploads"

SERVICE: Service[Handler] = Service(
    title="Cloud Storage XML API",
    hosts=(*HOSTS, f"*.{HOST}"),
    scopes=WRITE,
    routes=(
        Route("GET", _OBJECT, objects.get, "storage.objects.get", scopes=READ),
        Route("HEAD", _OBJECT, objects.get, "storage.objects.get", scopes=READ),
        Route("PUT", _OBJECT, objects.put, "storage.objects.create"),
        Route("DELETE", _OBJECT, objects.delete, "storage.objects.delete"),
        Route("POST", _OBJECT, multipart.initiate, f"{_UPLOADS}.create", "uploads"),
        Route("PUT", _OBJECT, multipart.put_part, f"{_UPLOADS}.create", "uploadId"),
        Route(
            "GET", _OBJECT, multipart.list_parts, f"{_UPLOADS}.listParts", "uploadId", scopes=READ
        ),
        Route("POST", _OBJECT, multipart.complete, f"{_UPLOADS}.create", "uploadId"),
        Route("DELETE", _OBJECT, multipart.abort, f"{_UPLOADS}.abort", "uploadId"),
        Route("GET", _BUCKET, listing.list_objects, "storage.objects.list", scopes=READ),
        Route("GET", _BUCKET, multipart.list_uploads, f"{_UPLOADS}.list", "uploads", scopes=READ),
        Route("HEAD", _BUCKET, listing.head_bucket, "storage.buckets.get", scopes=READ),
        *(
            Route("GET", _BUCKET, handler, "storage.buckets.get", action, scopes=READ)
            for action, handler in (
                ("location", listing.location),
                ("storageClass", listing.storage_class),
                ("versioning", listing.versioning),
            )
        ),
    ),
    unserved=(
        Unserved("GET Service", "buckets are listed by the JSON API"),
        Unserved("PUT Bucket, DELETE Bucket", "buckets are made and deleted by the JSON API"),
        Unserved("GET Bucket versions", "generations are listed by the JSON API"),
        Unserved(
            "acl, cors, lifecycle, policy and the other subresources", "the JSON API has them"
        ),
        Unserved("PUT Object compose", "objects are composed by the JSON API"),
        Unserved("POST Object", "an upload form's policy document is a kind of signed URL"),
        Unserved("POST Object resumable", "resumable uploads are the JSON API's"),
        Unserved("signed URLs, HMAC keys", "only bearer tokens are known"),
    ),
)

# What makes of a path another operation, by the query's name for it.
_SUBRESOURCES = frozenset(
    {
        *("acl", "billing", "compose", "cors", "customPlacementConfig", "defaultObjectAcl"),
        *("encryption", "encryptionConfig", "legal-hold", "lifecycle", "location", "logging"),
        *("notification", "notificationConfig", "object-lock", "partNumber", "policy"),
        *("requestPayment", "retention", "storageClass", "tagging", "upload_id", "uploadId"),
        *("uploads", "versioning", "versions", "website", "websiteConfig"),
    }
)
# Authentication by the query: version 4 in Google's and Amazon's spelling, version 2.
_SIGNED = frozenset(
    {"x-goog-signature", "x-goog-credential", "x-amz-signature", "googleaccessid", "signature"}
)

# What Amazon's clients send with everything, and what changes nothing.
_AMZ_PASSED = frozenset({"x-amz-content-sha256", "x-amz-date"})


def site(cloud: GoogleCloud, store: Store) -> Site:
    """The XML API on the world's buckets."""
    uploads = Uploads()

    def serve(request: Request) -> Response:
        try:
            return _serve(cloud, store, uploads, request)
        except (StorageError, XmlError) as refusal:
            # Whoever sends a large body listens only afterwards.
            body = request.stream
            while body.read():
                continue
            return _refusal(refusal)

    return serve


def _refusal(refusal: StorageError | XmlError) -> Response:
    if isinstance(refusal, XmlError):
        return refusal.response()
    answer = XmlError.of(refusal).response()
    # The 416 tells the size in a field of its own.
    told = tuple(field for field in refusal.response().headers if field[0] == "Content-Range")
    return replace(answer, headers=(*answer.headers, *told))


def _serve(cloud: GoogleCloud, store: Store, uploads: Uploads, request: Request) -> Response:
    require_utf8(request.target)
    path, query = _path(request), request.params
    if not _SIGNED.isdisjoint(name.lower() for name in query):
        raise XmlError("AccessDenied", "The embedded cloud does not serve signed URLs.")
    foreign = (name for name, _ in request.headers.fields if name.lower().startswith("x-amz-"))
    if any(name.lower() not in _AMZ_PASSED for name in foreign):
        # Passed over, a copy would become an empty object, and metadata would be lost.
        raise XmlError("InvalidArgument", "The embedded cloud serves x-goog- fields, not x-amz-.")
    found = SERVICE.find(request.method, path, _action(query))
    if found is None:
        text = f"The embedded cloud does not serve {request.method} {request.host}{request.path}"
        raise XmlError("MethodNotAllowed", text)
    route, parameters = found
    caller = caller_of(cloud, request, route.scopes or SERVICE.scopes)
    bucket, name = caller.bucket(parameters["bucket"]), parameters.get("object", "")
    prefix = query.get("prefix", "") if not name else ""
    caller.require(route.permission, bucket, name or None, prefix)
    return route.handler(Call(request, caller, store, uploads, bucket, name, query))


def _path(request: Request) -> str:
    """The path as it is at `storage.googleapis.com`; a bucket's own host names the bucket."""
    host, own = request.host.lower(), f".{HOST}"
    whole = f"/{host.removesuffix(own)}{request.path}" if host.endswith(own) else request.path
    # At either host the slash behind a bucket alone means nothing.
    return whole.rstrip("/") if whole.count("/") == 2 and whole.endswith("/") else whole  # noqa: PLR2004


def _action(query: dict[str, str]) -> str:
    named = _SUBRESOURCES & query.keys()
    # A part's number says nothing without its upload.
    return "&".join(sorted(named - {"partNumber"} if "uploadId" in named else named))
