"""The safetensors file format, read and written a range of bytes at a time: length, JSON header, data.

Knows nothing of models. A header that lies (offsets outside the file, overlapping, a size that the shape does
not give) is refused before any tensor is read.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import ml_dtypes
import numpy as np

from pioxide.errors import CheckpointError, FormatError
from pioxide.files import mistaken, parse_json
from pioxide.weights.documents import is_list, is_object, is_text_by_text
from pioxide.weights.tree import BFLOAT16, Array, Spec

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16,
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LONGEST_HEADER = 100_000_000
MOST_AXES = 32
READ_BYTES = 1 << 30


class Entry(NamedTuple):
    """Where a tensor lies."""

    spec: Spec
    offset: int


class SafetensorsFile:
    """One file, open for reading.

    Attributes:
        path: The file.
        tensors: By name.
        metadata: The header's free text.

    Raises:
        CheckpointError: Not a safetensors file, cut off, or its header contradicts itself; names the tensor.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.file: io.BufferedReader = open(self.path, "rb")  # noqa: SIM115 (kept open for later reads)
            size = os.fstat(self.file.fileno()).st_size
        except OSError as error:
            raise CheckpointError(f"{self.path}: {error.strerror or error}") from error
        except ValueError as error:  # a name that no file can have
            raise CheckpointError(f"{str(self.path)!r}: {error}") from error
        try:
            header, start = self._header(size)
            self.metadata = self._metadata(header.pop("__metadata__", None) or {})
            self.tensors = {name: self._entry(name, value, start) for name, value in header.items()}
            self._check_layout(start, size)
        except BaseException:
            self.file.close()
            raise

    def read_into(self, name: str, out: Array, first: int = 0) -> None:
        """Reads consecutive numbers of a tensor, from number `first` on, in its own dtype.

        Args:
            name: One of `tensors`.
            out: C-contiguous, of the tensor's dtype.
            first: Index into the flattened tensor.

        Raises:
            CheckpointError: The file ends too early.
        """
        spec, offset = self.tensors[name]
        if out.dtype != spec.dtype or first + out.size > spec.size:
            raise ValueError(f"{name} is {spec}, can't fill {out.dtype}[{out.size}] from {first}")
        view = out.reshape(-1).view(np.uint8).data
        self.file.seek(offset + first * spec.dtype.itemsize)
        done = 0
        while done < len(view):
            count = self.file.readinto(view[done : done + READ_BYTES])
            if not count:
                raise CheckpointError(
                    f"{self.path}: {name}: the file ends {len(view) - done} bytes too early"
                )
            done += count

    def read(self, name: str) -> Array:
        """Returns a whole tensor, in its own dtype."""
        out = np.empty(self.tensors[name].spec.shape, self.tensors[name].spec.dtype)
        self.read_into(name, out)
        return out

    def close(self) -> None:
        """Lets go of the file."""
        self.file.close()

    def _header(self, size: int) -> tuple[dict[str, Any], int]:
        head = self.file.read(64)
        if reason := mistaken(head):
            raise CheckpointError(f"{self.path} {reason}")
        length = int.from_bytes(head[:8], "little")
        if size < 8 or not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise CheckpointError(
                f"{self.path} is not a safetensors file, or cut off: "
                f"a header of {length:,} bytes in a file of {size:,}"
            )
        self.file.seek(8)
        try:
            header = parse_json(self.file.read(length), f"{self.path}: header")
        except FormatError as error:
            raise CheckpointError(str(error)) from error
        if not is_object(header):
            raise CheckpointError(f"{self.path}: its header is no JSON object")
        return header, 8 + length

    def _metadata(self, value: Any) -> dict[str, str]:
        if not is_text_by_text(value):
            raise CheckpointError(f"{self.path}: __metadata__ does not map text to text")
        return value

    def _entry(self, name: str, value: Any, start: int) -> Entry:
        if not is_object(value):
            raise CheckpointError(f"{self.path}: {name}: its entry is no object")
        code: object = value.get("dtype")
        shape: object = value.get("shape")
        offsets: object = value.get("data_offsets")
        if not isinstance(code, str) or code not in DTYPES:
            raise CheckpointError(f"{self.path}: {name}: dtype {code!r} is not known")
        if not _possible(shape) or not _naturals(offsets) or len(offsets) != 2:
            raise CheckpointError(
                f"{self.path}: {name}: shape {shape} or data_offsets {offsets} make no sense"
            )
        spec = Spec(tuple(shape), DTYPES[code])
        if offsets[1] - offsets[0] != spec.nbytes:
            raise CheckpointError(
                f"{self.path}: {name}: {spec} takes {spec.nbytes:,} bytes, "
                f"its data_offsets {offsets} span {offsets[1] - offsets[0]:,}"
            )
        return Entry(spec, start + offsets[0])

    def _check_layout(self, start: int, size: int) -> None:
        """Refuses tensors that do not follow each other without gap or overlap up to the file's last byte."""
        at, before = start, "the header"
        # An empty tensor shares its offset with the next one, and comes before it.
        order = sorted(self.tensors.items(), key=lambda item: (item[1].offset, item[1].spec.nbytes))
        for name, (spec, offset) in order:
            if offset != at:
                word = "overlaps" if offset < at else "leaves a gap after"
                raise CheckpointError(f"{self.path}: {name} {word} {before} (by {abs(offset - at):,} bytes)")
            at, before = offset + spec.nbytes, name
            if at > size:
                raise CheckpointError(
                    f"{self.path} is cut off: {name} ends at byte {at:,}, the file at {size:,}"
                )
        if at != size:
            raise CheckpointError(f"{self.path}: {size - at:,} bytes follow {before}, and belong to nothing")


