"""The setting TOKENVEND_POLICY as a value: one source, its names checked.

Refuses what would let a slip of the pen send our identity's token elsewhere: any host but Azure's
own, with a port, user or path tricks; and a query on a blob's address, where a SAS, which is a
secret, would stand. Messages never quote the setting for the same reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

_FORMS = (
    "must be a file's path, appconfig:APPLICATION/ENVIRONMENT/PROFILE, ssm:/NAME, "
    "azure-appconfig:https://NAME.azconfig.io/KEY[?label=LABEL] or "
    "azure-blob:https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB"
)
# https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference: names of up to 128 characters.
_APPCONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,127}")
# https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html:
# at most 15 levels; a version or label after a colon would pin the policy for ever.
_SSM_NAME = re.compile(r"/?[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+){0,14}")
_SSM_LONGEST = 1011
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
_CONFIGURATION_HOST = re.compile(r"[a-z0-9][a-z0-9-]{3,48}[a-z0-9]\.azconfig\.io")
_BLOB_HOST = re.compile(r"[a-z0-9]{3,24}\.blob\.core\.windows\.net")
_CONTAINER = re.compile(r"(?=.{3,63}$)[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST_KEY = 1024
_LONGEST_LABEL = 256


@dataclass(frozen=True, slots=True)
class PackagedFile:
    """A file that was deployed with the function: its path, relative to the function's root."""

    text: str


@dataclass(frozen=True, slots=True)
class AwsSource:
    """In the function's own account and region: application, environment and profile of AWS
    AppConfig, or the one name of a Systems Manager parameter, plain or SecureString.

    `text`: the setting as it was written.
    """

    text: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AzureSource:
    """A blob of Azure Storage, or a key-value of Azure App Configuration: without `label` the one
    that has none.

    `text`: the setting as it was written. `path` and `label` are percent-encoded.
    """

    text: str
    host: str
    path: str
    label: str = ""
    is_blob: bool = False

    @property
    def resource(self) -> str:
        """What a token to read it is for."""
        return "https://storage.azure.com/" if self.is_blob else "https://azconfig.io"


Source = PackagedFile | AwsSource | AzureSource


def parse_source(text: str) -> Source:
    """The source that a setting names. Raises ValueError with what it must be."""
    scheme, colon, rest = text.partition(":")
    match scheme if colon else "file":
        case "file":
            path = rest if colon else text
            if not path or not path.isprintable() or ":" in path:
                raise ValueError(_FORMS)
            return PackagedFile(path)
        case "appconfig":
            names = rest.split("/")
            if len(names) != 3 or not all(map(_APPCONFIG_NAME.fullmatch, names)):  # noqa: PLR2004
                raise ValueError("must be appconfig:APPLICATION/ENVIRONMENT/PROFILE, by name or id")
            return AwsSource(text, tuple(names))
        case "ssm":
            if len(rest) > _SSM_LONGEST or not _SSM_NAME.fullmatch(rest):
                raise ValueError("must be ssm:/NAME, the full name without version or label")
            return AwsSource(text, (rest,))
        case "azure-appconfig":
            return _azure_key_value(text, rest)
        case "azure-blob":
            return _azure_blob(text, rest)
        case _:
            raise ValueError(_FORMS)


def _azure_key_value(text: str, url: str) -> AzureSource:
    must = "must be azure-appconfig:https://NAME.azconfig.io/KEY, lower-case, with ?label= at most"
    host, path, label = _url(url, _CONFIGURATION_HOST, must)
    key, label = _decoded(path, must), _decoded(label, must)
    # `.`, `..` and `%` are no keys, and `*` and `,` would read a list of them.
    if not key or len(key) > _LONGEST_KEY or key in {".", ".."} or re.search(r"[%*,\\]", key):
        raise ValueError(f"{must}; the key is 1 to {_LONGEST_KEY} characters without % * , \\")
    if len(label) > _LONGEST_LABEL or re.search(r"[*,\\]", label):
        raise ValueError(f"{must}; the label is at most {_LONGEST_LABEL} characters without * , \\")
    # %2F and the like: a key is one segment of the path.
    return AzureSource(text, host, f"/kv/{quote(key, safe='')}", quote(label, safe=""))


def _azure_blob(text: str, url: str) -> AzureSource:
    must = (
        "must be azure-blob:https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB, without a query: "
        "the function's managed identity reads it, a SAS is neither needed nor taken"
    )
    host, path, label = _url(url, _BLOB_HOST, must)
    container, _, rest = path.partition("/")
    blob = _decoded(rest, must)
    parts = blob.split("/")
    # A library on the way would resolve a dot segment, and read another blob than the one named.
    odd = not all(parts) or not {".", ".."}.isdisjoint(parts) or "\\" in blob
    if label or not _CONTAINER.fullmatch(container) or len(blob) > _LONGEST_KEY or odd:
        raise ValueError(must)
    return AzureSource(text, host, f"/{container}/{quote(blob)}", is_blob=True)


def _url(url: str, hosts: re.Pattern[str], must: str) -> tuple[str, str, str]:
    """Host, path without its first slash, and label, both still encoded."""
    match = re.fullmatch(r"https://([^/?#]*)/([^?#]*)(?:\?label=([^#&]+))?", url)
    if match is None or not hosts.fullmatch(match[1]):
        raise ValueError(must)
    return match[1], match[2], match[3] or ""


def _decoded(text: str, must: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(must)
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeError:
        raise ValueError(must) from None
    if not decoded.isprintable():
        raise ValueError(must)
    return decoded
