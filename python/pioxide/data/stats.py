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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.data.columns import FrameColumns
from pioxide.data.counters import ActionCounter, Counter, WiderError, floats_of, repeated
from pioxide.data.episode import EpisodeInfo
from pioxide.data.lerobot import LeRobotDataset, OnBad
from pioxide.errors import DatasetError, InputError
from pioxide.robots import RobotSpec
from pioxide.transforms import Stats

# Frames kept in memory between passes; a larger dataset is read again for each pass.
CACHE_BYTES = 256 << 20

StateAndActions = tuple[NDArray, NDArray]
# The same with how often each frame counts.
Counted = tuple[NDArray, NDArray, int]


@dataclass(frozen=True)
class StatsSource:
    """One of several datasets that are counted together.

    Attributes:
        dataset: what to read.
        columns: of state and actions.
        robot: whose signs and grippers are applied first; None where the numbers are the model's.
        episodes: which; None for all.
        weight: how often each frame counts.
        on_bad: what to do with an episode that can't be read, see `LeRobotDataset.scan`; called once an
            episode.
    """

    dataset: LeRobotDataset
    columns: FrameColumns
    robot: RobotSpec | None = None
    episodes: tuple[int, ...] | None = None
    weight: int = 1
    on_bad: OnBad | None = None

    def pairs(self, on_bad: OnBad | None) -> Iterator[StateAndActions]:
        """States and actions of its episodes, in the model's frame."""
        for episode in self.dataset.scan(self.columns.all, self.episodes, on_bad=on_bad):
            states, actions = floats_of(self.columns.state(episode)), floats_of(self.columns.actions(episode))
            if self.robot is None or self.robot.plain:
                yield states, actions
            else:
                yield self.robot.apply_state(states), self.robot.apply_actions(actions)


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
    chosen = None if episodes is None else tuple(episodes)
    source = StatsSource(dataset, columns or FrameColumns(), robot, chosen, on_bad=on_bad)
    return joint_stats([source], horizon=horizon, delta_mask=delta_mask, cache_bytes=cache_bytes)


def joint_stats(
    sources: Sequence[StatsSource],
    *,
    horizon: int,
    delta_mask: Sequence[bool] | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> dict[str, Stats]:
    """Does `compute_stats` for several datasets as for one, each repeated as often as its weight says.

    Args:
        sources: of the same numbers in the same order.
        horizon: H, actions a chunk.
        delta_mask: as in `compute_stats`.
        cache_bytes: as in `compute_stats`.

    Returns:
        {"state": ..., "actions": ...}.

    Raises:
        DatasetError, InputError: as `compute_stats`.
    """
    cache: list[Counted] | None = None
    complete = False
    reported: set[tuple[int, int]] = set()

    def frames() -> Iterator[Counted]:
        nonlocal cache, complete
        if complete and cache is not None:
            yield from cache
            return
        kept: list[Counted] | None = None if complete else []
        size = 0
        for number, source in enumerate(sources):
            for states, actions in source.pairs(_once(source.on_bad, number, reported)):
                size += states.nbytes + actions.nbytes
                if kept is not None:
                    kept.append((states, actions, source.weight))
                    kept = None if size > cache_bytes else kept
                yield states, actions, source.weight
        if not complete:
            cache, complete = kept, True

    return _counted(frames, horizon, delta_mask)


def chunk_stats(
    episodes: Callable[[], Iterable[StateAndActions]],
    *,
    horizon: int,
    delta_mask: Sequence[bool] | None = None,
) -> dict[str, Stats]:
    """Does `compute_stats` for episodes from anywhere.

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
    return _counted(lambda: ((states, actions, 1) for states, actions in episodes()), horizon, delta_mask)


def _counted(
    frames: Callable[[], Iterable[Counted]], horizon: int, delta_mask: Sequence[bool] | None
) -> dict[str, Stats]:
    mask = tuple(bool(m) for m in delta_mask or ())
    try:
        return _passes(frames, Counter("state"), ActionCounter(horizon, mask))
    except WiderError:  # float64 came after float32: as many bits for all of them
        wide = np.dtype(np.float64)
        return _passes(frames, Counter("state", wide), ActionCounter(horizon, mask, wide))


def _passes(
    frames: Callable[[], Iterable[Counted]], state: Counter, actions: ActionCounter
) -> dict[str, Stats]:
    counters = (state, actions)
    while not all(counter.done for counter in counters):
        for states, steps, weight in frames():
            states, steps = floats_of(states), floats_of(steps)
            if len(states) != len(steps):
                raise InputError(f"an episode has {len(states)} states and {len(steps)} actions")
            state.add(states, repeated(len(states), weight))
            actions.add(states, steps, weight)
        for counter in counters:
            counter.next_pass()
    return {"state": state.stats(), "actions": actions.stats()}


def _once(on_bad: OnBad | None, source: int, reported: set[tuple[int, int]]) -> OnBad | None:
    """Tells of an episode in the first pass that meets it only."""
    if on_bad is None:
        return None

    def report(info: EpisodeInfo, error: DatasetError) -> None:
        if (source, info.index) not in reported:
            reported.add((source, info.index))
            on_bad(info, error)

    return report
