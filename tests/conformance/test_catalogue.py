"""The list of what is served: `tokenvend local routes`, and the page that is made of it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from localcloud import catalogue
from localcloud.wire.routes import Route
from tokenvend.cli import main

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["local", "routes", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_page_is_what_make_docs_would_write_now() -> None:
    page = (ROOT / "infra/local/README.md").read_text("utf-8")
    assert page == run("--markdown"), "run `make docs`"


def test_routes_tells_what_a_service_asks_for_and_what_it_leaves_out() -> None:
    shown = run("iamcredentials")
    assert "POST   /v1/projects/{project}/serviceAccounts/{account}:signJwt" in shown
    assert "(iam.serviceAccounts.signJwt)" in shown
    assert "left out iamcredentials.locations.workforcePools.getAllowedLocations: " in shown


def test_a_word_keeps_the_routes_it_is_part_of_and_no_others() -> None:
    found = json.loads(run("serviceAccounts/{account}:signblob", "--json"))
    assert [
        (service["title"], [route["path"].rpartition(":")[2] for route in service["routes"]])
        for services in found.values()
        for service in services
    ] == [("IAM Service Account Credentials", ["signBlob"])]


def test_a_word_that_nothing_has_is_said_to_be_of_nothing() -> None:
    result = CliRunner().invoke(main, ["local", "routes", "no-such-thing"])
    assert (result.exit_code, result.output) == (
        1,
        "Error: The local cloud has nothing of 'no-such-thing'.\n",
    )


def test_json_is_the_whole_catalogue() -> None:
    assert json.loads(run("--json")) == catalogue.document()


def test_a_permission_that_the_handler_asks_for_stands_in_brackets() -> None:
    assert catalogue.permission(Route("GET", "/", None, "a.b.c")) == "a.b.c"
    assert catalogue.permission(Route("GET", "/", None, asks="a.b.c")) == "(a.b.c)"
    assert catalogue.permission(Route("GET", "/", None)) == ""
