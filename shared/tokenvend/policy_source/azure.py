"""The policy from Azure App Configuration or Blob Storage, over REST with our managed identity.

One GET with the ETag of the last reading: an unchanged policy costs an empty 304. Microsoft's own
SDKs would do the same, are heavy to import and a second way out of the process.
https://learn.microsoft.com/azure/azure-app-configuration/rest-api-key-value
https://learn.microsoft.com/rest/api/storageservices/get-blob
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from tokenvend.errors import TokenvendError, UpstreamRefused, UpstreamUnavailable
from tokenvend.policy_source.text import policy_text
from tokenvend.transport import Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenvend.deadline import Deadline
    from tokenvend.model import Secret
    from tokenvend.policy_source.setting import AzureSource
    from tokenvend.transport import Answer, Sender

CONFIGURATION_VERSION = "2023-11-01"
STORAGE_VERSION = "2023-11-03"
# RFC 9110 section 8.8.3; whatever else came back is not sent again.
_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,200}"')
_CODE = re.compile(r"[A-Za-z]{1,64}")
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class AzureReader:
    """Reads one key-value or blob. `bearer`: a token of our identity for the source's resource."""

    def __init__(
        self, source: AzureSource, sender: Sender, bearer: Callable[[Deadline], Secret]
    ) -> None:
        self._source = source
        self._sender = sender
        self._bearer = bearer
        self._etag = ""

    def __call__(self, deadline: Deadline) -> str | None:
        """The text, or None when it is the one read last. Raises Misconfigured, UpstreamRefused,
        UpstreamUnavailable, DeadlineExceeded, RateLimited.
        """
        source = self._source
        headers = {"Authorization": f"Bearer {self._bearer(deadline).reveal()}"}
        url = f"https://{source.host}{source.path}"
        if source.is_blob:
            headers["x-ms-version"] = STORAGE_VERSION
        else:
            url += f"?api-version={CONFIGURATION_VERSION}"
            # %00 asks for the value without a label; leaving it out means the same for one key.
            url += f"&label={source.label}" if source.label else ""
        if self._etag:
            headers["If-None-Match"] = self._etag
        answer = self._sender.send(Call("GET", url, headers), deadline, repeatable=True)
        if answer.status == HTTPStatus.NOT_MODIFIED and self._etag:
            return None
        if answer.status != HTTPStatus.OK:
            raise _refusal(source, answer)
        text = policy_text(answer.body if source.is_blob else _value(answer))
        etag = answer.headers.get("etag", "")
        self._etag = etag if _ETAG.fullmatch(etag) else ""
        return text


def _value(answer: Answer) -> str:
    fields = answer.json()
    value = fields.get("value") if isinstance(fields, dict) else None
    if not isinstance(value, str):
        raise UpstreamUnavailable(cause="there is no key-value in the answer")
    return value


def _refusal(source: AzureSource, answer: Answer) -> TokenvendError:
    said = answer.headers.get("x-ms-error-code", "")
    cause = f"{source.host}: status {answer.status}{f' {said}' if _CODE.fullmatch(said) else ''}"
    refused = HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if not refused or answer.status in _PASSING:
        return UpstreamUnavailable(cause=cause)
    role = "Storage Blob Data Reader" if source.is_blob else "App Configuration Data Reader"
    advice = {
        401: "is the managed identity of this store's tenant?",
        403: f"has the managed identity the role {role}, and may this network reach the store?",
        404: "is the name right?",
        410: "it was there and is gone: restore it, or name another",
    }.get(answer.status, "the request was refused")
    return UpstreamRefused(cause=f"{cause}: {advice}")
