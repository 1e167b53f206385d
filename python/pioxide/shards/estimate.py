"""What a job would make, without making it: a sample of frames is turned into rows in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pioxide.errors import DatasetError
from pioxide.shards.directory import earlier_manifest
from pioxide.shards.frames import Frames
from pioxide.shards.job import Job
from pioxide.shards.place import place_of
from pioxide.shards.plan import ShardTask, Slice
from pioxide.shards.rows import Counts
from pioxide.shards.shard import ShardMaker

# Frames that are counted, and the episodes over which they are spread.
SAMPLE_FRAMES = 16_384
SAMPLE_EPISODES = 256
# Runs of frames that tell the size of a row.
RUNS = 8
RUN_FRAMES = 256


@dataclass(frozen=True)
class Estimate:
    """What a job would make.

    Attributes:
        rows: exact, if no episode has to be left out.
        episodes: exact.
        shards: exact.
        finished: shards that an earlier run left.
        bytes: of all shards, from the sample.
        tokens: a row, mean of a sample of frames that is spread over all episodes.
        longest: prompt of the sample.
        truncated: share of the sample's rows.
        clipped: share of the sample's rows with a number that the action tokenizer can't represent.
        sampled: rows in the sample.
    """

    rows: int
    episodes: int
    shards: int
    finished: int
    bytes: int
    tokens: float
    longest: int
    truncated: float
    clipped: float
    sampled: int


def estimate(job: Job, output: str | os.PathLike[str]) -> Estimate:
    """Samples a job that would write to `output`; nothing is written.

    Raises:
        SettingsError: `output` was made with other settings.
        DatasetError: nothing of the sample can be read.
    """
    place, names = place_of(output), [task.name for task in job.plan.tasks]
    with place.looked() as directory:
        before = earlier_manifest(job.manifest, job.settings, directory)
        finished = len(place.find(before, names))
    slices = [s for task in job.plan.tasks for s in task.slices if s.frames]
    # A sample shows how often coefficients are clipped; it must not stop at the first.
    maker = ShardMaker.load(job.inputs, replace(job.settings, on_overflow="clip"), job.maker.dataset)
    counts, rows = _count(maker, slices)
    if not rows:
        raise DatasetError("no frame of the sample can be read; `pioxide check` says why")
    return Estimate(
        rows=job.plan.frames,
        episodes=job.plan.episodes,
        shards=len(names),
        finished=finished,
        bytes=round(_bytes_a_row(maker, slices) * job.plan.frames),
        tokens=counts.tokens / rows,
        longest=counts.longest,
        truncated=counts.truncated / rows,
        clipped=counts.clipped_rows / rows,
        sampled=rows,
    )


def _count(maker: ShardMaker, slices: Sequence[Slice]) -> tuple[Counts, int]:
    """Rows of frames spread evenly over the episodes, or of all frames where they are few."""
    chosen = {s.episode: s.frames for s in _spread(slices, SAMPLE_EPISODES)}
    step = max(1, -(-sum(chosen.values()) // SAMPLE_FRAMES))
    counts, rows = Counts(), 0
    for number, episode in enumerate(
        maker.dataset.scan(maker.cutter.columns.all, list(chosen), on_bad=lambda *_: None)
    ):
        for block in maker.cutter.blocks(episode, chosen[episode.index]):
            # Each episode begins elsewhere, so that the first frames don't stand for all.
            first = (number * 7 - int(block.frame_index[0])) % step
            picked = np.arange(first, len(block), step)
            if len(picked):
                batch, of_block = maker.maker.rows(_picked(block, picked))
                counts, rows = counts.plus(of_block), rows + batch.num_rows
    return counts, rows


def _bytes_a_row(maker: ShardMaker, slices: Sequence[Slice]) -> float:
    """Of frames in a row, because windows that overlap are stored in less space."""
    runs = tuple(Slice(s.episode, min(s.frames, RUN_FRAMES)) for s in _spread(slices, RUNS))
    buffer = io.BytesIO()
    written = maker.write(ShardTask(0, runs), buffer, skip_bad=True)
    return buffer.tell() / max(written.rows, 1)


def _spread(slices: Sequence[Slice], number: int) -> list[Slice]:
    places = np.unique(np.linspace(0, len(slices) - 1, min(number, len(slices))).astype(int))
    return [slices[i] for i in places]


def _picked(frames: Frames, rows: NDArray[np.int64]) -> Frames:
    names = ("frame_index", "task_index", "prompt_index", "state", "chunks")
    return replace(frames, **{name: getattr(frames, name)[rows] for name in names})
