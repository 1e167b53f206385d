"""Camera images to the model's size, on the host and in uint8, before they are uploaded.

The numbers are those of `jax.image.resize(..., "linear", antialias=True)` with openpi's black borders. A
resize is two products with banded matrices, made once per shape and multiplied band by band.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import InputError

# Rows or columns of the result whose bands are multiplied together: enough for a matrix product, and few
# enough to skip the zeros.
BLOCK = 8
# Multiplications in one product. Up to here BLAS stays in the thread that calls it: waiting for a second one
# on a busy computer takes far longer than all the rest.
PRODUCT = 1 << 18


class Band(NamedTuple):
    """Outputs [first, stop) as `weights` [stop - first, width] times inputs [start, start + width)."""

    first: int
    stop: int
    start: int
    width: int
    weights: NDArray[np.float32]


class Plan(NamedTuple):
    """How an image of one shape is fitted: the size it gets, where it is put, and both products."""

    height: int
    width: int
    top: int
    left: int
    rows: tuple[Band, ...] | None
    columns: tuple[Band, ...] | None


def resize_with_pad(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes an image to [size, size, 3], its aspect kept, black where nothing is.

    A pixel is within one level of what `jax.image.resize` in float32, rounded, gives: the two add in another
    order, so they part only where a sum lies at a half. An image of that size already comes back as it is,
    not copied.

    Args:
        image: [h, w, 3].
        size: Pixels along an edge of the result.

    Raises:
        InputError: The image is not [h, w, 3] uint8, or so long that nothing of its short side is left.
    """
    _check(image)
    if image.shape[:2] == (size, size):
        return image
    plan = plan_for(image.shape[0], image.shape[1], size)
    # The steeper direction first would save a little; rows first reads the image in the order it lies in.
    x = image.reshape(image.shape[0], -1)
    x = x.astype(np.float32) if plan.rows is None else _rows(x, plan.rows, plan.height)
    if plan.columns is not None:
        x = _columns(x, plan.columns, plan.width * 3)
    # Weights are positive and add up to 1, so only rounding can leave [0, 255], by less than a half.
    pixels = np.rint(x, out=x).reshape(plan.height, plan.width, 3)
    if (plan.height, plan.width) == (size, size):
        return pixels.astype(np.uint8)
    out = np.zeros((size, size, 3), np.uint8)
    out[plan.top : plan.top + plan.height, plan.left : plan.left + plan.width] = pixels
    return out


def _check(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or image.dtype != np.uint8:
        raise InputError(f"expected an image [h, w, 3] uint8, got shape {image.shape}, dtype {image.dtype}")


def interpolate_with_pad(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Resizes an image as LeRobot does: bilinear between four pixels, without a filter, in float.

    Args:
        image: [h, w, 3] uint8.
        size: Pixels along an edge of the result.

    Returns:
        [size, size, 3] float32 in [-1, 1]; -1 where nothing is.

    Raises:
        InputError: As `resize_with_pad`.
    """
    _check(image)
    height, width = image.shape[:2]
    pixels: NDArray[np.float32] = (image / np.float32(255.0)).astype(np.float32)
    if (height, width) != (size, size):
        ratio = max(width / size, height / size)
        rows, columns = int(height / ratio), int(width / ratio)
        if rows == 0 or columns == 0:
            raise InputError(f"an image of {height} x {width} is too narrow for {size} x {size}")
        pixels = _between(_between(pixels, rows, 0), columns, 1)
        out = np.zeros((size, size, 3), np.float32)
        top, left = (size - rows) // 2, (size - columns) // 2
        out[top : top + rows, left : left + columns] = pixels
        pixels = out
    return (pixels * 2.0 - 1.0).astype(np.float32)


def _between(x: NDArray[np.float32], outputs: int, axis: int) -> NDArray[np.float32]:
    """Linear interpolation along an axis at `(i + 1/2) * inputs / outputs - 1/2`, from the first pixel on."""
    inputs = x.shape[axis]
    if outputs == inputs:
        return x
    step = np.float32(inputs) / np.float32(outputs)
    at = np.maximum(
        (np.arange(outputs, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5), np.float32(0)
    )
    low = np.minimum(at.astype(np.int64), inputs - 1)
    high = np.minimum(low + 1, inputs - 1)
    part = (at - low.astype(np.float32)).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    mixed = np.take(x, low, axis) * (1 - part) + np.take(x, high, axis) * part
    return mixed.astype(np.float32)


@lru_cache(maxsize=64)
def plan_for(height: int, width: int, size: int) -> Plan:
    """Plans for images [height, width]: sizes are truncated, an odd border is wider behind the image.

    Raises:
        InputError: Less than one pixel would be left of the short side.
    """
    ratio = max(width / size, height / size)
    new_height, new_width = int(height / ratio), int(width / ratio)
    rgb = np.eye(3, dtype=np.float32)
    if new_height == 0 or new_width == 0:
        raise InputError(f"an image of {height} x {width} is too narrow for {size} x {size}")
    return Plan(
        new_height,
        new_width,
        (size - new_height) // 2,
        (size - new_width) // 2,
        None if new_height == height else bands(weights(height, new_height), BLOCK),
        # Colours lie beside each other: a row is one vector, and every weight stands three times.
        None if new_width == width else bands(np.kron(weights(width, new_width), rgb), 3 * BLOCK),
    )


def weights(inputs: int, outputs: int) -> NDArray[np.float32]:
    """Returns the filter [outputs, inputs], as wide as the step where the image shrinks; all in float32.

    A triangle around `(i + 1/2) * inputs / outputs - 1/2`, normalised over the pixels that are there.
    """
    step = np.float32(1.0) / np.float32(outputs / inputs)
    centre = (np.arange(outputs, dtype=np.float32) + np.float32(0.5)) * step - np.float32(0.5)
    distance = np.abs(centre[:, None] - np.arange(inputs, dtype=np.float32))
    triangle = np.maximum(np.float32(0.0), np.float32(1.0) - distance / max(step, np.float32(1.0)))
    return triangle / triangle.sum(axis=1, keepdims=True, dtype=np.float32)


def bands(matrix: NDArray[np.float32], block: int) -> tuple[Band, ...]:
    """Cuts a matrix [outputs, inputs] into blocks of so many rows, each without the zeros around it."""
    cut: list[Band] = []
    for first in range(0, len(matrix), block):
        rows = matrix[first : first + block]
        used = np.flatnonzero(rows.any(axis=0))
        start, stop = int(used[0]), int(used[-1]) + 1
        inner = np.ascontiguousarray(rows[:, start:stop])
        cut.append(Band(first, first + len(rows), start, stop - start, inner))
    return tuple(cut)


def _rows(x: NDArray[np.uint8], cut: tuple[Band, ...], outputs: int) -> NDArray[np.float32]:
    length = x.shape[1]
    out = np.empty((outputs, length), np.float32)
    for first, stop, start, width, block in cut:
        part = x[start : start + width].astype(np.float32)
        many = max(1, PRODUCT // block.size)
        for at in range(0, length, many):
            np.matmul(block, part[:, at : at + many], out=out[first:stop, at : at + many])
    return out


def _columns(x: NDArray[np.float32], cut: tuple[Band, ...], outputs: int) -> NDArray[np.float32]:
    out = np.empty((len(x), outputs), np.float32)
    for first, stop, start, width, block in cut:
        many = max(1, PRODUCT // block.size)
        for at in range(0, len(x), many):
            out[at : at + many, first:stop] = x[at : at + many, start : start + width] @ block.T
    return out
