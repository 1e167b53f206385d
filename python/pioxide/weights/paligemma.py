"""PaliGemma as big_vision publishes it: an `.npz` (a zip of `.npy` files), streamed and never unpickled.

Under `params/` its names are openpi's own under `PaliGemma/`. Hugging Face's PaliGemma is read by `pytorch`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.lib import format as npy

from pioxide.errors import CheckpointError
from pioxide.weights.tree import BFLOAT16, BLOCK_BYTES, Array, Spec, Tree

LONGEST_HEADER = 10_000
MOST_MEMBERS = 10_000


class _Member(NamedTuple):
    """Where an array's numbers are, and how they lie there."""

    info: zipfile.ZipInfo
    offset: int
    dtype: np.dtype[Any]
    fortran: bool


class NpzTree(Tree):
    """PaliGemma's weights in an `.npz`.

    Members are read front to back, so only a block of one is in memory, compressed or not. bfloat16, which
    NumPy stores as two nameless bytes, is recognised.

    Raises:
        CheckpointError: Not a zip, a member is no array, is pickled, or says another size than it has.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), {})
        try:
            self.zip = zipfile.ZipFile(path)
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{path} is no .npz file: {error}") from error
        self.members: dict[str, _Member] = {}
        self.stream: tuple[str, int, io.BufferedIOBase] | None = None
        try:
            infos = self.zip.infolist()
            if len(infos) > MOST_MEMBERS:
                raise CheckpointError(f"{path} has {len(infos):,} members, expected a few dozen")
            for info in infos:
                self._add(info)
        except BaseException:
            self.zip.close()
            raise

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Reads rows; going on where the last call stopped costs nothing."""
        spec = self.specs[path]
        member = self.members[path]
        if member.fortran:
            whole = np.empty(spec.shape[::-1], member.dtype)
            self._read(path, member.offset, whole)
            out[...] = whole.T[start : start + len(out)]
            return
        row = spec.nbytes // max(spec.shape[0], 1) if spec.shape else spec.nbytes
        if out.dtype == member.dtype:
            self._read(path, member.offset + start * row, out)
            return
        step = max(1, BLOCK_BYTES // max(row, 1))
        for at in range(0, len(out) if out.ndim else 1, step):
            part = out[at : at + step] if out.ndim else out
            block = np.empty(part.shape, member.dtype)
            self._read(path, member.offset + (start + at) * row, block)
            part[...] = block

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """Yields all rows of a column-major array at once, which is read as a whole."""
        shape = self.specs[path].shape
        if self.members[path].fortran:
            yield 0, shape[0]
        else:
            yield from super().blocks(path)

    def close(self) -> None:
        """Closes the file."""
        if self.stream is not None:
            self.stream[2].close()
        self.zip.close()

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = info.filename
        where = f"{self.where}: {name}"
        if info.is_dir():
            return
        if not name.endswith(".npy"):
            raise CheckpointError(f"{where} is no array")
        if info.flag_bits & 1:
            raise CheckpointError(f"{where} is encrypted")
        try:
            with self.zip.open(info) as member:
                # A bounded piece: NumPy takes in as much as the header says it is, and only then looks.
                head = io.BytesIO(member.read(LONGEST_HEADER))
            version = npy.read_magic(head)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
            if read is None:
                raise ValueError(f"version {version}")
            shape, fortran, dtype = read(head, max_header_size=LONGEST_HEADER)
        except Exception as error:  # zip, its four ways to compress and NumPy's parser each fail in their own
            raise CheckpointError(f"{where} is no array that can be read: {error}") from error
        offset = head.tell()
        if dtype.hasobject:
            raise CheckpointError(f"{where} holds pickled Python objects, which are never loaded")
        # NumPy writes a bfloat16 array as two bytes of no type.
        dtype = BFLOAT16 if dtype == np.dtype("V2") else dtype
        spec = Spec(tuple(int(n) for n in shape), dtype.newbyteorder("="))
        if min(spec.shape, default=0) < 0:
            raise CheckpointError(f"{where}: shape {list(spec.shape)} makes no sense")
        if offset + spec.nbytes != info.file_size:
            raise CheckpointError(
                f"{where}: {spec} takes {spec.nbytes:,} bytes, the file has {info.file_size - offset:,}"
            )
        path = name.removesuffix(".npy")
        path = f"PaliGemma/{path.removeprefix('params/')}" if path.startswith("params/") else path
        if path in self.specs:
            raise CheckpointError(f"{where} stands in it twice")
        self.specs[path] = spec
        self.members[path] = _Member(info, offset, dtype, bool(fortran) and len(shape) > 1)

    def _read(self, path: str, position: int, out: Array) -> None:
        view = out.reshape(-1).view(np.uint8).data
        try:
            stream = self._at(path, position)
            done = 0
            while done < len(view):
                count = stream.readinto(view[done : done + BLOCK_BYTES])
                if not count:
                    raise EOFError(f"ends {len(view) - done:,} bytes too early")
                done += count
        except Exception as error:  # as in `_add`
            raise CheckpointError(f"{self.where}: {path} can't be read: {error}") from error
        self.stream = (path, position + len(view), stream)

    def _at(self, path: str, position: int) -> io.BufferedIOBase:
        if self.stream is not None:
            name, at, stream = self.stream
            if (name, at) == (path, position):
                return stream
            stream.close()
            self.stream = None
        # `IO[bytes]` to a type checker, which has no `readinto`.
        stream = cast("io.BufferedIOBase", self.zip.open(self.members[path].info))
        if position == self.members[path].offset:
            # Read and not skipped: from Python 3.12 on a skip ends the checking of the member's CRC.
            stream.read(position)
        else:
            stream.seek(position)
        return stream
