"""Terraform's gcs backend, which is Go's client: state, lock and workspaces in a bucket."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.clients.client import ClientError, Program
from tests.clients.conftest import BUCKET
from tests.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.client import Place
    from tests.clients.conftest import Judge

PREFIX = "terraform state/&#%+ü"
MAIN = f"""
terraform {{
  backend "gcs" {{
    bucket = "{BUCKET}"
    prefix = "{PREFIX}"
  }}
}}

variable "word" {{
  default = "first"
}}

resource "terraform_data" "it" {{
  input = var.word
}}

output "word" {{
  value = terraform_data.it.output
}}
"""


@pytest.fixture(scope="module")
def terraform(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Terraform in a folder whose backend is the bucket; its token is in the environment."""
    directory: Path = tmp_path_factory.mktemp("terraform")
    (directory / "main.tf").write_text(MAIN)
    (directory / "terraformrc").write_text("disable_checkpoint = true\n")
    environment = {
        **place.environment,
        "GOOGLE_OAUTH_ACCESS_TOKEN": place.environment["ACCESS_TOKEN"],
        "TF_CLI_CONFIG_FILE": str(directory / "terraformrc"),
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
    }
    made = Program(replace(place, environment=environment, home=directory), tool("terraform"))
    made.run("init")
    return made


def test_state_lives_in_the_bucket(terraform: Program, judge: Judge) -> None:
    terraform.run("apply", "-auto-approve")
    state = json.loads(judge.content(f"{PREFIX}/default.tfstate"))
    assert state["outputs"]["word"]["value"] == "first"
    terraform.run("apply", "-auto-approve", "-var", "word=second")
    pulled = json.loads(terraform.run("state", "pull"))
    assert pulled["outputs"]["word"]["value"] == "second"
    assert pulled["serial"] > state["serial"]
    assert judge.names(f"{PREFIX}/") == [f"{PREFIX}/default.tfstate"], "the lock is gone"


def test_a_held_lock_keeps_others_out(terraform: Program, judge: Judge) -> None:
    lock = {"ID": "", "Operation": "OperationTypeApply", "Who": "somebody else", "Version": "1.11"}
    judge.put(f"{PREFIX}/default.tflock", json.dumps(lock).encode())
    with pytest.raises(ClientError, match="Error acquiring the state lock"):
        terraform.run("apply", "-auto-approve", "-lock-timeout=0s")
    generation = judge.metadata(f"{PREFIX}/default.tflock")["generation"]
    terraform.run("force-unlock", "-force", generation)
    terraform.run("plan", "-lock-timeout=0s")


def test_workspaces_are_found_by_listing(terraform: Program, judge: Judge) -> None:
    terraform.run("workspace", "new", "other")
    terraform.run("apply", "-auto-approve")
    assert f"{PREFIX}/other.tfstate" in judge.names(f"{PREFIX}/")
    assert set(terraform.run("workspace", "list").decode().split()) == {"default", "*", "other"}
    terraform.run("destroy", "-auto-approve")
    terraform.run("workspace", "select", "default")
    terraform.run("workspace", "delete", "other")
    assert judge.names(f"{PREFIX}/") == [f"{PREFIX}/default.tfstate"]
