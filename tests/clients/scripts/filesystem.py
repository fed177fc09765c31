"""gcsfs, fsspec's file system (aiohttp)."""

import os
import sys

import gcsfs
from google.oauth2.credentials import Credentials
from orders import serve

bucket = sys.argv[1]
files = gcsfs.GCSFileSystem(
    project="acme",
    token=Credentials(os.environ["ACCESS_TOKEN"]),
    session_kwargs={"trust_env": True},
)


def _path(name: str) -> str:
    return f"{bucket}/{name}"


def upload(file: str, name: str) -> None:
    files.put_file(file, _path(name))


def download(name: str, file: str) -> None:
    files.get_file(_path(name), file)


def listing(prefix: str, delimiter: str) -> list[str]:
    files.invalidate_cache()
    found = files.ls(_path(prefix), detail=True)
    ends = {"directory": delimiter, "file": ""}
    return sorted(entry["name"].removeprefix(f"{bucket}/") + ends[entry["type"]] for entry in found)


def copy(name: str, to: str) -> None:
    files.cp_file(_path(name), _path(to))


def move(name: str, to: str) -> None:
    files.mv(_path(name), _path(to))


def compose(names: list[str], to: str) -> None:
    files.merge(_path(to), [_path(name) for name in names])


def delete(names: list[str]) -> None:
    files.rm([_path(name) for name in names])


serve(
    {
        "upload": upload,
        "download": download,
        "list": listing,
        "copy": copy,
        "move": move,
        "compose": compose,
        "delete": delete,
    }
)
