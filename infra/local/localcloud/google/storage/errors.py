"""Refusals of Cloud Storage, with the texts that Google answers.

One exception for every door: the JSON API renders it with `response`, a media request as plain
text, the XML API in its own shape. No text carries a token or an upload id.
https://cloud.google.com/storage/docs/json_api/v1/status-codes
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from localcloud.wire.web import Response


@dataclass(eq=False)
class StorageError(Exception):
    """A refusal; `plain` gives the text alone, as downloads and upload sessions do.

    Args:
        code: the HTTP status.
        message: Google's text.
        reason: the JSON API's word for it (``notFound``, ``conditionNotMet``, ``invalid``).
        location: the parameter or header field at fault, where Google names one.
        plain: whether the answer is text instead of JSON.

    """

    code: int
    message: str
    reason: str
    location: str = ""
    plain: bool = False

    def response(self) -> Response:
        """The refusal on the wire."""
        if self.plain:
            plain = ("Content-Type", "text/plain; charset=utf-8")
            return Response(self.code, self.message.encode(), (plain,))
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        if self.location:
            kind = "header" if self.location[0].isupper() else "parameter"
            item |= {"locationType": kind, "location": self.location}
        error = {"code": self.code, "message": self.message, "errors": [item]}
        challenge = (("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"'),)
        wanted = challenge if self.code == HTTPStatus.UNAUTHORIZED else ()
        return Response.json(self.code, {"error": error}, *wanted)


def denied(who: str, permission: str, *, on: str = "", anonymous: bool = False) -> StorageError:
    """The 403 of a missing grant; the 401 of a caller without a token."""
    of_object = permission.startswith("storage.objects.") and not permission.endswith(".list")
    kind = on or ("Storage object" if of_object else "Storage bucket")
    text = (
        f"{who} does not have {permission} access to the Google Cloud {kind}. "
        f"Permission '{permission}' denied on resource (or it may not exist)."
    )
    if anonymous:
        return StorageError(HTTPStatus.UNAUTHORIZED, text, "required", "Authorization")
    return StorageError(HTTPStatus.FORBIDDEN, text, "forbidden")


def invalid(message: str, location: str = "") -> StorageError:
    """A 400 for a value that cannot be."""
    return StorageError(HTTPStatus.BAD_REQUEST, message, "invalid", location)


def not_served(what: str) -> StorageError:
    """The 405 of what the embedded cloud leaves out: clients would retry a 501."""
    text = f"The embedded cloud does not serve {what}; `tokenvend local routes` lists what it does."
    return StorageError(HTTPStatus.METHOD_NOT_ALLOWED, text, "notImplemented")


def no_such_bucket() -> StorageError:
    """The 404 of a bucket."""
    return StorageError(HTTPStatus.NOT_FOUND, "The specified bucket does not exist.", "notFound")


def no_such_object(bucket: str, name: str) -> StorageError:
    """The 404 of an object or of one of its generations."""
    return StorageError(HTTPStatus.NOT_FOUND, f"No such object: {bucket}/{name}", "notFound")


def condition_not_met(location: str = "If-Match") -> StorageError:
    """The 412 of a precondition."""
    text = "At least one of the pre-conditions you specified did not hold."
    return StorageError(HTTPStatus.PRECONDITION_FAILED, text, "conditionNotMet", location)


def out_of_space() -> StorageError:
    """The 507 of a full disk, which Google's have never been: no client repeats it for minutes."""
    text = "The disk of the embedded cloud is full."
    return StorageError(HTTPStatus.INSUFFICIENT_STORAGE, text, "insufficientStorage")
