"""Zero-padding of states and actions to the model's width, and slicing back to the robot's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import refuse_masked
from pioxide.errors import InputError


@dataclass(frozen=True)
class Pad:
    """Zeros on the right from a robot's `dim` numbers to a model's `width`.

    Attributes:
        dim: how many dimensions the robot has.
        width: how many the model has, at least `dim`.
    """

    dim: int
    width: int

    def __post_init__(self) -> None:
        """Refuse a model that is narrower than the robot.

        Raises:
            InputError: `dim` is negative or larger than `width`.
        """
        if not 0 <= self.dim <= self.width:
            raise InputError(f"{self.dim} dimensions don't fit a model of {self.width}")

    def apply(self, x: ArrayLike) -> NDArray[Any]:
        """Pads `x` [..., dim] with zeros to [..., width]; the dtype stays."""
        x = self._checked(x, self.dim)
        out = np.zeros((*x.shape[:-1], self.width), x.dtype)
        out[..., : self.dim] = x
        return out

    def invert(self, x: ArrayLike) -> NDArray[Any]:
        """Slices `x` [..., width] to a new array [..., dim]."""
        return self._checked(x, self.width)[..., : self.dim].copy()

    def _checked(self, x: ArrayLike, expected: int) -> NDArray[Any]:
        refuse_masked(x, f"expected [..., {expected}]")
        x = np.asarray(x)
        if x.ndim == 0 or x.shape[-1] != expected:
            raise InputError(f"expected [..., {expected}], got shape {x.shape}")
        return x
