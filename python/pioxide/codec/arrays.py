"""Whatever a caller holds for numbers, as a float64 array or as an error that says what came."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError


def floats(value: Any, expected: str) -> NDArray[np.float64]:
    """Returns a new float64 array of `value`: real numbers or bools, or an array of another library.

    Texts, dates, complex numbers and objects are refused, also where NumPy would find a float in them, and
    masked arrays, whose mask would be lost.

    Args:
        value: What came.
        expected: How the error begins: "state: expected 14 numbers".

    Raises:
        InputError: These are no real numbers.
    """
    refuse_masked(value, expected)
    try:
        array = np.asarray(value)
    except Exception as error:  # a foreign array may raise anything: one on a GPU, one that wants a gradient
        raise InputError(f"{expected}, got {type(value).__name__}: {error}") from error
    if array.dtype == np.float64:  # what most callers have, some of them a thousand times a second
        return array.astype(np.float64)
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise InputError(f"{expected}, got {type(value).__name__} of dtype {array.dtype}")
    with np.errstate(over="ignore"):  # a wider float's infinity is for the caller to find
        return array.astype(np.float64)


def refuse_masked(value: Any, expected: str) -> None:
    """Refuses a masked array, of which `numpy.asarray` takes what lies under the mask for values.

    Args:
        value: What came.
        expected: How the error begins.

    Raises:
        InputError: It is a masked array.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(
            f"{expected}, got a masked array, whose mask would be lost; fill it or leave out what is masked"
        )
