"""The setting TOKENVEND_POLICY as a value: one source, its names checked.

Refuses what would let a slip of the pen send our identity's token elsewhere: any host but Azure's
own, with a port, user or path tricks; and a query on a blob's address, where a SAS, which is a
secret, would stand. Messages never quote the setting for the same reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote, unquote_to_bytes

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
    """A file that was deployed with the function; relative to the function's root."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class AppConfigProfile:
    """An AWS AppConfig configuration profile, in the function's own account and region."""

    application: str
    environment: str
    profile: str

    def __str__(self) -> str:
        return f"appconfig:{self.application}/{self.environment}/{self.profile}"


@dataclass(frozen=True, slots=True)
class SsmParameter:
    """An AWS Systems Manager parameter, plain or SecureString."""

    name: str

    def __str__(self) -> str:
        return f"ssm:{self.name}"


@dataclass(frozen=True, slots=True)
class AzureKeyValue:
    """A key-value of Azure App Configuration; no `label` is the value without one."""

    resource: ClassVar[str] = "https://azconfig.io"

    host: str
    key: str
    label: str = ""

    @property
    def path(self) -> str:
        """The path of the request, percent-encoded."""
        return f"/kv/{quote(self.key, safe='')}"

    def __str__(self) -> str:
        label = f"?label={quote(self.label, safe='')}" if self.label else ""
        return f"azure-appconfig:https://{self.host}/{quote(self.key)}{label}"


@dataclass(frozen=True, slots=True)
class AzureBlob:
    """A blob of Azure Storage."""

    resource: ClassVar[str] = "https://storage.azure.com/"

    host: str
    container: str
    blob: str

    @property
    def path(self) -> str:
        """The path of the request, percent-encoded."""
        return f"/{self.container}/{quote(self.blob)}"

    def __str__(self) -> str:
        return f"azure-blob:https://{self.host}{self.path}"


AzureSource = AzureKeyValue | AzureBlob
Source = PackagedFile | AppConfigProfile | SsmParameter | AzureSource


def parse_source(text: str) -> Source:
    """The source that a setting names. Raises ValueError with what it must be."""
    scheme, colon, rest = text.partition(":")
    match scheme if colon else "file":
        case "file":
            return _file(rest if colon else text)
        case "appconfig":
            return _appconfig(rest)
        case "ssm":
            return _ssm(rest)
        case "azure-appconfig":
            return _azure_key_value(rest)
        case "azure-blob":
            return _azure_blob(rest)
        case _:
            raise ValueError(_FORMS)


def _file(path: str) -> PackagedFile:
    if not path or not path.isprintable() or ":" in path:
        raise ValueError(_FORMS)
    return PackagedFile(path)


def _appconfig(names: str) -> AppConfigProfile:
    parts = names.split("/")
    match parts:
        case [application, environment, profile] if all(map(_APPCONFIG_NAME.fullmatch, parts)):
            return AppConfigProfile(application, environment, profile)
        case _:
            raise ValueError("must be appconfig:APPLICATION/ENVIRONMENT/PROFILE, by name or id")


def _ssm(name: str) -> SsmParameter:
    if len(name) > _SSM_LONGEST or not _SSM_NAME.fullmatch(name):
        raise ValueError("must be ssm:/NAME, the parameter's full name without version or label")
    return SsmParameter(name)


def _azure_key_value(url: str) -> AzureKeyValue:
    must = "must be azure-appconfig:https://NAME.azconfig.io/KEY, lower-case, with ?label= at most"
    host, path, query = _url(url, _CONFIGURATION_HOST, must)
    name, equals, label = query.partition("=")
    if query and (name != "label" or not equals or not label or "&" in label):
        raise ValueError(must)
    key, label = _decoded(path, must), _decoded(label, must)
    # `.`, `..` and `%` are no keys, and `*` and `,` would read a list of them.
    if not key or len(key) > _LONGEST_KEY or key in {".", ".."} or re.search(r"[%*,\\]", key):
        raise ValueError(f"{must}; the key is 1 to {_LONGEST_KEY} characters without % * , \\")
    if len(label) > _LONGEST_LABEL or re.search(r"[*,\\]", label):
        raise ValueError(f"{must}; the label is at most {_LONGEST_LABEL} characters without * , \\")
    return AzureKeyValue(host, key, label)


def _azure_blob(url: str) -> AzureBlob:
    must = (
        "must be azure-blob:https://ACCOUNT.blob.core.windows.net/CONTAINER/BLOB, without a query: "
        "the function's managed identity reads it, a SAS is neither needed nor taken"
    )
    host, path, query = _url(url, _BLOB_HOST, must)
    container, _, rest = path.partition("/")
    blob = _decoded(rest, must)
    parts = blob.split("/")
    # A library on the way would resolve a dot segment, and read another blob than the one named.
    odd = not all(parts) or not {".", ".."}.isdisjoint(parts) or "\\" in blob
    if query or not _CONTAINER.fullmatch(container) or len(blob) > _LONGEST_KEY or odd:
        raise ValueError(must)
    return AzureBlob(host, container, blob)


def _url(url: str, hosts: re.Pattern[str], must: str) -> tuple[str, str, str]:
    """Host, path without its first slash, and query, both still encoded."""
    match = re.fullmatch(r"https://([^/?#]*)/([^?#]*)(\?[^#]*)?", url)
    if match is None or not hosts.fullmatch(match[1]) or match[3] == "?":
        raise ValueError(must)
    return match[1], match[2], (match[3] or "").removeprefix("?")


def _decoded(text: str, must: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ValueError(must)
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        raise ValueError(must) from None
    if not decoded.isprintable():
        raise ValueError(must)
    return decoded
