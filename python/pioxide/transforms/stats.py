"""Normalisation statistics and their file, `norm_stats.json` in openpi's layout, read and written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import floats
from pioxide.errors import FormatError, InputError
from pioxide.files import make_directory, read_json, write_json

FILE_NAME = "norm_stats.json"
FIELDS = ("mean", "std", "q01", "q99", "min", "max", "q10", "q90")
OPENPI_FIELDS = FIELDS[:4]


@dataclass(frozen=True)
class Stats:
    """What a dimension's values look like, one number a dimension, in the data's own units.

    A file may have some of these only: each is None where it is not known, and at least one is there.

    Attributes:
        mean: [D] float64.
        std: [D] float64, the population's (divided by the count).
        q01: [D] float64, the 1% quantile.
        q99: [D] float64, the 99% quantile.
        min: [D] float64.
        max: [D] float64.
        q10: [D] float64, the 10% quantile.
        q90: [D] float64, the 90% quantile.
    """

    mean: NDArray[np.float64] | None = None
    std: NDArray[np.float64] | None = None
    q01: NDArray[np.float64] | None = None
    q99: NDArray[np.float64] | None = None
    min: NDArray[np.float64] | None = None
    max: NDArray[np.float64] | None = None
    q10: NDArray[np.float64] | None = None
    q90: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Convert lists and integers to float64 and check that all fields have one length.

        Raises:
            InputError: a field is not a list of finite numbers, or lengths differ, or a std is negative.
        """
        for name in FIELDS:
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _vector(name, value))
        present = self._present()
        if not present:
            raise InputError(f"statistics need at least one of {', '.join(FIELDS)}")
        first = next(iter(present))
        for name, value in present.items():
            if value.size != present[first].size:
                raise InputError(f"{name} has {value.size} numbers, {first} has {present[first].size}")
        if self.std is not None and np.any(self.std < 0):
            raise InputError(f"std[{int(np.argmax(self.std < 0))}] is negative")
        for low, high in (("q01", "q99"), ("min", "max"), ("q10", "q90")):
            if low in present and high in present and np.any(present[low] > present[high]):
                at = int(np.argmax(present[low] > present[high]))
                raise InputError(
                    f"{low}[{at}] is {present[low][at]}, above {high}[{at}], {present[high][at]}"
                )

    @property
    def dim(self) -> int:
        """Returns how many dimensions the statistics cover."""
        return next(iter(self._present().values())).size

    def need(self, name: str) -> NDArray[np.float64]:
        """Returns one of the statistics, [D].

        Raises:
            InputError: It is not known.
        """
        value = getattr(self, name)
        if value is None:
            raise InputError(f"these statistics have no {name}, only {', '.join(self._present())}")
        return value

    def sliced(self, dim: int) -> Stats:
        """Returns the statistics of the first `dim` dimensions."""
        return Stats(**{name: value[:dim] for name, value in self._present().items()})

    def _present(self) -> dict[str, NDArray[np.float64]]:
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    def __eq__(self, other: object) -> bool:
        """Whether every number is the same."""
        if not isinstance(other, Stats):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in FIELDS)

    __hash__ = None  # type: ignore[assignment]


def load_norm_stats(path: str | os.PathLike[str]) -> dict[str, Stats]:
    """Reads `norm_stats.json`.

    Args:
        path: the file, or the directory that holds it.

    Returns:
        Statistics by key, usually "state" and "actions".

    Raises:
        FormatError: the file is missing, is not JSON, or lacks a field; the message names file, key and
            field.
    """
    file = Path(path)
    if file.is_dir():
        file = file / FILE_NAME
    document = read_json(file)
    table = cast("dict[str, Any]", document).get("norm_stats") if isinstance(document, dict) else None
    if not isinstance(table, dict):
        raise FormatError(f'{file} has no "norm_stats" object at its top')
    return {key: _parse(file, key, fields) for key, fields in cast("dict[str, Any]", table).items()}


def save_norm_stats(path: str | os.PathLike[str], stats: Mapping[str, Stats]) -> Path:
    """Writes `norm_stats.json`; the file appears whole or not at all.

    Args:
        path: the file if it ends in ".json", else the directory to put it in (made if missing).
        stats: statistics by key.

    Returns:
        The file that was written.

    Raises:
        OutputError: it can't be written.
    """
    file = Path(path)
    if file.suffix != ".json":
        file = file / FILE_NAME
    make_directory(file.parent)
    table = {
        key: {name: _listed(getattr(value, name)) for name in OPENPI_FIELDS} for key, value in stats.items()
    }
    write_json(file, {"norm_stats": table})
    return file


def _parse(file: Path, key: str, value: Any) -> Stats:
    if not isinstance(value, dict):
        raise FormatError(f'{file}: "{key}" is not an object')
    fields = cast("dict[str, Any]", value)
    for one, other in (("mean", "std"), ("q01", "q99")):
        if (fields.get(one) is None) != (fields.get(other) is None):
            absent = one if fields.get(one) is None else other
            raise FormatError(f'{file}: "{key}" has no "{absent}"')
    try:
        return Stats(*(fields.get(name) for name in OPENPI_FIELDS))
    except InputError as error:
        raise FormatError(f'{file}: "{key}": {error}') from error


def _vector(name: str, value: ArrayLike) -> NDArray[np.float64]:
    vector = floats(value, f"{name} is not a list of numbers: expected one a dimension")
    if vector.ndim != 1:
        raise InputError(f"{name} has shape {vector.shape}, expected one number a dimension")
    if not np.isfinite(vector).all():
        index = int(np.argmin(np.isfinite(vector)))
        raise InputError(f"{name}[{index}] is {vector[index]}, expected a finite number")
    vector.setflags(write=False)
    return vector


def _same(left: NDArray[np.float64] | None, right: NDArray[np.float64] | None) -> bool:
    if left is None or right is None:
        return left is right
    return np.array_equal(left, right)


def _listed(vector: NDArray[np.float64] | None) -> list[float] | None:
    return None if vector is None else vector.tolist()
