"""Programs of several languages find the embedded cloud by its environment alone, and trust it.

Each is asked for a real hostname over TLS, and for the metadata of the machine that it is on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localcloud.cloud import Cloud
from localcloud.world import World
from tests.tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TLS = "https://sts.us-east-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15"
METADATA = "http://169.254.169.254/latest/meta-data/"
# Without a signature, and without a metadata token.
EXPECTED = ["403", "401"]

JAVA = """
import java.net.*;
public class Probe {
    public static void main(String[] urls) throws Exception {
        for (String url : urls) {
            HttpURLConnection c = (HttpURLConnection) new URL(url).openConnection();
            System.out.println(c.getResponseCode());
        }
    }
}
"""
URLLIB = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    try:
        print(urllib.request.urlopen(url, timeout=9).status)
    except urllib.error.HTTPError as answer:
        print(answer.status)
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    # A space in the path, since Java's launcher splits its options there.
    directory = tmp_path_factory.mktemp("a cloud")
    with Cloud(World.load(), directory, functions=()) as running:
        yield running.environment_for("etl", "ec2")


def statuses(environment: dict[str, str], *command: str) -> list[str]:
    done = subprocess.run(  # noqa: S603 -- our own script
        [*command, TLS, METADATA],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_java(machine: dict[str, str], tmp_path: Path) -> None:
    source = tmp_path / "Probe.java"
    source.write_text(JAVA)
    tool("javac")  # a runtime alone reads no source
    assert statuses(machine, tool("java"), str(source)) == EXPECTED


def test_curl(machine: dict[str, str]) -> None:
    form = ("-sS", "-w", "%{http_code}\\n")
    assert statuses(machine, tool("curl"), *form, "-o", os.devnull, "-o", os.devnull) == EXPECTED


def test_httplib2_trusts_it(machine: dict[str, str]) -> None:
    # Without PySocks httplib2 uses no proxy, so it is asked for its trust alone.
    done = subprocess.run(
        [sys.executable, "-c", "import httplib2.certs; print(httplib2.certs.where())"],
        env=machine,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == machine["SSL_CERT_FILE"]


def test_the_standard_library(machine: dict[str, str]) -> None:
    assert statuses(machine, sys.executable, "-c", URLLIB) == EXPECTED


def test_each_spelling_of_a_proxy_variable_says_the_same(machine: dict[str, str]) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        assert machine[name] == machine[name.lower()]
    assert "169.254" not in machine["NO_PROXY"]
