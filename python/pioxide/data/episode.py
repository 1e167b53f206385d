"""What a dataset is made of: features, episodes as the metadata lists them, and one episode's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError


@dataclass(frozen=True)
class Feature:
    """One column of a dataset, as `meta/info.json` declares it.

    Attributes:
        dtype: "float32", "int64", "video", "string", ...
        shape: of one frame; (1,) for a plain number.
        names: of its dimensions, e.g. joints, or None.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None

    @property
    def dim(self) -> int:
        """Returns how many numbers one frame has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_numeric(self) -> bool:
        """Returns whether it can be read as an array of numbers."""
        return self.dtype not in ("video", "image", "string", "language")

    def label(self, dimension: int) -> str:
        """Returns a dimension's name for messages: `7 (kRightShoulderPitch)`, or `7` when it has none."""
        return str(dimension) if self.names is None else f"{dimension} ({self.names[dimension]})"


@dataclass(frozen=True)
class EpisodeInfo:
    """One episode as the metadata lists it, before its data file is opened.

    Attributes:
        index: the episode's number.
        length: its frames.
        tasks: its instructions.
        file: the data file, relative to the dataset, with "/" on every system.
        start: the row of the whole dataset where it begins (v3.0), or None.
        problem: what is wrong with its entry, so that it can't be read; "" where nothing is.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    file: str
    start: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Episode:
    """One episode's arrays.

    Attributes:
        info: what the metadata said; `length` is T.
        columns: by feature key, [T] for plain numbers and [T, ...] otherwise, in the stored dtype.
        frame_index: [T] int64, 0..T-1.
        task_index: [T] int64.
        tasks: instruction by task index, of the whole dataset.
        derived: which of `frame_index` and `task_index` are not in the file, and only one value was possible.
        filled: frames without an instruction of their own, which have the one that was given for such.
        kept: the frames that rows are made of, rising; None for all.
    """

    info: EpisodeInfo
    columns: dict[str, NDArray]
    frame_index: NDArray[np.int64]
    task_index: NDArray[np.int64]
    tasks: dict[int, str]
    derived: tuple[str, ...] = ()
    filled: int = 0
    kept: NDArray[np.int64] | None = None

    @property
    def index(self) -> int:
        """Returns the episode's number."""
        return self.info.index

    def __len__(self) -> int:
        """Number of frames T."""
        return self.info.length

    @property
    def prompts(self) -> tuple[list[str], NDArray[np.int64]]:
        """Returns the distinct instructions, and for every frame [T] which of them it has."""
        unique, inverse = np.unique(self.task_index, return_inverse=True)
        return [self.tasks[int(i)] for i in unique], inverse.astype(np.int64)

    def stack(self, keys: Sequence[str]) -> NDArray:
        """Puts columns side by side, [T, D]: plain numbers are one dimension, others are flattened.

        Raises:
            InputError: a key was not read.
        """
        for key in keys:
            if key not in self.columns:
                raise InputError(f'"{key}" was not read; this episode has {sorted(self.columns)}')
        parts = [self.columns[key].reshape(len(self), -1) for key in keys]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def parse_feature(declaration: dict[str, Any]) -> Feature:
    """Reads a feature's entry in `info.json`; names come flat, in nested lists, or in a dict by axis.

    Raises:
        KeyError, TypeError, ValueError: the entry is malformed (the caller names file and key).
    """
    shape = tuple(declaration["shape"])
    if not all(type(n) is int and 1 <= n < 1 << 31 for n in shape):
        raise ValueError(f"shape {shape}")
    names = tuple(_flat_names(declaration.get("names")))
    dim = int(np.prod(shape, dtype=np.int64))
    # Some datasets name axes ("height", "width") or half of the joints: only a name a dimension is of use.
    return Feature(str(declaration["dtype"]), shape, names if len(names) == dim and len(shape) == 1 else None)


def _flat_names(names: Any) -> list[str]:
    if names is None:
        return []
    if isinstance(names, str):
        return [names]
    if isinstance(names, dict):
        # {"motors": ["waist", ...]} lists names by axis; {"x": 0, "y": 1} numbers them.
        if all(isinstance(v, int) for v in names.values()):
            return [str(k) for k, _ in sorted(names.items(), key=lambda item: item[1])]
        return [name for value in names.values() for name in _flat_names(value)]
    if isinstance(names, list):
        return [name for value in names for name in _flat_names(value)]
    return [str(names)]
