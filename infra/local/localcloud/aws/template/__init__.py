"""What deploys: the SAM template, expanded as CloudFormation sees it and read as a stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from localcloud.aws.template.expansion import TemplateError, expand
from localcloud.aws.template.permissions import permission
from localcloud.aws.template.resources import Function, HttpApi, Route, Template, Throttle, Url
from localcloud.aws.template.stack import stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Function",
    "HttpApi",
    "Route",
    "Template",
    "TemplateError",
    "Throttle",
    "Url",
    "declared",
    "load",
    "permission",
]


# Reads a template's names; what an intrinsic would come to is of no interest. libyaml's reader,
# where PyYAML was built with it, takes a tenth of the time.
_Names: Any = type("_Names", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
_Names.add_multi_constructor("!", lambda *_: None)


def declared(path: Path) -> frozenset[str]:
    """The names of the parameters that a template declares."""
    document = yaml.load(path.read_text(encoding="utf-8"), _Names)  # noqa: S506 - a safe loader
    return frozenset(document.get("Parameters", {}))


def load(
    path: Path,
    parameters: Mapping[str, str],
    *,
    account: str,
    region: str,
    kept: Path | None = None,
) -> Template:
    """Read a template as a stack in this account and region; raises TemplateError.

    `kept`: a file for expansions, which the next start then need not repeat.
    """
    document = expand(path.read_text(encoding="utf-8"), parameters, region=region, kept=kept)
    return stack(document, parameters, account=account, region=region)
