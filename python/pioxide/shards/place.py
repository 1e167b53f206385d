"""Where a job's token directory is: a directory here, or an address in an object store.

A store has neither rename nor lock. What is small (manifest, contract, statistics, FAST files, records) is
kept in a working directory here and sent when it changes; a shard is made here, sent whole, and then its
record. So what is finished is known wherever the job goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from pioxide.contract import FILE_NAME as CONTRACT_FILE
from pioxide.errors import OutputError, SettingsError
from pioxide.fetch.store import Store
from pioxide.files import TEMPORARY, as_address, atomic_file, locked, make_directory
from pioxide.shards.beside import NORM_STATS
from pioxide.shards.card import CARD
from pioxide.shards.directory import FAST, OURS
from pioxide.shards.lease import LEASES, WHOLE, leased
from pioxide.shards.manifest import (
    FILE_NAME,
    PROGRESS,
    SHARDS,
    Manifest,
    ShardRecord,
    finished_shards,
    remove_progress,
)
from pioxide.shards.parts import Part
from pioxide.shards.plan import ShardTask
from pioxide.shards.shard import OnFrames, ShardMaker

# Seconds until a file that another machine wrote is to be seen here.
SEEN = 60.0


class Place(Protocol):
    """A token directory while it is made. Picklable, for workers elsewhere; `str` of it names it."""

    def held(self, part: Part | None) -> AbstractContextManager[Path]:
        """Holds it, or a part of it, for this run; gives the directory here where all that is small lies.

        Raises:
            OutputError: Another run holds it, or it can't be written.
            SettingsError: It holds something else.
        """
        ...

    def looked(self) -> AbstractContextManager[Path]:
        """Gives the same directory to read in, held by nobody; it may not be there."""
        ...

    def send(self) -> bool:
        """Keeps what is small as it is in the directory here.

        Returns:
            False where another run has just begun there: its manifest is in the directory here then.
        """
        ...

    def complete(self) -> None:
        """Keeps the manifest, which is complete, and drops what only jobs need that aren't."""
        ...

    def make(
        self, maker: ShardMaker, task: ShardTask, *, skip_bad: bool, on_frames: OnFrames | None = None
    ) -> ShardRecord:
        """Makes a shard and its record there; raises what `ShardMaker.make` does."""
        ...

    def find(self, manifest: Manifest | None, names: Iterable[str]) -> dict[str, ShardRecord]:
        """Returns the shards among these that need not be made again; see `finished_shards`."""
        ...

    def arrived(self, record: ShardRecord) -> None:
        """Sees that a shard that another machine made is there.

        Raises:
            OutputError: It isn't.
        """
        ...

    def shards(self) -> set[str]:
        """Returns the names of the shards that are there."""
        ...


def place_of(output: str | os.PathLike[str]) -> Place:
    """Returns the place that a person means by a path or an address.

    Raises:
        InputError: Nothing is written to an address of this kind, or its package is not installed.
    """
    return Bucket(as_address(output)) if as_address(output) else Here(Path(output))


@dataclass(frozen=True)
class Here:
    """A directory of this machine, or of a file system that several machines share; see `Place`."""

    path: Path

    def __str__(self) -> str:
        """Returns the path as it was given."""
        return str(self.path)

    def __getstate__(self) -> Path:
        """Returns what another process, with another working directory, finds it by."""
        return self.path.absolute()

    def __setstate__(self, path: Path) -> None:
        object.__setattr__(self, "path", path)

    @contextmanager
    def held(self, part: Part | None) -> Iterator[Path]:
        """Locks it; several parts may be made at once."""
        make_directory(self.path)
        with locked(self.path, shared=part is not None):
            yield self.path

    @contextmanager
    def looked(self) -> Iterator[Path]:
        """Gives the directory."""
        yield self.path

    def send(self) -> bool:
        """Does nothing: it is there."""
        return True

    def complete(self) -> None:
        """Removes the records of single shards."""
        remove_progress(self.path)

    def make(
        self, maker: ShardMaker, task: ShardTask, *, skip_bad: bool, on_frames: OnFrames | None = None
    ) -> ShardRecord:
        """Makes it under its name, whole or not at all."""
        return maker.make(task, self.path, skip_bad=skip_bad, on_frames=on_frames)

    def find(self, manifest: Manifest | None, names: Iterable[str]) -> dict[str, ShardRecord]:
        """Reads all bytes of shards that have a record."""
        return finished_shards(self.path, manifest, names)

    def arrived(self, record: ShardRecord) -> None:
        """Waits a while: network file systems remember for some time that there was no such file.

        Raises:
            OutputError: It isn't seen even then.
        """
        path, until = self.path / SHARDS / record.file, time.monotonic() + SEEN
        while not (path.is_file() and path.stat().st_size == record.bytes):
            if time.monotonic() > until:
                raise OutputError(
                    f"a worker wrote {path}, and it is not here: all nodes need the same file system"
                )
            time.sleep(1)

    def shards(self) -> set[str]:
        """Returns the names of the files there."""
        return {path.name for path in (self.path / SHARDS).iterdir()}


