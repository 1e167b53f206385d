"""Actions as differences from the robot's current state, for the joints where that helps, and back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec.arrays import refuse_masked
from pioxide.errors import InputError

# Dimensions of a mask; as in the Rust half.
MOST_DIMS = 1 << 16


def make_mask(*runs: Any) -> tuple[bool, ...]:
    """Makes a mask of run lengths: a positive number adds as many True, a negative one False, 0 nothing.

    `make_mask(6, -1, 6, -1)` is two arms of six joints each with a gripper that stays absolute.

    Raises:
        InputError: A run is no whole number (a mask of True and False is none of runs), or the mask has more
            than 65,536 dimensions: a damaged file must not take all memory.
    """
    mask: list[bool] = []
    for run in runs:
        if isinstance(run, bool) or not isinstance(run, int | np.integer):
            raise InputError(f"delta mask: expected run lengths such as 6, -1, got {run!r}")
        length = int(cast("int", run))
        if len(mask) + abs(length) > MOST_DIMS:
            raise InputError(f"delta mask: expected at most {MOST_DIMS} dimensions, got a run of {length}")
        mask.extend([length > 0] * abs(length))
    return tuple(mask)


def mask_runs(mask: tuple[bool, ...]) -> tuple[int, ...]:
    """Returns the run lengths of a mask: what `make_mask` makes it from."""
    return tuple(n if one else -n for one, group in groupby(mask) if (n := len(list(group))))


@dataclass(frozen=True)
class DeltaActions:
    """Subtract the current state from a whole chunk where the mask is True; the rest stays absolute.

    Every step of the chunk is relative to the state at the chunk's start, not to the step before it.
    Dimensions beyond the mask stay as they are.

    Attributes:
        mask: one bool a dimension, see `make_mask`.
    """

    mask: tuple[bool, ...]

    def __post_init__(self) -> None:
        """Keep the mask as a tuple of bools, so that transforms compare and hash."""
        object.__setattr__(self, "mask", tuple(bool(m) for m in self.mask))

    def apply(self, actions: ArrayLike, state: ArrayLike) -> NDArray[np.floating]:
        """Makes actions relative.

        Args:
            actions: [..., H, D] absolute, in the state's units.
            state: [..., S], the state at the start of each chunk, S at least the mask's length.

        Returns:
            [..., H, D], a new array of the dtype that NumPy gives to `actions - state`.

        Raises:
            InputError: the mask is longer than the actions or the state, or the leading shapes don't match.
        """
        actions, offset = self._aligned(actions, state)
        return actions - offset

    def invert(self, actions: ArrayLike, state: ArrayLike) -> NDArray[np.floating]:
        """Makes relative actions absolute again; arguments, result and errors as in `apply`."""
        actions, offset = self._aligned(actions, state)
        return actions + offset

    def _aligned(
        self, actions: ArrayLike, state: ArrayLike
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        actions, state, n = _floats(actions), _floats(state), len(self.mask)
        if actions.ndim < 2 or state.ndim != actions.ndim - 1:
            raise InputError(
                f"expected actions [..., H, D] and state [..., S], got {actions.shape} and {state.shape}"
            )
        if state.shape[:-1] != actions.shape[:-2]:
            raise InputError(f"actions {actions.shape} and state {state.shape} have different leading shapes")
        if n > actions.shape[-1] or n > state.shape[-1]:
            raise InputError(
                f"the delta mask covers {n} dimensions, but the actions have {actions.shape[-1]} "
                f"and the state has {state.shape[-1]}"
            )
        offset = np.zeros((*actions.shape[:-2], 1, actions.shape[-1]), state.dtype)
        offset[..., 0, :n] = np.where(self.mask, state[..., :n], 0)
        return actions, offset


def _floats(x: ArrayLike) -> NDArray[np.floating]:
    refuse_masked(x, "expected numbers")
    x = np.asarray(x)
    return x if np.issubdtype(x.dtype, np.floating) else x.astype(np.float64)
