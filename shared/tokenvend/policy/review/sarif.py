"""Lint findings as SARIF 2.1.0, which GitHub, GitLab and Azure DevOps show in a review.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenvend.policy.review.lint import RULES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tokenvend.policy.review.lint import Finding

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(found: Mapping[str, tuple[Finding, ...]], *, version: str) -> dict[str, object]:
    """One run. `found`: by the policy's path as the repository knows it; `version`: the tool's."""
    ids = list(RULES)
    driver = {
        "name": "tokenvend policy lint",
        "semanticVersion": version,
        "rules": [{"id": rule, "shortDescription": {"text": RULES[rule]}} for rule in ids],
    }
    results = [
        {
            "ruleId": finding.rule,
            "ruleIndex": ids.index(finding.rule),
            "level": str(finding.severity),
            "message": {"text": str(finding)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": uri},
                        "region": {"startLine": finding.line},
                    }
                }
            ],
        }
        for uri, findings in found.items()
        for finding in findings
    ]
    run = {"tool": {"driver": driver}, "columnKind": "utf16CodeUnits", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
