"""Frames in which nothing is done: found by how little actions move, as openpi finds DROID's.

A policy that learns from them stands still, and then goes on standing still: what it sees does not change.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pioxide.data.columns import FrameColumns
from pioxide.data.episode import EpisodeInfo
from pioxide.data.kept import spans_of
from pioxide.data.lerobot import LeRobotDataset
from pioxide.errors import DatasetError, InputError

# Of a number's whole range: what it has to move by from frame to frame where nothing else is said.
SHARE = 1e-3


@dataclass(frozen=True)
class IdleRule:
    """When a frame is idle. The defaults, but for the threshold, are openpi's for DROID at 15 Hz.

    Attributes:
        threshold: A frame in which every number of the action differs by less from the frame before does not
            move, in the recording's units (openpi: 0.001 of joint velocities). By default a thousandth of
            what each number ranges over in the whole dataset.
        still: This many frames in a row that do not move are idle.
        least: Stretches between idle ones that have fewer frames are left out, too.
        tail: Frames at the end of each stretch that are left out: most of their next actions are idle.
    """

    threshold: float | None = None
    still: int = 7
    least: int = 16
    tail: int = 10

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            InputError: A number out of its range.
        """
        if self.threshold is not None and not 0 < self.threshold < float("inf"):
            raise InputError(f"threshold is {self.threshold}, expected a number above 0")
        for name, smallest in (("still", 1), ("least", 1), ("tail", 0)):
            if getattr(self, name) < smallest:
                raise InputError(f"{name} is {getattr(self, name)}, expected at least {smallest}")

    def judge(self, actions: NDArray[Any], threshold: NDArray[np.float64]) -> Judged:
        """Returns which frames of an episode are used, by actions [T, D] and a threshold a number [D]."""
        moved = np.abs(np.diff(actions.astype(np.float64), axis=0))
        unmoved = np.concatenate([[False], (moved < threshold).all(axis=1)])
        moving = np.ones(len(actions), np.bool_)
        for start, stop in spans_of(unmoved).tolist():
            if stop - start >= self.still:
                moving[start:stop] = False
        stretches = spans_of(moving)
        long = stretches[stretches[:, 1] - stretches[:, 0] >= self.least]
        kept = long - [0, self.tail]
        kept = kept[kept[:, 0] < kept[:, 1]]
        counted = [int((of[:, 1] - of[:, 0]).sum()) for of in (stretches, long, kept)]
        return Judged(kept, len(actions) - counted[0], counted[0] - counted[1], counted[1] - counted[2])


class Judged(NamedTuple):
    """What came of an episode.

    Attributes:
        kept: [n, 2] where stretches begin and end that are used.
        idle: Frames that are idle.
        short: Frames of stretches that are too short.
        tails: Frames at the end of stretches.
    """

    kept: NDArray[np.int64]
    idle: int
    short: int
    tails: int


@dataclass(frozen=True)
class Idle:
    """Which frames of a dataset are idle.

    Attributes:
        judged: By episode.
        frames: Of these episodes.
        bad: Episodes that can't be read, which stay whole: whoever reads them then says what is wrong.
    """

    judged: dict[int, Judged]
    frames: int
    bad: tuple[tuple[int, str], ...]

    @property
    def kept(self) -> int:
        """Returns how many frames are used, those of episodes that can't be read not counted."""
        return sum(int((one.kept[:, 1] - one.kept[:, 0]).sum()) for one in self.judged.values())

    @property
    def without(self) -> list[int]:
        """Returns the episodes of which no frame is used."""
        return [index for index, one in self.judged.items() if not len(one.kept)]

    def spans(self) -> list[dict[str, int]]:
        """Returns what `data.keeping` reads."""
        found = [
            {"episode": index, "from": start, "to": stop}
            for index, one in self.judged.items()
            for start, stop in one.kept.tolist()
        ]
        return sorted(
            [*found, *({"episode": index} for index, _ in self.bad)], key=lambda one: one["episode"]
        )


def find_idle(
    dataset: LeRobotDataset, columns: FrameColumns, rule: IdleRule, episodes: Collection[int] | None = None
) -> Idle:
    """Looks at the actions of a dataset.

    Args:
        dataset: Which.
        columns: Which of its numbers are the actions.
        rule: What counts as idle.
        episodes: Which; None for all. Others are not named, so that they are left out.

    Raises:
        InputError: There is no such column, or no frame is left.
        DatasetError: No episode can be read.
    """
    bad: dict[int, str] = {}

    def left(info: EpisodeInfo, error: DatasetError) -> None:
        bad[info.index] = str(error)

    keys = columns.action_keys
    if rule.threshold is None:
        threshold = _ranges(dataset, columns, episodes, left) * SHARE
    else:
        threshold = np.array([rule.threshold])
    # A number that never changes says nothing of motion.
    threshold = np.where(threshold > 0, threshold, np.inf)
    judged: dict[int, Judged] = {}
    frames = 0
    for episode in dataset.scan(keys, episodes, on_bad=left):
        judged[episode.index] = rule.judge(columns.actions(episode), threshold)
        frames += len(episode)
    made = Idle(judged, frames, tuple(sorted(bad.items())))
    if judged and not made.kept:
        raise InputError(
            f"by this rule no frame of {len(judged):,} episodes is left: a smaller threshold, a longer "
            "still, or a shorter least or tail leaves more"
        )
    if not judged:
        raise DatasetError(f"no episode can be read; {next(iter(bad.values()), 'there is none')}")
    return made


def _ranges(
    dataset: LeRobotDataset, columns: FrameColumns, episodes: Collection[int] | None, left: Any
) -> NDArray[np.float64]:
    """[D] largest minus smallest value of each number of the action."""
    low: NDArray[np.float64] | float = np.inf
    high: NDArray[np.float64] | float = -np.inf
    for episode in dataset.scan(columns.action_keys, episodes, on_bad=left):
        actions = columns.actions(episode).astype(np.float64)
        low, high = np.minimum(low, actions.min(axis=0)), np.maximum(high, actions.max(axis=0))
    return np.asarray(high - low)
