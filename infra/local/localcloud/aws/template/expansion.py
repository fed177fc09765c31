"""The template as CloudFormation sees it: SAM's own translator turns it into plain resources.

What SAM generates (roles, permissions, versions, aliases, Function URLs, an HttpApi's definition)
is thereby read from the same text that a deployment would create. The translator takes a second to
import, so expansions are kept, by what went into them, in a file that only the user reads.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from localcloud.aws.iam import AWS_MANAGED

if TYPE_CHECKING:
    from collections.abc import Mapping

# What `sam package` would put in the place of a folder of code.
_PACKAGED = "s3://packaged/code"
_CODE = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
# Expansions in the file: the two that a start needs, of the last two templates.
_KEPT = 4


# The translator counts its own calls, and warns that nobody publishes the counts.
logging.getLogger("samtranslator.metrics").setLevel(logging.ERROR)


class TemplateError(ValueError):
    """The template says something that is not understood here; names the resource."""


def expand(
    text: str, parameters: Mapping[str, str], *, region: str, kept: Path | None = None
) -> dict[str, Any]:
    """The plain CloudFormation document of a template's text; raises TemplateError.

    `kept`: the file that holds former expansions; it may not exist yet.
    """
    given = json.dumps(parameters, sort_keys=True)
    found = version("aws-sam-translator"), text, given, region
    key = hashlib.sha256("\0".join(found).encode()).hexdigest()
    held = _held(kept)
    if key not in held:
        held[key] = json.loads(_translated(text, given, region))
        if kept is not None:
            _keep(kept, dict(list(held.items())[-_KEPT:]))
    document: dict[str, Any] = held[key]
    return document


@lru_cache(maxsize=16)
def _translated(text: str, parameters: str, region: str) -> str:
    from samtranslator.model.exceptions import InvalidDocumentException  # noqa: PLC0415
    from samtranslator.parser.parser import Parser  # noqa: PLC0415
    from samtranslator.translator.translator import Translator  # noqa: PLC0415
    from samtranslator.yaml_helper import yaml_parse  # noqa: PLC0415

    document = yaml_parse(text)
    for resource in document["Resources"].values():
        if code := _CODE.get(resource["Type"]):
            resource["Properties"][code] = _PACKAGED
    managed = {arn.rpartition("/")[2]: arn for arn in AWS_MANAGED}
    try:
        translator = Translator(managed, Parser(), boto_session=_Region(region))
        expanded = translator.translate(document, json.loads(parameters))
    except InvalidDocumentException as refused:
        raise TemplateError("; ".join(cause.message for cause in refused.causes)) from None
    return json.dumps(expanded, default=str)


@dataclass(frozen=True)
class _Region:
    """All that the translator asks a session of AWS for."""

    region_name: str


def _held(kept: Path | None) -> dict[str, Any]:
    if kept is None or not kept.is_file():
        return {}
    try:
        held: dict[str, Any] = json.loads(kept.read_text("utf-8"))
    except ValueError:
        # Cut short by a full disk, say: it is made anew.
        return {}
    return held


def _keep(kept: Path, held: dict[str, Any]) -> None:
    """Write the file whole or not at all."""
    with NamedTemporaryFile("w", dir=kept.parent, delete=False, encoding="utf-8") as file:
        json.dump(held, file)
    Path(file.name).replace(kept)
