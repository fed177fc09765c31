"""Where the policy comes from, and which one is in force.

`setting` reads the setting, `open_source` gives the function that reads that source once, and
`store` calls it at start and every 60 s. AWS's and Azure's readers are imported only when the
setting names them: boto3 is heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from tokenvend.errors import Misconfigured
from tokenvend.policy_source.setting import AwsSource, AzureSource, PackagedFile
from tokenvend.policy_source.text import MAX_BYTES, policy_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tokenvend.deadline import Deadline
    from tokenvend.model import Secret
    from tokenvend.policy_source.setting import Source
    from tokenvend.policy_source.store import Read
    from tokenvend.transport import Sender
    from tokenvend.transport.egress import Egress


def open_source(
    source: Source,
    *,
    root: Path,
    environ: Mapping[str, str],
    sender: Sender,
    bearer: Callable[[Deadline], Secret] | None,
    egress: Egress,
    now: Callable[[], float],
) -> Read:
    """The function that reads `source` once; opening reads nothing.

    `root`: the folder that a packaged file is relative to. `environ`, `egress` and `now` (epoch
    seconds): for AWS, whose SDK does not use `sender`. `bearer`: a token of our own managed
    identity for the source's `resource`; `sender` must allow the source's `host`.
    Raises Misconfigured for an Azure source without a managed identity.
    """
    match source:
        case PackagedFile():
            return lambda _: _read_file(root / source.text)
        case AwsSource():
            from tokenvend.policy_source.aws import AwsReader  # noqa: PLC0415 - off Azure's path

            return AwsReader(source, environ, egress, now)
        case AzureSource():
            from tokenvend.policy_source.azure import AzureReader  # noqa: PLC0415 - off AWS's path

            if bearer is None:
                raise Misconfigured(cause="there is no managed identity to read the policy with")
            return AzureReader(source, sender, bearer)
        case _ as never:
            assert_never(never)


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        cause = f"the file cannot be read ({type(error).__name__})"
        raise Misconfigured(cause=cause) from None
    return policy_text(data)
