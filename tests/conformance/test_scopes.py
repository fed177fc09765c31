"""The scopes that lint and the embedded cloud know, against Google's own discovery documents."""

from __future__ import annotations

import json
from pathlib import Path

import googleapiclient.discovery_cache
import pytest

from localcloud.google.core.scopes import known
from tokenvend.policy.review.scopes import ROOT, is_known

DOCUMENTS = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
# Of people alone: no service account has a body, or data to take elsewhere.
_PEOPLES = tuple(ROOT + start for start in ("dataportability.", "fitness.", "googlehealth."))


@pytest.fixture(scope="module")
def scopes() -> set[str]:
    found: set[str] = set()
    for document in DOCUMENTS.glob("*.json"):
        auth = json.loads(document.read_text("utf-8")).get("auth", {})
        found |= auth.get("oauth2", {}).get("scopes", {}).keys()
    assert len(found) > 400
    return found


def test_every_scope_of_googles_apis_is_known(scopes: set[str]) -> None:
    unknown = {scope for scope in scopes if not scope.startswith(_PEOPLES) and not is_known(scope)}
    assert unknown == set()


def test_the_embedded_cloud_grants_googles_scopes_and_a_few_that_no_document_names(
    scopes: set[str],
) -> None:
    assert scopes - known() == set()
    # A newer document may have dropped some; a list that was made up would have many.
    assert len(known() - scopes) < 30
