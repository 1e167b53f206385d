"""Normalisation statistics of a dataset: mean, deviation, exact quantiles (1, 10, 90, 99%) and extremes.

What is counted is what openpi counts: of the state every frame once; of the actions every step of every
frame's chunk, relative to the frame's state where the delta mask is True, before normalisation and padding,
steps past the episode's end (the repeated last action) included. A robot whose signs or grippers are not the
model's is brought to the model's frame first. openpi drops the last incomplete batch;
nothing is dropped here. Of a dataset with frames that are kept (`data.keeping`) these count, with their whole
chunks. No chunk is stored: an absolute action counts with its number of windows, relative
ones are made episode by episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.data.columns import FrameColumns
from pioxide.data.counters import ActionCounter, Counter, Tally, WiderError, floats_of, repeated
from pioxide.data.episode import EpisodeInfo
from pioxide.data.lerobot import LeRobotDataset, OnBad
from pioxide.data.portions import Crew, Portion
from pioxide.errors import DatasetError, InputError
from pioxide.robots import RobotSpec
from pioxide.transforms import Stats

# Frames kept in memory between passes; a larger dataset is read again for each pass.
CACHE_BYTES = 256 << 20

StateAndActions = tuple[NDArray, NDArray]
# The same with how often each frame counts, and which do where not all.
Counted = tuple[NDArray, NDArray, int, NDArray[np.int64] | None]


@dataclass(frozen=True)
class Reading:
    """How an episode becomes the numbers that are counted.

    Attributes:
        columns: of state and actions.
        robot: whose signs and grippers are applied first; None where the numbers are the model's.
        weight: how often each frame counts.
    """

    columns: FrameColumns
    robot: RobotSpec | None = None
    weight: int = 1

    def pairs(
        self, dataset: LeRobotDataset, episodes: Sequence[int] | None, on_bad: OnBad | None
    ) -> Iterator[Counted]:
        """States and actions of these episodes, in the model's frame, with the weight."""
        for episode in dataset.scan(self.columns.all, episodes, on_bad=on_bad):
            if episode.kept is not None and not len(episode.kept):
                continue
            states, actions = floats_of(self.columns.state(episode)), floats_of(self.columns.actions(episode))
            if self.robot is not None and not self.robot.plain:
                states, actions = self.robot.apply_state(states), self.robot.apply_actions(actions)
            yield states, actions, self.weight, episode.kept


