"""Reads JSON, and writes files and directories that appear whole or not at all: the one place for both.

Also the lock that keeps two runs out of one directory.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from pioxide.errors import FormatError, OutputError

try:
    import fcntl
except ImportError:  # Windows has no flock; there nothing keeps two runs apart but the user
    fcntl = None

TEMPORARY = ".tmp"
PARTIAL = ".partial"
# Bytes of a file's name that its temporary name repeats: file systems end names at 255.
NAME_BYTES = 200
# How a file system says that it can't give a file a second name (to this user, across devices, or at all).
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)


def as_address(path: str | os.PathLike[str]) -> str:
    """Returns the address that a path was before `Path` took one of its slashes, as `hf://a/b`; else ""."""
    text = os.fspath(path)
    found = ADDRESS.match(text)
    return f"{found[1]}://{text[found.end() :]}" if found else ""


def refuse_address(path: str | os.PathLike[str]) -> None:
    """Refuses what is an address (`gs://`, `hf://`, `s3://`) where a place on this machine is needed.

    A `Path` of it would otherwise be a directory named `gs:` below the current one.

    Raises:
        FormatError: it is one; `reason` is the message without it.
    """
    if address := as_address(path):
        reason = "is an address, and only files and directories of this machine are read and written here"
        raise _misread(address, f"{reason}: copy it here, or give a plain path")


def read_bytes(path: Path) -> bytes:
    """Returns a file's content.

    Raises:
        FormatError: there is no such file, it can't be read, or it is a directory, a pipe or a device (which
            could make us wait for ever). The message names the file; `reason` is the rest.
    """
    refuse_address(path)
    try:
        with _open(path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise _misread(path, "no such file") from error
    except OSError as error:
        raise _misread(path, f"can't be read ({error.strerror or error})") from error
    except ValueError as error:  # a NUL in the name
        raise _misread(path, f"is no name of a file ({error})") from error


def read_text(path: Path) -> str:
    """Returns a file's text, without a byte order mark.

    Raises:
        FormatError: as `read_bytes`, or it is not UTF-8.
    """
    return _decode(read_bytes(path), path)


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds: `parse_json` of its content.

    Raises:
        FormatError: as `read_bytes` and `parse_json`; names the file, and `reason` is the rest.
    """
    return parse_json(read_bytes(path), path)


def parse_json(content: bytes | str, where: object) -> Any:
    """Returns the value that JSON stands for.

    A byte order mark is passed over. NaN and Infinity, which JSON lacks and Python writes, are read as such:
    whoever uses a number checks that it is finite.

    Args:
        content: UTF-8 bytes, or text.
        where: names the file, and the place in it, in messages.

    Raises:
        FormatError: it is not JSON, not UTF-8, nested too deeply, has a key twice in one object, or is
            something else altogether (empty, a Git LFS pointer, a web page), which is then said.
    """
    text = content if isinstance(content, str) else _decode(content, where)
    try:
        return json.loads(text, object_pairs_hook=_no_twins)
    except RecursionError as error:
        raise _misread(where, "is JSON nested too deeply") from error
    except ValueError as error:
        reason = mistaken(text[:1024].encode(errors="replace")) or f"is not JSON ({error})"
        raise _misread(where, reason) from error


def mistaken(head: bytes) -> str:
    """Returns what a file is whose first bytes are not those of its format, or "" where that isn't known.

    Args:
        head: its first bytes, at least 64 where it has them.
    """
    if not head:
        return "is empty"
    if head.startswith(LFS_POINTER):
        return "is a Git LFS pointer, not the file itself; `git lfs pull` in its repository brings that"
    if re.match(rb"\s*<(!doctype\s+html|html)\b", head, re.IGNORECASE):
        return "is a web page; was it downloaded by the address of a page about it?"
    return ""


