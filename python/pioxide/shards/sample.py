"""Draws the chunks that a codec is made of, from one dataset or from several as if they were one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pioxide.data import LeRobotDataset
from pioxide.shards.frames import FrameCutter


@dataclass(frozen=True)
class SampleSource:
    """Episodes of a dataset to draw chunks from.

    Attributes:
        dataset: What to read.
        cutter: How its episodes become chunks.
        episodes: Which.
        weight: How often each of its frames counts.
    """

    dataset: LeRobotDataset
    cutter: FrameCutter
    episodes: tuple[int, ...]
    weight: int = 1

    @property
    def lengths(self) -> list[int]:
        """Returns the frames of each episode."""
        return [self.dataset.episode(episode).length for episode in self.episodes]


@dataclass(frozen=True)
class Sample:
    """Chunks drawn from a dataset.

    Attributes:
        chunks: [n, H, D], normalised.
        places: [n, 2] the episode and the frame of each.
    """

    chunks: NDArray[np.float64]
    places: NDArray[np.int64]


def draw_chunks(sources: Sequence[SampleSource], number: int, seed: int) -> list[Sample]:
    """Draws up to `number` chunks of all sources together, every frame as likely as its weight says.

    It is what would be drawn from one dataset that holds each of them `weight` times, one after another.

    Args:
        sources: Where from.
        number: How many chunks, of all together.
        seed: Of the draw.

    Returns:
        A sample a source, possibly empty.
    """
    sizes = [sum(source.lengths) * source.weight for source in sources]
    total = sum(sizes)
    drawn = np.random.default_rng(seed).choice(total, min(total, number), replace=False)
    samples, first = [], 0
    for source, size in zip(sources, sizes, strict=True):
        here = drawn[(drawn >= first) & (drawn < first + size)] - first
        samples.append(_read(source, np.sort(here % max(1, size // source.weight))))
        first += size
    return samples


def _read(source: SampleSource, drawn: NDArray[np.int64]) -> Sample:
    """The chunks from these frames, which are counted over the source's episodes, rising."""
    cutter = source.cutter
    first = dict(zip(source.episodes, np.cumsum([0, *source.lengths[:-1]]).tolist(), strict=True))
    chunks = np.empty((len(drawn), cutter.horizon, cutter.numbers.robot.action_dim))
    places = np.empty((len(drawn), 2), np.int64)
    filled = 0
    for episode in source.dataset.scan(cutter.columns.all, source.episodes):
        for block in cutter.blocks(episode):
            start = first[episode.index] + int(block.frame_index[0])
            rows = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, start + len(block))] - start
            part = slice(filled, filled + len(rows))
            chunks[part] = block.chunks[rows]
            places[part, 0], places[part, 1] = episode.index, block.frame_index[rows]
            filled += len(rows)
    return Sample(chunks, places)
