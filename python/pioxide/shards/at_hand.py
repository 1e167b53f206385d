"""Tokens at an address (`s3://`, `gs://`, `hf://`): all their files, brought to the cache."""

from __future__ import annotations

import os
from pathlib import Path

from pioxide.errors import FetchError, FormatError
from pioxide.fetch.brought import brought, is_readable
from pioxide.files import as_address
from pioxide.shards.lease import LEASES
from pioxide.shards.manifest import FILE_NAME


def tokens_at_hand(path: str | os.PathLike[str]) -> Path:
    """Returns a token directory: the path itself, or the copy of what lies at an address.

    Raises:
        FormatError: There are no tokens at the address, or it can't be reached; or its package is missing.
        OutputError: The cache can't be written, or is too small.
    """
    if not is_readable(path := Path(path)):
        return path
    try:
        copy = brought(path, "tokens", without=(LEASES,))
    except FetchError as error:
        raise FormatError(str(error)) from error
    if not (copy / FILE_NAME).is_file():
        raise FormatError(f"{as_address(path)} has no {FILE_NAME}; it is not the output of pioxide tokenize")
    return copy
