"""What a job would make, without making it: a sample of frames is turned into rows in memory."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pioxide.shards.local import Job
from pioxide.shards.manifest import Manifest, finished_shards
from pioxide.shards.plan import ShardTask, Slice
from pioxide.shards.shard import ShardMaker

SAMPLE_EPISODES = 8
SAMPLE_FRAMES = 256


@dataclass(frozen=True)
class Estimate:
    """What a job would make.

    Attributes:
        rows: exact, if no episode has to be left out.
        episodes: exact.
        shards: exact.
        finished: shards that an earlier run left.
        bytes: of all shards, from the sample.
        tokens: a row, mean of the sample.
        longest: prompt of the sample.
        truncated: share of the sample's rows.
        clipped: share of the sample's rows with a coefficient that the FAST vocabulary lacks.
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


def estimate(job: Job, output: Path) -> Estimate:
    """Sample a job that would write to `output`; nothing is written.

    Raises:
        SettingsError: `output` was made with other settings.
        DatasetError: the sample meets an episode that can't be read.
    """
    before = Manifest.load(output)
    if before is not None:
        before.refuse_other(job.manifest, output)
    slices = [s for task in job.plan.tasks for s in task.slices]
    spread = np.unique(np.linspace(0, len(slices) - 1, min(SAMPLE_EPISODES, len(slices))).astype(int))
    sample = tuple(Slice(slices[i].episode, min(slices[i].frames, SAMPLE_FRAMES)) for i in spread)
    # A sample shows how often coefficients are clipped; it must not stop at the first.
    maker = ShardMaker.load(job.inputs, replace(job.settings, on_overflow="clip"), job.maker.dataset)
    buffer = io.BytesIO()
    written = maker.write(ShardTask(0, sample), buffer)
    counts, rows = written.counts, written.rows
    names = [task.name for task in job.plan.tasks]
    return Estimate(
        rows=job.plan.frames,
        episodes=job.plan.episodes,
        shards=len(names),
        finished=len(finished_shards(output, before, names)),
        bytes=round(buffer.tell() / rows * job.plan.frames),
        tokens=counts.tokens / rows,
        longest=counts.longest,
        truncated=counts.truncated / rows,
        clipped=counts.clipped_rows / rows,
        sampled=rows,
    )
