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

# A step in the timestamps is a hole from so many periods on.
HOLE_PERIODS = 2.5


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
    state: ColumnSummary
    actions: ColumnSummary
    agreement: Floats | None
    times: Times | None


def summarize(episode: Episode, columns: FrameColumns, *, fps: float, step: int) -> EpisodeSummary:
    """Returns an episode's numbers.

    Args:
        episode: read with these columns, and with `timestamp` where there is one.
        columns: of state and actions.
        fps: frames a second as the dataset says, 0 where it doesn't.
        step: every so many frames one goes into the sample.
    """
    state, actions = columns.state(episode), columns.actions(episode)
    digest = hashlib.blake2b(digest_size=16)
    for values in (state, actions):
        digest.update(np.ascontiguousarray(values).tobytes())
    stamps = episode.columns.get("timestamp")
    return EpisodeSummary(
        index=episode.index,
        length=len(episode),
        file=episode.info.file,
        derived=episode.derived,
        filled=episode.filled,
        prompts=tuple(episode.prompts[0]),
        digest=digest.digest(),
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
    return ColumnSummary(
        low=ordered[0],
        low_at=x.argmin(axis=0),
        high=ordered[-1],
        high_at=x.argmax(axis=0),
        mean=mean,
        start=x[0],
        common=ordered[last, joints],
        common_count=run[last, joints] + 1,
        step_squares=np.square(np.diff(x, axis=0)).sum(axis=0),
        squares=np.square(x - mean).sum(axis=0),
        sample=x[::step].astype(np.float32),
    )


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
