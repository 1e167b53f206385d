"""One episode in a few numbers a joint: all that `data.checks` judges by, small enough for any dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.data.columns import FrameColumns
from pioxide.data.episode import Episode

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A step in the timestamps is a hole from so many periods on: one frame that is missing makes two.
HOLE_PERIODS = 1.5


@dataclass(frozen=True)
class ColumnSummary:
    """The state or the actions of one episode, a number a joint [D] unless said otherwise.

    Attributes:
        low: smallest value.
        low_at: its frame.
        high: largest value.
        high_at: its frame.
        mean: of all frames.
        start: value of the first frame.
        common: the most common value.
        common_count: frames that have it.
        step_squares: sum of squared steps from frame to frame.
        squares: sum of squared deviations from the mean.
        jump: largest step from a frame to the next, either way.
        jump_at: the frame after it.
        frozen: frames of the longest stretch, not at either end, in which no joint moves at all.
        frozen_at: its first frame.
        sample: [n, D] every n-th frame.
    """

    low: Floats
    low_at: Ints
    high: Floats
    high_at: Ints
    mean: Floats
    start: Floats
    common: Floats
    common_count: Ints
    step_squares: Floats
    squares: Floats
    jump: Floats
    jump_at: Ints
    frozen: int
    frozen_at: int
    sample: NDArray[np.float32]


@dataclass(frozen=True)
class Times:
    """An episode's timestamps.

    Attributes:
        period: median step in seconds, 0 for a single frame.
        holes: steps of more than `HOLE_PERIODS` periods.
        widest: the longest step, in seconds.
        widest_at: the frame after it.
        back_at: the first frame whose time is not after the one before, or None.
    """

    period: float
    holes: int
    widest: float
    widest_at: int
    back_at: int | None


@dataclass(frozen=True)
class EpisodeSummary:
    """One episode.

    Attributes:
        index: its number.
        length: its frames.
        file: where it was found.
        derived: index columns that its file lacks.
        prompts: its instructions.
        digest: of states and actions.
        first_index: `index` of its first frame, None where the dataset has no such column.
        index_broken_at: the first frame whose `index` does not follow the one before, or None.
        state: of the state columns, side by side.
        actions: of the action columns, side by side.
        agreement: [D] correlation of each action with the same dimension of the state, 0 where one of them
            stands still; None where they don't have the same dimensions.
        times: None where it has no timestamps.
    """

    index: int
    length: int
    file: str
    derived: tuple[str, ...]
    filled: int
    prompts: tuple[str, ...]
    digest: bytes
    first_index: int | None
    index_broken_at: int | None
    state: ColumnSummary
    actions: ColumnSummary
    agreement: Floats | None
    times: Times | None


def summarize(episode: Episode, columns: FrameColumns, *, fps: float, step: int) -> EpisodeSummary:
    """Returns an episode's numbers.

    Args:
        episode: read with these columns, and with `timestamp` and `index` where there are such.
        columns: of state and actions.
        fps: frames a second as the dataset says, 0 where it doesn't.
        step: every so many frames one goes into the sample.
    """
    state, actions = columns.state(episode), columns.actions(episode)
    digest = hashlib.blake2b(digest_size=16)
    for values in (state, actions):
        digest.update(np.ascontiguousarray(values).tobytes())
    stamps = episode.columns.get("timestamp")
    first_index, index_broken_at = _numbering(episode.columns.get("index"))
    return EpisodeSummary(
        index=episode.index,
        length=len(episode),
        file=episode.info.file,
        derived=episode.derived,
        filled=episode.filled,
        prompts=tuple(episode.prompts[0]),
        digest=digest.digest(),
        first_index=first_index,
        index_broken_at=index_broken_at,
        state=_column(state, step),
        actions=_column(actions, step),
        agreement=_agreement(state, actions) if state.shape == actions.shape else None,
        times=None if stamps is None else _times(stamps.reshape(len(episode), -1)[:, 0], fps),
    )


def _column(values: NDArray, step: int) -> ColumnSummary:
    x = values.astype(np.float64)
    mean = x.mean(axis=0)
    ordered = np.sort(x, axis=0)
    # In a sorted column equal values stand together: the longest run is the most common value.
    place = np.arange(len(x))[:, None]
    begins = np.ones(x.shape, bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    run = place - np.maximum.accumulate(np.where(begins, place, 0), axis=0)
    last = run.argmax(axis=0)
    joints = np.arange(x.shape[1])
    steps = np.diff(x, axis=0)
    moves = np.abs(steps)
    jump_at = moves.argmax(axis=0) if len(moves) else np.zeros(x.shape[1], np.int64)
    frozen, frozen_at = _longest_still(np.asarray(moves.any(axis=1)))
    # Rows are copied: a view would keep every frame of the dataset in memory.
    return ColumnSummary(
        low=ordered[0].copy(),
        low_at=x.argmin(axis=0),
        high=ordered[-1].copy(),
        high_at=x.argmax(axis=0),
        mean=mean,
        start=x[0].copy(),
        common=ordered[last, joints],
        common_count=run[last, joints] + 1,
        step_squares=np.square(steps).sum(axis=0),
        squares=np.square(x - mean).sum(axis=0),
        jump=moves[jump_at, joints] if len(moves) else np.zeros(x.shape[1]),
        jump_at=jump_at + 1,
        frozen=frozen,
        frozen_at=frozen_at,
        sample=x[::step].astype(np.float32),
    )


def _longest_still(moved: NDArray[np.bool_]) -> tuple[int, int]:
    """Frames of the longest stretch without any motion between two moments of motion, and its first."""
    at = np.flatnonzero(moved)
    if len(at) < 2:
        return 0, 0
    gaps = np.diff(at)
    longest = int(np.argmax(gaps))
    # Between two steps that move lie as many equal frames as there are steps from one to the other.
    return (int(gaps[longest]), int(at[longest]) + 1) if gaps[longest] > 1 else (0, 0)


def _numbering(index: NDArray | None) -> tuple[int | None, int | None]:
    if index is None or not len(index):
        return None, None
    flat = index.reshape(-1)
    broken = np.flatnonzero(np.diff(flat) != 1)
    return int(flat[0]), int(broken[0]) + 1 if len(broken) else None


def _agreement(state: NDArray, actions: NDArray) -> Floats:
    a, b = (x.astype(np.float64) - x.astype(np.float64).mean(axis=0) for x in (state, actions))
    spread = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    return np.divide((a * b).sum(axis=0), spread, out=np.zeros(a.shape[1]), where=spread > 0)


def _times(stamps: NDArray, fps: float) -> Times:
    steps = np.diff(stamps.astype(np.float64))
    if not len(steps):
        return Times(0.0, 0, 0.0, 0, None)
    period = float(np.median(steps))
    holes = steps > HOLE_PERIODS * max(period, 1 / fps if fps else 0.0)
    back = np.flatnonzero(steps <= 0)
    widest = int(np.argmax(steps))
    return Times(
        period,
        int(np.count_nonzero(holes)),
        float(steps[widest]),
        widest + 1,
        int(back[0]) + 1 if len(back) else None,
    )
