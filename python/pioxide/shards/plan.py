"""A dataset's episodes and the settings -> a list of shard tasks. Pure: every run makes the same shards."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from pioxide.errors import InputError

# What shards are like when nobody says: work for every core, and files of about a megabyte up to tens.
DEFAULT_SHARDS = 64
FEWEST_FRAMES = 2048
MOST_FRAMES = 65536


@dataclass(frozen=True)
class Slice:
    """The first `frames` frames of one episode: all, except where a limit cuts the last episode short."""

    episode: int
    frames: int


@dataclass(frozen=True)
class ShardTask:
    """One output shard: which episodes it holds, in order."""

    number: int
    slices: tuple[Slice, ...]

    @property
    def name(self) -> str:
        """Returns the shard's file name."""
        return f"shard-{self.number:05d}.parquet"

    @property
    def frames(self) -> int:
        """Returns the rows it will hold if no episode has to be left out."""
        return sum(s.frames for s in self.slices)


@dataclass(frozen=True)
class Plan:
    """Everything a job will make."""

    tasks: tuple[ShardTask, ...]

    @property
    def frames(self) -> int:
        """Returns the rows of all shards."""
        return sum(task.frames for task in self.tasks)

    @property
    def episodes(self) -> int:
        """Episodes of all shards."""
        return sum(len(task.slices) for task in self.tasks)


def make_plan(
    episodes: Iterable[tuple[int, int]], *, shard_frames: int | None = None, limit: int | None = None
) -> Plan:
    """Packs episodes into shards, in their order.

    A shard is closed before the episode that would take it past `shard_frames` rows, so it holds whole
    episodes; one that is longer than that has a shard of its own.

    Args:
        episodes: (episode index, frames), in the order of the output.
        shard_frames: rows a shard should not exceed; by default so many that about 64 shards come of it.
        limit: stop after this many frames in all; the last episode is cut.

    Raises:
        InputError: no frames are left to tokenize.
    """
    episodes = list(episodes)
    if shard_frames is None:
        shard_frames = _shard_frames(min(sum(length for _, length in episodes), limit or sys.maxsize))
    tasks: list[ShardTask] = []
    current: list[Slice] = []
    size, left = 0, limit
    for episode, length in episodes:
        # One whose entry is wrong has no frames and keeps its place: whoever reads it says what is wrong.
        frames = length if left is None else min(length, left)
        if current and size + frames > shard_frames:
            tasks.append(ShardTask(len(tasks), tuple(current)))
            current, size = [], 0
        current.append(Slice(episode, frames))
        size += frames
        if left is not None:
            left -= frames
            if left == 0:
                break
    if current:
        tasks.append(ShardTask(len(tasks), tuple(current)))
    if not tasks:
        raise InputError("nothing to tokenize: the dataset, or the selection, has no frames")
    return Plan(tuple(tasks))


def _shard_frames(frames: int) -> int:
    return min(max(frames // DEFAULT_SHARDS, FEWEST_FRAMES), MOST_FRAMES)
