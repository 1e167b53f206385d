"""`FrameIndex`: the frames of a source, numbered, with episode, place in it and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.data.episode import Episode, EpisodeInfo
from pioxide.data.faults import fault


@dataclass(frozen=True)
class FrameIndex:
    """N frames, episode after episode.

    Attributes:
        infos: The episodes, E of them.
        starts: [E + 1] the first row of each, and N.
        episode: [N] which of `infos`.
        seconds: [N] since its episode began, as recorded.
    """

    infos: tuple[EpisodeInfo, ...]
    starts: NDArray[np.int64]
    episode: NDArray[np.int32]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, infos: Sequence[EpisodeInfo], seconds: Sequence[NDArray[np.float64]]) -> FrameIndex:
        """Numbers these episodes' frames; `seconds` has a time for each, by episode."""
        lengths = [len(times) for times in seconds]
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        episode = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        return cls(tuple(infos), starts, episode, np.concatenate(seconds))

    def __len__(self) -> int:
        """Returns N."""
        return len(self.episode)

    def length(self, episode: int) -> int:
        """Returns the frames of one of `infos`."""
        return int(self.starts[episode + 1] - self.starts[episode])

    def frame(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the place of rows [n] in their episodes."""
        return rows - self.starts[self.episode[rows]]

    def last(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the last row [n] of the episodes of rows [n]."""
        return self.starts[self.episode[rows] + 1] - 1

    def window(self, rows: NDArray[np.int64], horizon: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the rows [n, H] of the next actions, and which of them are there.

        A window past its episode's end repeats the last row.
        """
        ahead = rows[:, None] + np.arange(horizon)
        last = self.last(rows)[:, None]
        return np.minimum(ahead, last), ahead <= last


def frame_times(episode: Episode, fps: float) -> NDArray[np.float64]:
    """Returns [T] the time of each frame since its episode began, as recorded.

    Videos are made frame by frame at one rate, so a time that is another frame's would show another frame.

    Raises:
        DatasetError: The dataset has no rate, or a time is not that of its frame.
    """
    if fps <= 0:
        raise fault("fps is not said, which the times of video frames need", file="meta/info.json")
    counted = episode.frame_index / fps
    if "timestamp" not in episode.columns:
        return counted
    times = np.asarray(episode.columns["timestamp"], np.float64).reshape(-1)
    off = np.abs(times - counted) >= 0.5 / fps
    if off.any():
        frame = int(np.argmax(off))
        raise fault(
            f"frame {frame} has timestamp {times[frame]:.4f}, and by its number and fps {fps:g} it is at "
            f"{counted[frame]:.4f} s of its episode: which picture is its can't be told",
            file=episode.info.file,
            episode=episode.index,
        )
    return times
