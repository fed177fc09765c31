"""Where the policy comes from, and which one is in force.

`parse_source` reads the setting, `open_source` gives the function that reads that source once, and
`PolicyStore` calls it at start and every 60 s. AWS's and Azure's readers are imported only when
the setting names them: boto3 is heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from tokenvend.errors import Misconfigured
from tokenvend.policy_source.setting import (
    AppConfigProfile,
    AzureBlob,
    AzureKeyValue,
    AzureSource,
    PackagedFile,
    Source,
    SsmParameter,
    parse_source,
)
from tokenvend.policy_source.store import PolicyInForce, PolicyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tokenvend.deadline import Deadline
    from tokenvend.model import Secret
    from tokenvend.policy_source.store import Read
    from tokenvend.transport import Sender

__all__ = [
    "AppConfigProfile",
    "AzureBlob",
    "AzureKeyValue",
    "AzureSource",
    "PackagedFile",
    "PolicyInForce",
    "PolicyStore",
    "Source",
    "SsmParameter",
    "open_source",
    "parse_source",
]


def open_source(
    source: Source,
    *,
    root: Path,
    environ: Mapping[str, str],
    sender: Sender,
    bearer: Callable[[Deadline], Secret] | None,
    proxy: str = "",
    ca_bundle: str = "",
) -> Read:
    """The function that reads `source` once; opening reads nothing.

    `root`: the folder that a packaged file is relative to. `environ`, `proxy` and `ca_bundle`:
    for AWS, whose SDK does not use `sender`. `bearer`: a token of our own managed identity for
    the source's `resource`; `sender` must allow the source's `host`.
    Raises Misconfigured for an Azure source without a managed identity.
    """
    match source:
        case PackagedFile():
            from tokenvend.policy_source.file import read_file  # noqa: PLC0415 - as the others

            path = root / source.path
            return lambda _: read_file(path)
        case AppConfigProfile() | SsmParameter():
            from tokenvend.policy_source.aws import AwsReader  # noqa: PLC0415 - off Azure's path

            return AwsReader(source, environ, proxy=proxy, ca_bundle=ca_bundle)
        case AzureKeyValue() | AzureBlob():
            from tokenvend.policy_source.azure import AzureReader  # noqa: PLC0415 - off AWS's path

            if bearer is None:
                raise Misconfigured(cause="there is no managed identity to read the policy with")
            return AzureReader(source, sender, bearer)
        case _ as never:
            assert_never(never)
