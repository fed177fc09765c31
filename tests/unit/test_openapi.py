"""The published document is valid, complete and of this version."""

from __future__ import annotations

import json
from importlib import resources

from openapi_spec_validator import validate

from tokenvend import __version__, errors
from tokenvend.http import RESOURCES
from tokenvend.wire.own import STATUSES

DOCUMENT = json.loads(resources.files("tokenvend").joinpath("openapi.json").read_text())


def test_it_is_openapi_3_1_of_this_version() -> None:
    validate(DOCUMENT)
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["version"] == __version__


def test_it_names_every_route_and_method_and_no_other() -> None:
    described = {path: {m.upper() for m in item} for path, item in DOCUMENT["paths"].items()}
    assert described == {path: set(resource.methods) for path, resource in RESOURCES.items()}


def test_it_names_every_code_of_an_error() -> None:
    codes = set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"])
    assert codes == {kind.code for kind in STATUSES}
    assert errors.TokenvendError in STATUSES
