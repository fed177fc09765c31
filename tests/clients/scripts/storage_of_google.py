"""google-cloud-storage for Python."""

import os
import sys

from google.cloud import storage
from google.oauth2.credentials import Credentials
from orders import serve

# An upload above one chunk is a resumable session of several.
CHUNK = 1024 * 1024

bucket = storage.Client(project="acme", credentials=Credentials(os.environ["ACCESS_TOKEN"])).bucket(
    sys.argv[1]
)


def upload(file: str, name: str) -> None:
    bucket.blob(name, chunk_size=CHUNK).upload_from_filename(file)


def download(name: str, file: str) -> None:
    bucket.blob(name).download_to_filename(file)


def listing(prefix: str, delimiter: str) -> list[str]:
    pages = bucket.list_blobs(prefix=prefix, delimiter=delimiter, page_size=2)
    names = [blob.name for blob in pages]
    return sorted([*names, *pages.prefixes])


def copy(name: str, to: str) -> None:
    bucket.copy_blob(bucket.blob(name), bucket, to)


def move(name: str, to: str) -> None:
    bucket.move_blob(bucket.blob(name), to)


def compose(names: list[str], to: str) -> None:
    bucket.blob(to).compose([bucket.blob(name) for name in names])


def delete(names: list[str]) -> None:
    with bucket.client.batch():
        for name in names:
            bucket.blob(name).delete()


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
