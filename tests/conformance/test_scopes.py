"""The scopes that lint knows, against Google's own discovery documents."""

from __future__ import annotations

import json
from pathlib import Path

import googleapiclient.discovery_cache

from tokenvend.policy.review.scopes import ROOT, is_known

DOCUMENTS = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
# Of people alone: no service account has a body, or data to take elsewhere.
_PEOPLES = tuple(ROOT + start for start in ("dataportability.", "fitness.", "googlehealth."))


def test_every_scope_of_googles_apis_is_known() -> None:
    scopes: set[str] = set()
    for document in DOCUMENTS.glob("*.json"):
        auth = json.loads(document.read_text("utf-8")).get("auth", {})
        scopes |= auth.get("oauth2", {}).get("scopes", {}).keys()
    assert len(scopes) > 400
    unknown = {scope for scope in scopes if not scope.startswith(_PEOPLES) and not is_known(scope)}
    assert unknown == set()
