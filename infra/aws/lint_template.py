"""Lint a SAM template for real: expand it as CloudFormation would, then run cfn-lint on the result.

cfn-lint on raw SAM passes templates that SAM itself refuses.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

# The translator asks boto3 for a region although it calls nothing.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")  # noqa: TID251

from cfnlint.api import ManualArgs, lint
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse


class _NoManagedPolicies:
    """The template names no managed policy; looking them up would call IAM."""

    def load(self) -> dict[str, str]:
        return {}


def expand(template: dict[str, Any]) -> dict[str, Any]:
    """The CloudFormation template that SAM makes of this one; raises InvalidDocumentException."""
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            # `sam package` would put the built code here.
            resource["Properties"]["CodeUri"] = "s3://bucket/key"
    parameters = {
        name: parameter["Default"]
        for name, parameter in template.get("Parameters", {}).items()
        if "Default" in parameter
    }
    expanded: dict[str, Any] = transform(template, parameters, _NoManagedPolicies())
    return expanded


def main(path: str) -> int:
    """Print each finding; 0 when there is none."""
    try:
        expanded = expand(yaml_parse(Path(path).read_text()))
    except InvalidDocumentException as refused:
        print(*(f"{path}: {cause.message}" for cause in refused.causes), sep="\n")  # noqa: T201
        return 1
    findings = lint(json.dumps(expanded), config=ManualArgs(regions=["us-east-1"]))
    print(*(f"{path}: {found.rule.id} {found.message}" for found in findings), sep="\n")  # noqa: T201
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
