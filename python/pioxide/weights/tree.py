"""A checkpoint's tensors under one set of names, read from disk a block of rows at a time.

The names are openpi's paths ("PaliGemma/llm/layers/attn/q_einsum/w"): the one tree that every π checkpoint
can be put into. Each foreign format is a `Tree`; loading and writing see trees alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from pioxide.errors import CheckpointError, InputError

Array = NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": BFLOAT16, "float16": np.dtype(np.float16)}

# Temporary memory that a reader may use, in bytes.
BLOCK_BYTES = 64 << 20


class Spec(NamedTuple):
    """What a tensor is, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Returns the numbers in it."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Returns the bytes it takes in its own dtype."""
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        """Says it as `float32[18, 2048]`."""
        return f"{self.dtype.name}{list(self.shape)}"


class Problems:
    """Everything that is wrong with a checkpoint's tensors, gathered before anything is said."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.extra: list[str] = []
        self.shapes: list[str] = []
        self.values: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.shapes or self.values)

    def __iadd__(self, other: Problems) -> Problems:
        self.missing += other.missing
        self.extra += other.extra
        self.shapes += other.shapes
        self.values += other.values
        return self

    def error(self, where: str) -> CheckpointError:
        """Returns one error that lists them all."""
        parts = [
            ("missing", self.missing),
            ("not part of the model", self.extra),
            ("of another shape or dtype", self.shapes),
            ("not finite", self.values),
        ]
        counted = ", ".join(f"{len(names)} {title}" for title, names in parts if names)
        lines = [f"{where} does not hold the expected tensors: {counted}"]
        for title, names in parts:
            if names:
                lines += [f"{title}:", *(f"  {name}" for name in names)]
        error = CheckpointError("\n".join(lines))
        error.missing, error.extra = tuple(self.missing), tuple(self.extra)
        error.shapes, error.values = tuple(self.shapes), tuple(self.values)
        return error


class Tree(ABC):
    """Tensors by openpi path. `specs` costs a header; `fill` reads values.

    Attributes:
        where: The path it was opened from, for messages.
        specs: Shape and dtype on disk by openpi path.
        problems: What is already known to be wrong, in the file's own names.
        unused: Names in the file that are known and hold nothing a model needs, each with the reason.
    """

    def __init__(self, where: str, specs: Mapping[str, Spec]) -> None:
        self.where = where
        self.specs = dict(specs)
        self.problems = Problems()
        self.unused: dict[str, str] = {}

    @abstractmethod
    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Reads rows `start` to `start + len(out)` of a tensor, converted to `out`'s dtype.

        Args:
            path: One of `specs`.
            out: [rows, ...] C-contiguous; the tensor's own shape but for its first axis. Scalars: [].
            start: The first row.

        Raises:
            CheckpointError: The bytes can't be read.
        """

    def spelling(self, path: str) -> str:
        """Returns what the file calls a parameter; the same unless the format has names of its own."""
        return path

    def blocks(self, path: str) -> Iterator[tuple[int, int]]:
        """Yields row ranges that together cover a tensor, each cheap to read at once."""
        spec = self.specs[path]
        if not spec.shape:
            yield 0, 1
            return
        rows = max(1, BLOCK_BYTES * spec.shape[0] // max(spec.nbytes, 1))
        for start in range(0, spec.shape[0], rows):
            yield start, min(start + rows, spec.shape[0])

    def read(self, path: str, dtype: np.dtype[Any] | None = None) -> Array:
        """Returns a whole tensor, in its own dtype or another."""
        spec = self.specs[path]
        out = np.empty(spec.shape, dtype or spec.dtype)
        for start, stop in self.blocks(path):
            self.fill(path, out[start:stop] if spec.shape else out, start)
        return out

    @property
    def size(self) -> int:
        """Returns the numbers in all tensors together."""
        return sum(spec.size for spec in self.specs.values())

    def close(self) -> None:  # noqa: B027
        """Lets go of open files."""

    def __enter__(self) -> Tree:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MemoryTree(Tree):
    """Arrays that are in memory already: NumPy's, or anything `np.asarray` takes a slice of."""

    def __init__(self, arrays: Mapping[str, Any], where: str = "the model in memory") -> None:
        super().__init__(where, {p: Spec(tuple(a.shape), np.dtype(a.dtype)) for p, a in arrays.items()})
        self.arrays = dict(arrays)

    def fill(self, path: str, out: Array, start: int = 0) -> None:
        """Copies rows."""
        array = self.arrays[path]
        out[...] = np.asarray(array[start : start + len(out)] if out.ndim else array)


def copy_blocked(target: Array, source: Array) -> None:
    """Sets `target[...] = source` for views in different axis orders, a panel at a time.

    A transposed copy of a large matrix in one go misses the cache at every element; panels of 16 columns
    took a seventh of the time on a 16384 x 2048 bfloat16 matrix.
    """
    if target.ndim < 2 or source.strides[-1] == source.itemsize:
        target[...] = source
        return
    for start in range(0, target.shape[-1], 16):
        target[..., start : start + 16] = source[..., start : start + 16]


def count_not_finite(values: Array) -> int:
    """Returns how many are NaN or infinite. Looks at exponent bits: NumPy tests bfloat16 one by one."""
    bits, mask = (np.uint32, 0x7F800000) if values.dtype.itemsize == 4 else (np.uint16, 0x7F80)
    if values.dtype == np.float16:
        mask = 0x7C00
    elif values.dtype not in (np.float32, BFLOAT16):
        return int(values.size - np.isfinite(values).sum())
    flat = np.ascontiguousarray(values).reshape(-1).view(bits)
    step = 1 << 18
    return sum(int(np.count_nonzero((flat[i : i + step] & mask) == mask)) for i in range(0, flat.size, step))


def parse_dtype(dtype: Any) -> np.dtype[Any]:
    """Returns float32, bfloat16 or float16, by name or as NumPy's or JAX's type.

    Raises:
        InputError: Another one.
    """
    try:
        name = str(dtype) if isinstance(dtype, str) else np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise InputError(f"dtype {name!r} is not one of {', '.join(DTYPES)}")
    return DTYPES[name]
