"""Every method of Google's discovery documents is served, or listed with the reason why it is not.

A method counts once for each way in that its document gives it: its path, the paths of an upload,
a download. The numbers are printed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import googleapiclient.discovery_cache
import pytest

from localcloud import google
from localcloud.wire.routes import Service

DOCUMENTS = Path(googleapiclient.discovery_cache.__file__).parent / "documents"
WANTED = (
    "sts.v1",
    "iamcredentials.v1",
    "iam.v1",
    "cloudresourcemanager.v1",
    "cloudresourcemanager.v3",
    "serviceusage.v1",
    "run.v1",
    "run.v2",
    "storage.v1",
)
Way = tuple[str, str, str]
"""A method's id (with ``#`` and the way, if it is not its own path), HTTP method and path."""


def document(name: str) -> dict[str, Any]:
    text: dict[str, Any] = json.loads((DOCUMENTS / f"{name}.json").read_text("utf-8"))
    return text


def methods(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from node.get("methods", {}).values()
    for resource in node.get("resources", {}).values():
        yield from methods(resource)


def ways(name: str) -> Iterator[Way]:
    text = document(name)
    for method in methods(text):
        verb, path = method["httpMethod"], method.get("flatPath") or method["path"]
        base = "/" + text["servicePath"]
        yield method["id"], verb, base + path
        for way, protocol in method.get("mediaUpload", {}).get("protocols", {}).items():
            yield f"{method['id']}#{way}", verb, protocol["path"]
        if method.get("useMediaDownloadService"):
            yield f"{method['id']}#download", verb, "/download" + base + path


def serving(name: str) -> list[Service[Any]]:
    """The tables at the document's host."""
    host = urlsplit(document(name)["rootUrl"]).netloc
    return [service for service in google.SERVICES if host in service.hosts]


def is_served(way: Way, services: list[Service[Any]]) -> bool:
    """Whether a table has it for some value of each parameter: a location may be a fixed word."""
    _, verb, path = way
    # Service Usage leaves open whose services are meant; here they are a project's.
    path = path.replace("{v1Id}", "projects")
    for value in ("name", "global", "0123456789"):
        concrete = re.sub(r"\{\+?[A-Za-z0-9_]+\}", value, path)
        for service in services:
            found = service.find(verb, concrete)
            # A table without the document is another API at the same host.
            if found is not None and service.document:
                return True
    return False


def reasons(method: str, services: list[Service[Any]]) -> list[str]:
    """The entries of the tables that leave the method out."""
    return [
        entry.method
        for service in services
        for entry in service.unserved
        if fnmatchcase(method, entry.method) or fnmatchcase(method.partition("#")[0], entry.method)
    ]


@pytest.mark.parametrize("name", WANTED)
def test_each_method_is_served_or_left_out_with_a_reason(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    services = serving(name)
    assert any(service.document == name for service in services)
    served = {way[0] for way in ways(name) if is_served(way, services)}
    listed = {way[0] for way in ways(name) if reasons(way[0], services)} - served
    missing = {way[0] for way in ways(name)} - served - listed
    with capsys.disabled():
        numbers = f"{len(served)} served, {len(listed)} listed, {len(missing)} missing"
        sys.stdout.write(f"\n{name}: {numbers} ")
    assert missing == set()


@pytest.mark.parametrize("name", WANTED)
def test_nothing_is_left_out_that_is_served_or_does_not_exist(name: str) -> None:
    services = [service for service in serving(name) if service.document == name]
    known = {way[0]: way for way in ways(name)}
    for service in services:
        for entry in service.unserved:
            assert entry.because
            whole, _, part = entry.method.partition("#")
            if part and entry.method not in known:
                assert is_served(known[whole], services), f"{entry.method} is part of nothing"
                continue
            named = [method for method in known if fnmatchcase(method, entry.method)]
            assert named, f"{entry.method} is no method of {name}"
            for method in named:
                assert not is_served(known[method], services), f"{method} is served"


def test_what_is_neither_served_nor_listed_would_be_found() -> None:
    service = next(s for s in google.SERVICES if s.document == "iamcredentials.v1")
    bare = Service(service.title, service.hosts, service.routes[1:], service.document)
    lost = [
        way[0]
        for way in ways("iamcredentials.v1")
        if not is_served(way, [bare]) and not reasons(way[0], [bare])
    ]
    assert sorted(lost) == [
        "iamcredentials.locations.workforcePools.getAllowedLocations",
        "iamcredentials.projects.serviceAccounts.generateAccessToken",
    ]


def test_each_table_is_found_at_every_host_that_its_document_names() -> None:
    for service in google.SERVICES:
        if not service.document:
            continue
        text = document(service.document)
        urls = [text["rootUrl"], text["mtlsRootUrl"]]
        urls += [endpoint["endpointUrl"] for endpoint in text.get("endpoints", [])]
        for host in (urlsplit(url).netloc for url in urls):
            assert any(fnmatchcase(host, pattern) for pattern in service.hosts), host
