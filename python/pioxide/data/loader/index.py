"""`FrameIndex`: the frames of a source, numbered, with episode, place in it and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.data.episode import Episode, EpisodeInfo
from pioxide.data.faults import fault
from pioxide.errors import InputError


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

    def history(
        self, rows: NDArray[np.int64], frames: int, step: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Returns the rows [n, T] of frames `step` apart that end with each row, and which are there.

        What would lie before an episode's first frame is that frame.
        """
        back = rows[:, None] - step * np.arange(frames - 1, -1, -1)
        first = self.starts[self.episode[rows]][:, None]
        return np.maximum(back, first), back >= first


def frames_apart(stride: float, fps: float, name: str) -> int:
    """Returns how many frames of a dataset a stride in seconds is.

    Raises:
        DatasetError: The dataset has no rate.
        InputError: It is no whole number of them, so that no frame is that old.
    """
    if fps <= 0:
        raise fault(f"{name}: fps is not said, which a memory's stride needs", file="meta/info.json")
    step = stride * fps
    if round(step) < 1 or abs(step - round(step)) > 1e-6 * step:
        near = max(1, round(step)) / fps
        raise InputError(
            f"{name}: a memory's stride of {stride:g} s is {step:g} frames at its {fps:g} frames a second, "
            f"and has to be a whole number of them; {near:.6g} s is the nearest that is"
        )
    return round(step)


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
