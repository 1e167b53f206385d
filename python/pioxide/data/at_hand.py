"""A dataset at an address (`s3://`, `gs://`, `hf://`): its metadata and data files, brought to the cache.

Whatever reads a dataset then reads files of this machine. Video is never brought: nothing that is made of a
dataset's numbers opens it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pioxide.data.faults import fault
from pioxide.errors import DatasetError, FormatError, OutputError
from pioxide.fetch.assets import cache_directory
from pioxide.fetch.download import ANONYMOUS
from pioxide.files import TEMPORARY, as_address, locked, make_directory, read_json, rename, write_json

log = logging.getLogger(__name__)

READABLE = ("s3", "s3a", "gs", "gcs", "hf")
FOLDERS = ("meta", "data")
# Beside the dataset's copy: what the store said of each file when it was brought.
BROUGHT = ".brought.json"
# Files at a time, and until it is noted that they are here.
AT_ONCE, NOTED = 8, 64
# Bytes that take long enough to be told of unasked.
NOTABLE = 100_000_000
# What changes when a file does, by the stores' own words.
IDENTITIES = ("ETag", "etag", "md5Hash", "crc32c", "blob_id", "generation")


def at_hand(path: Path) -> Path:
    """Returns the directory of a dataset: the path itself, or the copy of what lies at an address.

    Only files that are new or have changed since are brought, each whole or not at all. Of several processes
    that ask at once one brings them, and the others wait.

    Raises:
        DatasetError: There is no dataset at the address, or it can't be reached; or its package is missing.
        OutputError: The cache can't be written.
    """
    address = as_address(path).rstrip("/")
    protocol = address.partition("://")[0].lower()
    if protocol not in READABLE:
        return path
    files, root = _opened(address, protocol)
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    copy = cache_directory() / "datasets" / name / address.rsplit("/", 1)[-1]
    make_directory(copy)
    while True:
        try:
            with locked(copy):
                _bring(files, root, address, copy)
            return copy
        except OutputError as error:
            if not str(error).startswith("another run is writing"):
                raise
            time.sleep(1)


def _opened(address: str, protocol: str) -> tuple[Any, str]:
    """The store as the person's own account sees it; as everybody does, where there is none or it may not."""
    try:
        fsspec: Any = importlib.import_module("fsspec")
        own, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        try:
            own.ls(root, detail=False)
            return own, root
        except Exception:  # every store has its own kinds
            if protocol not in ANONYMOUS:
                raise
            public, root = fsspec.core.url_to_fs(address, use_listings_cache=False, **ANONYMOUS[protocol])
            with suppress(Exception):
                public.ls(root, detail=False)
                return public, root
            raise
    except ImportError as error:
        raise fault(f'{error}; pip install "pioxide[fetch]"', file=address) from error
    except Exception as error:
        raise _unreachable(address, error) from error


def _bring(files: Any, root: str, address: str, copy: Path) -> None:
    """Make the copy what lies there."""
    try:
        found = {
            name.removeprefix(f"{root}/"): _identity(info)
            for folder in FOLDERS
            for name, info in files.find(f"{root}/{folder}", detail=True).items()
        }
    except Exception as error:
        raise _unreachable(address, error) from error
    if not found:
        raise fault("holds neither meta/ nor data/; it is not a LeRobot dataset", file=address)
    try:
        before = dict(read_json(copy / BROUGHT))
    except (FormatError, TypeError, ValueError):
        before = {}
    here = {file.relative_to(copy).as_posix() for folder in FOLDERS for file in (copy / folder).rglob("*")}
    for name in here - set(found):
        if (copy / name).is_file():
            (copy / name).unlink()
    todo = [name for name, said in found.items() if before.get(name) != said or name not in here]
    if not todo:
        return
    size = sum(found[name][0] for name in todo)
    level = logging.WARNING if size > NOTABLE else logging.INFO
    log.log(level, "%s: bringing %d files, %.1f MB, to %s", address, len(todo), size / 1e6, copy)

    def one(name: str) -> None:
        target = copy / name
        if not target.resolve().is_relative_to(copy.resolve()):
            raise fault(f"{name!r} leads outside the dataset", file=address)
        make_directory(target.parent)
        temporary = target.with_name(f".{target.name}{TEMPORARY}")
        try:
            files.get_file(f"{root}/{name}", str(temporary))
        except Exception as error:
            raise _unreachable(f"{address}/{name}", error) from error
        if temporary.stat().st_size != found[name][0]:
            raise fault(f"{temporary.stat().st_size} bytes came of {found[name][0]}; try again", file=name)
        rename(temporary, target)

    brought = {name: said for name, said in before.items() if name in found and name not in todo}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for name, _ in zip(todo, pool.map(one, todo), strict=True):
                brought[name] = found[name]
                if len(brought) % NOTED == 0:
                    write_json(copy / BROUGHT, brought)
        finally:  # what is here need not come again
            pool.shutdown(wait=True, cancel_futures=True)
            write_json(copy / BROUGHT, brought)


def _identity(info: dict[str, Any]) -> list[Any]:
    said = next((str(info[key]) for key in IDENTITIES if info.get(key)), "")
    return [info["size"], said or json.dumps(info.get("last_commit"), default=str)]


def _unreachable(address: str, error: BaseException) -> DatasetError:
    line = (str(error).strip().splitlines() or [""])[0]
    return fault(f"can't be read ({type(error).__name__}: {line})", file=address)
