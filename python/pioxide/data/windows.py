"""Action chunks of an episode: every frame's window of the next `horizon` actions."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pioxide.errors import InputError
from pioxide.transforms import DeltaActions


def windows(actions: NDArray, horizon: int) -> NDArray:
    """Returns every frame's action chunk; a window past the episode's end repeats the last action.

    Args:
        actions: [T, D], one episode.
        horizon: H, how many actions a chunk has, the frame's own first.

    Returns:
        [T, H, D], a read-only view of one padded copy [T+H-1, D]: no chunk is stored on its own.

    Raises:
        InputError: `actions` is not [T, D] with T >= 1, or `horizon` < 1.
    """
    actions = _checked(actions, horizon)
    padded = np.concatenate([actions, np.repeat(actions[-1:], horizon - 1, axis=0)])
    return sliding_window_view(padded, horizon, axis=0).swapaxes(1, 2)


def delta_windows(actions: NDArray, states: NDArray, mask: tuple[bool, ...], horizon: int) -> NDArray:
    """Returns `windows`, each relative to its own frame's state where the mask is True (`DeltaActions`).

    Args:
        actions: [T, D], one episode.
        states: [T, S], the measured state of the same frames, in the actions' units.
        mask: one bool a dimension.
        horizon: H.

    Returns:
        [T, H, D], a new array (each frame subtracts its own state).

    Raises:
        InputError: shapes don't match.
    """
    if len(states) != len(actions):
        raise InputError(f"{len(actions)} actions but {len(states)} states")
    return DeltaActions(mask).apply(windows(actions, horizon), states)


def window_weights(length: int, horizon: int, kept: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Returns how often each frame's action occurs in all windows of an episode.

    Frame j is in the windows that start at j-H+1..j, and the last frame once more for every step past the
    end.

    Args:
        length: T, the episode's frames.
        horizon: H.
        kept: Frames whose windows count, rising; None for all.

    Returns:
        [T], its sum is H times the windows.
    """
    if length < 1 or horizon < 1:
        raise InputError(f"an episode of {length} frames has no windows of {horizon} actions")
    if kept is None:
        weights = np.minimum(np.arange(1, length + 1), horizon)
    else:
        begun = np.zeros(length + 1, np.int64)  # windows that begin before each frame
        begun[1:] = np.cumsum(np.bincount(kept, minlength=length))
        weights = begun[1:] - begun[np.maximum(np.arange(1, length + 1) - horizon, 0)]
    windows_made = length if kept is None else len(kept)
    weights[-1] += windows_made * horizon - weights.sum()
    return weights


def _checked(actions: NDArray, horizon: int) -> NDArray:
    actions = np.asarray(actions)
    if actions.ndim != 2 or len(actions) == 0:
        raise InputError(f"expected the actions of one episode [T, D] with T >= 1, got shape {actions.shape}")
    if horizon < 1:
        raise InputError(f"a window needs at least one action, got horizon {horizon}")
    return actions
