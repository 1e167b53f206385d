"""The two ways a state or an action is brought to about [-1, 1], with openpi's arithmetic.

Statistics are float64, so results are float64 whatever comes in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.errors import InputError
from pioxide.transforms.stats import Stats

# openpi adds this to every denominator, so a constant dimension becomes 0 (or -1 by quantiles) and not NaN.
EPSILON = 1e-6


@dataclass(frozen=True)
class ZScore:
    """Mean 0 and standard deviation 1: `(x - mean) / (std + 1e-6)`. What π0 uses.

    `x` is [..., D']. If D' is smaller than the statistics' D, the first D' of them are used; dimensions
    beyond the statistics pass through unchanged, on the way back as well.
    """

    stats: Stats

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalise `x` [..., D']; returns a new float64 array."""
        out, n = _copy(x, self.stats)
        out[..., :n] -= self.stats.mean[:n]
        out[..., :n] /= self.stats.std[:n] + EPSILON
        return out

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Bring normalised `x` [..., D'] back to the data's units; returns a new float64 array."""
        out, n = _copy(x, self.stats)
        out[..., :n] *= self.stats.std[:n] + EPSILON
        out[..., :n] += self.stats.mean[:n]
        return out


@dataclass(frozen=True)
class Quantile:
    """The 1% quantile to -1 and the 99% quantile to 1: `(x - q01) / (q99 - q01 + 1e-6) * 2 - 1`.

    What π0.5 and π0-FAST use. Nothing is clipped: values outside the quantiles land outside [-1, 1]. Lengths
    are treated as in `ZScore`.

    Raises:
        InputError: the statistics have no q01 or q99.
    """

    stats: Stats

    def __post_init__(self) -> None:
        """Refuse statistics without quantiles now, not at the first frame."""
        for name in ("q01", "q99"):
            if getattr(self.stats, name) is None:
                raise InputError(f"quantile normalisation needs {name}, and these statistics have none")

    def apply(self, x: ArrayLike) -> NDArray[np.float64]:
        """Normalise `x` [..., D']; returns a new float64 array."""
        out, n = _copy(x, self.stats)
        low, span = self._low_and_span(n)
        out[..., :n] -= low
        out[..., :n] /= span
        out[..., :n] *= 2.0
        out[..., :n] -= 1.0
        return out

    def invert(self, x: ArrayLike) -> NDArray[np.float64]:
        """Bring normalised `x` [..., D'] back to the data's units; returns a new float64 array."""
        x = _array(x)
        out, n = _copy(x, self.stats)
        low, span = self._low_and_span(n)
        # openpi adds and halves in the array's own precision (float32 for a model's output), then widens.
        out[..., :n] = (x[..., :n] + 1.0) / 2.0 * span + low
        return out

    def _low_and_span(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self.stats.q01 is not None
        assert self.stats.q99 is not None
        low = self.stats.q01[:n]
        return low, self.stats.q99[:n] - low + EPSILON


def _array(x: ArrayLike) -> NDArray[np.floating]:
    """`x` as float32 or float64; anything else as float64."""
    x = np.asarray(x)
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def _copy(x: ArrayLike, stats: Stats) -> tuple[NDArray[np.float64], int]:
    """A float64 copy of `x`, and how many of its dimensions the statistics cover."""
    out = np.array(x, dtype=np.float64)
    if out.ndim == 0:
        raise InputError("a single number has no dimensions to normalise; pass an array [..., D]")
    return out, min(out.shape[-1], stats.dim)