def mistaken_file(path: Path) -> str:
    """Returns `mistaken` of a file's beginning; "" where it can't be read."""
    try:
        with _open(path) as file:
            return mistaken(file.read(64))
    except (OSError, ValueError):
        return ""


def _open(path: Path) -> io.BufferedReader:
    """Open a regular file; a pipe would be waited for already while it is opened."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _decode(content: bytes, where: object) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise _misread(where, f"is not UTF-8 text (byte 0x{byte:02x} at {error.start})") from error


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found


def _misread(where: object, reason: str) -> FormatError:
    error = FormatError(f"{where}: {reason}")
    error.reason = reason
    return error


class HashingFile:
    """A file open for writing that knows the SHA-256 and the size of what went through it."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False
        self._given_up = False

    @property
    def sha256(self) -> str:
        """Returns the hex digest of all bytes so far."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        """Writes all of `data` (bytes or anything with the buffer protocol)."""
        view = memoryview(data).cast("B")
        if self._given_up:
            return len(view)
        self._raw.write(view)
        self._hash.update(view)
        self.size += len(view)
        return len(view)

    def give_up(self) -> None:
        """Lets what is still written vanish: the file is to be removed.

        A Parquet writer that was interrupted ends its file when it is collected as garbage, at any time. An
        error there would be made a text by Python code in the middle of whatever was allocating.
        """
        self._given_up = True

    def tell(self) -> int:
        """Returns how many bytes have been written."""
        return self.size

    def flush(self) -> None:
        """Hands buffered bytes to the operating system."""
        self._raw.flush()

    def close(self) -> None:
        """Does nothing: whoever opened the file closes it."""

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
    """Writes a file under a temporary name; it takes its own name only once all of it is on the disk.

    Raises:
        OutputError: it can't be written, or something that is no file has its name. Nothing is left behind
            then, nor when the body raises.
    """
    _refuse_output(path)
    if path.exists() and not path.is_file():
        raise OutputError(f"can't write {path}: there is something of that name which is no regular file")
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as raw:
            file = HashingFile(raw)
            try:
                yield file
            except BaseException:
                file.give_up()
                raise
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


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Returns a hidden directory beside `target` to write into; it takes that name at the end, or vanishes.

    What a killed run left in the hidden directory is removed. `target` may be there already if it is an empty
    directory.

    Raises:
        OutputError: it can't be written, or another run is writing it. Nothing is left behind then, nor when
            the body raises.
    """
    _refuse_output(target)
    final = target.resolve()
    partial = final.with_name(f".{_short_name(final)}{PARTIAL}")
    make_directory(final.parent)
    make_directory(partial)
    with locked(partial):
        try:
            for left in partial.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            yield partial
            sync_directory(partial)
            os.replace(partial, final)
            sync_directory(final.parent)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise output_error(target, error) from error
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically, always the same bytes for the same content.

    Raises:
        OutputError: as `atomic_file`.
        ValueError: a number is NaN or infinite, for which JSON has no word.
    """
    write_text(path, json_text(content))


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 file atomically; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_new_text(path: Path, text: str) -> bool:
    """Writes a UTF-8 file where there is none: of several who try at once one wins, and its file is whole.

    Returns:
        Whether this call wrote it; False where there was one already.

    Raises:
        OutputError: it can't be written. Nothing is left behind then.
    """
    _refuse_output(path)
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as raw:
            HashingFile(raw).write(text.encode())
            raw.flush()
            os.fsync(raw.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if path.exists():
                return False
            os.replace(temporary, path)  # a file system without hard links: the last one wins
        sync_directory(path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        _remove(temporary)
    return True


def hard_link(source: Path, target: Path) -> bool:
    """Gives a finished file a second name, in the place of whatever has that name, without copying a byte.

    Returns:
        Whether that was possible; False on another file system, or where there are no hard links.

    Raises:
        OutputError: `target` can't be written.
    """
    temporary = _temporary(target)
    try:
        os.link(source, temporary)
    except OSError as error:
        if error.errno in NO_LINKS:
            return False
        raise output_error(target, error) from error
    try:
        os.replace(temporary, target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        _remove(temporary)  # which is still there where both were one file already
    sync_directory(target.parent)
    return True


def json_text(content: Any) -> str:
    """Returns JSON that is UTF-8 whatever the strings hold.

    Names of files that are no UTF-8 come as lone surrogates in Python; they are written as escapes, and
    `parse_json` gives the same string back.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def rename(source: Path, target: Path) -> None:
    """Gives a finished file its name, for good.

    Raises:
        OutputError: it can't be done.
    """
    try:
        os.replace(source, target)
    except OSError as error:
        raise output_error(target, error) from error
    sync_directory(target.parent)


