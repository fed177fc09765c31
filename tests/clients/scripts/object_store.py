"""obstore, which is Rust's object_store."""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from obstore.store import GCSStore
from orders import serve


def _credential() -> dict[str, Any]:
    return {
        "token": os.environ["ACCESS_TOKEN"],
        "expires_at": datetime.now(UTC) + timedelta(minutes=10),
    }


store = GCSStore(sys.argv[1], credential_provider=_credential)


def upload(file: str, name: str) -> None:
    store.put(name, Path(file), chunk_size=5 * 1024 * 1024)


def download(name: str, file: str) -> None:
    with Path(file).open("wb") as sink:
        sink.writelines(store.get(name).stream(min_chunk_size=1024 * 1024))


def listing(prefix: str, delimiter: str) -> list[str]:
    found = store.list_with_delimiter(prefix)
    names = [entry["path"] for entry in found["objects"]]
    return sorted([*names, *(folder + delimiter for folder in found["common_prefixes"])])


def copy(name: str, to: str) -> None:
    store.copy(name, to)


def move(name: str, to: str) -> None:
    store.rename(name, to)


def delete(names: list[str]) -> None:
    store.delete(names)


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
