"""Files below an address (`s3://`, `gs://`, `hf://`), brought to the cache of this machine.

Datasets (`data.at_hand`) and tokens (`shards.at_hand`) come this way.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pioxide.errors import FetchError, FormatError, OutputError
from pioxide.fetch.assets import cache_directory
from pioxide.fetch.download import ANONYMOUS
from pioxide.files import TEMPORARY, as_address, locked, make_directory, read_json, rename, write_json

log = logging.getLogger(__name__)

READABLE = ("s3", "s3a", "gs", "gcs", "hf")
# Beside the copy: what the store said of each file when it was brought.
BROUGHT = ".brought.json"
# Files at a time, and until it is noted that they are here.
AT_ONCE, NOTED = 8, 64
# Bytes that take long enough to be told of unasked.
NOTABLE = 100_000_000
# What changes when a file does, by the stores' own words.
IDENTITIES = ("ETag", "etag", "md5Hash", "crc32c", "blob_id", "generation")


def is_readable(path: Path | str) -> bool:
    """Returns whether a path is an address of a kind that files are brought from."""
    return as_address(path).partition("://")[0].lower() in READABLE


def brought(path: Path | str, kind: str, folders: Sequence[str] = ("",), without: Sequence[str] = ()) -> Path:
    """Returns the copy of what lies at an address.

    Only files that are new or have changed since are brought, each whole or not at all. Of several processes
    that ask at once one brings them, and the others wait.

    Args:
        path: The address; see `is_readable`.
        kind: Folder of the cache.
        folders: What to bring of it; all by default.
        without: Folders to leave there.

    Raises:
        FetchError: It can't be reached, or is not as it was listed; or a package is missing.
        OutputError: The cache can't be written, or is too small.
    """
    address = as_address(path).rstrip("/")
    files, root = _opened(address)
    name = hashlib.sha256(address.encode()).hexdigest()[:16]
    copy = cache_directory() / kind / name / address.rsplit("/", 1)[-1]
    make_directory(copy)
    while True:
        try:
            with locked(copy):
                _bring(files, root, address, copy, folders, without)
            return copy
        except OutputError as error:
            if not str(error).startswith("another run is writing"):
                raise
            time.sleep(1)


def _opened(address: str) -> tuple[Any, str]:
    """The store as the person's own account sees it; as everybody does, where there is none or it may not."""
    protocol = address.partition("://")[0].lower()
    try:
        fsspec: Any = importlib.import_module("fsspec")
        own, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
        try:
            own.invalidate_cache()  # hf:// remembers what it listed, whatever is asked of it
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
        raise FetchError(f'{address}: {error}; pip install "pioxide[fetch]"') from error
    except Exception as error:
        raise _unreachable(address, error) from error


def _bring(
    files: Any, root: str, address: str, copy: Path, folders: Sequence[str], without: Sequence[str]
) -> None:
    """Make the copy what lies there."""
    try:
        found = {
            name.removeprefix(f"{root}/"): _identity(info)
            for folder in folders
            for name, info in files.find(f"{root}/{folder}".rstrip("/"), detail=True).items()
        }
    except Exception as error:
        raise _unreachable(address, error) from error
    found = {name: said for name, said in found.items() if name.split("/")[0] not in without}
    try:
        before = dict(read_json(copy / BROUGHT))
    except (FormatError, TypeError, ValueError):
        before = {}
    here = {
        file.relative_to(copy).as_posix()
        for folder in folders
        for file in (copy / folder).rglob("*")
        if file.is_file()
    } - {BROUGHT}
    for name in here - set(found):
        (copy / name).unlink()
    todo = [name for name, said in found.items() if before.get(name) != said or name not in here]
    # What other folders hold, that were brought before, stays noted.
    kept = {name: said for name, said in before.items() if name not in todo and (copy / name).is_file()}
    if not todo:
        return
    size = sum(found[name][0] for name in todo)
    free = shutil.disk_usage(copy).free
    if size > free:
        raise OutputError(
            f"{address}: {size / 1e9:,.1f} GB are to be brought to {copy}, where {free / 1e9:,.1f} GB are "
            "free; PIOXIDE_CACHE names another place"
        )
    level = logging.WARNING if size > NOTABLE else logging.INFO
    log.log(level, "%s: bringing %d files, %.1f MB, to %s", address, len(todo), size / 1e6, copy)

    def one(name: str) -> None:
        target = copy / name
        if not target.resolve().is_relative_to(copy.resolve()):
            raise FetchError(f"{address}: {name!r} leads outside of it")
        make_directory(target.parent)
        temporary = target.with_name(f".{target.name}{TEMPORARY}")
        try:
            files.get_file(f"{root}/{name}", str(temporary))
        except Exception as error:
            raise _unreachable(f"{address}/{name}", error) from error
        if temporary.stat().st_size != found[name][0]:
            came = temporary.stat().st_size
            raise FetchError(f"{address}/{name}: {came} bytes came of {found[name][0]}; try again")
        rename(temporary, target)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for name, _ in zip(todo, pool.map(one, todo), strict=True):
                kept[name] = found[name]
                if len(kept) % NOTED == 0:
                    write_json(copy / BROUGHT, kept)
        finally:  # what is here need not come again
            pool.shutdown(wait=True, cancel_futures=True)
            write_json(copy / BROUGHT, kept)


def _identity(info: dict[str, Any]) -> list[Any]:
    said = next((str(info[key]) for key in IDENTITIES if info.get(key)), "")
    return [info["size"], said or json.dumps(info.get("last_commit"), default=str)]


def _unreachable(address: str, error: BaseException) -> FetchError:
    line = (str(error).strip().splitlines() or [""])[0]
    return FetchError(f"{address}: can't be read ({type(error).__name__}: {line})")
