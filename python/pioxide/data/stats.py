"""Normalisation statistics of a dataset: mean, deviation, exact quantiles (1, 10, 90, 99%) and extremes.

What is counted is what openpi counts: of the state every frame once; of the actions every step of every
frame's chunk, relative to the frame's state where the delta mask is True, before normalisation and padding,
steps past the episode's end (the repeated last action) included. A robot whose signs or grippers are not the
model's is brought to the model's frame first. openpi drops the last incomplete batch;
nothing is dropped here. No chunk is stored: an absolute action counts with its number of windows, relative
ones are made episode by episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pioxide.data.columns import FrameColumns
from pioxide.data.lerobot import LeRobotDataset, OnBad
from pioxide.data.quantiles import ExactQuantiles, Moments
from pioxide.data.windows import window_weights, windows
from pioxide.errors import InputError
from pioxide.robots import RobotSpec
from pioxide.transforms import Stats
from pioxide.transforms.stats import FIELDS

# Frames kept in memory between passes; a larger dataset is read again for each pass.
CACHE_BYTES = 256 << 20
# Numbers of relative actions made at a time.
BLOCK_NUMBERS = 1 << 20
QUANTILES = (0.01, 0.99, 0.1, 0.9)

StateAndActions = tuple[NDArray, NDArray]


def compute_stats(
    dataset: LeRobotDataset,
    *,
    horizon: int,
    columns: FrameColumns | None = None,
    delta_mask: Sequence[bool] | None = None,
    robot: RobotSpec | None = None,
    episodes: Iterable[int] | None = None,
    on_bad: OnBad | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> dict[str, Stats]:
    """Statistics of a dataset's state and action chunks, exact however large it is.

    Memory is bounded by `cache_bytes`, the counting tables (1 MB a dimension) and an episode.

    Args:
        dataset: what to read.
        horizon: H, actions a chunk.
        columns: of state and actions; observation.state and action by default.
        delta_mask: which action dimensions are relative to the state, or None for none.
        robot: whose signs and grippers are applied first; None where the numbers are the model's.
        episodes: which, all by default.
        on_bad: what to do with an episode that can't be read, see `LeRobotDataset.scan`; called once an
            episode.
        cache_bytes: up to this size frames are kept between passes instead of being read again.

    Returns:
        {"state": ..., "actions": ...}.

    Raises:
        DatasetError: an episode can't be read and `on_bad` is None.
        InputError: no such column, the mask is too long, or fewer than two values.
    """
    chosen = None if episodes is None else list(episodes)
    read = columns or FrameColumns()
    cache: list[StateAndActions] | None = []
    first = True

    def frames() -> Iterator[StateAndActions]:
        nonlocal cache, first
        if not first and cache is not None:
            yield from cache
            return
        report = on_bad if first or on_bad is None else _ignore
        size = 0
        for episode in dataset.scan(read.all, chosen, on_bad=report):
            pair = _floats(read.state(episode)), _floats(read.actions(episode))
            if robot is not None and not robot.plain:
                pair = robot.apply_state(pair[0]), robot.apply_actions(pair[1])
            size += pair[0].nbytes + pair[1].nbytes
            if first and cache is not None:
                cache.append(pair)
                cache = None if size > cache_bytes else cache
            yield pair
        first = False

    return chunk_stats(frames, horizon=horizon, delta_mask=delta_mask)


def chunk_stats(
    episodes: Callable[[], Iterable[StateAndActions]],
    *,
    horizon: int,
    delta_mask: Sequence[bool] | None = None,
) -> dict[str, Stats]:
    """`compute_stats` for episodes from anywhere.

    Args:
        episodes: called once a pass (two for float32, four for float64); each call gives the same pairs of
            states [T, S] and actions [T, D].
        horizon: H.
        delta_mask: as in `compute_stats`.

    Returns:
        {"state": ..., "actions": ...}.

    Raises:
        InputError: shapes differ between episodes, the mask is too long, or fewer than two values.
    """
    state, actions = _Counter("state"), _ActionCounter(horizon, tuple(bool(m) for m in delta_mask or ()))
    counters = (state, actions)
    while not all(counter.done for counter in counters):
        for states, chunk in episodes():
            states, chunk = _floats(states), _floats(chunk)
            if len(states) != len(chunk):
                raise InputError(f"an episode has {len(states)} states and {len(chunk)} actions")
            state.add(states)
            actions.add(states, chunk)
        for counter in counters:
            counter.next_pass()
    return {"state": state.stats(), "actions": actions.stats()}


class _Counter:
    """Moments (in the first pass) and quantiles of some dimensions, made when the first block shows them."""

    def __init__(self, what: str):
        self.what = what
        self.moments: Moments | None = None
        self.quantiles: ExactQuantiles | None = None
        self.low = self.high = np.zeros(0)
        self.passed = 0

    def add(self, values: NDArray, weights: NDArray[np.int64] | None = None) -> None:
        if self.moments is None or self.quantiles is None:
            self.moments = Moments(values.shape[1])
            self.quantiles = ExactQuantiles(values.shape[1], values.dtype, QUANTILES)
            self.low, self.high = np.full(values.shape[1], np.inf), np.full(values.shape[1], -np.inf)
        if self.done:
            return
        if values.shape[1] != self.quantiles.dim:
            raise InputError(
                f"{self.what}: an episode has {values.shape[1]} dimensions, earlier ones {self.quantiles.dim}"
            )
        if self.passed == 0:
            self.moments.add(values, weights)
            self.low = np.minimum(self.low, values.min(axis=0, initial=np.inf))
            self.high = np.maximum(self.high, values.max(axis=0, initial=-np.inf))
        self.quantiles.add(values.astype(self.quantiles.dtype, copy=False), weights)

    def next_pass(self) -> None:
        if self.moments is None or self.quantiles is None or self.moments.count < 2:
            raise InputError(f"{self.what}: statistics need at least two frames")
        if not self.done:
            self.quantiles.next_pass()
            self.passed += 1

    @property
    def done(self) -> bool:
        return self.quantiles is not None and self.passed == self.quantiles.passes

    def stats(self) -> Stats:
        assert self.moments is not None
        assert self.quantiles is not None
        q01, q99, q10, q90 = self.quantiles.values
        # Adding 0.0 turns a negative zero into a plain one, as in the quantiles.
        low, high = self.low + 0.0, self.high + 0.0
        return Stats(self.moments.mean, self.moments.std, q01, q99, low, high, q10, q90)


class _ActionCounter:
    """Action chunks: absolute dimensions by weight, relative ones by making them."""

    def __init__(self, horizon: int, mask: tuple[bool, ...]):
        if horizon < 1:
            raise InputError(f"horizon is {horizon}, expected at least 1")
        self.horizon = horizon
        self.mask = mask
        self.absolute = _Counter("actions")
        self.relative = _Counter("actions")
        self.dims: NDArray[np.bool_] | None = None  # [D], True where relative

    def add(self, states: NDArray, actions: NDArray) -> None:
        if self.dims is None:
            self.dims = self._relative_dims(states.shape[1], actions.shape[1])
        dims = self.dims
        if actions.shape[1] != dims.size:
            raise InputError(
                f"actions: an episode has {actions.shape[1]} dimensions, earlier ones {dims.size}"
            )
        if not dims.all():
            self.absolute.add(actions[:, ~dims], window_weights(len(actions), self.horizon))
        if dims.any():
            relative = np.flatnonzero(dims)
            chunks = windows(actions[:, relative], self.horizon)
            step = max(1, BLOCK_NUMBERS // (self.horizon * relative.size))
            for start in range(0, len(actions), step):
                # Made with dimensions outermost in memory, as the counters take them.
                part = slice(start, start + step)
                block = np.subtract(
                    chunks[part].transpose(2, 0, 1), states[part, relative].T[:, :, None], order="C"
                )
                self.relative.add(block.reshape(relative.size, -1).T)

    def _relative_dims(self, state_dim: int, action_dim: int) -> NDArray[np.bool_]:
        if len(self.mask) > min(action_dim, state_dim):
            raise InputError(
                f"the delta mask covers {len(self.mask)} dimensions, but the actions have {action_dim} "
                f"and the state has {state_dim}"
            )
        dims = np.zeros(action_dim, bool)
        dims[: len(self.mask)] = self.mask
        return dims

    @property
    def used(self) -> list[_Counter]:
        if self.dims is None:
            return [self.absolute]
        return [
            c for c, any_ in ((self.absolute, not self.dims.all()), (self.relative, self.dims.any())) if any_
        ]

    def next_pass(self) -> None:
        for counter in self.used:
            counter.next_pass()

    @property
    def done(self) -> bool:
        return all(counter.done for counter in self.used)

    def stats(self) -> Stats:
        assert self.dims is not None
        fields: list[NDArray[np.float64]] = []
        parts = {False: self.absolute, True: self.relative}
        made = {
            relative: counter.stats() for relative, counter in parts.items() if np.any(self.dims == relative)
        }
        for name in FIELDS:
            field = np.zeros(self.dims.size)
            for relative, stats in made.items():
                field[self.dims == relative] = getattr(stats, name)
            fields.append(field)
        return Stats(*fields)


def _floats(x: NDArray) -> NDArray:
    """float32 stays, everything else becomes float64."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def _ignore(*_: object) -> None:
    """An episode that was reported in the first pass."""