class Bucket:
    """An address in an object store; see `Place`.

    Whether a shard is there whole is known by its record, which is sent after it, and by its size: a store
    checks content itself, and to read all of it would take as long as to make it.
    """

    def __init__(self, address: str) -> None:
        self._store = Store(address)
        self._here = Path()
        self._there: dict[str, bytes] = {}

    def __str__(self) -> str:
        """Returns the address."""
        return self._store.address

    def __getstate__(self) -> str:
        """Returns what another process finds it by."""
        return self._store.address

    def __setstate__(self, address: str) -> None:
        self.__init__(address)

    @contextmanager
    def held(self, part: Part | None) -> Iterator[Path]:
        """Takes a lease.

        Raises:
            OutputError: Another run holds it, or the store can't be reached.
            SettingsError: It holds something else.
        """
        name = WHOLE if part is None else f"part-{part.number}-of-{part.of}"
        with leased(self._store, name), self.looked() as here:
            yield here

    @contextmanager
    def looked(self) -> Iterator[Path]:
        """Brings what is small to a directory here that is gone in the end.

        Raises:
            OutputError: The store can't be reached.
            SettingsError: It holds something else.
        """
        with TemporaryDirectory(prefix="pioxide-") as here:
            names = set(self._store.sizes())
            if FILE_NAME not in names and {name.split("/")[0] for name in names} - OURS - {LEASES}:
                raise SettingsError(
                    f"{self} is not empty and has no {FILE_NAME}; choose another address for the output"
                )
            self._here = Path(here)
            self._there = self._store.read(name for name in names if _is_small(name))
            for folder in (SHARDS, PROGRESS, FAST):
                make_directory(self._here / folder)
            for name, content in self._there.items():
                self._keep(name, content)
            yield self._here

    def send(self) -> bool:
        """Sends what has changed; a first manifest before all else, and only where there still is none."""
        files = [path for path in self._here.rglob("*") if path.is_file()]
        names = {path.relative_to(self._here).as_posix(): path for path in files}
        small = {name: path.read_bytes() for name, path in names.items() if _is_small(name)}
        if FILE_NAME not in self._there and not self._store.create(FILE_NAME, small[FILE_NAME]):
            self._there |= self._store.read([FILE_NAME])
            self._keep(FILE_NAME, self._there[FILE_NAME])
            return False
        self._there.setdefault(FILE_NAME, small[FILE_NAME])
        for name, content in sorted(small.items(), key=lambda item: item[0] == FILE_NAME):
            if self._there.get(name) != content:
                self._store.write(name, content)
                self._there[name] = content
        return True

    def _keep(self, name: str, content: bytes) -> None:
        with atomic_file(self._here / name) as file:
            file.write(content)

    def complete(self) -> None:
        """Sends the manifest, then removes the records of single shards."""
        self.send()
        self._store.remove(name for name in self._store.sizes() if name.startswith(f"{PROGRESS}/"))

    def make(
        self, maker: ShardMaker, task: ShardTask, *, skip_bad: bool, on_frames: OnFrames | None = None
    ) -> ShardRecord:
        """Makes it here, sends it, then its record."""
        with TemporaryDirectory(prefix="pioxide-") as made:
            make_directory(Path(made, SHARDS))
            record = maker.make(task, Path(made), skip_bad=skip_bad, on_frames=on_frames)
            for name in (f"{SHARDS}/{task.name}", f"{PROGRESS}/{task.name}.json"):
                self._store.upload(Path(made, name), name)
        return record

    def find(self, manifest: Manifest | None, names: Iterable[str]) -> dict[str, ShardRecord]:
        """Compares sizes with records."""
        sizes = self._store.sizes()
        return finished_shards(
            self._here, manifest, names, lambda record: sizes.get(f"{SHARDS}/{record.file}") == record.bytes
        )

    def arrived(self, record: ShardRecord) -> None:
        """Does nothing: who sent it was told so by the store."""

    def shards(self) -> set[str]:
        """Returns the names of the objects there."""
        return {
            name.removeprefix(f"{SHARDS}/") for name in self._store.sizes() if name.startswith(f"{SHARDS}/")
        }


def _is_small(name: str) -> bool:
    folder, _, rest = name.rpartition("/")
    if folder == PROGRESS:
        return rest.startswith("shard-") and not rest.endswith(TEMPORARY)
    return folder == FAST or name in (FILE_NAME, CARD, CONTRACT_FILE, NORM_STATS)
