"""Where each joint's numbers lie: from statistics and from recorded frames, so that the two can be compared.

A shape is two ends and a mean a joint. Every hypothesis that `doctor` tries (turned round, in degrees,
another joint's) maps a shape to a shape; only relative actions need the frames again.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.transforms import Stats

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Half the width from the 1% to the 99% quantile of a normal distribution, in standard deviations.
_NORMAL = 2.326


class Ends(Enum):
    """Which two numbers bound a joint's values, and how far beyond them is still usual, in widths."""

    QUANTILES = ("q01", "q99", 0.0)
    SPREAD = ("mean", "std", 0.15)  # three standard deviations
    TENTHS = ("q10", "q90", 0.5)
    RANGE = ("min", "max", 0.0)

    @property
    def slack(self) -> float:
        """Returns how far beyond the ends is still usual."""
        return self.value[2]


class Shape(NamedTuple):
    """Where D joints' numbers lie.

    Attributes:
        low: [D], about the smallest.
        high: [D], about the largest.
        mean: [D]; NaN where nobody says.
    """

    low: Floats
    high: Floats
    mean: Floats

    @property
    def width(self) -> Floats:
        """Returns the distance between the ends, [D]."""
        return self.high - self.low

    def mirrored(self, about: Floats | float = 0.0) -> Shape:
        """Returns the shape of `2 * about - x`."""
        return Shape(2 * about - self.high, 2 * about - self.low, 2 * about - self.mean)

    def scaled(self, factor: float) -> Shape:
        """Returns the shape of `factor * x`, factor above 0."""
        return Shape(self.low * factor, self.high * factor, self.mean * factor)

    def moved(self, by: Floats) -> Shape:
        """Returns the shape of `x + by`."""
        return Shape(self.low + by, self.high + by, self.mean + by)


def ends_of(stats: Stats) -> Ends:
    """Returns the best ends that the statistics have: extremes hang on a single frame, so they come last."""
    for ends in Ends:
        if all(getattr(stats, name) is not None for name in ends.value[:2]):
            return ends
    return Ends.SPREAD


def shape_of_stats(stats: Stats, ends: Ends) -> Shape:
    """Returns where the statistics say that numbers lie."""
    first, second = (stats.need(name) for name in ends.value[:2])
    mean = np.full(len(first), np.nan) if stats.mean is None else stats.mean
    if ends is Ends.SPREAD:
        return Shape(first - _NORMAL * second, first + _NORMAL * second, mean)
    return Shape(first, second, mean)


def shape_of_values(values: Floats, ends: Ends) -> Shape:
    """Returns where recorded values [..., D] lie, by the same ends."""
    flat = values.reshape(-1, values.shape[-1])
    mean = flat.mean(axis=0)
    if ends is Ends.SPREAD:
        spread = _NORMAL * flat.std(axis=0)
        return Shape(mean - spread, mean + spread, mean)
    shares = {Ends.QUANTILES: (0.01, 0.99), Ends.TENTHS: (0.1, 0.9), Ends.RANGE: (0.0, 1.0)}[ends]
    low, high = np.quantile(flat, shares, axis=0)
    return Shape(low, high, mean)


def share_outside(values: Floats, stats: Shape, ends: Ends) -> Floats:
    """Returns the share [D] of values [..., D] that lie outside what the statistics cover.

    By quantiles 2% do in the statistics' own data.
    """
    # Statistics are float64 of numbers that were recorded as float32.
    rounding = 1e-6 * np.maximum(np.abs(stats.low), np.abs(stats.high)) + 1e-9
    margin = ends.slack * stats.width + rounding
    flat = values.reshape(-1, values.shape[-1])
    return ((flat < stats.low - margin) | (flat > stats.high + margin)).mean(axis=0)


def held(values: Floats) -> Flags:
    """Returns which numbers of values [..., D] never move, [D]."""
    flat = values.reshape(-1, values.shape[-1])
    low, high = flat.min(axis=0), flat.max(axis=0)
    return still(Shape(low, high, low))


def still(shape: Shape) -> Flags:
    """Returns which joints have two ends that are one, [D]."""
    size = np.maximum(np.abs(shape.low), np.abs(shape.high))
    return shape.width <= 1e-6 * np.maximum(size, 1.0)


def distance(data: Shape, stats: Shape) -> Floats:
    """Returns how far apart two shapes are, joint by joint, in their common width; shapes broadcast.

    0 where ends and mean agree; below 1 where one range lies in the other; above 1 where they do not touch.
    """
    both = np.maximum(data.width + stats.width, 1e-12)
    ends = (np.abs(data.low - stats.low) + np.abs(data.high - stats.high)) / both
    means = 2 * np.abs(data.mean - stats.mean) / both
    return np.fmax(ends, means)


def distances(data: Shape, stats: Shape) -> Floats:
    """Returns [D, D]: how far joint i's data are from joint j's statistics."""
    rows = Shape(*(vector[:, None] for vector in data))
    columns = Shape(*(vector[None, :] for vector in stats))
    return distance(rows, columns)
