"""One remote file -> one local file: in blocks, resumed, checked, under its name only when whole."""

from __future__ import annotations

import base64
import hashlib
import importlib
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pioxide.errors import FetchError, FormatError
from pioxide.fetch.local import LocalFiles, local_path
from pioxide.files import (
    locked,
    make_directory,
    output_error,
    read_json,
    read_text,
    rename,
    sha256_of,
    write_json,
    write_text,
)

log = logging.getLogger(__name__)

BLOCK_BYTES = 4 << 20
ATTEMPTS = 4
GOOGLE_HOST = "storage.googleapis.com"

# Public buckets are read without an account; these are asked for so that no login is looked for.
ANONYMOUS: dict[str, dict[str, Any]] = {
    "gs": {"token": "anon"},
    "gcs": {"token": "anon"},
    "s3": {"anon": True},
}


@dataclass(frozen=True)
class Downloaded:
    """A file that is here now.

    Attributes:
        path: where.
        size: bytes.
        sha256: of its content; also recorded beside it, in the format of `sha256sum`.
        checked: against what, in words.
        found: whether it was here already.
    """

    path: Path
    size: int
    sha256: str
    checked: str
    found: bool


class Remote(NamedTuple):
    """What the other side says about a file.

    Attributes:
        size: bytes, or None where it doesn't say.
        identity: something that changes when the content does, or "".
        digests: promised digests: "sha256" and "md5" in hex, "git" (a Git blob's SHA-1).
    """

    size: int | None
    identity: str
    digests: dict[str, str]


class OnBytes(Protocol):
    """Who wants to hear how far a download is."""

    def begin(self, total: int, done: int) -> None:
        """Begins a file of `total` bytes, `done` of which an earlier run brought."""
        ...

    def advance(self, count: int, /) -> None:
        """Some more bytes are here."""
        ...


def download(
    url: str,
    target: Path,
    *,
    sleep: Callable[[float], None] = time.sleep,
    on_bytes: OnBytes | None = None,
) -> Downloaded:
    """Brings `url` to `target`, unless it is there already and unchanged since.

    A download that is cut off goes on where it stopped, if the other side still has the same file.

    Args:
        url: anything fsspec opens: gs://, hf://, s3://, https://, file://, memory:// or a local path.
        target: the file to make; its directory is made too.
        sleep: waits between attempts.
        on_bytes: told of bytes, where the other side says how many there are.

    Raises:
        FetchError: no network, no such file, other bytes than promised, or an extra is not installed.
        OutputError: `target` can't be written.
    """
    make_directory(target.parent)
    found = _found(target)
    if found is not None:
        return found
    filesystem, path = open_filesystem(url)
    with locked(target.parent):
        remote = _ask(filesystem, path, url)
        part = target.with_name(f".{target.name}.part")
        _fill(filesystem, path, url, remote, part, sleep, on_bytes)
        sha256 = sha256_of(part)
        checked = _check(part, remote, sha256, url)
        rename(part, target)
        _note(part).unlink(missing_ok=True)
        write_text(_record(target), f"{sha256}  {target.name}\n")
    return Downloaded(target, target.stat().st_size, sha256, checked, found=False)


def _found(target: Path) -> Downloaded | None:
    """The file that is here, if it is still what was recorded."""
    if not target.is_file():
        return None
    sha256 = sha256_of(target)
    try:
        recorded = read_text(_record(target)).split()[:1]
    except FormatError:
        recorded = [sha256]  # put here by hand: the person knows what it is
    if recorded != [sha256]:
        return None
    return Downloaded(target, target.stat().st_size, sha256, "its recorded SHA-256", found=True)


def open_filesystem(url: str) -> tuple[Any, str]:
    """Returns an address's file system, with fsspec's methods, and the path there; local ones need none.

    Raises:
        FetchError: the address has no known kind, its package is not installed, or there is no network.
    """
    if "://" not in url or url.startswith("file://"):
        return LocalFiles(), local_path(url)
    try:
        fsspec = importlib.import_module("fsspec")
        protocol = url.split("://", 1)[0]
        filesystem, path = fsspec.core.url_to_fs(url, **ANONYMOUS.get(protocol, {}))
    except ImportError as error:
        raise FetchError(f'{url}: {_line(error)}; pip install "pioxide[fetch]"') from error
    except ValueError as error:
        raise FetchError(f"{url}: {_line(error)}") from error
    if protocol in ("gs", "gcs"):
        _resolve_google(url)
    return filesystem, path


def _resolve_google(url: str) -> None:
    """Say at once that there is no network; gcsfs would try for half a minute and print its tracebacks."""
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        socket.getaddrinfo(GOOGLE_HOST, 443)
    except OSError as error:
        raise FetchError(f"can't get {url} (no way to {GOOGLE_HOST}: {_line(error)})") from error