def _refuse_output(path: Path) -> None:
    try:
        refuse_address(path)
    except FormatError as error:
        raise OutputError(f"can't write {error}") from error


def _short_name(path: Path) -> str:
    name = path.name
    while len(os.fsencode(name)) > NAME_BYTES:
        name = name[:-1]
    return name


def sync_directory(directory: Path) -> None:
    """Makes renames in `directory` last through a power cut, where the system can."""
    with suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_directory(path: Path) -> None:
    """Creates `path` and its parents.

    Raises:
        OutputError: there is a file of that name, it can't be created, or it is an address.
    """
    _refuse_output(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def remove_temporary(directory: Path, name: str = "*") -> None:
    """Removes what a killed run left half-written in `directory`. Call it under the lock only.

    Args:
        directory: where to look.
        name: of the file that was to be written; all by default.
    """
    for leftover in directory.glob(f".{name}{TEMPORARY}" if name == "*" else f".{name}.*{TEMPORARY}"):
        _remove(leftover)


def sha256_of(path: Path) -> str:
    """Returns the hex digest of a file's content.

    Raises:
        OSError: it can't be read, or is no regular file.
    """
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(directory: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds `directory` for this run; the system lets go of it however the process ends.

    Args:
        directory: what to hold.
        shared: let others hold it too who say the same.

    Raises:
        OutputError: another run holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        # Some network file systems lock no directories. Shards are still whole, only the work may be done
        # twice.
        if _locked_by_another(handle, shared):
            raise OutputError(f"another run is writing to {directory}; wait for it, or stop it")
        yield
    finally:
        os.close(handle)


@contextmanager
def held(path: Path, owner: str) -> Iterator[bool]:
    """Holds a lock file, made if absent, which then says who holds it; the file stays.

    Unlike a directory, a file is locked between machines too, by most network file systems.

    Args:
        path: the file.
        owner: who asks, for whoever is sent away.

    Returns:
        Whether the system keeps others out.

    Raises:
        OutputError: another run holds it, and who that is; or the file can't be made.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise output_error(path, error) from error
    try:
        alone = fcntl is not None
        if fcntl is not None and (locked := _locked_by_another(handle, False)) is not False:
            if locked:
                said = os.pread(handle, 200, 0).decode(errors="replace").strip()
                raise OutputError(f"another run holds {path}" + (f": {said}" if said else ""))
            alone = False
        os.ftruncate(handle, 0)
        os.write(handle, owner.encode())
        yield alone
    finally:
        os.close(handle)


def _locked_by_another(handle: int, shared: bool) -> bool | None:
    """Lock an open file; whether somebody else has it, or None where this file system has no locks."""
    assert fcntl is not None
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def output_error(path: Path, error: OSError) -> OutputError:
    """Returns what an error of the operating system means to whoever gave the output directory."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"no space left for {path}; free some, then run the same command again to go on")
    return OutputError(f"can't write {path}: {error.strerror or error}")


def _temporary(path: Path) -> Path:
    """A name of its own: two processes may write the same file, and the last one wins whole."""
    return path.with_name(f".{_short_name(path)}.{secrets.token_hex(4)}{TEMPORARY}")


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
