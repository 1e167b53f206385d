"""A log of what robots asked and were answered, exact enough to be played again to the last bit.

RECORDING/recording.json says by which contract; RECORDING/log-000000.bin and so on hold entry after entry.
Writing waits for nobody: what a disk can't take in time is left out and counted.
"""

from __future__ import annotations

import logging
import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack
import numpy as np
from numpy.typing import NDArray

from pioxide.contract import Contract, differences, from_json, to_json
from pioxide.errors import ContractError, FormatError, InputError
from pioxide.files import locked, make_directory, read_json, write_json

if TYPE_CHECKING:
    from pioxide.policy import Policy

log = logging.getLogger("pioxide.serve")

DOCUMENT, VERSION = "recording.json", 2
FILE_BYTES = 256 << 20
_WAITING = 64
_HEAD = struct.Struct("<III")  # an entry's bytes, their CRC, and the CRC of these two numbers


class Entry(NamedTuple):
    """One request and its answer; or a frame that a robot showed a policy with memory, which has none.

    Attributes:
        robot: Number of the connection.
        generation: The robot's episode.
        time: When it was answered, in seconds since 1970.
        message: The request, as it came.
        session: What the answer depends on besides: `Session.state` before it, as JSON.
        rows: Robots in its batch; 0 for a frame.
        row: Which of them it was.
        actions: [H, D] float64 in the robot's units.
        checkpoint: What answered; "" in recordings that do not say.
    """

    robot: int
    generation: int
    time: float
    message: bytes
    session: str
    rows: int
    row: int
    actions: NDArray[np.float64]
    checkpoint: str = ""


class Recorder:
    """Writes entries in a thread of its own.

    Attributes:
        dropped: Entries left out because the disk was slower than the robots, or the recording full.
        written: Entries written.
    """

    def __init__(self, directory: Path, policy: Policy, limit: int) -> None:
        """Opens a recording, new or of the same contract.

        Args:
            directory: The recording's.
            policy: Whose answers these are.
            limit: Bytes after which no more is written.

        Raises:
            ContractError: There is a recording of another contract.
            InputError: Another server records there.
        """
        make_directory(directory)
        self._directory, self._limit = directory, limit
        self._lock = locked(directory)
        self._lock.__enter__()
        try:
            _begin(directory, policy.contract)
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise
        self.dropped = self.written = 0
        self._bytes = sum(file.stat().st_size for file in directory.glob("log-*.bin"))
        self._queue: queue.Queue[Entry | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="pioxide-recorder", daemon=True)
        self._thread.start()

    def take(self, entry: Entry) -> None:
        """Takes an entry to be written, or leaves it out; never waits."""
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._drop("the disk is slower than the robots")

    def close(self) -> None:
        """Writes what was taken, and ends."""
        self._queue.put(None)
        self._thread.join()
        self._lock.__exit__(None, None, None)

    def _run(self) -> None:
        file, number = None, len(list(self._directory.glob("log-*.bin")))
        synced = time.monotonic()
        try:
            while (entry := self._queue.get()) is not None:
                packed = _packed(entry)
                if self._bytes + len(packed) > self._limit:
                    self._drop(f"the recording has its {self._limit:,} bytes")
                    continue
                if file is None or file.tell() > FILE_BYTES:
                    if file is not None:
                        file.close()
                    file, number = (self._directory / f"log-{number:06d}.bin").open("xb"), number + 1
                file.write(packed)
                self._bytes += len(packed)
                self.written += 1
                if time.monotonic() - synced > 1.0:
                    file.flush()
                    os.fsync(file.fileno())
                    synced = time.monotonic()
        except OSError as error:
            log.error("the recording ends reason=%s", error)
            self._limit = 0
            while self._queue.get() is not None:
                self.dropped += 1
        finally:
            if file is not None:
                file.close()

    def _drop(self, reason: str) -> None:
        if not self.dropped:
            log.warning("recording left something out reason=%s", reason)
        self.dropped += 1


class Recording:
    """A recording on disk.

    Attributes:
        directory: Where it is.
        contract: Of the policy that answered.
        damaged: Entries that a crash left unfinished, once `entries` has been read through.
    """

    def __init__(self, directory: Path) -> None:
        """Opens it.

        Raises:
            FormatError: There is none, or it is not one that this pioxide reads.
        """
        self.directory, self.damaged = directory, 0
        if not (directory / DOCUMENT).exists():
            raise FormatError(f"{directory}: there is no {DOCUMENT}; `pioxide serve --record DIR` makes one")
        document = read_json(directory / DOCUMENT)
        if not isinstance(document, dict) or document.get("version") != VERSION:
            raise FormatError(f"{directory / DOCUMENT}: not a recording of version {VERSION}")
        self.contract: Contract = from_json(document.get("contract"), str(directory / DOCUMENT))

    def entries(self) -> Iterator[Entry]:
        """Yields requests in the order in which they were answered; errors as in `logged`."""
        return (entry for entry in self.logged() if entry.rows)

    def logged(self) -> Iterator[Entry]:
        """Yields requests in the order in which they were answered, and frames among them as they came.

        Raises:
            FormatError: A file is damaged elsewhere than at its end, where a crash may have cut it.
        """
        self.damaged = 0
        for path in sorted(self.directory.glob("log-*.bin")):
            with path.open("rb") as file:
                while head := file.read(_HEAD.size):
                    body = b""
                    if len(head) == _HEAD.size:
                        size, crc, own = _HEAD.unpack(head)
                        if zlib.crc32(head[:8]) != own:
                            # A size that is wrong could pass for an entry that a crash cut.
                            raise FormatError(f"{path}: damaged before byte {file.tell()}: no entry begins")
                        body = file.read(size)
                        if len(body) == size and zlib.crc32(body) == crc:
                            yield _unpacked(body)
                            continue
                    if file.read(1):
                        raise FormatError(f"{path}: damaged before byte {file.tell()}, in its middle")
                    self.damaged += 1


def _begin(directory: Path, contract: Contract) -> None:
    path = directory / DOCUMENT
    if path.exists():
        apart = differences(Recording(directory).contract, contract)
        if apart:
            said = "\n".join(f"  {one}" for one in apart)
            raise ContractError(f"{directory} is a recording of another policy; record elsewhere:\n{said}")
        return
    if any(directory.glob("log-*.bin")):
        raise InputError(f"{directory}: logs without their {DOCUMENT}; record elsewhere")
    write_json(path, {"version": VERSION, "contract": to_json(contract)})


def _packed(entry: Entry) -> bytes:
    actions = np.ascontiguousarray(entry.actions, np.float64)
    body = zlib.compress(
        _bytes({**entry._asdict(), "actions": actions.tobytes(), "shape": list(actions.shape)}), 1
    )
    numbers = struct.pack("<II", len(body), zlib.crc32(body))
    return numbers + struct.pack("<I", zlib.crc32(numbers)) + body


def _bytes(value: Any) -> bytes:
    packed = msgpack.packb(value)
    assert packed is not None
    return packed


def _unpacked(body: bytes) -> Entry:
    fields = msgpack.unpackb(zlib.decompress(body))
    shape = fields.pop("shape")
    fields["actions"] = np.frombuffer(fields["actions"], np.float64).reshape(shape)
    return Entry(**fields)
