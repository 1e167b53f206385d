"""An observation's values as arrays, or an error that names the key, what came and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pioxide.codec.arrays import floats, refuse_masked
from pioxide.errors import InputError

# A robot's observation has two or three levels; more is no observation, or one that contains itself.
DEEPEST = 16


def flatten(observation: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a nested observation with its levels joined by "/"; a flat one is as it was.

    Raises:
        InputError: It is no mapping, a key is no text, two paths join to the same one, or it is nested more
            than 16 levels deep.
    """
    if prefix.count("/") > DEEPEST:
        raise InputError(f"observation: nested more than {DEEPEST} levels deep at {prefix[:40]!r}")
    if not isinstance(observation, Mapping):
        raise InputError(f"observation: expected values by key, got {type(observation).__name__}")
    flat: dict[str, Any] = {}
    for key, value in cast("Mapping[Any, Any]", observation).items():
        key = text(key, "observation key")
        inner = flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value}
        if both := flat.keys() & inner.keys():
            raise InputError(f"observation: {sorted(both)[0]!r} stands twice, nested and flat")
        flat.update(inner)
    return flat


def image(value: Any, key: str) -> NDArray[np.uint8]:
    """Returns an image as [h, w, 3] uint8, from either memory layout and from floats in [0, 1].

    Raises:
        InputError: Another shape or dtype, floats outside [0, 1], or NaN.
    """
    expected = f"{key}: expected an image [h, w, 3] or [3, h, w]"
    refuse_masked(value, expected)
    try:
        array = np.asarray(value)
    except Exception as error:  # a foreign array may raise anything
        raise InputError(f"{expected}, got {type(value).__name__}: {error}") from error
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[-1]) or 0 in array.shape:
        raise InputError(f"{expected}, got shape {array.shape}")
    if array.shape[0] == array.shape[-1]:
        raise InputError(f"{expected}, got shape {array.shape}, which may be either")
    if array.dtype.type in (np.float32, np.float64):
        low, high = array.min(), array.max()
        if not (low >= 0.0 and high <= 1.0):
            raise InputError(
                f"{key}: a float image must lie in [0, 1], this one spans [{low:.9g}, {high:.9g}]"
            )
        # Truncated, not rounded, as openpi's client does.
        array = (array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(f"{key}: expected uint8, or float32 or float64 in [0, 1], got dtype {array.dtype}")
    return array if array.shape[-1] == 3 else np.moveaxis(array, 0, -1)


def numbers(value: Any, key: str, size: int) -> NDArray[np.float64]:
    """Returns `size` finite numbers as [size] float64; a scalar counts as one.

    Raises:
        InputError: Another count, no numbers, or NaN or infinity; names the index.
    """
    expected = f"{key}: expected {size} numbers"
    given = floats(value, expected)
    array = np.atleast_1d(given)
    if array.shape != (size,):
        raise InputError(f"{expected}, got shape {given.shape}")
    if not np.isfinite(array).all():
        at = int(np.argmin(np.isfinite(array)))
        raise InputError(f"{key}[{at}] is {array[at]}, not a finite number")
    return array


def text(value: Any, key: str) -> str:
    """Returns a text, from bytes in UTF-8 and from an array of one as well.

    Raises:
        InputError: No text, or none that UTF-8 can hold.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = _alone(value)
    try:
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, str):
            value.encode()  # half of a surrogate pair is no text, though Python lets it be one
            return value
    except UnicodeError:
        raise InputError(f"{key}: expected a text in UTF-8, got {value!r}") from None
    raise InputError(f"{key}: expected a text, got {type(value).__name__}")


def _alone(array: Any) -> Any:
    return array.item() if array.size == 1 else array