class SafetensorsWriter:
    """One file, written in any order of tensors; `close` refuses to leave one out.

    Args:
        path: The file to make.
        specs: Every tensor it will hold.
        metadata: Free text for the header.
    """

    def __init__(
        self, path: Path, specs: Mapping[str, Spec], metadata: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}
        header: dict[str, Any] = {"__metadata__": dict(metadata or {})} if metadata else {}
        at = 0
        # Wider types first keep every tensor aligned to its own size.
        for name, spec in sorted(specs.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
            header[name] = {
                "dtype": NAMES[spec.dtype],
                "shape": list(spec.shape),
                "data_offsets": [at, at + spec.nbytes],
            }
            self.entries[name] = Entry(spec, at)
            at += spec.nbytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.start = 8 + len(text)
        self.left = {name: spec.size for name, spec in specs.items()}
        self.file = open(path, "wb")  # noqa: SIM115 (`close` or `abandon` closes it)
        try:
            self.file.write(len(text).to_bytes(8, "little") + text)
            self.file.truncate(self.start + at)
        except BaseException:
            self.abandon()
            raise

    def put(self, name: str, values: Array, first: int = 0) -> None:
        """Writes consecutive numbers of a tensor, from number `first` on; each number once."""
        spec, offset = self.entries[name]
        if values.dtype != spec.dtype:
            raise ValueError(f"{name} is {spec}, got {values.dtype}")
        self.left[name] -= values.size
        self.file.seek(self.start + offset + first * spec.dtype.itemsize)
        self.file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    def close(self) -> None:
        """Brings everything to the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        if wrong := [name for name, left in self.left.items() if left]:
            raise AssertionError(f"not written, or written twice: {wrong}")

    def abandon(self) -> None:
        """Closes without a check, after a failure, which another one must not hide."""
        with suppress(OSError):
            self.file.close()


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return is_list(value) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


def _possible(shape: Any) -> TypeGuard[list[int]]:
    """Returns whether an array can have this shape; one of no numbers must not be too long either."""
    return _naturals(shape) and len(shape) <= MOST_AXES and prod(n or 1 for n in shape) < 1 << 48