def _ask(filesystem: Any, path: str, url: str) -> Remote:
    try:
        info = filesystem.info(path)
    except Exception as error:
        raise _unreachable(url, error) from error
    if info.get("type") == "directory":
        raise FetchError(f"{url} is a directory, expected a file")
    identity = next(
        (str(info[k]) for k in ("etag", "ETag", "md5Hash", "blob_id", "mtime", "created") if info.get(k)), ""
    )
    digests: dict[str, str] = {}
    if isinstance(info.get("md5Hash"), str):  # Google Cloud Storage
        digests["md5"] = base64.b64decode(info["md5Hash"]).hex()
    lfs = info.get("lfs")
    promised = lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", None)
    if promised:  # a large file of Hugging Face
        digests["sha256"] = promised
    elif info.get("blob_id"):  # a small one
        digests["git"] = info["blob_id"]
    return Remote(info.get("size"), identity, digests)


def _fill(
    filesystem: Any,
    path: str,
    url: str,
    remote: Remote,
    part: Path,
    sleep: Callable[[float], None],
    on_bytes: OnBytes | None,
) -> None:
    """Append to `part` until it is whole."""
    note = {"url": url, "size": remote.size, "identity": remote.identity}
    # Without a size there is no telling a whole file from a cut one: then all of it comes in one piece.
    if remote.size is None or _read_note(part) != note:
        part.unlink(missing_ok=True)
        write_json(_note(part), note)
    try:
        with open(part, "ab") as out:
            if on_bytes is not None and remote.size is not None:
                on_bytes.begin(remote.size, out.tell())
            while remote.size is None or out.tell() < remote.size:
                start = out.tell()
                end = None if remote.size is None else min(start + BLOCK_BYTES, remote.size)
                block = _block(filesystem, path, url, start, end, sleep)
                if end is None or len(block) == remote.size != end - start:
                    out.truncate(0)  # a server that ignores ranges has sent the whole file
                    out.write(block)
                    break
                if len(block) != end - start:
                    raise FetchError(f"{url}: asked for bytes {start} to {end}, got {len(block)}; try again")
                out.write(block)
                out.flush()
                if on_bytes is not None:
                    on_bytes.advance(len(block))
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise output_error(part, error) from error


def _block(
    filesystem: Any, path: str, url: str, start: int, end: int | None, sleep: Callable[[float], None]
) -> bytes:
    for attempt in range(ATTEMPTS):
        try:
            return (
                filesystem.cat_file(path) if end is None else filesystem.cat_file(path, start=start, end=end)
            )
        except (FileNotFoundError, PermissionError) as error:
            raise _unreachable(url, error) from error
        except Exception as error:  # every store has its own kinds of network error
            if attempt == ATTEMPTS - 1:
                raise _unreachable(url, error, kept=start) from error
            log.warning("%s: %s; trying again", url, _line(error))
            sleep(0.5 * 2**attempt)
    raise AssertionError


def _check(part: Path, remote: Remote, sha256: str, url: str) -> str:
    """Compare with everything that was promised; what is wrong is not kept."""
    size = part.stat().st_size
    md5 = hashlib.md5(usedforsecurity=False)
    git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(part, "rb") as file:  # in blocks: it may be a checkpoint of many gigabytes
        while block := file.read(BLOCK_BYTES):
            md5.update(block)
            git.update(block)
    actual = {"size": size, "sha256": sha256, "md5": md5.hexdigest(), "git": git.hexdigest()}
    promised = remote.digests | ({} if remote.size is None else {"size": remote.size})
    for kind, value in promised.items():
        if actual[kind] != value:
            part.unlink()
            with suppress(OSError):
                _note(part).unlink()
            raise FetchError(
                f"{url}: its {kind} should be {value}, the bytes that came have {actual[kind]}; try again"
            )
    names = {"size": "size", "sha256": "SHA-256", "md5": "MD5", "git": "Git hash"}
    return (
        "checked by " + " and ".join(names[k] for k in promised)
        if promised
        else "not checked (nothing was promised)"
    )


def _unreachable(url: str, error: BaseException, kept: int = 0) -> FetchError:
    cause = error
    while isinstance(cause, FileNotFoundError) and cause.__cause__ is not None:
        cause = cause.__cause__  # fsspec says "not found" for a host that can't be reached, too
    kept_words = f"; {kept:,} bytes are kept, run it again to go on" if kept else ""
    return FetchError(f"can't get {url} ({type(cause).__name__}: {_line(cause)}){kept_words}")


def _record(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_note(part: Path) -> Any:
    try:
        return read_json(_note(part)) if part.is_file() else None
    except FormatError:
        return None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
