"""The ways a state or an action is brought to about [-1, 1], with openpi's arithmetic or LeRobot's.

Statistics are float64, so results are float64 whatever comes in.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import refuse_masked
from pioxide.errors import InputError
from pioxide.transforms.stats import Stats

# openpi adds this to every denominator, so a constant dimension becomes 0 (or -1 by quantiles) and not NaN.
EPSILON = 1e-6
# LeRobot's own default; its checkpoints state theirs.
LEROBOT_EPSILON = 1e-8


class NormMode(StrEnum):
    """Which statistics normalise a feature, by LeRobot's names in lower case."""

    IDENTITY = "identity"
    MEAN_STD = "mean_std"
    MIN_MAX = "min_max"
    QUANTILES = "quantiles"
    QUANTILE10 = "quantile10"

    @property
    def needs(self) -> tuple[str, ...]:
        """Returns the statistics it is computed from."""
        return {
            NormMode.IDENTITY: (),
            NormMode.MEAN_STD: ("mean", "std"),
            NormMode.MIN_MAX: ("min", "max"),
            NormMode.QUANTILES: ("q01", "q99"),
            NormMode.QUANTILE10: ("q10", "q90"),
        }[self]


class Arithmetic(StrEnum):
    """Whose formulas: they treat small denominators differently."""

    OPENPI = "openpi"
    LEROBOT = "lerobot"


class Normalizer(Protocol):
    """A normalisation of [..., D] arrays and its inverse."""

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalises `x` [..., D]; returns a new float64 array."""
        ...

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Brings normalised `x` [..., D] back to the data's units; returns a new float64 array."""
        ...


@dataclass(frozen=True)
class NormRule:
    """How one feature is normalised; with statistics it becomes a `Normalizer`.

    Attributes:
        mode: Which statistics.
        arithmetic: Whose formulas.
        epsilon: What keeps a denominator from 0.
    """

    mode: NormMode
    arithmetic: Arithmetic = Arithmetic.OPENPI
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        """Refuses what nobody computes.

        Raises:
            InputError: The epsilon is no positive number, or openpi has no such mode.
        """
        object.__setattr__(self, "mode", NormMode(self.mode))
        object.__setattr__(self, "arithmetic", Arithmetic(self.arithmetic))
        if not 0 < self.epsilon <= sys.float_info.max:
            raise InputError(f"epsilon: expected a small positive number, got {self.epsilon!r}")
        if self.arithmetic is Arithmetic.OPENPI and self.mode in (NormMode.MIN_MAX, NormMode.QUANTILE10):
            raise InputError(f"openpi has no {self.mode} normalisation; say arithmetic=lerobot")

    @classmethod
    def openpi(cls, mode: NormMode | str) -> NormRule:
        """Returns openpi's rule of that mode; "zscore" and "quantile", its own words, are understood."""
        named = {"zscore": NormMode.MEAN_STD, "quantile": NormMode.QUANTILES}
        return cls(named.get(mode) or NormMode(mode))

    @classmethod
    def lerobot(cls, mode: NormMode | str, epsilon: float = LEROBOT_EPSILON) -> NormRule:
        """Returns LeRobot's rule of that mode."""
        return cls(NormMode(mode), Arithmetic.LEROBOT, epsilon)

    def make(self, stats: Stats | None, what: str = "this feature") -> Normalizer:
        """Returns the normalisation with these statistics.

        Args:
            stats: Of the feature; None where the mode needs none.
            what: How errors call the feature.

        Raises:
            InputError: A statistic that the mode needs is missing.
        """
        if self.mode is NormMode.IDENTITY:
            return Identity()
        missing = [name for name in self.mode.needs if getattr(stats, name, None) is None]
        if stats is None or missing:
            raise InputError(
                f"{self.mode} normalisation of {what} needs {' and '.join(self.mode.needs)}, and the "
                f"statistics have no {missing[0] if missing else self.mode.needs[0]}"
            )
        low, high = (getattr(stats, name) for name in self.mode.needs)
        if self.arithmetic is Arithmetic.LEROBOT:
            if self.mode is NormMode.MEAN_STD:
                return LerobotMeanStd(low, high, self.epsilon)
            return LerobotRange(low, high, self.epsilon)
        return (ZScore if self.mode is NormMode.MEAN_STD else Quantile)(stats, self.epsilon)

    def __str__(self) -> str:
        """Says it in a few words: "quantiles (openpi)"."""
        return f"{self.mode} ({self.arithmetic})" if self.mode is not NormMode.IDENTITY else "identity"


@dataclass(frozen=True)
class Identity:
    """Leaves numbers as they are."""

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Returns a float64 copy."""
        return np.array(x, np.float64)

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Returns a float64 copy."""
        return np.array(x, np.float64)


