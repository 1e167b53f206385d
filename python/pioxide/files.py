"""Files that appear whole or not at all, and the lock that keeps two runs out of one directory."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pioxide.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows has no flock; there nothing keeps two runs apart but the user
    fcntl = None

TEMPORARY = ".tmp"


class HashingFile:
    """A file open for writing that knows the SHA-256 and the size of what went through it."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    @property
    def sha256(self) -> str:
        """Hex digest of all bytes so far."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        """Write all of `data` (bytes or anything with the buffer protocol)."""
        view = memoryview(data).cast("B")
        self._raw.write(view)
        self._hash.update(view)
        self.size += len(view)
        return len(view)

    def tell(self) -> int:
        """How many bytes have been written."""
        return self.size

    def flush(self) -> None:
        """Hand buffered bytes to the operating system."""
        self._raw.flush()

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""

    def readable(self) -> bool:
        """Never."""
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Never: what is hashed has been written for good."""
        return False


@contextmanager
def atomic_file(path: Path) -> Iterator[HashingFile]:
    """Write a file under a temporary name; it takes its own name only once all of it is on the disk.

    Raises:
        OutputError: it can't be written. Nothing is left behind then, nor when the body raises.
    """
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    try:
        with open(temporary, "wb") as raw:
            file = HashingFile(raw)
            yield file
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        _remove(temporary)
        raise output_error(path, error) from error
    except BaseException:
        _remove(temporary)
        raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, always the same bytes for the same content."""
    with atomic_file(path) as file:
        file.write((json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` last through a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_directory(path: Path) -> None:
    """Create `path` and its parents.

    Raises:
        OutputError: there is a file of that name, or it can't be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def remove_temporary(directory: Path) -> None:
    """Remove what a killed run left half-written in `directory`. Call it under the lock only."""
    for leftover in directory.glob(f".*{TEMPORARY}"):
        _remove(leftover)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory` for this run; the system lets go of it however the process ends.

    Raises:
        OutputError: another run holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another run is writing to {directory}; wait for it, or stop it") from error
        except OSError:
            # Some network file systems lock no directories. Shards are still whole, only the work may be
            # done twice.
            pass
        yield
    finally:
        os.close(handle)


def output_error(path: Path, error: OSError) -> OutputError:
    """What an error of the operating system means to whoever gave the output directory."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"no space left for {path}; free some, then run the same command again to go on")
    return OutputError(f"can't write {path}: {error.strerror or error}")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