@dataclass(frozen=True)
class StatsSource:
    """One of several datasets that are counted together.

    Attributes:
        dataset: what to read.
        reading: how.
        episodes: which; None for all.
        on_bad: what to do with an episode that can't be read, see `LeRobotDataset.scan`; called once an
            episode.
        number: of the dataset among those of a crew.
    """

    dataset: LeRobotDataset
    reading: Reading
    episodes: tuple[int, ...] | None = None
    on_bad: OnBad | None = None
    number: int = 0


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
    crew: Crew | None = None,
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
        crew: who reads the dataset, in place of this process; the result has the same bits.

    Returns:
        {"state": ..., "actions": ...}.

    Raises:
        DatasetError: an episode can't be read and `on_bad` is None.
        InputError: no such column, the mask is too long, or fewer than two values.
    """
    chosen = None if episodes is None else tuple(episodes)
    source = StatsSource(dataset, Reading(columns or FrameColumns(), robot), chosen, on_bad)
    return joint_stats([source], horizon=horizon, delta_mask=delta_mask, cache_bytes=cache_bytes, crew=crew)


def joint_stats(
    sources: Sequence[StatsSource],
    *,
    horizon: int,
    delta_mask: Sequence[bool] | None = None,
    cache_bytes: int = CACHE_BYTES,
    crew: Crew | None = None,
) -> dict[str, Stats]:
    """Does `compute_stats` for several datasets as for one, each repeated as often as its weight says.

    Args:
        sources: of the same numbers in the same order.
        horizon: H, actions a chunk.
        delta_mask: as in `compute_stats`.
        cache_bytes: as in `compute_stats`.
        crew: as in `compute_stats`.

    Returns:
        {"state": ..., "actions": ...}.

    Raises:
        DatasetError, InputError: as `compute_stats`.
    """
    mask = tuple(bool(m) for m in delta_mask or ())
    if crew is not None:
        return _wider(lambda state, actions: _by_crew(sources, crew, state, actions), horizon, mask)
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
            on_bad = _once(source.on_bad, number, reported)
            for pair in source.reading.pairs(source.dataset, source.episodes, on_bad):
                size += pair[0].nbytes + pair[1].nbytes
                if kept is not None:
                    kept.append(pair)
                    kept = None if size > cache_bytes else kept
                yield pair
        if not complete:
            cache, complete = kept, True

    return _wider(lambda state, actions: _passes(frames, state, actions), horizon, mask)


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
    mask = tuple(bool(m) for m in delta_mask or ())

    def frames() -> Iterator[Counted]:
        return ((states, actions, 1, None) for states, actions in episodes())

    return _wider(lambda state, actions: _passes(frames, state, actions), horizon, mask)


def _wider(
    passes: Callable[[Counter, ActionCounter], None], horizon: int, mask: tuple[bool, ...]
) -> dict[str, Stats]:
    state, actions = Counter("state"), ActionCounter(horizon, mask)
    try:
        passes(state, actions)
    except WiderError:  # float64 came after float32: as many bits for all of them
        wide = np.dtype(np.float64)
        state, actions = Counter("state", wide), ActionCounter(horizon, mask, wide)
        passes(state, actions)
    return {"state": state.stats(), "actions": actions.stats()}


def _passes(frames: Callable[[], Iterable[Counted]], state: Counter, actions: ActionCounter) -> None:
    while not (state.done and actions.done):
        for pair in frames():
            _add(state, actions, *pair)
        state.next_pass()
        actions.next_pass()


def _add(
    state: Counter,
    actions: ActionCounter,
    states: NDArray,
    steps: NDArray,
    weight: int,
    kept: NDArray[np.int64] | None,
) -> None:
    states, steps = floats_of(states), floats_of(steps)
    if len(states) != len(steps):
        raise InputError(f"an episode has {len(states)} states and {len(steps)} actions")
    counted = states if kept is None else states[kept]
    state.add(counted, repeated(len(counted), weight))
    actions.add(states, steps, weight, kept)


class _Pass(NamedTuple):
    """What came of a portion in a pass.

    Attributes:
        state: what was counted.
        actions: likewise.
        bad: episodes that can't be read.
    """

    state: Tally | None
    actions: tuple[Tally | None, Tally | None]
    bad: list[tuple[EpisodeInfo, DatasetError]]


@dataclass(frozen=True)
class _Count:
    """Counts a portion in a pass; see `portions.Work`.

    Attributes:
        state: forks are counted with.
        actions: likewise.
        readings: by number of the dataset; with whether episodes that can't be read are left out.
    """

    state: Counter
    actions: ActionCounter
    readings: dict[int, tuple[Reading, bool]]

    def __call__(self, dataset: LeRobotDataset, portion: Portion) -> _Pass:
        state, actions = self.state.fork(), self.actions.fork()
        bad: list[tuple[EpisodeInfo, DatasetError]] = []
        reading, lenient = self.readings[portion.source]
        on_bad = (lambda info, error: bad.append((info, error))) if lenient else None
        for pair in reading.pairs(dataset, portion.episodes, on_bad):
            _add(state, actions, *pair)
        return _Pass(state.tally(), actions.tally(), bad)


def _by_crew(sources: Sequence[StatsSource], crew: Crew, state: Counter, actions: ActionCounter) -> None:
    """Does what `_passes` does, with portions that others count."""
    reported: set[tuple[int, int]] = set()
    told = {source.number: _once(source.on_bad, source.number, reported) for source in sources}
    for source in sources:
        first = next(source.reading.pairs(source.dataset, source.episodes, told[source.number]), None)
        if first is not None:
            states, steps, _, kept = first
            begun = 0 if kept is None else int(kept[0])  # moments are about the first value that counts
            state.begin(states[begun:])
            actions.begin(states[begun:], steps[begun:])
            break
    readings = {source.number: (source.reading, source.on_bad is not None) for source in sources}
    portions = [portion for source in sources for portion in crew.portions(source.number, _chosen(source))]
    while not (state.done and actions.done):
        work = _Count(state.fork(), actions.fork(), readings)
        for portion, made in zip(portions, crew.each(work, portions), strict=True):
            on_bad = told[portion.source]
            if on_bad is not None:
                for info, error in made.bad:
                    on_bad(info, error)
            state.join(made.state)
            actions.join(made.actions)
        state.next_pass()
        actions.next_pass()


def _chosen(source: StatsSource) -> Sequence[int]:
    return [e.index for e in source.dataset.episodes] if source.episodes is None else source.episodes


def _once(on_bad: OnBad | None, source: int, reported: set[tuple[int, int]]) -> OnBad | None:
    """Tells of an episode in the first pass that meets it only."""
    if on_bad is None:
        return None

    def report(info: EpisodeInfo, error: DatasetError) -> None:
        if (source, info.index) not in reported:
            reported.add((source, info.index))
            on_bad(info, error)

    return report
