"""pyarrow's GcsFileSystem, which is google-cloud-cpp."""

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orders import serve
from pyarrow.fs import FileSelector, FileType, GcsFileSystem

bucket = sys.argv[1]
files = GcsFileSystem(
    access_token=os.environ["ACCESS_TOKEN"],
    credential_token_expiration=datetime.now(UTC) + timedelta(minutes=10),
    retry_time_limit=timedelta(seconds=20),
)


def _path(name: str) -> str:
    return f"{bucket}/{name}"


def upload(file: str, name: str) -> None:
    with Path(file).open("rb") as source, files.open_output_stream(_path(name)) as sink:
        shutil.copyfileobj(source, sink, 1024 * 1024)


def download(name: str, file: str) -> None:
    with files.open_input_stream(_path(name)) as source, Path(file).open("wb") as sink:
        shutil.copyfileobj(source, sink, 1024 * 1024)


def listing(prefix: str, delimiter: str) -> list[str]:
    found = files.get_file_info(FileSelector(_path(prefix.rstrip(delimiter))))
    ends = {FileType.Directory: delimiter, FileType.File: ""}
    return sorted(entry.path.removeprefix(f"{bucket}/") + ends[entry.type] for entry in found)


def copy(name: str, to: str) -> None:
    files.copy_file(_path(name), _path(to))


def move(name: str, to: str) -> None:
    files.move(_path(name), _path(to))


def delete(names: list[str]) -> None:
    for name in names:
        files.delete_file(_path(name))


serve(
    {
        "upload": upload,
        "download": download,
        "list": listing,
        "copy": copy,
        "move": move,
        "delete": delete,
    }
)