@dataclass(frozen=True)
class ZScore:
    """Mean 0 and standard deviation 1: `(x - mean) / (std + 1e-6)`. What openpi's π0 uses.

    `x` is [..., D']. If D' is smaller than the statistics' D, the first D' of them are used; dimensions
    beyond the statistics pass through unchanged, as in openpi, on the way back as well. A pipeline refuses
    statistics that do not cover its robot before it comes to that.
    """

    stats: Stats
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        """Refuses statistics without mean and std now, not at the first frame."""
        _require(self.stats, "z-score", "mean", "std")

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalises `x` [..., D']; returns a new float64 array."""
        out, n = _copy(x, self.stats)
        mean, std = self._mean_and_std(n)
        out[..., :n] -= mean
        out[..., :n] /= std + self.epsilon
        return out

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Brings normalised `x` [..., D'] back to the data's units; returns a new float64 array."""
        out, n = _copy(x, self.stats)
        mean, std = self._mean_and_std(n)
        out[..., :n] *= std + self.epsilon
        out[..., :n] += mean
        return out

    def _mean_and_std(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.stats.need("mean")[:n], self.stats.need("std")[:n]


@dataclass(frozen=True)
class Quantile:
    """The 1% quantile to -1 and the 99% quantile to 1: `(x - q01) / (q99 - q01 + 1e-6) * 2 - 1`.

    What openpi's π0.5 and π0-FAST use. Nothing is clipped: values outside the quantiles land outside
    [-1, 1]. Lengths are treated as in `ZScore`.

    Raises:
        InputError: The statistics have no q01 or q99.
    """

    stats: Stats
    epsilon: float = EPSILON

    def __post_init__(self) -> None:
        """Refuses statistics without quantiles now, not at the first frame."""
        _require(self.stats, "quantile", "q01", "q99")

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalises `x` [..., D']; returns a new float64 array."""
        out, n = _copy(x, self.stats)
        low, span = self._low_and_span(n)
        out[..., :n] -= low
        out[..., :n] /= span
        out[..., :n] *= 2.0
        out[..., :n] -= 1.0
        return out

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Brings normalised `x` [..., D'] back to the data's units; returns a new float64 array."""
        x = _array(x)
        out, n = _copy(x, self.stats)
        low, span = self._low_and_span(n)
        # openpi adds and halves in the array's own precision (float32 for a model's output), then widens.
        out[..., :n] = (x[..., :n] + 1.0) / 2.0 * span + low
        return out

    def _low_and_span(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low = self.stats.need("q01")[:n]
        return low, self.stats.need("q99")[:n] - low + self.epsilon


@dataclass(frozen=True)
class LerobotMeanStd:
    """LeRobot's MEAN_STD: `(x - mean) / (std + eps)`, and back `x * std + mean`, without the epsilon.

    Attributes:
        mean: [D].
        std: [D].
        epsilon: Added to the standard deviation.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    epsilon: float

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalises `x` [..., D]; returns a new float64 array."""
        return (_covered(x, self.mean) - self.mean) / (self.std + self.epsilon)

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Brings normalised `x` [..., D] back to the data's units; returns a new float64 array."""
        return _covered(x, self.mean) * self.std + self.mean


@dataclass(frozen=True)
class LerobotRange:
    """LeRobot's MIN_MAX, QUANTILES and QUANTILE10: `low` to -1, `high` to 1; eps stands for a span of 0.

    Attributes:
        low: [D] what becomes -1.
        high: [D] what becomes 1.
        epsilon: The span of a dimension where both are the same.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    epsilon: float

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalises `x` [..., D]; returns a new float64 array."""
        return 2.0 * (_covered(x, self.low) - self.low) / self._span - 1.0

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Brings normalised `x` [..., D] back to the data's units; returns a new float64 array."""
        return (_covered(x, self.low) + 1.0) * self._span / 2.0 + self.low

    @property
    def _span(self) -> NDArray[np.float64]:
        span = self.high - self.low
        return np.where(span == 0, self.epsilon, span)


def _covered(x: ArrayLike, statistic: NDArray[np.float64]) -> NDArray[np.float64]:
    refuse_masked(x, f"expected [..., {statistic.size}]")
    values = np.asarray(x, np.float64)
    if values.ndim == 0 or values.shape[-1] != statistic.size:
        raise InputError(f"expected [..., {statistic.size}] as the statistics have, got shape {values.shape}")
    return values


def _require(stats: Stats, what: str, *names: str) -> None:
    for name in names:
        if getattr(stats, name) is None:
            raise InputError(f"{what} normalisation needs {name}, and these statistics have none")


def _array(x: ArrayLike) -> NDArray[np.floating]:
    """`x` as float32 or float64; anything else as float64."""
    refuse_masked(x, "expected numbers")
    x = np.asarray(x)
    return x if x.dtype.type in (np.float32, np.float64) else x.astype(np.float64)


def _copy(x: ArrayLike, stats: Stats) -> tuple[NDArray[np.float64], int]:
    """A float64 copy of `x`, and how many of its dimensions the statistics cover."""
    refuse_masked(x, f"expected [..., {stats.dim}]")
    out = np.array(x, dtype=np.float64)
    if out.ndim == 0:
        raise InputError("a single number has no dimensions to normalise; pass an array [..., D]")
    return out, min(out.shape[-1], stats.dim)
