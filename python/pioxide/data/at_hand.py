"""A dataset at an address (`s3://`, `gs://`, `hf://`): its files in the cache, video only where asked for.

Whatever reads a dataset then reads files of this machine. What is made of a dataset's numbers opens no video.
"""

from __future__ import annotations

from pathlib import Path

from pioxide.data.faults import fault
from pioxide.errors import FetchError
from pioxide.fetch.brought import brought, is_readable
from pioxide.files import as_address

FOLDERS = ("meta", "data")
PICTURES = ("videos", "images")


def at_hand(path: Path, *, pictures: bool = False) -> Path:
    """Returns the directory of a dataset: the path itself, or the copy of what lies at an address.

    Only files that are new or have changed since are brought, each whole or not at all. Of several processes
    that ask at once one brings them, and the others wait.

    Args:
        path: A directory or an address.
        pictures: Whether video is needed too.

    Raises:
        DatasetError: There is no dataset at the address, or it can't be reached; or its package is missing.
        OutputError: The cache can't be written, or is too small.
    """
    if not is_readable(path):
        return path
    address = as_address(path).rstrip("/")
    try:
        copy = brought(path, "datasets", (*FOLDERS, *PICTURES) if pictures else FOLDERS)
    except FetchError as error:
        raise fault(str(error).removeprefix(f"{address}: "), file=address) from error
    if not any((copy / folder).is_dir() for folder in FOLDERS):
        raise fault("holds neither meta/ nor data/; it is not a LeRobot dataset", file=address)
    return copy
