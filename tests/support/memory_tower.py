"""A small vision tower of numbers drawn by name, and frames for it: the same in any library."""

import zlib

import numpy as np
from numpy.typing import NDArray

WIDTH, DEPTH, MLP, HEADS, PATCH, SIZE, FRAMES, EVERY = 16, 5, 24, 2, 4, 8, 4, 2
# Which frames of three rows there are: all, all but the oldest, the newest alone.
THERE = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]], np.bool_)


def drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Returns numbers that depend on a parameter's path and shape alone; scales are around 1."""
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.35, shape)
    return (values + name.endswith("scale")).astype(np.float32)


def frames() -> NDArray[np.float32]:
    """Returns [3, FRAMES, SIZE, SIZE, 3] in about [-1, 1]."""
    shape = (len(THERE), FRAMES, SIZE, SIZE, 3)
    return (0.5 * np.random.default_rng(3).standard_normal(shape)).astype(np.float32)
